//! What a transactional channel has gathered for its next commit.

use codec_amqp::Outgoing;

use super::consuming::Outcome;
use super::unacked::Delivered;
use crate::translate::round::Round;

/// What waits for `tx.commit`.
#[derive(Debug)]
pub struct Transaction {
    /// What was published.
    pub round: Round,
    /// What was settled, in order: taken out of what is unacknowledged.
    pub settles: Vec<(Vec<Delivered>, Outcome)>,
    /// Messages that found no queue: returned with the commit.
    pub returns: Outgoing,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction { round: Round::new(), settles: Vec::new(), returns: Outgoing::default() }
    }
}
