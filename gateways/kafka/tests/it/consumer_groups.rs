//! Groups of the consumer protocol (KIP-848) through real sockets, on the real core.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::create;
use codec_kafka::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use codec_kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use codec_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use codec_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use codec_kafka::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use codec_kafka::messages::{ApiVersionsRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest};
use core_log::LocalCore;
use kafka_gateway::state::GroupConfig;
use kafka_gateway::{Config, Handle, start};

const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const STALE_MEMBER_EPOCH: i16 = 113;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

async fn gateway(core: &LocalCore) -> Handle {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let groups = GroupConfig { initial_rebalance_delay_ms: 5, ..GroupConfig::default() };
    start(core.clone(), Config { listen, groups, ..Config::default() }).await.expect("the gateway starts")
}

fn join(member_id: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn beat(told: &ConsumerGroupHeartbeatResponse, owned: Option<Vec<TopicPartitions>>) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        member_epoch: told.member_epoch,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        topic_partitions: owned,
        ..join(told.member_id.as_deref().unwrap())
    }
}

fn assigned(told: &ConsumerGroupHeartbeatResponse) -> Option<Vec<TopicPartitions>> {
    told.assignment.as_ref().map(|assignment| assignment.topic_partitions.clone())
}

fn indexes(told: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    assigned(told).map(|topics| topics.into_iter().flat_map(|topic| topic.partitions).collect())
}

#[tokio::test]
async fn members_share_a_topic_and_a_restart_does_not_disturb_them() {
    let directory = tempfile::tempdir().unwrap();
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    let mut gateway = self::gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    let hello = ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() };
    let features = client.ask(4, &hello).await.finalized_features;
    assert!(features.iter().any(|feature| feature.name == "group.version" && feature.max_version_level == 1));
    create(&mut client, "t", 4, &[]).await;

    // Version 0: the broker makes the member id.
    let one = client.ask(0, &join("")).await;
    assert_eq!((one.error_code, one.member_epoch, one.heartbeat_interval_ms), (0, 1, 5_000));
    assert_eq!((indexes(&one), one.member_id.as_ref().unwrap().len()), (Some(vec![0, 1, 2, 3]), 22));
    let two = client.ask(1, &join("two")).await;
    assert_eq!((two.member_epoch, indexes(&two)), (2, Some(vec![])));

    gateway.stop().await;
    gateway = self::gateway(&core).await;
    client = Client::connect(gateway.address()).await;
    let one = client.ask(1, &beat(&one, None)).await;
    assert_eq!((one.member_epoch, indexes(&one)), (1, Some(vec![0, 1])));
    let one = client.ask(1, &beat(&one, assigned(&one))).await;
    assert_eq!((one.member_epoch, indexes(&one)), (2, None));
    let two = client.ask(1, &beat(&two, None)).await;
    assert_eq!((two.member_epoch, indexes(&two)), (2, Some(vec![2, 3])));

    let describe = ConsumerGroupDescribeRequest { group_ids: vec!["g".into(), "none".into()], ..Default::default() };
    let described = client.ask(1, &describe).await.groups;
    assert_eq!((described[0].group_state.as_str(), described[0].assignor_name.as_str()), ("Stable", "uniform"));
    assert_eq!((described[0].group_epoch, described[0].members.len()), (2, 2));
    let members = &described[0].members;
    let other = members.iter().find(|member| member.member_id == "two").unwrap();
    assert_eq!((other.client_id.as_str(), other.client_host.as_str(), other.member_type), ("test", "/127.0.0.1", 1));
    assert_eq!(other.assignment, other.target_assignment);
    assert_eq!(other.assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(described[1].error_code, GROUP_ID_NOT_FOUND);
    let classic = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    assert_eq!(client.ask(6, &classic).await.groups[0].error_code, GROUP_ID_NOT_FOUND);
    for (types, count) in [(vec![], 1), (vec!["Consumer".to_owned()], 1), (vec!["classic".to_owned()], 0)] {
        let listed = client.ask(5, &ListGroupsRequest { types_filter: types, ..Default::default() }).await.groups;
        assert_eq!(listed.len(), count);
        assert!(listed.iter().all(|group| group.group_type == "consumer" && group.group_state == "Stable"));
    }
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn offsets_need_the_current_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let told = client.ask(1, &join("one")).await;
    assert_eq!(told.error_code, 0);
    for (member, epoch, expected) in
        [("one", 1, 0), ("one", 0, STALE_MEMBER_EPOCH), ("two", 1, UNKNOWN_MEMBER_ID), ("", -1, UNKNOWN_MEMBER_ID)]
    {
        let partition = OffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            member_id: member.into(),
            generation_id_or_member_epoch: epoch,
            topics: vec![OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] }],
            ..Default::default()
        };
        let committed = client.ask(9, &commit).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, expected, "{member} {epoch}");
    }
    for (member_id, member_epoch, expected) in
        [(Some("one"), 1, 0), (Some("one"), 3, STALE_MEMBER_EPOCH), (Some("two"), 1, UNKNOWN_MEMBER_ID), (None, -1, 0)]
    {
        let member_id = member_id.map(str::to_owned);
        let group = OffsetFetchRequestGroup { group_id: "g".into(), member_id, member_epoch, topics: None };
        let fetched = client.ask(9, &OffsetFetchRequest { groups: vec![group], ..Default::default() }).await;
        assert_eq!(fetched.groups[0].error_code, expected);
        assert_eq!(fetched.groups[0].topics.len(), usize::from(expected == 0));
    }
    let topic =
        OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![OffsetDeleteRequestPartition::default()] };
    let deleted = client.ask(0, &OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] }).await;
    assert_eq!(deleted.topics[0].partitions[0].error_code, GROUP_SUBSCRIBED_TO_TOPIC);

    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_eq!(client.ask(2, &delete).await.results[0].error_code, NON_EMPTY_GROUP);
    let leave = ConsumerGroupHeartbeatRequest { member_epoch: -1, ..join("one") };
    let left = client.ask(1, &leave).await;
    assert_eq!((left.error_code, left.member_epoch, left.member_id.as_deref()), (0, -1, Some("one")));
    assert_eq!(client.ask(2, &delete).await.results[0].error_code, 0);
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let told = client.ask(1, &join("one")).await;
    let base = || join("two");
    let cases = [
        (join(""), INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { group_id: " ".into(), ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { topic_partitions: None, ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { member_epoch: -2, ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { member_epoch: -3, ..base() }, INVALID_REQUEST),
        (ConsumerGroupHeartbeatRequest { server_assignor: Some("sticky".into()), ..base() }, UNSUPPORTED_ASSIGNOR),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("(".into()), ..base() },
            INVALID_REGULAR_EXPRESSION,
        ),
        (ConsumerGroupHeartbeatRequest { member_epoch: 1, ..base() }, UNKNOWN_MEMBER_ID),
        (ConsumerGroupHeartbeatRequest { member_epoch: -1, ..base() }, UNKNOWN_MEMBER_ID),
        (ConsumerGroupHeartbeatRequest { member_epoch: 7, ..beat(&told, None) }, FENCED_MEMBER_EPOCH),
        (ConsumerGroupHeartbeatRequest { group_id: "h".into(), member_epoch: 1, ..base() }, GROUP_ID_NOT_FOUND),
    ];
    for (request, expected) in cases {
        let response = client.ask(1, &request).await;
        assert_eq!(response.error_code, expected, "{request:?}");
        assert!(response.error_message.is_some());
    }
    // None of them left a trace.
    assert_eq!(client.ask(5, &ListGroupsRequest::default()).await.groups.len(), 1);
    gateway.stop().await;
    core.stop();
}
