//! Compaction by key against a model: random appends, tombstones, trims, restarts and power cuts, with compaction at random
//! moments. What is left must be the last record of each key, and whatever was not to be touched, in order and in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_record::{Batch, BatchHeader, Format, FormatError, FormatId, Formats, RecordKey, Retained};
use core_log::disk::{Disk, FaultyDisk, MemoryDisk};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::model::Random;

pub const KEYED: FormatId = FormatId(200);

/// A payload of keyed records, each: position (u32), time (i64), kind (0 no key, 1 value, 2 tombstone, 3 a value
/// that expires at `number`), key (u8), number (u64).
pub struct Keyed;

const RECORD_BYTES: usize = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: u32,
    pub time_ms: i64,
    pub kind: u8,
    pub key: u8,
    pub number: u64,
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..4].copy_from_slice(&self.position.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.time_ms.to_le_bytes());
        (bytes[12], bytes[13]) = (self.kind, self.key);
        bytes[14..22].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Record {
        Record {
            position: u32::from_le_bytes(bytes[0..4].try_into().unwrap()),
            time_ms: i64::from_le_bytes(bytes[4..12].try_into().unwrap()),
            kind: bytes[12],
            key: bytes[13],
            number: u64::from_le_bytes(bytes[14..22].try_into().unwrap()),
        }
    }

    fn is_tombstone(&self) -> bool {
        self.kind == 2
    }

    fn expires_ms(&self) -> Option<i64> {
        (self.kind == 3).then_some(self.number as i64)
    }

    fn key(&self) -> Option<u8> {
        (self.kind != 0).then_some(self.key)
    }
}

pub fn records(payload: &[u8]) -> Vec<Record> {
    payload.chunks_exact(RECORD_BYTES).map(Record::decode).collect()
}

