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
        for _ in 0..steps {
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
fn many_crashes_of_one_disk() {
    lives(0..runs(100));
}

#[test]
fn many_crashes_of_another_disk() {
    lives(1_000_000..1_000_000 + runs(100));
}
