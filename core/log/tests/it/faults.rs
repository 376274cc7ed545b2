//! Disks that fill up, fail to sync, fail to write, and rot.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_log::disk::{Disk, FaultyDisk, MemoryDisk, Operation, read_whole};
use core_log::{Config, Engine, OpenError};
use core_rpc::*;

use crate::common::*;
use crate::model::{Model, Random, topics};

fn setup(background: bool) -> Setup {
    let config = Config {
        shards: Some(1),
        pack_bytes: 24 << 10,
        pack_bytes_first: 12 << 10,
        cache_bytes: 0,
        background,
        ..config()
    };
    Setup { config, topics: topics(), ..Setup::default() }
}

fn open(disk: &FaultyDisk, background: bool) -> Engine {
    setup(background).open(Arc::new(disk.clone())).unwrap()
}

/// Appends until it is refused; returns how, and how many were kept.
async fn fill(engine: &Engine) -> (AppendError, u64) {
    for kept in 0..1000 {
        if let Err(error) = append(engine, partition(0), batch(1, vec![1; 1000])).await {
            return (error, kept);
        }
    }
    panic!("it is never refused");
}

/// A full disk is not tried for each append, but soon again.
async fn append_soon(engine: &Engine) -> Appended {
    let begun = Instant::now();
    loop {
        match append(engine, partition(0), batch(1, vec![3; 1000])).await {
            Err(AppendError::DiskFull) if begun.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            appended => return appended.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    for background in [false, true] {
        let disk = FaultyDisk::default();
        let engine = open(&disk, background);
        disk.disk.set_capacity(Some(100 << 10));
        let (error, kept) = fill(&engine).await;
        assert_eq!(error, AppendError::DiskFull);
        assert!(kept > 40);
        assert_eq!(append(&engine, partition(0), batch(1, vec![1; 1000])).await, Err(AppendError::DiskFull));
        assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len() as u64, kept, "reads go on");
        commit(&engine, "a", None, partition(0), 7).await.expect("cursors have room in reserve");
        // Trimming has room too, and frees packs: then there is room for batches again.
        engine.trim(TrimRequest { trims: vec![(partition(0), None)] }).await.remove(0).unwrap();
        engine.clean(0).await;
        assert_eq!(append(&engine, partition(0), batch(1, vec![2; 1000])).await.unwrap().base_offset, kept);
        assert_eq!(fill(&engine).await.0, AppendError::DiskFull);
        disk.disk.set_capacity(None);
        let appended = append_soon(&engine).await;
        engine.stop();
        let engine = open(&disk, background);
        let read = read_all(&engine, partition(0), 5000).await.unwrap();
        assert_eq!(read.last().unwrap().header.base_offset, appended.base_offset);
    }
}

#[tokio::test]
async fn a_new_producer_s_second_batch_does_not_pass_its_first() {
    let disk = FaultyDisk::default();
    let engine = open(&disk, false);
    disk.disk.set_capacity(Some(100 << 10));
    assert_eq!(fill(&engine).await.0, AppendError::DiskFull);
    let mut first = batch(1, vec![1; 1000]);
    first.header.producer = Some(codec_record::Producer { id: 7, epoch: 0, sequence: 0 });
    // There is room for this one, but not for the one before it.
    assert_eq!(append(&engine, partition(0), first.clone()).await, Err(AppendError::DiskFull));
    assert_eq!(append(&engine, partition(0), from_producer(7, 0, 1, 1)).await, Err(AppendError::SequenceGap));
    disk.disk.set_capacity(None);
    append(&engine, partition(0), first).await.unwrap();
    append(&engine, partition(0), from_producer(7, 0, 1, 1)).await.unwrap();
    engine.stop();
}

#[tokio::test]
async fn what_a_full_disk_refused_never_comes() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut model = Model::default();
        let disk = FaultyDisk::default();
        let engine = open(&disk, seed % 2 == 0);
        for _ in 0..4 {
            disk.disk.set_capacity(Some(disk.disk.used_bytes() + random.below(60 << 10)));
            for _ in 0..40 {
                assert!(model.step(&engine, &mut random).await);
            }
            disk.disk.set_capacity(None);
            for _ in 0..5 {
                assert!(model.step(&engine, &mut random).await);
            }
        }
        engine.stop();
        let engine = open(&disk, false);
        model.check(&engine).await;
        model.retry(&engine).await;
    }
}

