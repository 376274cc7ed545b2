//! A disk that gets full under a gateway: who writes is told something that it tries again on, who reads goes on, and when
//! there is room all is as it should be. On the real core, over a disk in memory.

use std::sync::Arc;

use crate::groups::commit_request;
use crate::support::client::Client;
use crate::support::*;
use codec_kafka::messages::fetch::PartitionData;
use codec_kafka::messages::{EndTxnRequest, FetchRequest, InitProducerIdRequest, ProduceRequest};
use codec_record::kafka_batch::BatchEncoder;
use core_log::disk::MemoryDisk;
use core_log::meta::{MetaOptions, SteadyClock};
use core_log::{LocalCore, SystemClock};
use kafka_gateway::{Config, Handle, start};
use tokio::time::{Duration, Instant, sleep};

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// What a producer's client tries an EndTxn again on.
const TRIED_AGAIN: [i16; 3] = [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, CONCURRENT_TRANSACTIONS];

async fn gateway_on(disk: &MemoryDisk) -> (LocalCore, Handle, Client) {
    let mut last = 0;
    let random = move || {
        last += 1;
        last
    };
    let options = MetaOptions {
        clock: Arc::new(SystemClock),
        session_clock: Arc::new(SteadyClock::default()),
        random: Box::new(random),
    };
    let config = core_log::Config {
        shards: Some(1),
        pack_bytes: 512 << 10,
        pack_bytes_first: 256 << 10,
        ..core_log::Config::default()
    };
    let core = LocalCore::open(config, Arc::new(disk.clone()), Default::default(), options).unwrap();
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let gateway = start(core.clone(), config).await.unwrap();
    let client = Client::connect(gateway.address()).await;
    (core, gateway, client)
}

struct Producer {
    id: i64,
    epoch: i16,
    sequence: i32,
    transactional_id: Option<String>,
}

impl Producer {
    async fn new(client: &mut Client, transactional_id: Option<&str>) -> Producer {
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(str::to_owned),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let told = client.ask(4, &request).await;
        assert_eq!(told.error_code, 0);
        let transactional_id = transactional_id.map(str::to_owned);
        Producer { id: told.producer_id, epoch: told.producer_epoch, sequence: 0, transactional_id }
    }

    /// Sends 10 kB with the next sequence, which is used up if they are taken: (error, offset).
    async fn send(&mut self, client: &mut Client) -> (i16, i64) {
        let encoder = BatchEncoder {
            transactional: self.transactional_id.is_some(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: self.sequence,
            ..Default::default()
        };
        let batch = encoder.encode(&[record(&"x".repeat(10_000))]);
        let request =
            ProduceRequest { transactional_id: self.transactional_id.clone(), ..produce_request("t", 0, batch) };
        let response = client.ask(12, &request).await;
        let told = &response.responses[0].partition_responses[0];
        self.sequence += i32::from(told.error_code == 0);
        (told.error_code, told.base_offset)
    }

    /// Sends until it is refused; returns how many were taken.
    async fn fill(&mut self, client: &mut Client) -> i64 {
        for sent in 0..500 {
            match self.send(client).await {
                (0, _) => {}
                (code, _) => {
                    assert_eq!(code, KAFKA_STORAGE_ERROR);
                    return sent;
                }
            }
        }
        panic!("it is never refused");
    }
}

async fn committed(client: &mut Client) -> PartitionData {
    let request = FetchRequest { isolation_level: 1, ..fetch_request("t", 0) };
    client.ask(12, &request).await.responses.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn producers_try_again_and_readers_and_commits_go_on() {
    let disk = MemoryDisk::new();
    let (core, gateway, mut client) = gateway_on(&disk).await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&mut client, None).await;
    assert_eq!(producer.send(&mut client).await, (0, 0));
    // So that its topic of internal records is there.
    assert_eq!(client.ask(8, &commit_request("g", None, "t", 1)).await.topics[0].partitions[0].error_code, 0);
    disk.set_capacity(Some(disk.used_bytes()));
    let taken = 1 + producer.fill(&mut client).await;
    assert!(taken > 1, "the pack that is there has room");
    assert_eq!(fetch(&mut client, "t", 0).await.high_watermark, taken);
    assert_eq!(fetch(&mut client, "t", taken - 1).await.error_code, 0);
    assert_eq!(client.ask(8, &commit_request("g", None, "t", taken)).await.topics[0].partitions[0].error_code, 0);
    // Who was refused sends the same again, and is refused again, until there is room.
    assert_eq!(producer.send(&mut client).await.0, KAFKA_STORAGE_ERROR);
    disk.set_capacity(None);
    // A full disk is not tried for each append, but soon again.
    sleep(Duration::from_millis(150)).await;
    assert_eq!(producer.send(&mut client).await, (0, taken));
    assert_eq!(producer.send(&mut client).await, (0, taken + 1));
    gateway.stop().await;
    core.stop();
    let (core, gateway, mut client) = gateway_on(&disk).await;
    assert_eq!(fetch(&mut client, "t", 0).await.high_watermark, taken + 2);
    assert_eq!(producer.send(&mut client).await, (0, taken + 2));
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn a_transaction_ends_when_there_is_room() {
    let disk = MemoryDisk::new();
    let (core, gateway, mut client) = gateway_on(&disk).await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&mut client, Some("tx")).await;
    assert_eq!(producer.send(&mut client).await, (0, 0));
    disk.set_capacity(Some(disk.used_bytes()));
    let taken = 1 + producer.fill(&mut client).await;
    assert_eq!(committed(&mut client).await.last_stable_offset, 0);
    let end = EndTxnRequest {
        transactional_id: "tx".into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed: true,
    };
    // The decision may find room or not.
    let told = client.ask(5, &end).await;
    assert!(told.error_code == 0 || TRIED_AGAIN.contains(&told.error_code), "{}", told.error_code);
    disk.set_capacity(None);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.ask(5, &end).await.error_code != 0 {
        assert!(Instant::now() < deadline, "it is never ended");
        sleep(Duration::from_millis(20)).await;
    }
    while committed(&mut client).await.last_stable_offset < taken {
        assert!(Instant::now() < deadline, "it is never visible");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(committed(&mut client).await.aborted_transactions.unwrap().len(), 0);
    gateway.stop().await;
    core.stop();
}
