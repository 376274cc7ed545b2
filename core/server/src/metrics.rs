//! What a core tells of itself at `/health` and `/metrics`: how much goes in and out, how long appends and syncs take, how far groups
//! are behind, and what room is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_log::LocalCore;
use core_log::counts::Spread;
use core_log::disk::space;
use core_process::admin::{Health, Metrics, Source};
use core_rpc::Core;

/// How long the core may take to say that it is well.
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(3);

/// Whether the core answers, and can write.
pub fn health(core: LocalCore) -> Health {
    Arc::new(move || {
        let core = core.clone();
        Box::pin(async move {
            if let Some(trouble) = core.trouble() {
                return Err(trouble);
            }
            match tokio::time::timeout(HEALTH_WAIT_MAX, core.meta_get("check".to_owned())).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the core does not answer".to_owned()),
            }
        })
    })
}

/// Writes the metrics of the core whose data is in this directory.
pub fn source(core: LocalCore, data: PathBuf) -> Source {
    Arc::new(move |metrics| {
        work(&core, metrics);
        state(&core, metrics);
        if let Ok(space) = space(&data) {
            let help = "Room on the file system of the data.";
            metrics.single("polymq_core_disk_bytes", "gauge", help, space.bytes as f64);
            let help = "Room left there for the core.";
            metrics.single("polymq_core_disk_free_bytes", "gauge", help, space.free_bytes as f64);
        }
    })
}

/// What it has done.
fn work(core: &LocalCore, metrics: &mut Metrics) {
    let counts = core.engine.counts();
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    let totals: [(&str, &str, &AtomicU64); 5] = [
        ("polymq_core_appended_batches_total", "Batches appended.", &counts.appended_batches),
        ("polymq_core_appended_messages_total", "Messages in them.", &counts.appended_messages),
        ("polymq_core_appended_bytes_total", "Bytes of them, as they are stored.", &counts.appended_bytes),
        ("polymq_core_fetched_batches_total", "Batches that fetches were answered with.", &counts.fetched_batches),
        ("polymq_core_fetched_bytes_total", "Bytes of them.", &counts.fetched_bytes),
    ];
    for (name, help, count) in totals {
        metrics.single(name, "counter", help, of(count));
    }
    const REFUSED: &str = "polymq_core_refused_appends_total";
    metrics.begin(REFUSED, "counter", "Batches that were not appended.");
    metrics.value(REFUSED, &[("reason", "disk-full")], of(&counts.refused_for_space));
    metrics.value(REFUSED, &[("reason", "storage-failed")], of(&counts.refused_for_storage));
    metrics.value(REFUSED, &[("reason", "other")], of(&counts.refused_otherwise));
    spread(metrics, "polymq_core_append_seconds", "From an append to its answer.", &counts.appends.spread());
    spread(metrics, "polymq_core_sync_seconds", "Syncs that somebody waited for.", &counts.syncs.spread());
}

fn spread(metrics: &mut Metrics, name: &str, help: &str, spread: &Spread) {
    metrics.histogram(name, help, &spread.at_most, spread.count, spread.sum_seconds);
}

/// How it stands.
fn state(core: &LocalCore, metrics: &mut Metrics) {
    let topics = core.meta.topics();
    metrics.single("polymq_core_topics", "gauge", "Topics.", topics.len() as f64);
    metrics.single("polymq_core_partitions", "gauge", "Partitions.", core.engine.partition_count() as f64);
    let shards = core.engine.shard_reports();
    let failed = shards.iter().filter(|shard| shard.failed).count();
    let help = "Shards that take no writes until a restart.";
    metrics.single("polymq_core_failed_shards", "gauge", help, failed as f64);
    let packs: usize = shards.iter().map(|shard| shard.packs).sum();
    metrics.single("polymq_core_packs", "gauge", "Files that hold the log.", packs as f64);
    let bytes: u64 = shards.iter().map(|shard| shard.pack_bytes).sum();
    metrics.single("polymq_core_pack_bytes", "gauge", "Their capacity.", bytes as f64);
    const LAG: &str = "polymq_core_group_lag_messages";
    metrics.begin(LAG, "gauge", "Messages of a topic that a group has not committed or settled.");
    for lag in core.engine.lags(&topics) {
        let labels = [("namespace", &*lag.namespace), ("topic", &*lag.topic), ("group", &*lag.group)];
        metrics.value(LAG, &labels, lag.messages as f64);
    }
}