impl Format for Keyed {
    fn first_at_or_after(
        &self,
        _header: &BatchHeader,
        payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError> {
        let found = records(payload).into_iter().find(|record| record.time_ms >= time_ms);
        Ok(found.map(|record| (record.position, record.time_ms)))
    }

    fn max_time(&self, _header: &BatchHeader, payload: &[u8]) -> Result<(u32, i64), FormatError> {
        let latest = records(payload).into_iter().max_by_key(|record| (record.time_ms, u32::MAX - record.position));
        latest.map(|record| (record.position, record.time_ms)).ok_or(FormatError)
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn keys(
        &self,
        _header: &BatchHeader,
        payload: &[u8],
        visit: &mut dyn FnMut(RecordKey<'_>),
    ) -> Result<(), FormatError> {
        for record in records(payload) {
            let key = [record.key];
            visit(RecordKey {
                position: record.position,
                key: record.key().map(|_| &key[..]),
                tombstone: record.is_tombstone(),
                expires_ms: record.expires_ms(),
            });
        }
        Ok(())
    }

    fn retain(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        keep: &mut dyn FnMut(RecordKey<'_>) -> bool,
    ) -> Result<Retained, FormatError> {
        let all = records(payload);
        let mut kept = Vec::new();
        for record in &all {
            let key = [record.key];
            let (tombstone, expires_ms) = (record.is_tombstone(), record.expires_ms());
            let key = record.key().map(|_| &key[..]);
            if keep(RecordKey { position: record.position, key, tombstone, expires_ms }) {
                kept.push(*record);
            }
        }
        assert!(all.len() <= header.count as usize);
        let payload = kept.iter().flat_map(Record::encode).collect::<Vec<u8>>().into();
        Ok(match kept.iter().map(|record| record.time_ms).max() {
            None => Retained::None { payload },
            Some(_) if kept.len() == all.len() => Retained::All,
            Some(max_time_ms) => Retained::Some { payload, max_time_ms },
        })
    }
}

pub fn keyed_batch(list: &[Record]) -> Batch {
    let payload: Vec<u8> = list.iter().flat_map(Record::encode).collect();
    let max_time_ms = list.iter().map(|record| record.time_ms).max().unwrap_or(-1);
    Batch::new(KEYED, list.len() as u32, max_time_ms, payload.into())
}

const RETENTION_MS: u64 = 500;

fn compaction() -> Compaction {
    Compaction { tombstone_retention_ms: RETENTION_MS, lag_ms_min: 0, lag_ms_max: None, dirty_ppm_min: 0 }
}

fn compacted(id: TopicId, partitions: u32, durability: Durability, compaction: Compaction) -> Topic {
    topic(id, partitions, TopicSettings { compaction: Some(compaction), ..settings(durability) })
}

const LAGGED: TopicId = TopicId(0x3333);
const LAG_MS: u64 = 100;

/// One compacted at once; one that leaves young records alone and only compacts what is half dirty; one not compacted.
fn topics(durability: Durability) -> Vec<Topic> {
    let lagged = Compaction { lag_ms_min: LAG_MS, dirty_ppm_min: 300_000, ..compaction() };
    vec![
        compacted(TOPIC, 2, durability, compaction()),
        compacted(LAGGED, 1, durability, lagged),
        topic(TopicId(0x2222), 1, settings(durability)),
    ]
}

fn setup(seed: u64, background: bool) -> Setup {
    let config = Config {
        shards: Some(1),
        pack_bytes: 12 << 10,
        pack_bytes_first: 6 << 10,
        cache_bytes: if seed.is_multiple_of(2) { 0 } else { 4 << 10 },
        // Room for all keys, or for few of them at a time.
        compaction_map_bytes: 1 << 20,
        compaction_bytes_per_second: 0,
        background,
        ..config()
    };
    let durability = if seed.is_multiple_of(3) { Durability::Relaxed } else { Durability::Fsync };
    Setup { config, topics: topics(durability), formats: Formats::default().with(KEYED, &Keyed), ..Setup::default() }
}

fn partitions() -> [PartitionId; 3] {
    [partition(0), partition(1), PartitionId { topic: LAGGED, index: 0 }]
}

/// What was appended to a partition.
#[derive(Default)]
struct PartitionModel {
    /// By offset.
    records: BTreeMap<u64, Record>,
    start: u64,
    end: u64,
    /// What was asked for last and not answered: it may be there or not.
    open: Option<Vec<Record>>,
    /// A trim that was asked for and not answered.
    trim: Option<u64>,
}

#[derive(Default)]
struct Model {
    partitions: [PartitionModel; 3],
    number_last: u64,
    now_ms: i64,
}

impl Model {
    fn new() -> Model {
        Model { now_ms: 1_000_000, ..Model::default() }
    }

    /// Asks for one thing. False: the engine takes no more.
    async fn step(&mut self, setup: &Setup, engine: &Engine, random: &mut Random) -> bool {
        self.now_ms += random.below(60) as i64;
        setup.clock.set(self.now_ms);
        match random.below(40) {
            0 => self.trim(engine, random).await,
            1..4 => {
                engine.clean(self.now_ms).await;
                true
            }
            // Others' batches between ours, so that packs are not all one partition's.
            4..8 => {
                let other = PartitionId { topic: TopicId(0x2222), index: 0 };
                append(engine, other, batch(1, vec![3; random.below(900) as usize])).await.is_ok()
            }
            _ => self.append(engine, random).await,
        }
    }

    async fn append(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let at = random.below(3) as usize;
        let list: Vec<Record> = (0..1 + random.below(4) as u32)
            .map(|position| {
                self.number_last += 1;
                let kind = match random.below(10) {
                    0 => 0,
                    1 | 2 => 2,
                    _ => 1,
                };
                let time_ms = self.now_ms - random.below(3) as i64;
                Record { position, time_ms, kind, key: random.below(12) as u8, number: self.number_last }
            })
            .collect();
        let model = &mut self.partitions[at];
        match append(engine, partitions()[at], keyed_batch(&list)).await {
            Ok(appended) => {
                assert_eq!(appended.base_offset, model.end);
                model.appended(list);
                true
            }
            Err(_) => {
                model.open = Some(list);
                false
            }
        }
    }

    async fn trim(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let at = random.below(3) as usize;
        let model = &mut self.partitions[at];
        let before = model.start + random.below(model.end - model.start + 1) / 2;
        match engine.trim(TrimRequest { trims: vec![(partitions()[at], Some(before))] }).await.remove(0) {
            Ok(start) => {
                assert_eq!(start, before);
                model.start = start;
                true
            }
            Err(_) => {
                model.trim = Some(before);
                false
            }
        }
    }

    /// `cleaned`: a round of cleaning has just been done.
    async fn check(&mut self, engine: &Engine, cleaned: bool) {
        for (at, id) in partitions().into_iter().enumerate() {
            self.partitions[at].settle(fetch_bounds(engine, id).await.unwrap());
            let found = read_compacted(engine, id).await;
            self.partitions[at].check(&found, self.now_ms, at, cleaned);
        }
    }
}

impl PartitionModel {
    fn appended(&mut self, list: Vec<Record>) {
        for record in list {
            self.records.insert(self.end + u64::from(record.position), record);
        }
        self.end = self.records.last_key_value().map_or(0, |(offset, _)| offset + 1);
    }

    /// Finds out what became of what was not answered.
    fn settle(&mut self, bounds: Bounds) {
        if let Some(list) = self.open.take()
            && bounds.end_offset != self.end
        {
            self.appended(list);
        }
        if bounds.end_offset < self.end {
            // What is not synced may be lost at the end.
            self.records.split_off(&bounds.end_offset);
            self.end = bounds.end_offset;
        }
        assert_eq!(bounds.end_offset, self.end);
        match self.trim.take() {
            Some(before) if bounds.start_offset != self.start => assert_eq!(bounds.start_offset, before),
            _ => assert!(bounds.start_offset <= self.start, "{bounds:?} {}", self.start),
        }
        self.start = bounds.start_offset;
    }

    fn check(&self, found: &BTreeMap<u64, Record>, now_ms: i64, at: usize, cleaned: bool) {
        for (offset, record) in found {
            assert_eq!(self.records.get(offset), Some(record), "at {offset} of {at}");
        }
        let kept: Vec<(u64, Record)> = self.records.range(self.start..).map(|(o, r)| (*o, *r)).collect();
        let mut last: BTreeMap<u8, (u64, Record)> = BTreeMap::new();
        for (offset, record) in &kept {
            if let Some(key) = record.key() {
                last.insert(key, (*offset, *record));
            }
        }
        for (key, (offset, record)) in &last {
            let old = now_ms - record.time_ms >= RETENTION_MS as i64;
            let may_go = record.is_tombstone() && old;
            assert!(
                may_go || found.contains_key(offset),
                "the last of key {key}, {record:?} at {offset} of {at}, is lost"
            );
            if !found.contains_key(offset) {
                // Nothing that it deleted may come back.
                let back = found.iter().find(|(_, record)| record.key() == Some(*key));
                assert!(back.is_none(), "{back:?} came back, deleted by {record:?} at {offset} of {at}");
            }
        }
        // What is too young to be compacted is all there.
        if at == 2 {
            let young = kept.iter().find(|(_, record)| now_ms - record.time_ms < LAG_MS as i64 - 3);
            for (offset, record) in kept.iter().skip_while(|(offset, _)| young.is_none_or(|(young, _)| offset < young))
            {
                assert!(found.contains_key(offset), "{record:?} at {offset} is gone, though it is too young");
            }
        } else if cleaned {
            // All of it was compacted.
            let mut seen = BTreeMap::new();
            for (offset, record) in found {
                let key = record.key().expect("a record without a key is left");
                let before = seen.insert(key, offset);
                assert_eq!(before, None, "key {key} is there twice, at {offset} too");
            }
        }
    }
}

/// All records of a partition. The last batch must reach its end.
async fn read_compacted(engine: &Engine, id: PartitionId) -> BTreeMap<u64, Record> {
    let bounds = fetch_bounds(engine, id).await.unwrap();
    let (mut offset, mut found) = (bounds.start_offset, BTreeMap::new());
    while offset < bounds.end_offset {
        let fetched = fetch(engine, id, offset, 600).await.unwrap();
        assert!(!fetched.batches.is_empty(), "nothing from {offset} on, {bounds:?}");
        for batch in fetched.batches {
            assert!(batch.payload_is_intact());
            assert!(batch.header.next_offset() > offset, "{:?} at {offset}", batch.header);
            let before = found.last_key_value().map(|(offset, _)| *offset);
            for record in records(&batch.payload) {
                let at = batch.header.base_offset + u64::from(record.position);
                assert!(Some(at) > before && at < batch.header.next_offset());
                if at >= bounds.start_offset {
                    found.insert(at, record);
                }
            }
            offset = batch.header.next_offset();
        }
    }
    assert_eq!(offset, bounds.end_offset);
    found
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub fn runs(usual: u64) -> u64 {
    let factor = std::env::var("POLYMQ_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok());
    usual * factor.unwrap_or(1)
}

#[test]
fn what_is_left_is_the_last_of_each_key() {
    block_on(async {
        for seed in 0..runs(30) {
            let mut random = Random(seed);
            let mut model = Model::new();
            let disk = MemoryDisk::new();
            for _ in 0..4 {
                let mut setup = setup(seed, seed % 4 < 2);
                setup.clock.set(model.now_ms);
                // With few places for keys a round takes several passes.
                setup.config.compaction_map_bytes = if random.below(2) == 0 { 0 } else { 1 << 20 };
                let engine = setup.open(Arc::new(disk.clone())).unwrap();
                model.check(&engine, false).await;
                for _ in 0..150 {
                    assert!(model.step(&setup, &engine, &mut random).await);
                    if random.below(20) == 0 {
                        engine.clean(model.now_ms).await;
                        model.check(&engine, true).await;
                    }
                }
                engine.clean(model.now_ms).await;
                model.check(&engine, true).await;
                engine.stop();
            }
        }
    });
}

/// Works on a disk until the power goes out in its n-th operation. Returns the disk as it is found, and the operations.
async fn live(disk: &MemoryDisk, model: &mut Model, seed: u64, crash_in: u64, steps: u64) -> (MemoryDisk, u64) {
    let faulty = FaultyDisk::over(disk.clone());
    faulty.crash_in(crash_in);
    let setup = setup(seed, false);
    setup.clock.set(model.now_ms);
    if let Ok(engine) = setup.open(Arc::new(faulty.clone())) {
        let mut random = Random(seed);
        for _ in 0..steps {
            if !model.step(&setup, &engine, &mut random).await {
                assert!(faulty.crashed(), "only a crash stops the engine");
                break;
            }
        }
        engine.stop();
    } else {
        assert!(faulty.crashed(), "only a crash keeps the engine from opening");
    }
    (disk.crash(seed ^ crash_in), faulty.changes())
}

async fn check(disk: &MemoryDisk, model: &mut Model, seed: u64) {
    let setup = setup(seed, false);
    setup.clock.set(model.now_ms);
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    model.check(&engine, false).await;
    engine.clean(model.now_ms).await;
    model.check(&engine, true).await;
    engine.stop();
}

#[test]
fn a_crash_at_every_operation_of_a_compaction() {
    block_on(async {
        for seed in [1, 2, 3].into_iter().chain(4..3 + runs(1)) {
            let (_, operations) = live(&MemoryDisk::new(), &mut Model::new(), seed, u64::MAX, 90).await;
            assert!(operations > 100, "{operations}");
            for crash_in in 1..=operations {
                let mut model = Model::new();
                let (disk, _) = live(&MemoryDisk::new(), &mut model, seed, crash_in, 90).await;
                check(&disk, &mut model, seed).await;
            }
        }
    });
}

#[test]
fn many_crashes_of_a_compacted_disk() {
    block_on(async {
        for seed in 0..runs(60) {
            let mut random = Random(seed);
            let mut model = Model::new();
            let mut disk = MemoryDisk::new();
            for life in 0..8 {
                let soon = random.below(3) == 0;
                let crash_in = 1 + random.below(if soon { 20 } else { 500 });
                let seed = seed * 100 + life;
                (disk, _) = live(&disk, &mut model, seed, crash_in, 20 + random.below(150)).await;
                let setup = setup(seed, false);
                setup.clock.set(model.now_ms);
                let engine = setup.open(Arc::new(disk.clone())).unwrap();
                model.check(&engine, false).await;
                engine.stop();
            }
            check(&disk, &mut model, seed).await;
        }
    });
}

#[test]
fn a_full_disk_leaves_everything_as_it_is() {
    block_on(async {
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut model = Model::new();
            let disk = FaultyDisk::default();
            let setup = setup(1, false);
            let engine = setup.open(Arc::new(disk.clone())).unwrap();
            for _ in 0..100 {
                assert!(model.append(&engine, &mut random).await);
            }
            disk.disk.set_capacity(Some(disk.disk.used_bytes() + random.below(6000)));
            engine.clean(model.now_ms).await;
            model.check(&engine, false).await;
            disk.disk.set_capacity(None);
            engine.clean(model.now_ms).await;
            model.check(&engine, true).await;
            engine.stop();
            let engine = setup.open(Arc::new(disk.clone())).unwrap();
            model.check(&engine, true).await;
            engine.stop();
        }
    });
}

async fn keys_at(engine: &Engine) -> Vec<(u64, u8)> {
    let found = read_compacted(engine, partition(0)).await;
    found.iter().map(|(offset, record)| (*offset, record.key)).collect()
}

fn value(key: u8, time_ms: i64) -> Record {
    Record { position: 0, time_ms, kind: 1, key, number: 0 }
}

#[tokio::test]
async fn settings_are_obeyed_and_can_change() {
    let lagged =
        Compaction { tombstone_retention_ms: 1000, lag_ms_min: 100, lag_ms_max: Some(10_000), dirty_ppm_min: 900_000 };
    let mut setup = Setup { formats: Formats::default().with(KEYED, &Keyed), ..setup(1, true) };
    setup.topics = vec![topic(TOPIC, 1, settings(Durability::Fsync))];
    let engine = setup.open(Arc::new(MemoryDisk::new())).unwrap();
    for (key, time_ms) in [(1, 1_000_000), (1, 1_000_000), (2, 1_000_050)] {
        append(&engine, partition(0), keyed_batch(&[value(key, time_ms)])).await.unwrap();
    }
    engine.clean(2_000_000).await;
    assert_eq!(keys_at(&engine).await, [(0, 1), (1, 1), (2, 2)], "it is not compacted");
    engine.update_topic(&compacted(TOPIC, 1, Durability::Fsync, lagged));
    engine.clean(1_000_099).await;
    assert_eq!(keys_at(&engine).await, [(0, 1), (1, 1), (2, 2)], "all is too young");
    engine.clean(1_000_120).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (2, 2)], "nine of ten bytes are dirty, the last record is too young");
    append(&engine, partition(0), keyed_batch(&[value(2, 1_000_200)])).await.unwrap();
    engine.clean(1_001_000).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (2, 2), (3, 2)], "too little is dirty");
    engine.clean(1_010_051).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (3, 2)], "something is dirty for too long");
    engine.update_topic(&topic(TOPIC, 1, settings(Durability::Fsync)));
    append(&engine, partition(0), keyed_batch(&[value(1, 1_000_200)])).await.unwrap();
    engine.clean(3_000_000).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (3, 2), (4, 1)], "it is not compacted any more");
    engine.stop();
}

