//! One consumer's way through a stream.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use codec_amqp::{FieldValue, ShortStr};
use codec_record::Batch;
use codec_record::amqp_message::{MessageView, Writer};
use codec_record::translate::{AmqpMessages, amqp_messages};
use core_rpc::{
    Bounds, Core, FetchError, FetchPartition, FetchRequest, Fetched, Isolation, OffsetAt, OffsetsRequest, PartitionId,
};

use super::filter::Filter;
use super::offset::{STREAM_OFFSET, StartAt};
use super::visible::visible;

/// The most bytes of one fetch; a single batch may be larger.
const FETCH_BYTES_MAX: u32 = 1 << 20;

/// Where a consumer is, and what was read for it and not dealt yet: at most one fetch.
#[derive(Debug)]
pub struct Cursor {
    partition: PartitionId,
    /// The routing key of messages that have none.
    topic: ShortStr,
    /// The next fetch begins here.
    fetch_at: u64,
    /// Messages before it were not asked for.
    from: u64,
    /// The batch that is found first is wanted whole.
    whole: bool,
    /// Other messages are passed over.
    filter: Option<Filter>,
    batches: VecDeque<(u64, AmqpMessages)>,
    /// The next message and its offset, taken out of the first batch.
    next: Option<(u64, MessageView)>,
}

/// Messages to deliver, in the form in which they are stored, each with its offset among its headers.
#[derive(Debug)]
pub struct Piece {
    pub payload: Bytes,
    /// By rising offset.
    pub messages: Vec<Placed>,
    /// What was taken for them.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub offset: u64,
    /// Where the message begins in the payload.
    pub at: u32,
}

impl Cursor {
    /// Finds where to begin.
    pub async fn open<C: Core>(
        core: &C,
        partition: PartitionId,
        topic: ShortStr,
        start: StartAt,
    ) -> Result<Cursor, FetchError> {
        let mut cursor = Cursor {
            partition,
            topic,
            fetch_at: 0,
            from: 0,
            whole: false,
            filter: None,
            batches: VecDeque::new(),
            next: None,
        };
        let first = ask(core, partition, OffsetAt::Earliest).await?.unwrap_or(0);
        let end = ask(core, partition, OffsetAt::Stable).await?.unwrap_or(first);
        cursor.from = match start {
            StartAt::First => first,
            StartAt::Next => end,
            StartAt::Offset(offset) => offset.clamp(first, end.max(first)),
            StartAt::Time(time_ms) => ask(core, partition, OffsetAt::Time(time_ms)).await?.unwrap_or(end),
            StartAt::Last => {
                cursor.whole = end > first;
                end.saturating_sub(1).max(first)
            }
        };
        cursor.fetch_at = cursor.from;
        Ok(cursor)
    }

    /// The same, but only with messages that the filter wants.
    pub fn with_filter(mut self, filter: Option<Filter>) -> Cursor {
        self.filter = filter;
        self
    }

    /// Whether there is a message in hand.
    pub fn has_message(&mut self) -> bool {
        self.look().is_some()
    }