#[tokio::test]
async fn a_write_without_room_keeps_nothing() {
    // As on a file system that copies on write: even blocks that are there can find no room.
    let disk = FaultyDisk::default();
    let engine = open(&disk, false);
    append(&engine, partition(0), from_producer(7, 0, 0, 1)).await.unwrap();
    disk.fail(Operation::Write, 1, ErrorKind::StorageFull);
    assert_eq!(append(&engine, partition(0), from_producer(7, 0, 1, 1)).await, Err(AppendError::DiskFull));
    let appended = append(&engine, partition(0), from_producer(7, 0, 1, 1)).await.unwrap();
    assert_eq!((appended.base_offset, appended.duplicate), (1, false));
    engine.stop();
    assert_eq!(read_all(&open(&disk, false), partition(0), 5000).await.unwrap().len(), 2);
}

#[tokio::test]
async fn after_a_failed_sync_or_write_nothing_is_taken() {
    let mut failed = 0;
    for operation in [Operation::Sync, Operation::Write] {
        for n in 1..60 {
            let mut model = Model::default();
            let mut random = Random(n);
            let disk = FaultyDisk::default();
            let engine = open(&disk, false);
            disk.fail(operation, n, ErrorKind::Other);
            let mut steps = 0;
            while model.step(&engine, &mut random).await && steps < 200 {
                steps += 1;
            }
            // Where no pack could be prepared, nothing is lost and the next try may work; else all is over.
            if steps < 200 && commit(&engine, "x", None, partition(0), 1).await.is_err() {
                let refused = append(&engine, partition(0), batch(1, "x")).await;
                assert_eq!(refused, Err(AppendError::StorageFailed));
                assert!(engine.shard_reports().iter().any(|shard| shard.failed), "who watches is told");
                assert_eq!(commit(&engine, "x", None, partition(0), 1).await, Err(CursorError::StorageFailed));
                failed += 1;
            }
            model.check_kept(&engine).await;
            engine.stop();
            drop(engine);
            let engine = open(&disk, false);
            model.check(&engine).await;
            model.retry(&engine).await;
        }
    }
    assert!(failed > 60, "{failed}");
}

#[tokio::test]
async fn a_flipped_bit_is_seen_and_passes() {
    let disk = FaultyDisk::default();
    let engine = open(&disk, false);
    append(&engine, partition(0), batch(1, vec![1; 1000])).await.unwrap();
    // What comes after the append is answered after the batch has left the memory.
    commit(&engine, "a", None, partition(0), 0).await.unwrap();
    for bit in (0..(104 + 1000) * 8).step_by(97) {
        // Bytes 17 to 19 of an entry are reserved and, like all of the head, covered by its CRC.
        disk.flip_read(1, bit);
        assert_eq!(fetch(&engine, partition(0), 0, 5000).await, Err(FetchError::Corrupt), "bit {bit}");
        assert_eq!(fetch(&engine, partition(0), 0, 5000).await.unwrap().batches.len(), 1);
    }
}

/// A disk with some packs, and what is on it.
async fn with_packs() -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let engine = setup(false).open(Arc::new(disk.clone())).unwrap();
    for number in 0..100u8 {
        append(&engine, partition(0), batch(1, vec![number; 1000])).await.unwrap();
    }
    commit(&engine, "a", None, partition(0), 50).await.unwrap();
    engine.stop();
    (disk, 100)
}

fn files(disk: &MemoryDisk, prefix: &str, suffix: &str) -> Vec<String> {
    let mut names = disk.list("shard-0000").unwrap();
    names.retain(|name| name.starts_with(prefix) && name.ends_with(suffix));
    names.sort();
    names.into_iter().map(|name| format!("shard-0000/{name}")).collect()
}

