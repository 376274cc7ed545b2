//! Where a share group begins: told, moved and forgotten, on the real core.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::*;
use codec_kafka::Uuid;
use codec_kafka::messages::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use codec_kafka::messages::delete_share_group_offsets::DeleteShareGroupOffsetsRequestTopic;
use codec_kafka::messages::describe_share_group_offsets::DescribeShareGroupOffsetsRequestGroup;
use codec_kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use codec_kafka::messages::share_fetch::{FetchPartition, FetchTopic};
use codec_kafka::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, ShareFetchRequest, ShareGroupHeartbeatRequest,
};
use core_log::LocalCore;
use kafka_gateway::{Config, start};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP: i8 = 32;

/// A member comes (epoch 0) or goes (-1).
async fn heartbeat(client: &mut Client, member: &str, epoch: i32) {
    let request = ShareGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch: epoch,
        subscribed_topic_names: Some(vec!["t".into()]),
        ..Default::default()
    };
    assert_eq!(client.ask(1, &request).await.error_code, 0);
}

/// The first offset that a member gets; its session ends with that.
async fn first_acquired(client: &mut Client, member: &str, topic_id: Uuid) -> i64 {
    let mut request = ShareFetchRequest {
        group_id: Some("g".into()),
        member_id: Some(member.into()),
        max_wait_ms: 10_000,
        min_bytes: 1,
        max_records: 100,
        batch_size: 100,
        topics: vec![FetchTopic { topic_id, partitions: vec![FetchPartition::default()] }],
        ..Default::default()
    };
    let response = client.ask(1, &request).await;
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let first = partition.acquired_records[0].first_offset;
    (request.share_session_epoch, request.topics) = (-1, Vec::new());
    assert_eq!(client.ask(1, &request).await.error_code, 0);
    first
}

/// The error of the whole, or of the partition.
async fn alter(client: &mut Client, topic: &str, partition_index: i32, start_offset: i64) -> i16 {
    let partitions = vec![AlterShareGroupOffsetsRequestPartition { partition_index, start_offset }];
    let topics = vec![AlterShareGroupOffsetsRequestTopic { topic_name: topic.into(), partitions }];
    let response = client.ask(0, &AlterShareGroupOffsetsRequest { group_id: "g".into(), topics }).await;
    response.responses.first().map_or(response.error_code, |topic| topic.partitions[0].error_code)
}

async fn delete(client: &mut Client, topic: &str) -> i16 {
    let topics = vec![DeleteShareGroupOffsetsRequestTopic { topic_name: topic.into() }];
    let response = client.ask(0, &DeleteShareGroupOffsetsRequest { group_id: "g".into(), topics }).await;
    response.responses.first().map_or(response.error_code, |topic| topic.error_code)
}

/// The topic's offsets that are described; the group's error if there is one.
async fn described(client: &mut Client) -> Result<Vec<i64>, i16> {
    let groups = vec![DescribeShareGroupOffsetsRequestGroup { group_id: "g".into(), topics: None }];
    let response = client.ask(0, &DescribeShareGroupOffsetsRequest { groups }).await;
    let group = &response.groups[0];
    match group.error_code {
        0 => Ok(group.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.start_offset).collect()),
        code => Err(code),
    }
}

#[tokio::test]
async fn where_a_group_begins_is_moved_and_forgotten_while_nobody_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let gateway = start(core.clone(), config).await.unwrap();
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let topics = client.ask(12, &MetadataRequest { topics: None, ..Default::default() }).await.topics;
    let topic_id = topics.iter().find(|topic| topic.name.as_deref() == Some("t")).unwrap().topic_id;
    for value in ["a", "b", "c", "d", "e"] {
        assert_eq!(produce(&mut client, "t", batch(&[value])).await.error_code, 0);
    }
    let earliest =
        AlterableConfig { name: "share.auto.offset.reset".into(), config_operation: 0, value: Some("earliest".into()) };
    let resource = AlterConfigsResource { resource_type: GROUP, resource_name: "g".into(), configs: vec![earliest] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(client.ask(1, &request).await.responses[0].error_code, 0);

    assert_eq!(alter(&mut client, "t", 0, 3).await, GROUP_ID_NOT_FOUND);
    assert_eq!(delete(&mut client, "t").await, GROUP_ID_NOT_FOUND);
    assert_eq!(described(&mut client).await, Err(GROUP_ID_NOT_FOUND));
    heartbeat(&mut client, "one", 0).await;
    assert_eq!(first_acquired(&mut client, "one", topic_id).await, 0);
    assert_eq!(alter(&mut client, "t", 0, 3).await, NON_EMPTY_GROUP);
    assert_eq!(delete(&mut client, "t").await, NON_EMPTY_GROUP);
    heartbeat(&mut client, "one", -1).await;
    assert_eq!(described(&mut client).await, Ok(vec![0]));

    assert_eq!(alter(&mut client, "u", 0, 3).await, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(&mut client, "t", 1, 3).await, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(&mut client, "t", 0, -3).await, INVALID_REQUEST);
    assert_eq!(alter(&mut client, "t", 0, 3).await, 0);
    assert_eq!(described(&mut client).await, Ok(vec![3]));
    heartbeat(&mut client, "two", 0).await;
    assert_eq!(first_acquired(&mut client, "two", topic_id).await, 3);
    heartbeat(&mut client, "two", -1).await;

    assert_eq!(delete(&mut client, "u").await, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete(&mut client, "t").await, 0);
    // It begins anew, where its configuration says.
    heartbeat(&mut client, "three", 0).await;
    assert_eq!(first_acquired(&mut client, "three", topic_id).await, 0);
    heartbeat(&mut client, "three", -1).await;
    gateway.stop().await;
}
