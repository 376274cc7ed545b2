//! What goes into the log: rounds of messages, from connections, wills and delays.

use std::future::Future;
use std::sync::Arc;

use codec_record::Batch;
use codec_record::mqtt_message::{MessageParts, Writer};
use core_rpc::{
    AnyCore, Append, AppendError, AppendRequest, Core, GroupName, PartitionId, SessionId, TopicError, TransferError,
    TransferRequest,
};

use super::delayed;
use super::sessions::Attempt;
use super::topics::{Own, Topics};
use crate::now_ms;
use crate::translate::Storable;

/// Why something was not kept, or nobody knows whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the message is larger than its topic allows")]
    TooLarge,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    /// It may have been kept.
    #[error("the core is unavailable")]
    Unavailable,
    /// The topic was deleted meanwhile; the next try makes it again.
    #[error("the topic is gone")]
    TopicGone,
    #[error("the core does not take such a topic")]
    TopicInvalid,
    /// The message was not kept, and never is under its producer; under another it is.
    #[error("what the message's producer had appended before is lost")]
    ProducerLost,
    #[error("a shared message is another member's by now")]
    NotHeld,
    /// It was not kept.
    #[error("this gateway was taken for dead meanwhile")]
    TakenForDead,
}

impl From<AppendError> for PublishError {
    fn from(error: AppendError) -> PublishError {
        match error {
            AppendError::TooLarge { .. } => PublishError::TooLarge,
            AppendError::DiskFull => PublishError::DiskFull,
            AppendError::UnknownPartition => PublishError::TopicGone,
            AppendError::Unavailable => PublishError::Unavailable,
            AppendError::SequenceGap => PublishError::ProducerLost,
            // Nothing here has a transaction, or an epoch; what was forgotten was kept.
            AppendError::StorageFailed
            | AppendError::Corrupt
            | AppendError::ProducerFenced
            | AppendError::TransactionOpen
            | AppendError::SequenceForgotten => PublishError::StorageFailed,
        }
    }
}

impl From<TransferError> for PublishError {
    fn from(error: TransferError) -> PublishError {
        match error {
            TransferError::Append { error, .. } => error.into(),
            TransferError::DiskFull => PublishError::DiskFull,
            // Of another topic by now, with the same name.
            TransferError::NotTogether => PublishError::TopicGone,
            TransferError::Invalid => PublishError::TooLarge,
            TransferError::Settle { .. } => PublishError::NotHeld,
            TransferError::UnknownSession => PublishError::TakenForDead,
            TransferError::StorageFailed => PublishError::StorageFailed,
            TransferError::Unavailable => PublishError::Unavailable,
        }
    }
}

impl From<TopicError> for PublishError {
    fn from(error: TopicError) -> PublishError {
        match error {
            TopicError::DiskFull => PublishError::DiskFull,
            TopicError::StorageFailed => PublishError::StorageFailed,
            TopicError::InvalidName | TopicError::PartitionCount { .. } => PublishError::TopicInvalid,
            TopicError::Unavailable | TopicError::Unknown | TopicError::Exists | TopicError::Conflict => {
                PublishError::Unavailable
            }
        }
    }
}

/// Messages that go together: for each partition one batch, but for those that are kept apart from their identifiers.
#[derive(Debug, Default)]
pub struct Round {
    batches: Vec<(PartitionId, Piece)>,
    /// What is kept before anything else is.
    before: Vec<Append>,
    /// Records of sessions, which are kept with the messages or not at all, and messages that are held back.
    records: Vec<Append>,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Gathered(Writer),
    /// One message with a producer of its own.
    Apart(Batch),
}

impl Piece {
    fn batch(self) -> Option<Batch> {
        match self {
            Piece::Gathered(mut writer) => writer.take(-1),
            Piece::Apart(batch) => Some(batch),
        }
    }
}

impl Round {
    /// Adds a message, behind those that were added before. For what is retained, both with the partition of its topic and
    /// ([`Publishing::retained_partition`]) with that of what is retained.
    pub fn add(&mut self, partition: PartitionId, message: &MessageParts<'_>) {
        self.bytes += message.stored_bytes();
        match self.batches.iter_mut().rev().find(|(known, _)| *known == partition) {
            Some((_, Piece::Gathered(writer))) => writer.append(message),
            _ => {
                let mut writer = Writer::new();
                writer.append(message);
                self.batches.push((partition, Piece::Gathered(writer)));
            }
        }
    }

    /// Adds a message of QoS 2 that does not lie with its identifier, behind those that were added before.
    pub fn add_apart(&mut self, attempt: Attempt, message: &MessageParts<'_>) {
        self.bytes += message.stored_bytes();
        let Append { partition, mut batch } = record(attempt.partition, message);
        batch.header.producer = Some(attempt.producer);
        self.batches.push((partition, Piece::Apart(batch)));
    }

