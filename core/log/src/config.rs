//! What the engine can be told.

use std::time::Duration;

/// Settings of an engine. [`Config::default`] suits a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shards of a data directory that is made now; None: as many as cores. A directory keeps the number it was made with.
    pub shards: Option<u32>,
    /// Capacity of a pack. Larger packs mean fewer files and snapshots, but space comes back in larger steps.
    pub pack_bytes: u64,
    /// Capacity of a shard's first pack: zeros are written to it before the engine starts. Each next one is four times
    /// as large, up to `pack_bytes`.
    pub pack_bytes_first: u64,
    /// Recent batches kept in memory, over the whole engine.
    pub cache_bytes: u64,
    /// A group is written when it has this many bytes, though more may wait.
    pub group_bytes_max: u64,
    /// What was appended without waiting for the disk is synced after this time.
    pub relaxed_sync: Duration,
    /// A producer that has not appended for so long is forgotten.
    pub producer_expiry_ms: i64,
    /// How often retention and compaction are looked after. Zero: only when [`crate::Engine::clean`] is called.
    pub clean_interval: Duration,
    /// Memory for the keys of one pass of compaction, over the whole engine: 24 bytes and some room for each. With more keys a
    /// partition takes several passes.
    pub compaction_map_bytes: u64,
    /// What compaction reads and writes in a second, so that it leaves the disk to the writers. 0: no limit.
    pub compaction_bytes_per_second: u64,
    /// Prepare, seal and reclaim packs, and sync what nobody waits for, on threads of their own. Off, the writers do it, and
    /// sync only when they must: one append is one fixed sequence of disk operations, which is what tests of crashes need.
    pub background: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shards: None,
            pack_bytes: 128 << 20,
            pack_bytes_first: 4 << 20,
            cache_bytes: 64 << 20,
            group_bytes_max: 4 << 20,
            relaxed_sync: Duration::from_secs(1),
            producer_expiry_ms: 7 * 24 * 3600 * 1000,
            clean_interval: Duration::from_secs(10),
            compaction_map_bytes: 128 << 20,
            compaction_bytes_per_second: 128 << 20,
            background: true,
        }
    }
}
