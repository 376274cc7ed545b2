//! What the RPC itself costs: calls and bytes per second on loopback, against a core that does nothing.
//! Run with `cargo bench -p core-rpc`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec_record::{Batch, FormatId};
use core_rpc::*;
use support::*;

const RUN: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = [("tcp", loopback()), ("unix", Address::Unix(folder.path().join("core.sock")))];
    for (name, address) in addresses {
        runtime.block_on(async {
            let memory = MemoryCore::default();
            memory.append(append(0, vec![3; 64 * 1024])).await;
            memory.append(append(1, vec![3; 1 << 20])).await;
            memory.append(append(2, vec![3; 200])).await;
            let served = Served::start(memory, &address).await;
            let core = RemoteCore::new(served.address.clone());
            for in_flight in [1, 32, 256] {
                let get =
                    |core: RemoteCore| async move { core.meta_get("some/key".into()).await.map(|_| 0).unwrap_or(0) };
                run(name, "get", in_flight, &core, get).await;
            }
            for (index, bytes, in_flight) in [(2, 200, 32), (0, 64 << 10, 8), (0, 64 << 10, 32), (1, 1 << 20, 8)] {
                let label = format!("fetch {bytes} B");
                let take = move |core: RemoteCore| async move {
                    let fetched = core.fetch(fetch(index, 0, 1, Duration::ZERO)).await;
                    fetched[0].as_ref().map_or(0, |fetched| fetched.batches[0].payload.len() as u64)
                };
                run(name, &label, in_flight, &core, take).await;
                // Batches of other partitions than there are: nothing is kept, so memory does not grow.
                let batch = Batch::new(FormatId::RAW, 1, 0, Bytes::from(vec![5; bytes]));
                let label = format!("append {bytes} B");
                let give = move |core: RemoteCore| {
                    let mut batch = batch.clone();
                    batch.header.producer = Some(codec_record::Producer { id: 1, epoch: 0, sequence: 0 });
                    async move {
                        let append = Append { partition: partition(index + 10), batch };
                        core.append(AppendRequest { appends: vec![append] }).await;
                        bytes as u64
                    }
                };
                run(name, &label, in_flight, &core, give).await;
            }
            served.stop().await;
        });
    }
}

async fn run<F, Fut>(socket: &str, label: &str, in_flight: usize, core: &RemoteCore, call: F)
where
    F: Fn(RemoteCore) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = u64> + Send,
{
    let (calls, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..in_flight {
        let (core, call, calls, bytes) = (core.clone(), call.clone(), calls.clone(), bytes.clone());
        tasks.push(tokio::spawn(async move {
            while started.elapsed() < RUN {
                bytes.fetch_add(call(core.clone()).await, Ordering::Relaxed);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.expect("a bench task");
    }
    let seconds = started.elapsed().as_secs_f64();
    let calls = calls.load(Ordering::Relaxed) as f64 / seconds;
    let gigabytes = bytes.load(Ordering::Relaxed) as f64 / seconds / 1e9;
    println!("{socket:4}  {label:16}  {in_flight:4} in flight  {calls:9.0} calls/s  {gigabytes:6.2} GB/s");
}