#[tokio::test]
async fn a_damaged_sealed_pack_loses_only_what_is_damaged() {
    for offset in [0, 4, 40, 50, 2000, 5000, 9000] {
        for without_index in [false, true] {
            for without_snapshot in [false, true] {
                let (disk, end) = with_packs().await;
                let packs = files(&disk, "pack-", ".log");
                disk.flip_bit(&packs[1], offset, 3).unwrap();
                if without_index {
                    files(&disk, "pack-", ".index").iter().for_each(|name| disk.remove(name).unwrap());
                }
                if without_snapshot {
                    files(&disk, "snapshot-", "").iter().for_each(|name| disk.remove(name).unwrap());
                }
                for _ in 0..2 {
                    let engine = setup(false).open(Arc::new(disk.clone())).unwrap();
                    let bounds = fetch_bounds(&engine, partition(0)).await.unwrap();
                    assert_eq!((bounds.start_offset, bounds.end_offset), (0, end));
                    let mut corrupt = 0;
                    for offset in 0..end {
                        match fetch(&engine, partition(0), offset, 1).await {
                            Ok(fetched) => assert_eq!(fetched.batches[0].payload, vec![offset as u8; 1000]),
                            Err(FetchError::Corrupt) => corrupt += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert_eq!(corrupt, 1);
                    let committed = engine.committed(&group("a"), &[partition(0)]).unwrap();
                    assert_eq!(committed, [at(50)]);
                    engine.stop();
                }
            }
        }
    }
}

#[tokio::test]
async fn damaged_indexes_and_snapshots_are_done_without() {
    let (original, end) = with_packs().await;
    let indexes = files(&original, "pack-", ".index");
    let snapshots = files(&original, "snapshot-", "");
    assert!(indexes.len() > 2 && snapshots.len() == 2, "{indexes:?} {snapshots:?}");
    for name in indexes.iter().chain(&snapshots[1..]) {
        let length = read_whole(&original, name).unwrap().len() as u64;
        for offset in (0..length).step_by(37) {
            let disk = original.crash(0);
            disk.flip_bit(name, offset, 1).unwrap();
            let engine = setup(false).open(Arc::new(disk.clone())).unwrap();
            let read = read_all(&engine, partition(0), 5000).await.unwrap();
            assert_eq!(read.len() as u64, end, "{name} at {offset}");
            assert_eq!(engine.committed(&group("a"), &[partition(0)]).unwrap(), [at(50)]);
        }
    }
}

#[tokio::test]
async fn a_damaged_tail_is_cut() {
    let disk = MemoryDisk::new();
    let engine = setup(false).open(Arc::new(disk.clone())).unwrap();
    for number in 0..5u8 {
        append(&engine, partition(0), batch(1, vec![number; 1000])).await.unwrap();
    }
    // No stop: no snapshot says how much was synced.
    let crashed = disk.crash(1);
    let pack = &files(&crashed, "pack-", ".log")[0];
    // The start entry, then batches of 40 + 64 + 1000 bytes.
    crashed.flip_bit(pack, 40 + 4 * 1104 + 500, 0).unwrap();
    for end in [4, 5, 6] {
        let engine = setup(false).open(Arc::new(crashed.clone())).unwrap();
        assert_eq!(fetch_bounds(&engine, partition(0)).await.unwrap().end_offset, end);
        assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len() as u64, end);
        append(&engine, partition(0), batch(1, vec![9; 1000])).await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_of_a_later_version_is_refused() {
    let disk = MemoryDisk::new();
    let engine = setup(false).open(Arc::new(disk.clone())).unwrap();
    engine.stop();
    let name = files(&disk, "pack-", ".log").remove(0);
    let pack = read_whole(&disk, &name).unwrap();
    let start = core_log::pack::entry::EntryHead::read(&pack).unwrap();
    let unknown = core_log::pack::entry::EntryHead { kind: 63, ..start };
    let file = disk.open(&name).unwrap();
    file.write_at(40, &[std::io::IoSlice::new(&unknown.encode(&[]))]).unwrap();
    let refused = setup(false).open(Arc::new(disk)).err();
    assert!(matches!(refused, Some(OpenError::UnknownEntry { kind: 63 })), "{refused:?}");
}
