//! Compaction among transactions: what committed readers see stays the last of each key, whatever was aborted around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_record::{BatchFlags, Formats, Producer};
use core_log::Engine;
use core_log::disk::MemoryDisk;
use core_rpc::*;

use crate::common::*;
use crate::compaction::{KEYED, Keyed, Record, keyed_batch, records};
use crate::model::Random;

pub fn setup(seed: u64) -> Setup {
    let compaction = Compaction { tombstone_retention_ms: 0, lag_ms_min: 0, lag_ms_max: None, dirty_ppm_min: 0 };
    let settings = TopicSettings { compaction: Some(compaction), ..settings(Durability::Fsync) };
    let mut config = config();
    config.shards = Some(1);
    (config.pack_bytes, config.pack_bytes_first) = (12 << 10, 6 << 10);
    config.cache_bytes = if seed.is_multiple_of(2) { 0 } else { 4 << 10 };
    config.compaction_bytes_per_second = 0;
    let formats = Formats::default().with(KEYED, &Keyed);
    Setup { config, topics: vec![topic(TOPIC, 1, settings)], formats, ..Setup::default() }
}

/// What a committed reader makes of the partition: the batches of aborted transactions left out by the list that came with
/// each answer, as it is known up to their markers. Returns the records, and the markers that are left.
pub async fn read_committed(engine: &Engine) -> (BTreeMap<u64, Record>, usize) {
    let bounds = fetch_bounds(engine, partition(0)).await.unwrap();
    let (mut offset, mut found, mut markers) = (bounds.start_offset, BTreeMap::new(), 0);
    while offset < bounds.stable_offset {
        let request = FetchRequest { isolation: Isolation::Committed, ..fetch_request(&[(partition(0), offset)], 700) };
        let fetched = engine.fetch(request).await.remove(0).unwrap();
        assert!(!fetched.batches.is_empty(), "nothing from {offset} on, {bounds:?}");
        for batch in &fetched.batches {
            let header = &batch.header;
            offset = header.next_offset();
            if header.flags.contains(BatchFlags::CONTROL) {
                markers += 1;
                continue;
            }
            let is_aborted = header.flags.contains(BatchFlags::TRANSACTIONAL)
                && fetched.aborted.iter().any(|aborted| {
                    Some(aborted.producer_id) == header.producer.map(|producer| producer.id)
                        && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset)
                });
            for record in records(&batch.payload).into_iter().filter(|_| !is_aborted) {
                found.insert(header.base_offset + u64::from(record.position), record);
            }
        }
    }
    (found, markers)
}

#[derive(Default)]
struct Open {
    epoch: i16,
    sequence: i32,
    /// By offset.
    sent: Vec<(u64, Record)>,
}

#[tokio::test]
async fn committed_readers_see_the_last_committed_of_each_key() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let disk = MemoryDisk::new();
        let mut committed: BTreeMap<u64, Record> = BTreeMap::new();
        let mut producers: BTreeMap<i64, Open> = BTreeMap::new();
        let mut number = 0;
        for _life in 0..3 {
            let setup = setup(seed);
            let engine = setup.open(Arc::new(disk.clone())).unwrap();
            for step in 0..120 {
                let id = 100 + random.below(3) as i64;
                let open = producers.entry(id).or_default();
                if random.below(6) == 0 && !open.sent.is_empty() {
                    let outcome = if random.below(2) == 0 { Outcome::Commit } else { Outcome::Abort };
                    engine.transaction_end(end_of(id, open.epoch, outcome)).await.unwrap();
                    let sent = std::mem::take(&mut open.sent);
                    (open.epoch, open.sequence) = (open.epoch + 1, 0);
                    if outcome == Outcome::Commit {
                        committed.extend(sent);
                    }
                    continue;
                }
                let list: Vec<Record> = (0..1 + random.below(3) as u32)
                    .map(|position| {
                        number += 1;
                        Record { position, time_ms: 1, kind: 1, key: random.below(8) as u8, number }
                    })
                    .collect();
                let mut batch = keyed_batch(&list);
                let is_plain = random.below(5) == 0;
                if !is_plain {
                    batch.header.flags = BatchFlags::TRANSACTIONAL;
                    batch.header.producer = Some(Producer { id, epoch: open.epoch, sequence: open.sequence });
                    open.sequence += list.len() as i32;
                }
                let base = append(&engine, partition(0), batch).await.unwrap().base_offset;
                let placed = list.into_iter().map(|record| (base + u64::from(record.position), record));
                if is_plain {
                    committed.extend(placed);
                } else {
                    open.sent.extend(placed);
                }
                if random.below(12) == 0 {
                    engine.clean(2_000_000 + step).await;
                    check(&engine, &committed).await;
                }
            }
            check(&engine, &committed).await;
            engine.stop();
        }
        let last_record = Record { position: 0, time_ms: 1, kind: 1, key: 0, number: 0 };
        // At the end nothing is open: only what was committed last is left, and the markers of aborts.
        let engine = setup(seed).open(Arc::new(disk.clone())).unwrap();
        let mut aborts = 0;
        for (id, open) in &producers {
            aborts += engine.transaction_end(end_of(*id, open.epoch, Outcome::Abort)).await.unwrap().len();
        }
        engine.clean(3_000_000).await;
        check(&engine, &committed).await;
        let (found, markers) = read_committed(&engine).await;
        let keys: std::collections::BTreeSet<u8> = found.values().map(|record| record.key).collect();
        assert_eq!(keys.len(), found.len(), "one of each key");
        assert!(markers >= aborts);
        let all = fetch(&engine, partition(0), 0, u32::MAX).await.unwrap().batches;
        let left: usize = all
            .iter()
            .filter(|batch| !batch.header.flags.contains(BatchFlags::CONTROL))
            .map(|batch| records(&batch.payload).len())
            .sum();
        assert_eq!(left, found.len(), "no aborted record is left");
        // After a minute the markers may go, and what is known of them; a restart does not bring that back.
        for now_ms in [4_000_000, 5_000_000] {
            let base = append(&engine, partition(0), keyed_batch(&[last_record])).await.unwrap().base_offset;
            committed.insert(base, last_record);
            engine.clean(now_ms).await;
        }
        check(&engine, &committed).await;
        assert_eq!(read_committed(&engine).await.1, 0, "no marker is left");
        assert_eq!(aborted_known(&engine).await, 0);
        engine.stop();
        let engine = setup(seed).open(Arc::new(disk.clone())).unwrap();
        check(&engine, &committed).await;
        assert_eq!(aborted_known(&engine).await, 0);
        engine.stop();
    }
}

/// How many aborted transactions committed readers are told of.
async fn aborted_known(engine: &Engine) -> usize {
    let request = FetchRequest { isolation: Isolation::Committed, ..fetch_request(&[(partition(0), 0)], u32::MAX) };
    engine.fetch(request).await.remove(0).unwrap().aborted.len()
}

async fn check(engine: &Engine, committed: &BTreeMap<u64, Record>) {
    let bounds = fetch_bounds(engine, partition(0)).await.unwrap();
    let (found, _) = read_committed(engine).await;
    let mut last = BTreeMap::new();
    for (offset, record) in committed.range(..bounds.stable_offset) {
        last.insert(record.key, (*offset, *record));
    }
    for (offset, record) in &found {
        assert_eq!(committed.get(offset), Some(record), "at {offset}: it was never committed");
    }
    for (key, (offset, record)) in last {
        assert_eq!(found.get(&offset), Some(&record), "the last committed of key {key} at {offset} is lost");
    }
}
