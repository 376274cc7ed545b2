//! Whether a producer may append or commit in its transaction: asked for every batch, so a look-up where nothing new is asked.

use core_rpc::Core;

use super::Transactions;
use crate::state::transactions::ask::{Addition, Ask, ProducerEpoch};
use crate::state::transactions::error::TransactionError;

impl<C: Core> Transactions<C> {
    /// Whether the transaction is known to be open. `announced`: the client has announced what takes part in it, so it is
    /// looked for; others announce nothing (KIP-890).
    ///
    /// What is known here may be outdated, but then the producer's epoch is too, and the core refuses it. Only a client that
    /// keeps its epoch from one transaction to the next (it is one that announces) and sends what belongs to
    /// the last after its end would not be found out.
    pub fn is_open(&self, id: &str, producer: ProducerEpoch, addition: &Addition, announced: bool) -> bool {
        self.shared.open.get(&producer.id).is_some_and(|open| {
            *open.id == *id && open.record.epoch == producer.epoch && (!announced || open.record.contains(addition))
        })
    }

    /// Lets the producer append or commit; begins its transaction if it announces nothing. Any gateway may do so,
    /// not only the coordinator.
    pub async fn admit(
        &self,
        id: &str,
        producer: ProducerEpoch,
        addition: Addition,
        announced: bool,
    ) -> Result<(), TransactionError> {
        if self.is_open(id, producer, &addition, announced) {
            return Ok(());
        }
        self.check_id(id)?;
        let ask = match announced {
            true => Ask::Verify { producer, addition },
            false => Ask::Begin { producer, addition },
        };
        self.ask(id, ask).await.map(drop)
    }
}
