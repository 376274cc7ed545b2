//! Appends what waits in the journal to the internal topics, and creates them when they are first needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codec_record::kafka_batch::{BatchEncoder, Record};
use codec_record::{Batch, FormatId};
use core_rpc::{Append, AppendRequest, Core, Durability, PartitionId, TopicCreate, TopicError};

use super::{Entry, InternalTopic, Journal, PARTITIONS, partition_of_id};
use crate::configs::{self, Labels};
use crate::{Topic, Topics, now_ms};

/// After what time to try again what could not be appended.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Bytes of keys and values in one batch, from which on another is begun.
const BATCH_BYTES: usize = 256 << 10;

/// Writes down what comes, for ever.
pub async fn write<C: Core>(journal: Journal, core: C, topics: Arc<Topics<C>>, namespace: String) {
    loop {
        let taken = journal.take().await;
        let failed = append(&core, &topics, &namespace, taken).await;
        let has_failed = !failed.is_empty();
        journal.done(failed);
        if has_failed {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Appends the entries; returns those that could not be.
async fn append<C: Core>(core: &C, topics: &Topics<C>, namespace: &str, entries: Vec<Entry>) -> Vec<Entry> {
    let mut failed = Vec::new();
    let mut by_partition: BTreeMap<(InternalTopic, u32), Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        let partition = partition_of_id(&entry.id, PARTITIONS);
        by_partition.entry((entry.topic, partition)).or_default().push(entry);
    }
    let mut appends = Vec::new();
    let mut appended = Vec::new();
    for ((internal, index), entries) in by_partition {
        let topic = match topics.by_name(namespace, internal.name()) {
            Some(topic) => topic,
            None => match create(topics, namespace, internal).await {
                Ok(topic) => topic,
                Err(error) => {
                    tracing::warn!(topic = internal.name(), %error, "cannot create an internal topic");
                    failed.extend(entries);
                    continue;
                }
            },
        };
        for entries in batches(entries) {
            // Somebody may have made the topic with fewer partitions.
            let partition = PartitionId { topic: topic.topic.id, index: index % topic.topic.partitions };
            appends.push(Append { partition, batch: encode(&entries) });
            appended.push((internal, entries));
        }
    }
    if appends.is_empty() {
        return failed;
    }
    let answers = core.append(AppendRequest { appends }).await;
    for ((internal, entries), answer) in appended.into_iter().zip(answers) {
        match answer {
            Ok(_) => {}
            Err(core_rpc::AppendError::TooLarge { .. }) => {
                tracing::warn!(topic = internal.name(), "a record is too large for an internal topic");
            }
            Err(error) => {
                tracing::debug!(topic = internal.name(), %error, "cannot append to an internal topic");
                failed.extend(entries);
            }
        }
    }
    failed
}

/// Creates an internal topic, or finds it if somebody else was faster.
pub async fn create<C: Core>(
    topics: &Topics<C>,
    namespace: &str,
    internal: InternalTopic,
) -> Result<Arc<Topic>, TopicError> {
    let mut labels = Labels::new();
    // As in Kafka, the latest record of each key is kept, and only it.
    labels.insert("cleanup.policy".into(), "compact".into());
    if configs::check_labels(&labels).is_err() {
        labels.clear();
    }
    // It is a copy: a sync for it would be a sync for nothing.
    let labels = configs::with_durability(labels, Durability::Relaxed);
    let settings = configs::settings_of(&labels);
    let create = TopicCreate {
        namespace: namespace.to_owned(),
        name: internal.name().to_owned(),
        partitions: PARTITIONS,
        settings,
        labels,
    };
    match topics.create(create).await {
        Err(TopicError::Exists) => topics.by_name(namespace, internal.name()).ok_or(TopicError::Conflict),
        created => created,
    }
}

/// Cuts entries into batches of some size.
fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = usize::MAX;
    for entry in entries {
        let entry_bytes = entry.key.len() + entry.value.as_ref().map_or(0, |value| value.len());
        bytes = bytes.saturating_add(entry_bytes);
        match batches.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.push(entry),
            _ => {
                bytes = entry_bytes;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

fn encode(entries: &[Entry]) -> Batch {
    let timestamp_ms = now_ms();
    let record = |(index, entry): (usize, &Entry)| Record {
        timestamp_ms,
        offset_delta: index as i32,
        key: Some(entry.key.clone()),
        value: entry.value.clone(),
        ..Default::default()
    };
    let records: Vec<Record> = entries.iter().enumerate().map(record).collect();
    let payload = BatchEncoder::default().encode(&records);
    Batch::new(FormatId::KAFKA_BATCH_V2, records.len() as u32, timestamp_ms, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut() {
        let entry = |size: usize| Entry {
            topic: InternalTopic::ConsumerOffsets,
            id: "g".into(),
            key: vec![0; size].into(),
            value: None,
        };
        let sizes = [100, 200 << 10, 100 << 10, 300 << 10, 1, 1];
        let cut: Vec<usize> = batches(sizes.into_iter().map(entry).collect()).iter().map(Vec::len).collect();
        assert_eq!(cut, [2, 1, 1, 2]);
    }
}
