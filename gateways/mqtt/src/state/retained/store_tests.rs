//! What is over goes from the log too: on a real core, with times passed in.

use std::sync::Arc;
use std::time::Duration;

use codec_record::Formats;
use codec_record::mqtt_message::{MessageParts, batch_of, walk};
use core_log::LocalCore;
use core_rpc::{
    AnyCore, Append, AppendRequest, Bounds, Core, Durability, FetchPartition, FetchRequest, Isolation, PartitionId,
};
use gateway_runtime::TopicCache;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::RetainedStore;
use crate::now_ms;
use crate::state::topics::Own;
use crate::state::{TopicRules, Topics};

const HOUR_MS: i64 = 3_600_000;

struct Kit {
    local: LocalCore,
    core: AnyCore,
    topics: Arc<Topics>,
    store: Arc<RetainedStore>,
    stop: CancellationToken,
    _directory: TempDir,
}

impl Kit {
    async fn start() -> Kit {
        let directory = tempfile::tempdir().unwrap();
        // Cleaned when the test says so.
        let config = core_log::Config { clean_interval: Duration::ZERO, ..core_log::Config::default() };
        let local = LocalCore::open_directory(config, directory.path(), Formats::all()).unwrap();
        let (core, stop) = (AnyCore::from(local.clone()), CancellationToken::new());
        let cache = TopicCache::start(core.clone(), stop.clone()).await.unwrap();
        let rules = TopicRules {
            namespace: "default".into(),
            rules: Vec::new(),
            partitions: 1,
            durability: Durability::Fsync,
            retention: None,
            topics_max: 10,
        };
        let topics = Arc::new(Topics::start(cache, rules).await.unwrap());
        let store = RetainedStore::start(core.clone(), topics.clone(), 1 << 20, stop.clone());
        Kit { local, core, topics, store, stop, _directory: directory }
    }

    fn partition(&self) -> PartitionId {
        PartitionId { topic: self.topics.own(Own::Retained).id, index: 3 }
    }

    async fn retain(&self, name: &str, payload: &str, expiry_s: Option<u32>) {
        let parts = MessageParts {
            qos: 1,
            retain: true,
            expiry_s,
            topic: name.as_bytes(),
            payload: payload.as_bytes(),
            ..MessageParts::default()
        };
        let append = Append { partition: self.partition(), batch: batch_of(&parts, -1) };
        self.core.append(AppendRequest { appends: vec![append] }).await.remove(0).unwrap();
    }

    /// The names of all that the log has, in order.
    async fn names(&self) -> Vec<String> {
        let (mut offset, mut names) = (0, Vec::new());
        loop {
            let partition = FetchPartition { partition: self.partition(), offset, bytes_max: 1 << 20 };
            let request = FetchRequest {
                partitions: vec![partition],
                bytes_min: 0,
                bytes_max: 1 << 20,
                wait: Duration::ZERO,
                isolation: Isolation::Committed,
            };
            let fetched = self.core.fetch(request).await.remove(0).unwrap();
            let Some(last) = fetched.batches.last() else { return names };
            offset = last.header.next_offset();
            for stored in fetched.batches.iter().flat_map(|batch| walk(&batch.payload)) {
                names.push(String::from_utf8(stored.unwrap().parts.topic.to_vec()).unwrap());
            }
        }
    }

    async fn bounds(&self) -> Bounds {
        self.core.inspect(vec![self.partition()]).await.remove(0).unwrap().bounds
    }
}

#[tokio::test]
async fn what_is_over_goes_from_the_log_though_nobody_writes() {
    let kit = Kit::start().await;
    kit.retain("kept", "x", None).await;
    kit.retain("expires", "older", None).await;
    kit.retain("expires", "x", Some(3600)).await;
    kit.retain("deleted", "x", None).await;
    kit.retain("deleted", "", None).await;
    kit.store.caught_up().await.unwrap();
    assert_eq!(kit.store.size().0, 2);

    // The first compaction, which comes because something was written: each name once.
    let began_ms = now_ms();
    kit.local.engine.clean(began_ms).await;
    assert_eq!(kit.names().await, ["kept", "expires", "deleted"]);
    let hours = |hours: i64| began_ms + hours * HOUR_MS;
    kit.store.remind(hours(2)).await;
    kit.local.engine.clean(hours(2)).await;
    assert_eq!(kit.names().await, ["kept", "expires", "deleted"], "nobody wrote, and it is too early for a reminder");

    // It has expired, and is a tombstone from the next compaction on; the deleted one's time is over after a day.
    kit.store.sweep(None, hours(13)).await;
    assert_eq!(kit.store.size().0, 1);
    for hour in [13, 26, 39, 52] {
        kit.store.remind(hours(hour)).await;
        kit.local.engine.clean(hours(hour) + HOUR_MS).await;
    }
    assert_eq!(kit.names().await, ["kept", ""], "only what is retained, and a reminder");
    // Where nothing is to go any more nobody is reminded of it.
    let before = kit.bounds().await;
    for hour in 90..200 {
        kit.store.remind(hours(hour)).await;
    }
    assert_eq!(kit.bounds().await, before);
    kit.stop.cancel();
    kit.local.stop();
}

/// A gateway that starts finds out what lies there.
#[tokio::test]
async fn a_gateway_that_starts_goes_on_with_it() {
    let kit = Kit::start().await;
    kit.retain("deleted", "", None).await;
    kit.store.caught_up().await.unwrap();
    let other = RetainedStore::start(kit.core.clone(), kit.topics.clone(), 0, kit.stop.clone());
    other.caught_up().await.unwrap();
    let before = kit.names().await;
    other.remind(now_ms() + 13 * HOUR_MS).await;
    assert_eq!((before.len(), kit.names().await.len()), (1, 2));
    kit.stop.cancel();
    kit.local.stop();
}
