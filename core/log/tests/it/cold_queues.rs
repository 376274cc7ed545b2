//! Acquiring what is no longer in memory: it is read in order once, and what is alone is read alone.

use std::sync::Arc;

use core_log::disk::{FaultyDisk, MemoryDisk};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::queues::{accept, acquire, queue, request, settle};

const MESSAGES: u64 = 6000;

/// A queue of messages `"0"`, `"1"`… on the disk, none of them in memory.
async fn backlog() -> (FaultyDisk, Engine) {
    let config = Config { shards: Some(1), cache_bytes: 0, pack_bytes: 4 << 20, pack_bytes_first: 4 << 20, ..config() };
    let setup = Setup { config, topics: vec![queue(TOPIC, Durability::Memory)], ..Setup::default() };
    let disk = FaultyDisk::over(MemoryDisk::new());
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    for first in (0..MESSAGES).step_by(100) {
        let message = |number: u64| Append { partition: partition(0), batch: batch(1, number.to_string()) };
        let appends = (first..first + 100).map(message).collect();
        engine.append(AppendRequest { appends }).await.remove(0).unwrap();
    }
    (disk, engine)
}

fn numbers(acquired: &[(u64, String)]) -> Vec<u64> {
    assert!(acquired.iter().all(|(offset, payload)| *payload == offset.to_string()), "{acquired:?}");
    acquired.iter().map(|(offset, _)| *offset).collect()
}

#[tokio::test]
async fn a_backlog_is_read_once() {
    let (disk, engine) = backlog().await;
    acquire(&engine, partition(0), 1).await.unwrap();
    let before = disk.reads();
    for first in (1..MESSAGES).step_by(10) {
        let last = MESSAGES.min(first + 10) - 1;
        let acquired = acquire(&engine, partition(0), 10).await.unwrap();
        assert_eq!(numbers(&acquired), (first..=last).collect::<Vec<_>>());
        settle(&engine, partition(0), SettleRange::new(first, last, Settlement::Accept)).await.unwrap();
    }
    // Once for each run of 128 KiB, not for each of 600 calls.
    let reads = disk.reads() - before;
    assert!(reads < 20, "{reads} reads");
}

#[tokio::test]
async fn groups_at_different_places_do_not_disturb_each_other() {
    let (disk, engine) = backlog().await;
    let of_other = |credit| AcquireRequest {
        group: group("other"),
        start: SeekTo::Offset(MESSAGES / 2),
        ..request(partition(0), credit)
    };
    acquire(&engine, partition(0), 1).await.unwrap();
    engine.acquire(of_other(1)).await.remove(0).unwrap();
    let before = disk.reads();
    for round in 0..100 {
        let acquired = acquire(&engine, partition(0), 5).await.unwrap();
        assert_eq!(acquired[0].0, 1 + round * 5);
        let others = engine.acquire(of_other(5)).await.remove(0).unwrap();
        assert_eq!(others.batches[0].header.base_offset, MESSAGES / 2 + 1 + round * 5);
    }
    let reads = disk.reads() - before;
    assert!(reads < 20, "{reads} reads");
}

#[tokio::test]
async fn what_comes_back_and_what_was_trimmed_is_as_the_log_is() {
    let (disk, engine) = backlog().await;
    let acquired = acquire(&engine, partition(0), 200).await.unwrap();
    assert_eq!(numbers(&acquired), (0..200).collect::<Vec<_>>());
    // Two come back: in order, before what is next, and not read with all that lies between.
    for offset in [150, 20] {
        let back = SettleRange::new(offset, offset, Settlement::Release);
        settle(&engine, partition(0), back).await.unwrap();
    }
    let acquired = acquire(&engine, partition(0), 4).await.unwrap();
    assert_eq!(numbers(&acquired), [20, 150, 200, 201]);
    settle(&engine, partition(0), accept(20)).await.unwrap();
    // What was read ahead of a trim is not handed out.
    engine.trim(TrimRequest { trims: vec![(partition(0), Some(300))] }).await.remove(0).unwrap();
    let acquired = acquire(&engine, partition(0), 2).await.unwrap();
    assert_eq!(numbers(&acquired), [300, 301]);
    // The disk fails: an error, and afterwards nothing is missing.
    let far = SeekRequest { group: group("g"), seeks: vec![(partition(0), SeekTo::Offset(5500))] };
    engine.lease_seek(far).await.remove(0).unwrap();
    disk.fail(core_log::disk::Operation::Read, 1, std::io::ErrorKind::Other);
    assert_eq!(acquire(&engine, partition(0), 2).await, Err(LeaseError::StorageFailed));
    let acquired = acquire(&engine, partition(0), 2).await.unwrap();
    assert_eq!(numbers(&acquired), [5500, 5501]);
}