    /// What the log has to tell of messages before they are kept.
    pub fn record_before(&mut self, record: Append) {
        self.bytes += record.batch.payload.len();
        self.before.push(record);
    }

    /// What a session's record says from now on, or a message that is held back.
    pub fn record(&mut self, record: Append) {
        self.bytes += record.batch.payload.len();
        self.records.push(record);
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.records.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For whoever appends them together with something else: the messages, and behind them the records.
    pub(super) fn into_appends(self) -> Vec<Append> {
        appends(self.batches).chain(self.records).collect()
    }
}

fn appends(pieces: Vec<(PartitionId, Piece)>) -> impl Iterator<Item = Append> {
    pieces.into_iter().filter_map(|(partition, piece)| Some(Append { partition, batch: piece.batch()? }))
}

/// Appends rounds. Cheap to clone.
#[derive(Clone)]
pub struct Publishing {
    core: AnyCore,
    topics: Arc<Topics>,
}

impl Publishing {
    pub fn new(core: AnyCore, topics: Arc<Topics>) -> Publishing {
        Publishing { core, topics }
    }

    /// Where the retained message of a name is kept.
    pub fn retained_partition(&self, name: &str) -> PartitionId {
        self.topics.own_partition(Own::Retained, name)
    }

    /// Appends. Done when it is as safe as the topics' durability says. Rounds are kept in the order in which their futures are
    /// first polled, but for those with something that is kept [before](Round::record_before). With records all of it is kept or
    /// nothing, but for what goes to topics that do not lie with the sessions (other protocols' clients made them), which is
    /// kept first.
    pub fn send(&self, round: Round) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        self.send_while(round, None)
    }

    /// The same, and what lies with the sessions is kept only while this gateway's session with the core lives: whoever takes its clients' sessions over
    /// finds all that it has ever kept of them. With what is kept apart from its records nothing is begun then, and what was is known.
    pub fn send_while(
        &self,
        round: Round,
        session: Option<SessionId>,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + 'static {
        let (core, topics) = (self.core.clone(), self.topics.clone());
        let Round { batches, before, records, .. } = round;
        let transfer = move |appends: Vec<Append>| TransferRequest {
            group: GroupName { namespace: topics.namespace().to_owned(), group: "mqtt".into() },
            holder: "mqtt".into(),
            session,
            settles: Vec::new(),
            appends,
        };
        let topics = self.topics.clone();
        async move {
            if !before.is_empty() {
                core.transfer(transfer(before)).await?;
            }
            if records.is_empty() && session.is_none() {
                return append(&core, appends(batches).collect()).await;
            }
            let (with, apart): (Vec<Append>, Vec<Append>) =
                appends(batches).partition(|append| topics.is_together(append.partition));
            if !apart.is_empty() {
                append(&core, apart).await?;
            }
            let all: Vec<Append> = with.iter().chain(&records).cloned().collect();
            match core.transfer(transfer(all)).await {
                Ok(_) => Ok(()),
                // More than the core keeps at once.
                Err(TransferError::Invalid) => {
                    append(&core, with).await?;
                    append(&core, records).await
                }
                Err(error) => Err(error.into()),
            }
        }
    }

    /// One message, a will. Retained if it says so; if its name says that it is delayed, it is. `session`: as with [`Publishing::send_while`].
    pub async fn publish(&self, message: &Storable, session: Option<SessionId>) -> Result<(), PublishError> {
        let parts = message.parts();
        // It was a topic name when it came.
        let name = std::str::from_utf8(parts.topic).map_err(|_| PublishError::TopicInvalid)?;
        let mut round = Round::default();
        if let Some(delay) = delayed::parse(name, now_ms()) {
            let delay = delay.map_err(|_| PublishError::TopicInvalid)?;
            let parts = MessageParts { topic: delay.name.as_bytes(), ..parts };
            round.record(delayed::hold_back(&self.topics, &parts, delay.due_ms));
            return self.send_while(round, session).await;
        }
        let partition = self.topics.partition(name).await?;
        round.add(partition, &parts);
        if parts.retain {
            round.add(self.retained_partition(name), &parts);
        }
        self.send_while(round, session).await
    }
}

async fn append(core: &AnyCore, appends: Vec<Append>) -> Result<(), PublishError> {
    let mut failed = None;
    for answer in core.append(AppendRequest { appends }).await {
        match answer {
            // Or it was appended before, and others of its producer since.
            Ok(_) | Err(AppendError::SequenceForgotten) => {}
            Err(error) => failed = failed.or(Some(error.into())),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A batch of one message, for [`Round::record`].
pub fn record(partition: PartitionId, message: &MessageParts<'_>) -> Append {
    let mut writer = Writer::new();
    writer.append(message);
    let batch = writer.take(-1).unwrap_or_else(|| Batch::new(codec_record::FormatId::MQTT, 1, -1, Default::default()));
    Append { partition, batch }
}
