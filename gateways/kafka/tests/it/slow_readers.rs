//! Clients that ask for much and do not read it. On the real core.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::*;
use codec_kafka::messages::fetch::FetchRequest;
use core_log::LocalCore;
use kafka_gateway::{Config, Handle, start};
use tokio::io::AsyncReadExt;

const MIB: usize = 1 << 20;
/// Records that each client asks for; far more than socket buffers take.
const ASKED_BYTES: usize = 24 * MIB;
const BUDGET_BYTES: usize = 32 * MIB;

fn request() -> FetchRequest {
    let mut request = fetch_request("t", 0);
    request.max_bytes = ASKED_BYTES as i32;
    request.max_wait_ms = 500;
    request.topics[0].partitions[0].partition_max_bytes = ASKED_BYTES as i32;
    request
}

/// Asks for much, and reads no more than how large the answer is.
async fn begin_to_read(address: SocketAddr) -> (Client, usize) {
    let mut client = Client::connect(address).await;
    client.send(12, &request()).await;
    let length = tokio::time::timeout(Duration::from_secs(20), client.stream.read_u32()).await.unwrap().unwrap();
    (client, length as usize)
}

async fn read(address: SocketAddr) -> usize {
    let mut client = Client::connect(address).await;
    let answer = client.ask(12, &request()).await;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.records.as_ref().unwrap().len()
}

fn queued_bytes(gateway: &Handle) -> usize {
    let mut metrics = gateway_runtime::admin::Metrics::default();
    gateway.metrics()(&mut metrics);
    let line = metrics.text().lines().find_map(|line| line.strip_prefix("polymq_kafka_queued_response_bytes "));
    line.expect("the metric is there").parse::<f64>().unwrap() as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_readers_share_one_budget() {
    const READERS: usize = 12;
    let directory = tempfile::tempdir().unwrap();
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        queued_response_bytes_max: BUDGET_BYTES as u64,
        ..Config::default()
    };
    let gateway = start(core.clone(), config).await.unwrap();
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[("polymq.durability", "memory")]).await;
    let value = "x".repeat(256 << 10);
    for _ in 0..ASKED_BYTES / value.len() {
        assert_eq!(produce(&mut client, "t", batch(&[&value])).await.error_code, 0);
    }
    let alone = read(gateway.address()).await;
    assert_eq!(alone / MIB, BUDGET_BYTES / 4 / MIB - 1, "a quarter of the budget, in whole batches");

    let mut slow = Vec::new();
    for _ in 0..READERS {
        slow.push(begin_to_read(gateway.address()).await);
    }
    let granted: usize = slow.iter().map(|(_, length)| length).sum();
    // Socket buffers take some, and who comes later gets that too.
    assert!(granted < READERS * ASKED_BYTES / 4, "{granted} bytes were read for them");
    let queued = queued_bytes(&gateway);
    assert!((BUDGET_BYTES / 4..BUDGET_BYTES + READERS * value.len()).contains(&queued), "{queued} bytes are queued");
    for (_, length) in &slow {
        assert!(*length > value.len(), "each gets a batch at least");
    }
    let among = read(gateway.address()).await;
    assert!((value.len()..alone).contains(&among), "who reads goes on, with less: {among} bytes");

    drop(slow);
    let patience = Instant::now() + Duration::from_secs(20);
    while queued_bytes(&gateway) > 0 {
        assert!(Instant::now() < patience, "what was queued is never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read(gateway.address()).await, alone);
    gateway.stop().await;
    core.stop();
}