#[tokio::test]
async fn tombstones_stay_for_their_time_from_the_first_compaction_on() {
    let mut setup = setup(1, true);
    setup.topics = vec![compacted(TOPIC, 1, Durability::Fsync, compaction())];
    let disk = MemoryDisk::new();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    let tombstone = Record { kind: 2, ..value(1, 1_000_000) };
    append(&engine, partition(0), keyed_batch(&[value(1, 1_000_000)])).await.unwrap();
    append(&engine, partition(0), keyed_batch(&[tombstone])).await.unwrap();
    append(&engine, partition(0), keyed_batch(&[value(2, 1_000_000)])).await.unwrap();
    engine.clean(2_000_000).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (2, 2)], "what it deletes goes first");
    let touch = |number: u64| Record { number, ..value(2, 1_000_000) };
    append(&engine, partition(0), keyed_batch(&[touch(1)])).await.unwrap();
    engine.clean(2_000_499).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (3, 2)]);
    engine.stop();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    append(&engine, partition(0), keyed_batch(&[touch(2)])).await.unwrap();
    engine.clean(2_000_500).await;
    assert_eq!(keys_at(&engine).await, [(4, 2)]);
    engine.stop();
}

#[tokio::test]
async fn what_has_expired_is_a_tombstone_from_then_on() {
    let mut setup = setup(1, true);
    setup.topics = vec![compacted(TOPIC, 1, Durability::Fsync, compaction())];
    let engine = setup.open(Arc::new(MemoryDisk::new())).unwrap();
    let expiring = Record { kind: 3, number: 2_000_000, ..value(1, 1_000_000) };
    let touch = |number: u64| Record { number, ..value(2, 1_000_000) };
    append(&engine, partition(0), keyed_batch(&[value(1, 1_000_000)])).await.unwrap();
    append(&engine, partition(0), keyed_batch(&[expiring])).await.unwrap();
    append(&engine, partition(0), keyed_batch(&[touch(0)])).await.unwrap();
    engine.clean(1_999_999).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (2, 2)], "it is a value still");
    append(&engine, partition(0), keyed_batch(&[touch(1)])).await.unwrap();
    engine.clean(2_000_000).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (3, 2)], "a reader who has seen what was before it has to see it");
    append(&engine, partition(0), keyed_batch(&[touch(2)])).await.unwrap();
    engine.clean(2_000_499).await;
    assert_eq!(keys_at(&engine).await, [(1, 1), (4, 2)]);
    append(&engine, partition(0), keyed_batch(&[touch(3)])).await.unwrap();
    engine.clean(2_000_500).await;
    assert_eq!(keys_at(&engine).await, [(5, 2)]);
    engine.stop();
}

