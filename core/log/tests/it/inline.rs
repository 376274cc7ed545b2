//! What is written on the thread of whoever asks: it is so, and what has to follow later follows although the writer's thread
//! slept meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use core_log::disk::MemoryDisk;
use core_log::{Config, Engine, SystemClock};
use core_rpc::*;

use crate::common::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn relaxed(config: Config) -> Setup {
    let topics = vec![topic(TOPIC, 1, settings(Durability::Relaxed))];
    Setup { config: Config { shards: Some(1), ..config }, topics, ..Setup::default() }
}

/// What a future answers when it is asked for the first time.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Appends until one is answered at once: at the start the thread is busy for a moment.
fn append_at_once(engine: &Engine) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let append = || Append { partition: partition(0), batch: batch(1, "x") };
    while Instant::now() < deadline {
        if let Some(mut answers) = at_once(engine.append(AppendRequest { appends: vec![append()] })) {
            return answers.remove(0).unwrap().base_offset;
        }
        std::thread::yield_now();
    }
    panic!("no append was written by who asked for it");
}

#[tokio::test]
async fn a_relaxed_append_to_an_idle_shard_is_answered_at_once() {
    let engine = relaxed(config()).open(Arc::new(MemoryDisk::default())).unwrap();
    let offset = append_at_once(&engine);
    let read = at_once(engine.fetch(fetch_request(&[(partition(0), offset)], 1000))).expect("it is there");
    assert_eq!(read[0].as_ref().unwrap().batches[0].header.base_offset, offset);
}

#[tokio::test]
async fn the_disk_is_asked_to_keep_it_in_time() {
    let disk = MemoryDisk::default();
    let config = Config { relaxed_sync: Duration::from_millis(20), ..config() };
    let engine = relaxed(config).open(Arc::new(disk.clone())).unwrap();
    append_at_once(&engine);
    // Nothing comes after it; all the same a power cut takes nothing once the time is over.
    let deadline = Instant::now() + PATIENCE;
    for seed in 0..8 {
        while is_empty_after(disk.crash(seed)).await {
            assert!(Instant::now() < deadline, "it was never synced");
        }
    }
}

/// What was not synced may be there or not, as chance has it.
async fn is_empty_after(crashed: MemoryDisk) -> bool {
    let engine = relaxed(config()).open(Arc::new(crashed)).unwrap();
    fetch_bounds(&engine, partition(0)).await.unwrap().end_offset == 0
}

#[tokio::test]
async fn a_delay_that_begins_with_it_ends() {
    let setup = relaxed(config());
    let disk = Arc::new(MemoryDisk::default());
    let engine = Engine::open(setup.config, disk, Arc::new(SystemClock), setup.formats, setup.topics).unwrap();
    // All that was tried before it is there too: it is taken with it, so that nothing else is to be had.
    let credits = append_at_once(&engine) + 1;
    let request = |wait| AcquireRequest { wait, ..crate::queues::request(partition(0), credits as u32) };
    let first = engine.acquire(request(Duration::ZERO)).await.remove(0).unwrap().ranges[0].first;
    let delay = Duration::from_millis(50);
    let range = SettleRange { first, last: first, settlement: Settlement::Release, delay };
    let settle = SettleRequest {
        group: group("g"),
        holder: "h".to_owned(),
        partitions: vec![(partition(0), vec![range])],
        durable: false,
    };
    engine.settle(settle).await;
    let again = tokio::time::timeout(PATIENCE, engine.acquire(request(PATIENCE))).await.expect("the delay is over");
    assert_eq!(again[0].as_ref().unwrap().ranges[0].first, first);
}
