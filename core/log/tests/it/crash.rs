//! Power cuts: at every write, sync and change of a name of a workload, and at random ones, again and again on the same disk.
//!
//! `POLYMQ_CRASH_RUNS` multiplies the number of runs.

use std::sync::Arc;

use core_log::Config;
use core_log::disk::{FaultyDisk, MemoryDisk};

use crate::common::*;
use crate::model::{Model, Random, topics};

fn runs(usual: u64) -> u64 {
    let factor = std::env::var("POLYMQ_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok());
    usual * factor.unwrap_or(1)
}

/// One shard, and everything on its writer's thread: a seed is one sequence of disk operations.
fn setup(seed: u64) -> Setup {
    let config = Config {
        shards: Some(1),
        pack_bytes: 24 << 10,
        pack_bytes_first: 12 << 10,
        cache_bytes: if seed.is_multiple_of(2) { 0 } else { 16 << 10 },
        background: false,
        ..config()
    };
    Setup { config, topics: topics(), ..Setup::default() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Works on a disk until the power goes out in its n-th operation, or `steps` are done and the engine is stopped.
/// Returns the disk as it is found afterwards, and the number of operations.
async fn live(disk: &MemoryDisk, model: &mut Model, seed: u64, crash_in: u64, steps: u64) -> (MemoryDisk, u64) {
    let faulty = FaultyDisk::over(disk.clone());
    faulty.crash_in(crash_in);
    if let Ok(engine) = setup(seed).open(Arc::new(faulty.clone())) {
        let mut random = Random(seed);
        for step in 0..steps {
            // Long enough for packs that are sealed and not synced.
            model.relaxed_only = !seed.is_multiple_of(3) && (step / 30) % 2 == 1;
            if !model.step(&engine, &mut random).await {
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

/// Opens the engine, without faults, and compares.
async fn check(disk: &MemoryDisk, model: &mut Model, seed: u64) {
    let engine = setup(seed).open(Arc::new(disk.clone())).unwrap();
    model.check(&engine).await;
    model.retry(&engine).await;
    engine.stop();
}

#[test]
fn a_crash_at_every_operation() {
    block_on(async {
        for seed in 0..runs(4) {
            let (_, operations) = live(&MemoryDisk::new(), &mut Model::default(), seed, u64::MAX, 60).await;
            assert!(operations > 100, "{operations}");
            for crash_in in 1..=operations {
                let mut model = Model::default();
                let (disk, _) = live(&MemoryDisk::new(), &mut model, seed, crash_in, 60).await;
                check(&disk, &mut model, seed).await;
                check(&disk, &mut model, seed).await;
            }
        }
    });
}

/// Several lives of one disk, each ended by a crash, some while the engine opens.
fn lives(seeds: std::ops::Range<u64>) {
    block_on(async {
        for seed in seeds {
            let mut random = Random(seed);
            let mut model = Model::default();
            let mut disk = MemoryDisk::new();
            for life in 0..8 {
                let soon = random.below(3) == 0;
                let crash_in = 1 + random.below(if soon { 20 } else { 400 });
                (disk, _) = live(&disk, &mut model, seed * 100 + life, crash_in, 20 + random.below(100)).await;
                if random.below(2) == 0 {
                    check(&disk, &mut model, seed).await;
                }
            }
            check(&disk, &mut model, seed).await;
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_it_answered() {
    block_on(async {
        for seed in 0..runs(60) {
            let mut random = Random(seed);
            let mut model = Model::default();
            model.power_stays = true;
            let disk = MemoryDisk::new();
            for life in 0..6 {
                // What is cut short here is done all the same, or not at all.
                live(&disk, &mut model, seed * 100 + life, 1 + random.below(400), 120).await;
                check(&disk, &mut model, seed).await;
            }
        }
    });
}

/// Appends that need no sync until so many packs are there; returns how many batches.
async fn fill_packs(engine: &core_log::Engine, disk: &MemoryDisk, packs: usize) -> u8 {
    let relaxed = crate::model::partition_id(2);
    let mut count = 0;
    while packs_of(disk).len() < packs {
        append(engine, relaxed, batch(1, vec![count; 1000])).await.unwrap();
        count += 1;
    }
    count
}

fn packs_of(disk: &MemoryDisk) -> Vec<String> {
    let mut names = core_log::disk::Disk::list(disk, "shard-0000").unwrap();
    names.retain(|name| name.starts_with("pack-") && name.ends_with(".log"));
    names.sort();
    names
}

#[test]
fn a_pack_torn_by_a_power_cut_ends_the_journal_unless_a_later_one_says_it_was_synced() {
    block_on(async {
        let relaxed = crate::model::partition_id(2);
        for synced in [false, true] {
            for seed in 0..50 {
                let disk = MemoryDisk::new();
                let engine = setup(1).open(Arc::new(disk.clone())).unwrap();
                let count = fill_packs(&engine, &disk, 4).await;
                if synced {
                    // Waits for all that is there.
                    append(&engine, partition(0), batch(1, "synced")).await.unwrap();
                }
                let after = disk.crash(seed);
                {
                    let engine = setup(1).open(Arc::new(after.clone())).unwrap();
                    let read = read_all(&engine, relaxed, 5000).await.unwrap();
                    let numbers: Vec<u8> = read.iter().map(|batch| batch.payload[0]).collect();
                    assert_eq!(numbers, (0..read.len() as u8).collect::<Vec<u8>>(), "no gaps");
                    assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len(), usize::from(synced));
                    assert!(read.len() == usize::from(count) || !synced);
                    // The journal comes to the packs that were removed again.
                    fill_packs(&engine, &after, 7).await;
                    engine.stop();
                    let engine = setup(1).open(Arc::new(after.clone())).unwrap();
                    let again = read_all(&engine, relaxed, 5000).await.unwrap();
                    assert!(again.len() > read.len());
                }
            }
        }
    });
}

#[test]
fn damage_in_a_synced_pack_does_not_end_the_journal() {
    block_on(async {
        let relaxed = crate::model::partition_id(2);
        let disk = MemoryDisk::new();
        let engine = setup(1).open(Arc::new(disk.clone())).unwrap();
        let count = fill_packs(&engine, &disk, 3).await;
        append(&engine, partition(0), batch(1, "synced")).await.unwrap();
        let after = disk.crash(1);
        // No snapshot of afterwards: the journal is read from its start.
        for name in core_log::disk::Disk::list(&after, "shard-0000").unwrap() {
            if name.starts_with("snapshot-") {
                core_log::disk::Disk::remove(&after, &format!("shard-0000/{name}")).unwrap();
            }
        }
        after.flip_bit(&format!("shard-0000/{}", packs_of(&after)[0]), 5000, 1).unwrap();
        let engine = setup(1).open(Arc::new(after)).unwrap();
        assert_eq!(fetch_bounds(&engine, relaxed).await.unwrap().end_offset, u64::from(count));
        assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len(), 1);
    });
}

#[tokio::test]
async fn a_failed_sync_in_the_background_fails_the_shard() {
    let disk = FaultyDisk::default();
    let config = Config { relaxed_sync: std::time::Duration::from_millis(1), background: true, ..setup(1).config };
    let engine = Setup { config, ..setup(1) }.open(Arc::new(disk.clone())).unwrap();
    disk.fail(core_log::disk::Operation::Sync, 1, std::io::ErrorKind::Other);
    let relaxed = crate::model::partition_id(2);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Nobody waits for a sync; all the same nothing is taken after it has failed.
    while append(&engine, relaxed, batch(1, "x")).await.is_ok() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let refused = append(&engine, partition(0), batch(1, "x")).await;
    assert_eq!(refused, Err(core_rpc::AppendError::StorageFailed));
}

#[test]
fn many_crashes_of_one_disk() {
    lives(0..runs(100));
}

#[test]
fn many_crashes_of_another_disk() {
    lives(1_000_000..1_000_000 + runs(100));
}
