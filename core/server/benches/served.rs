//! The core as gateways meet it: append, tail fetch and meta over each way to reach it, on this machine's disk.
//! Run with `cargo bench -p core-server`; `TMPDIR` chooses the disk.

#[path = "../tests/it/support.rs"]
#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use core_rpc::*;
use support::*;

const RUN: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let world = local().await;
        all("local", world.core.clone()).await;
        world.stop().await;
        let world = remote_tcp().await;
        all("tcp", world.core.clone()).await;
        world.stop().await;
        let world = remote_unix().await;
        all("unix", world.core.clone()).await;
        world.stop().await;
    });
}

async fn all(way: &str, core: impl Core) {
    for durability in [Durability::Fsync, Durability::Relaxed] {
        let mut create = create(&format!("{durability:?}"), 4);
        create.settings.durability = durability;
        create.settings.retention_bytes = Some(64 << 20);
        let topic = core.topic_create(create).await.expect("the topic is made");
        for (bytes, in_flight) in [(1 << 10, 1), (1 << 10, 64), (64 << 10, 16)] {
            let payload = vec![7u8; bytes];
            let give = {
                let (core, topic) = (core.clone(), topic.clone());
                let made = batch(10, 0, &payload);
                move |turn: u64| {
                    let (core, made, partition) = (core.clone(), made.clone(), part(&topic, turn as u32 % 4));
                    async move { append_one(&core, partition, made).await.map(|_| bytes as u64).expect("appends") }
                }
            };
            run(way, &format!("append {durability:?} {bytes} B"), in_flight, give).await;
        }
        let end = core.offsets(OffsetsRequest { queries: vec![(part(&topic, 0), OffsetAt::Latest)] }).await;
        let end = end[0].as_ref().expect("offsets").offset.expect("an end");
        let take = {
            let core = core.clone();
            move |_| {
                let (core, request) = (core.clone(), fetch_request(part(&topic, 0), end - 160, Duration::ZERO));
                async move {
                    let fetched = core.fetch(request).await.remove(0).expect("fetches");
                    fetched.batches.iter().map(|batch| batch.payload.len() as u64).sum()
                }
            }
        };
        run(way, "fetch 1 MiB, tail", 8, take).await;
    }
    for in_flight in [1, 1000] {
        let core = core.clone();
        let put = move |turn: u64| {
            let key = format!("key/{}", turn % 5000);
            let put = MetaPut { key, value: vec![1; 100].into(), condition: MetaCondition::Always, session: None };
            let core = core.clone();
            async move { core.meta_put(put).await.map(|_| 100).expect("puts") }
        };
        run(way, "meta put", in_flight, put).await;
    }
}

async fn run<F, Fut>(way: &str, label: &str, in_flight: usize, call: F)
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = u64> + Send,
{
    let (calls, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..in_flight {
        let (call, calls, bytes) = (call.clone(), calls.clone(), bytes.clone());
        tasks.push(tokio::spawn(async move {
            while started.elapsed() < RUN {
                let turn = calls.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(call(turn).await, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.expect("a bench task");
    }
    let seconds = started.elapsed().as_secs_f64();
    let calls = calls.load(Ordering::Relaxed) as f64 / seconds;
    let megabytes = bytes.load(Ordering::Relaxed) as f64 / seconds / 1e6;
    println!("{way:5}  {label:24}  {in_flight:4} in flight  {calls:9.0} calls/s  {megabytes:8.1} MB/s");
}
