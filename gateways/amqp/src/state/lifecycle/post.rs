//! Messages on their way into queues, gathered for one call of the core: dead letters, and what was held back.

use std::sync::Arc;

use codec_record::amqp_message::{MessageView, Writer, batch_of};
use core_rpc::{Append, PartitionId};

use crate::state::topology::Queue;

/// What goes where.
#[derive(Debug, Default)]
pub struct Post {
    sheaves: Vec<Sheaf>,
    held_back: Vec<Append>,
}

/// What goes into one partition.
#[derive(Debug)]
struct Sheaf {
    queue: Arc<Queue>,
    partition: PartitionId,
    writer: Writer,
    /// When the first of it expires by itself, ms since the Unix epoch.
    expires_ms: Option<i64>,
    /// The sizes of the bodies.
    bodies: Vec<u64>,
}

/// Where something was sent to, so that its limits and deadlines are looked after.
#[derive(Clone, Debug)]
pub struct Sent {
    pub queue: Arc<Queue>,
    pub expires_ms: Option<i64>,
}

impl Post {
    /// The sizes of the bodies that go into a queue so far.
    pub fn bodies_for(&self, queue: &Queue) -> impl Iterator<Item = u64> {
        let topic = queue.topic();
        let sheaves = self.sheaves.iter().filter(move |sheaf| sheaf.partition.topic == topic);
        sheaves.flat_map(|sheaf| sheaf.bodies.iter().copied())
    }

    /// Into a queue.
    pub fn put(&mut self, queue: &Arc<Queue>, message: &MessageView) {
        let partition = queue.partition_of_priority(message.priority);
        let at = self.sheaves.iter().position(|sheaf| sheaf.partition == partition).unwrap_or_else(|| {
            let (queue, writer) = (queue.clone(), Writer::new());
            self.sheaves.push(Sheaf { queue, partition, writer, expires_ms: None, bodies: Vec::new() });
            self.sheaves.len() - 1
        });
        let sheaf = &mut self.sheaves[at];
        sheaf.writer.append(message);
        sheaf.expires_ms = sheaf.expires_ms.into_iter().chain(message.expires_ms).min();
        sheaf.bodies.push(message.body.len() as u64);
    }

    /// Into the topic where messages wait, until `due_ms`.
    pub fn hold_back(&mut self, waiting: PartitionId, message: &MessageView, due_ms: i64) {
        self.held_back.push(held_back(waiting, message, due_ms));
    }

    pub fn finish(self) -> (Vec<Append>, Vec<Sent>) {
        let mut appends = self.held_back;
        let mut sent = Vec::with_capacity(self.sheaves.len());
        for mut sheaf in self.sheaves {
            if let Some(batch) = sheaf.writer.take() {
                appends.push(Append { partition: sheaf.partition, batch });
                sent.push(Sent { queue: sheaf.queue, expires_ms: sheaf.expires_ms });
            }
        }
        (appends, sent)
    }
}

/// One message that waits until `due_ms`.
pub fn held_back(waiting: PartitionId, message: &MessageView, due_ms: i64) -> Append {
    let mut batch = batch_of(message);
    batch.header.not_before_ms = Some(due_ms);
    Append { partition: waiting, batch }
}