#[tokio::test]
async fn offsets_by_time_and_sizes_are_those_of_what_is_left() {
    let mut setup = setup(1, true);
    setup.topics = vec![compacted(TOPIC, 1, Durability::Fsync, compaction())];
    let engine = setup.open(Arc::new(MemoryDisk::new())).unwrap();
    for (key, time_ms) in [(1, 10), (2, 20), (1, 30), (3, 40), (3, 50), (2, 45)] {
        append(&engine, partition(0), keyed_batch(&[value(key, time_ms)])).await.unwrap();
    }
    let size = async |engine: &Engine| engine.inspect(vec![partition(0)]).await.remove(0).unwrap().size_bytes;
    let before = size(&engine).await;
    engine.clean(2_000_000).await;
    assert_eq!(size(&engine).await * 2, before);
    let queries = [10, 31, 46, 51].map(OffsetAt::Time).into_iter().chain([OffsetAt::MaxTime]);
    let request = OffsetsRequest { queries: queries.map(|at| (partition(0), at)).collect() };
    let found: Vec<_> = engine.offsets(request).await.into_iter().map(|found| found.unwrap().offset).collect();
    assert_eq!(found, [Some(2), Some(4), Some(4), None, Some(4)]);
    engine.trim(TrimRequest { trims: vec![(partition(0), Some(3))] }).await.remove(0).unwrap();
    assert_eq!(keys_at(&engine).await, [(4, 3), (5, 2)]);
    let fetched = fetch(&engine, partition(0), 3, 1).await.unwrap();
    assert_eq!(fetched.batches[0].header.base_offset, 4, "the next there is answers");
    engine.stop();
}