    /// Reads on, waiting for messages if there are none. What is thereby in hand may be none all the same.
    pub async fn read<C: Core>(&mut self, core: &C, wait: Duration) -> Result<(), FetchError> {
        let partition = FetchPartition { partition: self.partition, offset: self.fetch_at, bytes_max: FETCH_BYTES_MAX };
        let request = FetchRequest {
            partitions: vec![partition],
            bytes_min: 1,
            bytes_max: FETCH_BYTES_MAX,
            wait,
            isolation: Isolation::Committed,
        };
        match core.fetch(request).await.pop() {
            Some(Ok(fetched)) => {
                self.add(fetched);
                Ok(())
            }
            Some(Err(FetchError::OutOfRange(bounds))) => {
                self.clamp(bounds);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Err(FetchError::Unavailable),
        }
    }

    /// What retention removed is passed over; a log that ends before it has lost its end (a topic that is not synced).
    fn clamp(&mut self, bounds: Bounds) {
        self.fetch_at = self.fetch_at.clamp(bounds.start_offset, bounds.end_offset.max(bounds.start_offset));
        self.from = self.fetch_at;
    }

    fn add(&mut self, fetched: Fetched) {
        let Some(last) = fetched.batches.last() else { return };
        self.fetch_at = self.fetch_at.max(last.header.next_offset());
        for batch in visible(fetched) {
            if std::mem::take(&mut self.whole) {
                self.from = batch.header.base_offset;
            }
            self.add_batch(&batch);
        }
    }

    fn add_batch(&mut self, batch: &Batch) {
        match amqp_messages(batch, &self.topic) {
            Ok(messages) => self.batches.push_back((batch.header.base_offset, messages)),
            Err(error) => {
                let offset = batch.header.base_offset;
                tracing::warn!(topic = %self.topic, offset, %error, "a batch of a stream cannot be delivered");
            }
        }
    }

    fn look(&mut self) -> Option<&(u64, MessageView)> {
        while self.next.is_none() {
            let (base_offset, messages) = self.batches.front_mut()?;
            match messages.next() {
                Some(Ok(message)) => {
                    let offset = *base_offset + u64::from(message.position);
                    let is_wanted = |filter: &Filter| filter.wants(&message.properties);
                    if offset >= self.from && self.filter.as_ref().is_none_or(is_wanted) {
                        self.next = Some((offset, message));
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(topic = %self.topic, offset = *base_offset, %error, "a batch of a stream is damaged");
                    self.batches.pop_front();
                }
                None => drop(self.batches.pop_front()),
            }
        }
        self.next.as_ref()
    }

    /// Takes messages that are in hand for as long as `takes`, asked with the bytes of each, says so. None: not one.
    pub fn deal(&mut self, mut takes: impl FnMut(usize) -> bool) -> Option<Piece> {
        let mut writer = Writer::new();
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some((_, message)) = self.look() {
            let message_bytes = message.stored_bytes();
            if !takes(message_bytes) {
                break;
            }
            let Some((offset, mut message)) = self.next.take() else { break };
            let place = [(STREAM_OFFSET, FieldValue::I64(offset as i64))];
            if let Some(placed) = message.properties.with_headers(&place) {
                message.properties = placed;
            }
            messages.push(Placed { offset, at: writer.bytes() as u32 });
            bytes += message_bytes;
            writer.append(&message);
        }
        let payload = writer.take()?.payload;
        Some(Piece { payload, messages, bytes })
    }
}

async fn ask<C: Core>(core: &C, partition: PartitionId, at: OffsetAt) -> Result<Option<u64>, FetchError> {
    let mut answer = core.offsets(OffsetsRequest { queries: vec![(partition, at)] }).await;
    answer.pop().unwrap_or(Err(FetchError::Unavailable)).map(|found| found.offset)
}

#[cfg(test)]
mod tests {
    use codec_amqp::Properties;
    use codec_record::amqp_message::messages;
    use codec_record::kafka_batch::{BatchEncoder, Record};
    use codec_record::{FormatId, Formats};
    use core_log::LocalCore;
    use core_rpc::{Append, AppendRequest, TopicCreate, TopicSettings, TrimRequest};

    use super::*;

    async fn append(core: &LocalCore, partition: PartitionId, batch: Batch) {
        let answer = core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await;
        answer.into_iter().for_each(|answer| assert!(answer.is_ok(), "{answer:?}"));
    }

    fn message(time_ms: i64, body: &str) -> MessageView {
        let (exchange, key) = (ShortStr::default(), ShortStr::from_static("s"));
        let body = Bytes::copy_from_slice(body.as_bytes());
        MessageView::arrived(time_ms, exchange, key, Properties::default(), body).unwrap()
    }

    fn batch(time_ms: i64, bodies: &[&str]) -> Batch {
        let mut writer = Writer::new();
        bodies.iter().for_each(|body| writer.append(&message(time_ms, body)));
        writer.take().unwrap()
    }

    /// What is in hand, at most so many: offsets and bodies. Each says where it lies.
    fn dealt(cursor: &mut Cursor, most: usize) -> Vec<(u64, String)> {
        let mut left = most;
        let piece = cursor.deal(|bytes| {
            assert!(bytes > 0);
            let takes = left > 0;
            left = left.saturating_sub(1);
            takes
        });
        let Some(piece) = piece else { return Vec::new() };
        let found: Vec<MessageView> = messages(&piece.payload).map(Result::unwrap).collect();
        let mut at = 0;
        for (placed, message) in piece.messages.iter().zip(&found) {
            assert_eq!(placed.at as usize, at);
            at += message.stored_bytes();
            assert_eq!(message.properties.header(STREAM_OFFSET), Some(FieldValue::I64(placed.offset as i64)));
        }
        let body = |message: &MessageView| String::from_utf8(message.body.to_vec()).unwrap();
        piece.messages.iter().zip(&found).map(|(placed, message)| (placed.offset, body(message))).collect()
    }

    async fn read_all(core: &LocalCore, partition: PartitionId, start: StartAt) -> Vec<u64> {
        let mut cursor = Cursor::open(core, partition, ShortStr::from_static("s"), start).await.unwrap();
        cursor.read(core, Duration::ZERO).await.unwrap();
        dealt(&mut cursor, 100).into_iter().map(|(offset, _)| offset).collect()
    }

    #[tokio::test]
    async fn a_stream_is_read_from_wherever_one_likes() {
        let directory = tempfile::tempdir().unwrap();
        let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Formats::all()).unwrap();
        let create = TopicCreate {
            namespace: "default".into(),
            name: "s".into(),
            partitions: 1,
            settings: TopicSettings::default(),
            labels: Default::default(),
        };
        let partition = PartitionId { topic: core.topic_create(create).await.unwrap().id, index: 0 };
        assert!(read_all(&core, partition, StartAt::Last).await.is_empty());
        append(&core, partition, batch(1_000, &["a", "b", "c"])).await;
        append(&core, partition, batch(2_000, &["d", "e"])).await;
        let mut next = Cursor::open(&core, partition, ShortStr::from_static("s"), StartAt::Next).await.unwrap();
        for (start, expected) in [
            (StartAt::First, vec![0, 1, 2, 3, 4]),
            (StartAt::Last, vec![3, 4]),
            (StartAt::Next, vec![]),
            (StartAt::Offset(1), vec![1, 2, 3, 4]),
            (StartAt::Offset(99), vec![]),
            (StartAt::Time(1_500), vec![3, 4]),
            (StartAt::Time(9_000), vec![]),
        ] {
            assert_eq!(read_all(&core, partition, start).await, expected, "{start:?}");
        }

        // No more than there is room for; the rest comes later.
        let mut first = Cursor::open(&core, partition, ShortStr::from_static("s"), StartAt::First).await.unwrap();
        first.read(&core, Duration::ZERO).await.unwrap();
        assert_eq!(dealt(&mut first, 2), [(0, "a".into()), (1, "b".into())]);
        assert_eq!(dealt(&mut first, 0), []);
        assert_eq!(dealt(&mut first, 2), [(2, "c".into()), (3, "d".into())]);
        assert_eq!(dealt(&mut first, 2), [(4, "e".into())]);
        assert!(!first.has_message());

        // What another protocol wrote reaches who waits.
        let record = Record { timestamp_ms: 3_000, value: Some("f".into()), ..Default::default() };
        let from_kafka = Batch::new(FormatId::KAFKA_BATCH_V2, 1, 3_000, BatchEncoder::default().encode(&[record]));
        let waiting = next.read(&core, Duration::from_secs(20));
        tokio::join!(async { waiting.await.unwrap() }, append(&core, partition, from_kafka));
        assert_eq!(dealt(&mut next, 9), [(5, "f".into())]);

        // Retention passes over who is slow.
        let mut slow = Cursor::open(&core, partition, ShortStr::from_static("s"), StartAt::First).await.unwrap();
        core.trim(TrimRequest { trims: vec![(partition, Some(4))] }).await.remove(0).unwrap();
        while !slow.has_message() {
            slow.read(&core, Duration::ZERO).await.unwrap();
        }
        assert_eq!(dealt(&mut slow, 9), [(4, "e".into()), (5, "f".into())]);
        let gone = PartitionId { index: 1, ..partition };
        let opened = Cursor::open(&core, gone, ShortStr::from_static("s"), StartAt::First).await;
        assert_eq!(opened.err(), Some(FetchError::UnknownPartition));
        core.stop();
    }
}
