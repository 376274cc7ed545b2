//! The shell around the transactional ids: loading and storing, ending transactions in the core, one timer for all.
//!
//! ```text
//! handler ─► Transactions ─► slot (one per id, a lock) ─► Ask::decide (pure) ─► compare-and-set in the core's meta
//!    │            ▲  ▲                                                               │ Prepare…
//!    │          timer watch of all records                                           ▼
//!    └─► open: producer id → record, for appends: a look-up          Core::transaction_end, then Complete…
//! ```
//! What happens to one id happens in order, under its slot's lock. Work that stores is done by a task of its own: a connection
//! that ends meanwhile must not leave a decision that nobody carries out.

mod admin;
mod admit;
mod finish;
mod slot;
mod store;
mod timer;
mod watch;

use std::sync::Arc;

use core_rpc::{Core, META_KEY_BYTES_MAX, MetaError, Outcome};
use dashmap::DashMap;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::ask::{Addition, Ask, ProducerEpoch};
use super::config::TransactionConfig;
use super::error::TransactionError;
use super::record::TransactionRecord;
use crate::state::ProducerIds;
use crate::state::deadlines::Deadlines;
use crate::state::internal_topics::Journal;

pub use admin::{ListFilter, ListedTransaction, TransactionDescription};

use slot::Slot;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Whether this gateway is the coordinator of a transactional id.
pub type Coordinates = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// All transactional ids of a namespace. Cheap to clone; every clone is the same.
pub struct Transactions<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Transactions<C> {
    fn clone(&self) -> Self {
        Transactions { shared: self.shared.clone() }
    }
}

struct Shared<C> {
    core: C,
    /// Of the records' keys.
    prefix: String,
    config: TransactionConfig,
    producer_ids: Arc<ProducerIds<C>>,
    coordinates: Coordinates,
    /// Gets a copy of every change.
    journal: Journal,
    slots: DashMap<String, Arc<Slot>>,
    /// The open transactions, by their producer's id.
    open: DashMap<i64, Open>,
    /// When a slot wants to be looked at, earliest first.
    deadlines: Deadlines<Slot>,
}

struct Open {
    id: Arc<str>,
    record: Arc<TransactionRecord>,
}

impl<C: Core> Transactions<C> {
    /// Loads the records, carries out the decisions that were left, and starts the timer and the watch. Waits until the
    /// core answers. The tasks end with `stop`.
    pub async fn start(
        core: C,
        namespace: &str,
        config: TransactionConfig,
        producer_ids: Arc<ProducerIds<C>>,
        coordinates: Coordinates,
        journal: Journal,
        stop: CancellationToken,
    ) -> Result<Self, MetaError> {
        let transactions = Transactions {
            shared: Arc::new(Shared {
                core,
                prefix: store::prefix(namespace),
                config,
                producer_ids,
                coordinates,
                journal,
                slots: DashMap::new(),
                open: DashMap::new(),
                deadlines: Deadlines::default(),
            }),
        };
        let revision = loop {
            match transactions.load_all(crate::now_ms()).await {
                Ok(revision) => break revision,
                Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
        };
        let (timer, watch) = (transactions.clone(), transactions.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = timer.run_timer() => {}
                () = watch.run_watch(revision) => {}
            }
        });
        Ok(transactions)
    }

    pub fn config(&self) -> &TransactionConfig {
        &self.shared.config
    }

    /// Whether clients are right to come here with this id.
    pub fn coordinates(&self, id: &str) -> bool {
        (self.shared.coordinates)(id)
    }

    /// Gives a producer its id and epoch; fences whoever had them, aborting what is open. `expected` is what it had.
    pub async fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        expected: Option<ProducerEpoch>,
    ) -> Result<ProducerEpoch, TransactionError> {
        let record = self.ask_as_coordinator(id, Ask::Init { timeout_ms, expected }).await?;
        Ok(record.producer())
    }

    /// Adds partitions or offsets to the producer's transaction, durably; begins it if it has not begun.
    pub async fn add(&self, id: &str, producer: ProducerEpoch, addition: Addition) -> Result<(), TransactionError> {
        self.ask_as_coordinator(id, Ask::Add { producer, addition }).await.map(drop)
    }

    /// Whether all of it was added.
    pub async fn verify(&self, id: &str, producer: ProducerEpoch, addition: Addition) -> Result<(), TransactionError> {
        self.ask_as_coordinator(id, Ask::Verify { producer, addition }).await.map(drop)
    }

    /// Commits or aborts. When it returns, the decision is durable and, unless the core fails just then, visible. Returns
    /// the producer's id and epoch from now on, which are others with `raise`.
    pub async fn end(
        &self,
        id: &str,
        producer: ProducerEpoch,
        outcome: Outcome,
        raise: bool,
    ) -> Result<ProducerEpoch, TransactionError> {
        let record = self.ask_as_coordinator(id, Ask::End { producer, outcome, raise }).await?;
        Ok(record.producer())
    }

    async fn ask_as_coordinator(&self, id: &str, ask: Ask) -> Result<Arc<TransactionRecord>, TransactionError> {
        self.check_id(id)?;
        match self.coordinates(id) {
            true => self.ask(id, ask).await,
            false => Err(TransactionError::NotCoordinator),
        }
    }

    async fn ask(&self, id: &str, ask: Ask) -> Result<Arc<TransactionRecord>, TransactionError> {
        let (transactions, slot) = (self.clone(), self.slot(id));
        let task = tokio::spawn(async move {
            let mut loaded = slot.state.lock().await;
            let result = transactions.decide(&slot, &mut loaded, &ask).await;
            transactions.schedule(&slot, &mut loaded);
            drop(loaded);
            transactions.remove_if_vacant(slot);
            result
        });
        task.await.unwrap_or(Err(TransactionError::CoordinatorNotAvailable))
    }

    fn check_id(&self, id: &str) -> Result<(), TransactionError> {
        let fits = self.key(id).len() <= META_KEY_BYTES_MAX;
        if fits && !id.is_empty() { Ok(()) } else { Err(TransactionError::InvalidId) }
    }
}