#[tokio::test]
async fn readers_go_on_while_their_packs_are_replaced() {
    let mut setup = setup(0, true);
    setup.topics = vec![compacted(TOPIC, 1, Durability::Fsync, compaction())];
    let engine = setup.open(Arc::new(MemoryDisk::new())).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let cleaner = {
        let (engine, stop) = (engine.clone(), stop.clone());
        tokio::spawn(async move {
            let mut now_ms = 2_000_000;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                now_ms += 1;
                engine.clean(now_ms).await;
                tokio::task::yield_now().await;
            }
        })
    };
    for round in 0..200u64 {
        for key in 0..5 {
            append(&engine, partition(0), keyed_batch(&[Record { number: round, ..value(key, 1) }])).await.unwrap();
        }
        let found = read_compacted(&engine, partition(0)).await;
        for key in 0..5 {
            let last = found.values().rfind(|record| record.key == key).unwrap();
            assert_eq!(last.number, round);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    cleaner.await.unwrap();
    engine.stop();
}

#[tokio::test]
async fn small_kept_packs_are_put_together() {
    let mut setup = setup(1, false);
    setup.config.pack_bytes = 64 << 10;
    setup.topics = vec![compacted(TOPIC, 100, Durability::Fsync, compaction())];
    let disk = MemoryDisk::new();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    for index in 0..100 {
        for number in 0..2 {
            let record = Record { number, ..value(1, 1_000_000) };
            append(&engine, partition(index), keyed_batch(&[record])).await.unwrap();
        }
        engine.clean(2_000_000).await;
    }
    let kept = disk.list("shard-0000").unwrap().iter().filter(|name| name.starts_with("kept-")).count();
    assert!((2..2 * 40).contains(&kept), "{kept} files");
    engine.stop();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    for index in 0..100 {
        let found = read_compacted(&engine, partition(index)).await;
        assert_eq!(found.values().map(|record| record.number).collect::<Vec<_>>(), [1]);
    }
    engine.stop();
}

#[test]
fn indexes_of_compacted_packs_are_made_again() {
    block_on(async {
        let mut model = Model::new();
        let mut random = Random(5);
        let disk = MemoryDisk::new();
        let setup = setup(1, false);
        let engine = setup.open(Arc::new(disk.clone())).unwrap();
        for _ in 0..300 {
            assert!(model.append(&engine, &mut random).await);
        }
        engine.clean(model.now_ms).await;
        engine.stop();
        let mut damaged = 0;
        for name in disk.list("shard-0000").unwrap() {
            if name.ends_with(".index") {
                disk.flip_bit(&format!("shard-0000/{name}"), 25, 1).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 1);
        let engine = setup.open(Arc::new(disk.clone())).unwrap();
        model.check(&engine, true).await;
        engine.stop();
    });
}
