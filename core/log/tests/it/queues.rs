//! Transfers under power cuts and on a full disk, delays over restarts, and the space of consumed partitions.

use std::sync::Arc;
use std::time::Duration;

use core_log::disk::{Disk, FaultyDisk, MemoryDisk};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::model::Random;

const OTHER: TopicId = TopicId(0x3333);

pub fn queue(id: TopicId, durability: Durability) -> Topic {
    let consumed_by = Some("g".to_owned());
    topic(id, 1, TopicSettings { together: true, consumed_by, ..settings(durability) })
}

fn other() -> PartitionId {
    PartitionId { topic: OTHER, index: 0 }
}

fn setup(seed: u64) -> Setup {
    let config = Config {
        shards: Some(1),
        pack_bytes: 24 << 10,
        pack_bytes_first: 12 << 10,
        cache_bytes: if seed.is_multiple_of(2) { 0 } else { 16 << 10 },
        background: false,
        ..config()
    };
    let durability = if seed.is_multiple_of(3) { Durability::Memory } else { Durability::Fsync };
    let topics = vec![queue(TOPIC, Durability::Fsync), queue(OTHER, durability)];
    Setup { config, topics, ..Setup::default() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub fn request(partition: PartitionId, credit_messages: u32) -> AcquireRequest {
    AcquireRequest {
        group: group("g"),
        partitions: vec![partition],
        holder: "h".to_owned(),
        lease: Lease::Timed(Duration::from_secs(1000)),
        mode: AcquireMode::Strict,
        credit_messages,
        credit_bytes: 1 << 20,
        bytes_min: 0,
        window_messages: u64::MAX,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::All,
        wait: Duration::ZERO,
    }
}

/// The payloads of what is acquired; one message in each batch.
pub async fn acquire(engine: &Engine, partition: PartitionId, credit: u32) -> Result<Vec<(u64, String)>, LeaseError> {
    let acquired = engine.acquire(request(partition, credit)).await.remove(0)?;
    let text = |batch: &codec_record::Batch| String::from_utf8_lossy(&batch.payload).into_owned();
    Ok(acquired.batches.iter().map(|batch| (batch.header.base_offset, text(batch))).collect())
}

pub async fn settle(engine: &Engine, partition: PartitionId, range: SettleRange) -> Result<(), LeaseError> {
    let partitions = vec![(partition, vec![range])];
    let request = SettleRequest { group: group("g"), holder: "h".to_owned(), partitions, durable: false };
    engine.settle(request).await.remove(0).remove(0)
}

pub fn accept(offset: u64) -> SettleRange {
    SettleRange::new(offset, offset, Settlement::Accept)
}

/// Moves a message: settles it and appends two of its name.
async fn move_one(engine: &Engine, offset: u64, payload: &str) -> TransferAnswer {
    let append = |part: &str| Append { partition: other(), batch: batch(1, format!("{payload} {part}")) };
    let settles = vec![(partition(0), vec![accept(offset)])];
    let appends = vec![append("a"), append("b")];
    let request = TransferRequest { group: group("g"), holder: "h".to_owned(), session: None, settles, appends };
    engine.transfer(request, None).await
}

/// Fills a queue and moves its messages, until the power is out. Returns what was answered as moved.
async fn work(engine: &Engine, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut moved = Vec::new();
    for number in 0..12 {
        let payload = format!("{number} {}", "x".repeat(random.below(700) as usize));
        if append(engine, partition(0), batch(1, payload)).await.is_err() {
            return moved;
        }
        if random.below(3) == 0 {
            continue;
        }
        let Ok(acquired) = acquire(engine, partition(0), 1 + random.below(2) as u32).await else { return moved };
        for (offset, payload) in acquired {
            // Something of the same group that is not part of it.
            let beside = append(engine, other(), batch(1, "beside"));
            match futures_join(move_one(engine, offset, &payload), beside).await {
                (Ok(_), _) => moved.push(payload),
                (Err(_), _) => return moved,
            }
        }
    }
    moved
}

async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}

/// Each message is in one of the two queues: settled here if and only if both of it are there.
async fn check(engine: &Engine, moved: &[String]) {
    let there: Vec<String> = (read_all(engine, other(), 1 << 20).await.unwrap().iter())
        .map(|batch| String::from_utf8_lossy(&batch.payload).into_owned())
        .collect();
    let left: Vec<String> =
        acquire(engine, partition(0), 100).await.unwrap().into_iter().map(|(_, name)| name).collect();
    for batch in read_all(engine, partition(0), 1 << 20).await.unwrap() {
        let payload = String::from_utf8_lossy(&batch.payload).into_owned();
        let count = |part: &str| there.iter().filter(|other| **other == format!("{payload} {part}")).count();
        let is_left = left.contains(&payload);
        assert_eq!((count("a"), count("b")), if is_left { (0, 0) } else { (1, 1) }, "{payload}");
        assert!(!is_left || !moved.contains(&payload), "what was answered is done");
    }
}

#[test]
fn a_transfer_is_whole_after_a_crash_at_every_operation() {
    block_on(async {
        for seed in 0..6 {
            let faulty = FaultyDisk::default();
            let engine = setup(seed).open(Arc::new(faulty.clone())).unwrap();
            work(&engine, seed).await;
            engine.stop();
            let operations = faulty.changes();
            assert!(operations > 40, "{operations}");
            for crash_in in 1..=operations {
                let disk = MemoryDisk::new();
                let faulty = FaultyDisk::over(disk.clone());
                faulty.crash_in(crash_in);
                let mut moved = Vec::new();
                if let Ok(engine) = setup(seed).open(Arc::new(faulty.clone())) {
                    moved = work(&engine, seed).await;
                    engine.stop();
                }
                let after = disk.crash(seed ^ crash_in);
                for _ in 0..2 {
                    let engine = setup(seed).open(Arc::new(after.clone())).unwrap();
                    check(&engine, &moved).await;
                    engine.stop();
                }
            }
        }
    });
}

#[tokio::test]
async fn a_full_disk_leaves_everything_as_it_was() {
    let disk = FaultyDisk::default();
    let engine = setup(1).open(Arc::new(disk.clone())).unwrap();
    append(&engine, partition(0), batch(1, "m")).await.unwrap();
    assert_eq!(acquire(&engine, partition(0), 1).await.unwrap().len(), 1);
    disk.disk.set_capacity(Some(60 << 10));
    while append(&engine, other(), batch(1, vec![1; 1000])).await.is_ok() {}
    let before = fetch_bounds(&engine, other()).await.unwrap();
    let large = "y".repeat(8 << 10);
    assert_eq!(move_one(&engine, 0, &large).await, Err(TransferError::DiskFull));
    assert_eq!(fetch_bounds(&engine, other()).await.unwrap(), before);
    assert_eq!(acquire(&engine, partition(0), 1).await.unwrap(), [], "it is held as before");
    disk.disk.set_capacity(None);
    let moved = move_one(&engine, 0, &large).await.unwrap();
    assert_eq!(moved[0].base_offset, before.end_offset);
}

#[tokio::test]
async fn delays_last_over_restarts() {
    let disk = MemoryDisk::new();
    let setup = setup(1);
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    let now_ms = setup.clock.now();
    let mut later = batch(1, "later");
    later.header.not_before_ms = Some(now_ms + 500);
    append(&engine, partition(0), batch(1, "first")).await.unwrap();
    append(&engine, partition(0), later.clone()).await.unwrap();
    append(&engine, partition(0), batch(1, "last")).await.unwrap();
    assert_eq!(acquire(&engine, partition(0), 10).await.unwrap().len(), 2);
    let delay = Duration::from_millis(300);
    settle(&engine, partition(0), SettleRange { delay, ..SettleRange::new(0, 0, Settlement::Release) }).await.unwrap();
    // Nobody has looked at this one.
    append(&engine, other(), later).await.unwrap();
    let crashed = disk.crash(7);
    engine.stop();
    // With the journal alone, and with a snapshot.
    for disk in [crashed, disk] {
        setup.clock.set(now_ms);
        let engine = setup.open(Arc::new(disk)).unwrap();
        let names = |acquired: Vec<(u64, String)>| acquired.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(acquire(&engine, partition(0), 10).await.unwrap()), ["last"]);
        assert_eq!(names(acquire(&engine, other(), 10).await.unwrap()), [""; 0]);
        setup.clock.set(now_ms + 300);
        assert_eq!(acquire(&engine, partition(0), 10).await.unwrap(), []);
        // Never sooner than asked, although the clock's milliseconds are rounded down.
        setup.clock.set(now_ms + 301);
        assert_eq!(names(acquire(&engine, partition(0), 10).await.unwrap()), ["first"]);
        // Who waits is woken.
        let waiting = AcquireRequest { wait: Duration::from_secs(60), ..request(partition(0), 10) };
        let pass = async {
            tokio::task::yield_now().await;
            setup.clock.set(now_ms + 500);
            engine.clock_changed();
        };
        let (acquired, ()) = tokio::join!(engine.acquire(waiting), pass);
        assert_eq!(acquired[0].as_ref().unwrap().ranges[0].first, 1);
        assert_eq!(names(acquire(&engine, other(), 10).await.unwrap()), ["later"]);
    }
}

