//! Messages of QoS 2 that a client publishes to topics which do not lie with the sessions: those that other protocols' clients made.
//! Message and identifier cannot be kept in one commit there, so the identifier is kept first, and says by which producer, and under which
//! sequence, the message is appended. Whoever finds it in the log, and gets the message again, appends it just so: the
//! core knows whether it has it. Pure.
//!
//! ```text
//! New ─ recorded ─► Told ─ appended ─► Kept ─ recorded, or released ─► (nothing)
//!                    └─ the gateway dies: nobody knows ─ the client sends it again ─► appended once, whichever it was
//! ```
//! A producer has one message under way, and the next when that was kept; so those of one session need no order among each
//! other, and a session has no more of them than it ever had messages under way.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use codec_mqtt::PacketId;
use codec_record::Producer;
use core_rpc::PartitionId;

/// How a message is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub partition: PartitionId,
    pub producer: Producer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The log does not know of it.
    New,
    /// The log knows of it; whether the message was kept is the core's to say.
    Told,
    /// The message was kept, and the log knows of the attempt only.
    Kept,
}

/// Those of one session.
#[derive(Debug, Default)]
pub struct Attempts {
    by_id: BTreeMap<PacketId, (Attempt, Stage)>,
    /// Producers with nothing under way, with what is next of them.
    free: HashMap<PartitionId, Vec<Producer>>,
}

impl Attempts {
    /// How a message is to be appended: as before, if it was tried before.
    pub fn begin(&mut self, packet_id: PacketId, partition: PartitionId) -> Attempt {
        if let Some((attempt, _)) = self.by_id.get(&packet_id)
            && attempt.partition == partition
        {
            return *attempt;
        }
        let free = self.free.get_mut(&partition).and_then(Vec::pop);
        let producer = free.unwrap_or_else(|| Producer { id: new_producer_id(), epoch: 0, sequence: 0 });
        let attempt = Attempt { partition, producer };
        self.by_id.insert(packet_id, (attempt, Stage::New));
        attempt
    }

    /// One that the log knows of.
    pub fn found(&mut self, packet_id: PacketId, attempt: Attempt) {
        self.by_id.insert(packet_id, (attempt, Stage::Told));
    }

    /// Those that the log does not know of, which is told now.
    pub fn tell(&mut self) -> Vec<(PacketId, Attempt)> {
        let mut told = Vec::new();
        for (packet_id, (attempt, stage)) in self.by_id.iter_mut().filter(|(_, (_, stage))| *stage == Stage::New) {
            *stage = Stage::Told;
            told.push((*packet_id, *attempt));
        }
        told
    }

    /// A message was kept: its producer can have the next.
    pub fn kept(&mut self, packet_id: PacketId) {
        let Some((Attempt { partition, producer }, stage)) = self.by_id.get_mut(&packet_id) else { return };
        if std::mem::replace(stage, Stage::Kept) != Stage::Kept
            && let Some(sequence) = producer.sequence.checked_add(1)
        {
            self.free.entry(*partition).or_default().push(Producer { sequence, ..*producer });
        }
    }

    /// Of messages that were kept, and the log knows of the attempt only.
    pub fn all_kept(&self) -> Vec<PacketId> {
        self.by_id.iter().filter(|(_, (_, stage))| *stage == Stage::Kept).map(|(packet_id, _)| *packet_id).collect()
    }

    /// It is over, or the log says all there is to say. Its producer is used no more if nobody knows of its last message.
    pub fn end(&mut self, packet_id: PacketId) -> bool {
        self.by_id.remove(&packet_id).is_some()
    }

    /// The same for some.
    pub fn end_all(&mut self, packet_ids: &[PacketId]) {
        for packet_id in packet_ids {
            self.by_id.remove(packet_id);
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.by_id.keys().copied()
    }

    /// The core has lost what producers had appended (a disk that was not synced): others are to be used.
    pub fn forget_producers(&mut self) {
        self.free.clear();
    }
}

/// An id that nobody else has: 62 random bits, below -1, where no protocol's own are.
pub fn new_producer_id() -> i64 {
    let random = RandomState::new().hash_one(0) >> 2;
    -2 - random as i64
}

#[cfg(test)]
mod tests {
    use core_rpc::TopicId;

    use super::*;

    #[test]
    fn a_message_that_comes_again_is_appended_as_before_and_a_producer_has_one_under_way() {
        let id = |id| PacketId::new(id).unwrap();
        let partition = |index| PartitionId { topic: TopicId(1), index };
        let mut attempts = Attempts::default();
        let one = attempts.begin(id(1), partition(0));
        let two = attempts.begin(id(2), partition(0));
        assert!(one.producer.id < -1 && one.producer.id != two.producer.id);
        assert_eq!(attempts.tell(), [(id(1), one), (id(2), two)]);
        assert_eq!((attempts.tell(), attempts.begin(id(1), partition(0))), (vec![], one));
        attempts.kept(id(1));
        attempts.kept(id(1));
        assert_eq!(attempts.all_kept(), [id(1)]);
        let three = attempts.begin(id(3), partition(0));
        assert_eq!(three.producer, Producer { sequence: 1, ..one.producer });
        assert_ne!(attempts.begin(id(4), partition(0)).producer.id, one.producer.id);
        // Given up: nobody knows what became of it.
        assert!(attempts.end(id(2)) && !attempts.end(id(2)));
        assert_ne!(attempts.begin(id(2), partition(0)).producer.id, two.producer.id);
        // Another topic stands there by now.
        assert_ne!(attempts.begin(id(3), partition(1)), three);
    }
}
