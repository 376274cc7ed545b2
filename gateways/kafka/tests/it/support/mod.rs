//! What the tests of the gateway share.

#![allow(dead_code)]

pub mod client;
pub mod memory_core;

use bytes::Bytes;
use codec_kafka::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use codec_kafka::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use codec_kafka::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use codec_record::kafka_batch::{BatchEncoder, Record};
use kafka_gateway::{Config, Handle, start};

use client::Client;
use memory_core::MemoryCore;

pub async fn gateway_with(config: Config) -> (Handle, Client) {
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..config };
    let gateway = start(MemoryCore::default(), config).await.unwrap();
    let client = Client::connect(gateway.address()).await;
    (gateway, client)
}

pub async fn gateway() -> (Handle, Client) {
    gateway_with(Config::default()).await
}

/// Creates a topic; panics if it is refused.
pub async fn create(client: &mut Client, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let config =
        |(name, value): &(&str, &str)| CreatableTopicConfig { name: name.to_string(), value: Some(value.to_string()) };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let response = client.ask(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
    assert_eq!((response.topics[0].error_code, &response.topics[0].error_message), (0, &None));
}

pub fn record(value: &str) -> Record {
    Record { timestamp_ms: now_ms(), value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Default::default() }
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub fn batch(values: &[&str]) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Record { offset_delta: index as i32, ..record(value) })
        .collect();
    BatchEncoder::default().encode(&records)
}

pub fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub async fn produce(client: &mut Client, topic: &str, records: Bytes) -> PartitionProduceResponse {
    let mut response = client.ask(12, &produce_request(topic, 0, records)).await;
    response.responses.remove(0).partition_responses.remove(0)
}

pub fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub async fn fetch(client: &mut Client, topic: &str, offset: i64) -> PartitionData {
    let mut response = client.ask(12, &fetch_request(topic, offset)).await;
    assert_eq!(response.error_code, 0);
    response.responses.remove(0).partitions.remove(0)
}