/// One message that nobody settles, and so much beside it that is settled at once.
async fn consume(engine: &Engine, disk: &MemoryDisk, rounds: u32) -> u64 {
    let mut most = 0;
    for round in 0..rounds {
        let appends = (0..20).map(|_| Append { partition: partition(0), batch: batch(1, vec![round as u8; 1000]) });
        engine.append(AppendRequest { appends: appends.collect() }).await.remove(0).unwrap();
        for (offset, _) in acquire(engine, partition(0), 100).await.unwrap() {
            settle(engine, partition(0), accept(offset)).await.unwrap();
        }
        if round % 5 == 0 {
            engine.clean(0).await;
        }
        if round > rounds / 4 {
            most = most.max(disk.used_bytes());
        }
    }
    most
}

#[tokio::test]
async fn one_message_that_nobody_settles_keeps_no_other_on_the_disk() {
    for seed in [1, 2] {
        let disk = MemoryDisk::new();
        let engine = setup(seed).open(Arc::new(disk.clone())).unwrap();
        append(&engine, partition(0), batch(1, "stuck")).await.unwrap();
        assert_eq!(acquire(&engine, partition(0), 1).await.unwrap().len(), 1);
        // 400 packs pass.
        let most = consume(&engine, &disk, 500).await;
        assert!(most < 24 * (24 << 10), "{most} bytes");
        let crashed = disk.crash(seed);
        engine.stop();
        for disk in [disk, crashed] {
            let engine = setup(seed).open(Arc::new(disk)).unwrap();
            let left = acquire(&engine, partition(0), 1).await.unwrap();
            assert_eq!(left, [(0, "stuck".to_owned())], "it is there, and first");
            // What was settled may come again after a crash where it was not synced, but not what was dropped.
            let again = acquire(&engine, partition(0), 1000).await.unwrap();
            assert!(again.len() < 200, "{}", again.len());
            let next = append(&engine, partition(0), batch(1, "next")).await.unwrap();
            assert_eq!(next.base_offset, 10_001);
            for (offset, _) in &again {
                settle(&engine, partition(0), accept(*offset)).await.unwrap();
            }
            settle(&engine, partition(0), accept(0)).await.unwrap();
            engine.clean(0).await;
            let bounds = fetch_bounds(&engine, partition(0)).await.unwrap();
            assert_eq!((bounds.start_offset, bounds.end_offset), (10_001, 10_002), "trimmed to the floor");
            assert_eq!(acquire(&engine, partition(0), 10).await.unwrap(), [(10_001, "next".to_owned())]);
            engine.stop();
        }
    }
}

