//! Reads what references stand for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use codec_record::translate::mqtt_messages_where;
use core_rpc::{AnyCore, Core, FetchError, FetchPartition, FetchRequest, Isolation, PartitionId};

use super::delivery::{Delivery, Message};
use super::session::Waiting;
use crate::state::topics::Topics;
use crate::translate;

/// Read at once, of all, and of one partition from one offset on: enough for what lies beside it, and what is enough mostly for a
/// message beside which nothing is wanted. One whose batch is larger is asked for again.
const BYTES_MAX: u32 = 8 << 20;
const PARTITION_BYTES_MAX: u32 = 64 << 10;
const ALONE_BYTES_MAX: u32 = 4 << 10;

/// The messages that wait, in their order; None: the log has it no more. An error if the core cannot be asked now.
pub async fn load(core: &AnyCore, topics: &Topics, waiting: &[Waiting]) -> Result<Vec<Option<Delivery>>, FetchError> {
    let mut found: HashMap<(PartitionId, u64), Option<Arc<Message>>> = HashMap::new();
    let all: HashSet<(PartitionId, u64)> = waiting.iter().map(|one| (one.place.partition, one.place.offset)).collect();
    let mut alone_bytes_max = ALONE_BYTES_MAX;
    while let Some(fetch) = missing(waiting, &found, alone_bytes_max) {
        alone_bytes_max = (alone_bytes_max * 4).min(PARTITION_BYTES_MAX);
        let asked = fetch.clone();
        let request = FetchRequest {
            partitions: fetch,
            bytes_min: 0,
            bytes_max: BYTES_MAX,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        };
        for (asked, answer) in asked.iter().zip(core.fetch(request).await) {
            let fetched = match answer {
                Ok(fetched) => fetched,
                Err(FetchError::OutOfRange(_) | FetchError::UnknownPartition | FetchError::Corrupt) => {
                    found.insert((asked.partition, asked.offset), None);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let known = topics.by_id(asked.partition.topic);
            let Some(last) = fetched.batches.last() else {
                // Only the first that finds something is sure to get it; behind the end there is nothing.
                if asked.offset >= fetched.bounds.stable_offset {
                    found.insert((asked.partition, asked.offset), None);
                }
                continue;
            };
            let end = last.header.next_offset();
            let wanted = |offset: u64| all.contains(&(asked.partition, offset));
            for batch in fetched.batches.iter().filter(|_| known.is_some()) {
                let name = known.as_ref().map_or("", |known| &known.topic.name);
                let belongs = |name: &str| known.as_ref().is_some_and(|known| topics.belongs(name, known));
                for view in mqtt_messages_where(batch, name, &belongs).into_iter().flatten().map_while(Result::ok) {
                    let offset = batch.header.base_offset + u64::from(view.position);
                    if wanted(offset) {
                        let message = translate::message(&batch.header, view, asked.partition).map(Arc::new);
                        found.insert((asked.partition, offset), message);
                    }
                }
            }
            // What lies before the end of what was read and is not there was removed.
            for one in waiting.iter().filter(|one| one.place.partition == asked.partition) {
                if (asked.offset..end).contains(&one.place.offset) {
                    found.entry((asked.partition, one.place.offset)).or_insert(None);
                }
            }
        }
    }
    let delivery = |one: &Waiting| {
        let message = found.get(&(one.place.partition, one.place.offset))?.clone()?;
        let subscription_ids = one.subscription_ids.clone();
        Some(Delivery { message, qos: one.qos, retain: one.retain, subscription_ids, share: None })
    };
    Ok(waiting.iter().map(delivery).collect())
}

/// Where to read on: of each partition from the first that was not found yet, beside which so much is read if no other is near. None:
/// all were.
fn missing(
    waiting: &[Waiting],
    found: &HashMap<(PartitionId, u64), Option<Arc<Message>>>,
    alone_bytes_max: u32,
) -> Option<Vec<FetchPartition>> {
    let mut fetch: Vec<FetchPartition> = Vec::new();
    for one in waiting {
        let place = one.place;
        if found.contains_key(&(place.partition, place.offset)) {
            continue;
        }
        match fetch.iter_mut().find(|fetch| fetch.partition == place.partition && is_near(fetch.offset, place.offset)) {
            Some(near) if near.offset == place.offset => {}
            Some(near) => {
                (near.offset, near.bytes_max) = (near.offset.min(place.offset), PARTITION_BYTES_MAX);
            }
            None => fetch.push(FetchPartition {
                partition: place.partition,
                offset: place.offset,
                bytes_max: alone_bytes_max,
            }),
        }
    }
    (!fetch.is_empty()).then_some(fetch)
}

/// Offsets that one read may well have both of.
fn is_near(one: u64, other: u64) -> bool {
    one.abs_diff(other) < 256
}