#[tokio::test]
async fn packs_are_only_few_files_whoever_is_stuck() {
    let disk = MemoryDisk::new();
    let engine = setup(1).open(Arc::new(disk.clone())).unwrap();
    append(&engine, partition(0), batch(1, "stuck")).await.unwrap();
    acquire(&engine, partition(0), 1).await.unwrap();
    consume(&engine, &disk, 200).await;
    let files = disk.list("shard-0000").unwrap();
    assert!(files.len() < 100, "{files:?}");
}

/// Many messages wait for a time that is far; those that fall due come at once. `POLYMQ_DELAYED_MESSAGES`: how many wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_falls_due_comes_soon_whatever_else_waits() {
    let setting = std::env::var("POLYMQ_DELAYED_MESSAGES").ok().and_then(|count| count.parse().ok());
    let count: i64 = setting.unwrap_or(20_000);
    let clock = Arc::new(core_log::SystemClock);
    let topics = vec![queue(TOPIC, Durability::Memory)];
    let config = Config { shards: Some(1), clean_interval: Duration::ZERO, ..Config::default() };
    let disk = Arc::new(MemoryDisk::new());
    let engine = Engine::open(config, disk, clock.clone(), Default::default(), topics).unwrap();
    let delayed = |not_before_ms: i64| {
        let mut batch = batch(1, "delayed");
        batch.header.not_before_ms = Some(not_before_ms);
        Append { partition: partition(0), batch }
    };
    let now_ms = || core_log::Clock::now_ms(&*clock);
    let far_ms = now_ms() + 3_600_000;
    for first in (0..count).step_by(1000) {
        let appends = (first..first + 1000).map(|at| delayed(far_ms + at * 7_919 % count)).collect();
        engine.append(AppendRequest { appends }).await.remove(0).unwrap();
    }
    assert_eq!(acquire(&engine, partition(0), 1).await.unwrap(), [], "all of them were looked at");
    let soon_ms = now_ms() + 300;
    let appends = (0..20).map(|at| delayed(soon_ms + at * 20)).collect();
    engine.append(AppendRequest { appends }).await.remove(0).unwrap();
    let mut worst_ms = 0;
    for at in 0..20 {
        let waiting = AcquireRequest { wait: Duration::from_secs(60), ..request(partition(0), 1) };
        let acquired = engine.acquire(waiting).await.remove(0).unwrap();
        assert_eq!(acquired.ranges[0].first, count as u64 + at);
        let late_ms = now_ms() - acquired.batches[0].header.not_before_ms.unwrap();
        assert!(late_ms >= 0, "{late_ms}");
        worst_ms = worst_ms.max(late_ms);
    }
    println!("with {count} messages waiting, 20 that fell due came at most {worst_ms} ms late");
    // Generous: this is not the machine's only work.
    assert!(worst_ms < 2_000, "{worst_ms}");
}

/// Nothing but the message itself tells who waits that there is a time to wait for.
#[tokio::test]
async fn who_waits_already_is_woken_when_what_comes_later_is_due() {
    let clock = Arc::new(core_log::SystemClock);
    let topics = vec![queue(TOPIC, Durability::Memory)];
    let disk = Arc::new(MemoryDisk::new());
    let engine = Engine::open(Config::default(), disk, clock.clone(), Default::default(), topics).unwrap();
    // So that there is a map, and the next acquire begins to wait at once.
    assert_eq!(acquire(&engine, partition(0), 1).await.unwrap(), []);
    let waiting = AcquireRequest { bytes_min: 1, wait: Duration::from_secs(20), ..request(partition(0), 1) };
    let mut waiting = std::pin::pin!(engine.acquire(waiting));
    let mut delayed = batch(1, "delayed");
    delayed.header.not_before_ms = Some(core_log::Clock::now_ms(&*clock) + 100);
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is nothing yet"),
        appended = append(&engine, partition(0), delayed) => drop(appended.unwrap()),
    }
    let acquired = waiting.await.remove(0).unwrap();
    assert_eq!(acquired.ranges.len(), 1, "not within 20 s");
}
