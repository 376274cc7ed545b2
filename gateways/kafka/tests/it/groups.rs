//! Consumer groups through real sockets, on the real core.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::create;
use bytes::Bytes;
use codec_kafka::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use codec_kafka::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use codec_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use codec_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use codec_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use codec_kafka::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use codec_kafka::messages::{DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, ListGroupsRequest};
use core_log::LocalCore;
use kafka_gateway::state::GroupConfig;
use kafka_gateway::{Config, Handle, start};
use tokio::time::{Duration, timeout};

const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

/// Opens the core, once the tasks of a gateway before it have let go of the directory.
async fn core(directory: &tempfile::TempDir) -> LocalCore {
    let opening = async {
        loop {
            match LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()) {
                Ok(core) => return core,
                Err(error) => tracing::debug!(%error, "not yet"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), opening).await.expect("the core opens")
}

async fn gateway(core: &LocalCore) -> Handle {
    let groups = GroupConfig { initial_rebalance_delay_ms: 5, ..GroupConfig::default() };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    start(core.clone(), Config { listen, groups, ..Config::default() }).await.expect("the gateway starts")
}

pub fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            // Subscribed to topic "t".
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        ..Default::default()
    }
}

pub fn sync_request(group: &str, joined: &JoinGroupResponse, version: i16) -> SyncGroupRequest {
    let assign = |id: &String| SyncGroupRequestAssignment { member_id: id.clone(), assignment: id.clone().into() };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: (version >= 5).then(|| "consumer".into()),
        protocol_name: (version >= 5).then(|| "range".into()),
        assignments: joined.members.iter().map(|member| assign(&member.member_id)).collect(),
        ..Default::default()
    }
}

/// Joins, with the second try that newer versions ask for.
pub async fn join(client: &mut Client, version: i16, group: &str) -> JoinGroupResponse {
    let mut joined = client.ask(version, &join_request(group, "")).await;
    if version >= 4 {
        assert_eq!(joined.error_code, MEMBER_ID_REQUIRED);
        joined = client.ask(version, &join_request(group, &joined.member_id)).await;
    }
    assert_eq!(joined.error_code, 0);
    joined
}

pub fn heartbeat(group: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    }
}

pub fn commit_request(
    group: &str,
    joined: Option<&JoinGroupResponse>,
    topic: &str,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: joined.map_or(-1, |joined| joined.generation_id),
        member_id: joined.map_or_else(String::new, |joined| joined.member_id.clone()),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: 3,
                committed_metadata: Some("words".into()),
            }],
        }],
        ..Default::default()
    }
}

/// The offset, leader epoch, metadata and error of "t"'s partition 0.
async fn fetch(client: &mut Client, version: i16, group: &str, all: bool) -> Option<(i64, i32, String, i16)> {
    let old = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let new = OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: group.into(),
        topics: (!all).then(|| vec![old]),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: (!all).then(|| vec![new]),
            ..Default::default()
        }],
        require_stable: version >= 7,
    };
    let mut response = client.ask(version, &request).await;
    if version >= 8 {
        let mut group = response.groups.remove(0);
        assert_eq!(group.error_code, 0);
        let found = group.topics.pop()?.partitions.remove(0);
        return Some((found.committed_offset, found.committed_leader_epoch, found.metadata?, found.error_code));
    }
    assert_eq!(response.error_code, 0);
    let found = response.topics.pop()?.partitions.remove(0);
    Some((found.committed_offset, found.committed_leader_epoch, found.metadata?, found.error_code))
}

#[tokio::test]
async fn every_version_serves_a_member_s_life() {
    let directory = tempfile::tempdir().unwrap();
    let core = core(&directory).await;
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    for version in 0..=9 {
        let group = format!("group {version}");
        let joined = join(&mut client, version, &group).await;
        assert_eq!((joined.generation_id, joined.leader.as_str()), (1, joined.member_id.as_str()));
        assert!(joined.member_id.starts_with("test-"), "{}", joined.member_id);
        assert_eq!((joined.protocol_name.as_deref(), joined.members.len()), (Some("range"), 1));
        let sync_version = version.min(5);
        let synced = client.ask(sync_version, &sync_request(&group, &joined, sync_version)).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, joined.member_id.as_bytes()));
        assert_eq!(client.ask(version.min(4), &heartbeat(&group, &joined)).await.error_code, 0);

        let commit_version = version.max(2);
        let offset = i64::from(version) + 10;
        let committed = client.ask(commit_version, &commit_request(&group, Some(&joined), "t", offset)).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
        let epoch = |fetched_by: i16| if commit_version >= 6 && fetched_by >= 5 { 3 } else { -1 };
        let fetch_version = version.max(1);
        let expected = Some((offset, epoch(fetch_version), "words".to_owned(), 0));
        assert_eq!(fetch(&mut client, fetch_version, &group, false).await, expected);
        if fetch_version >= 2 {
            assert_eq!(fetch(&mut client, fetch_version, &group, true).await, expected);
        }

        let describe =
            DescribeGroupsRequest { groups: vec![group.clone()], include_authorized_operations: version >= 3 };
        let described = client.ask(version.min(6), &describe).await.groups.remove(0);
        assert_eq!((described.group_state.as_str(), described.protocol_data.as_str()), ("Stable", "range"));
        assert_eq!(described.authorized_operations, if version >= 3 { 3400 } else { i32::MIN });
        let member = &described.members[0];
        assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("test", "/127.0.0.1"));
        assert_eq!(&member.member_assignment[..], joined.member_id.as_bytes());

        let delete = DeleteGroupsRequest { groups_names: vec![group.clone(), group.clone()] };
        let deleted = client.ask(version.min(2), &delete).await.results;
        assert_eq!((deleted.len(), deleted[0].error_code), (1, NON_EMPTY_GROUP));
        let leave = LeaveGroupRequest {
            group_id: group.clone(),
            member_id: joined.member_id.clone(),
            members: vec![MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() }],
        };
        assert_eq!(client.ask(version.min(5), &leave).await.error_code, 0);
        let again = client.ask(version.min(5), &leave).await;
        let code = if version >= 3 { again.members[0].error_code } else { again.error_code };
        assert_eq!(code, UNKNOWN_MEMBER_ID);

        let listed = client.ask(version.min(5), &ListGroupsRequest::default()).await.groups;
        assert_eq!((listed.len(), listed[0].protocol_type.as_str()), (1, "consumer"));
        assert_eq!(listed[0].group_state, if version >= 4 { "Empty" } else { "" });
        assert_eq!(listed[0].group_type, if version >= 5 { "classic" } else { "" });
        assert_eq!(client.ask(version.min(2), &delete).await.results[0].error_code, 0);
        assert_eq!(client.ask(version.min(2), &delete).await.results[0].error_code, GROUP_ID_NOT_FOUND);
        let none = fetch(&mut client, fetch_version, &group, false).await;
        assert_eq!(none, Some((-1, -1, String::new(), 0)));
        let described = client.ask(version.min(6), &describe).await.groups.remove(0);
        assert_eq!(described.group_state, "Dead");
        assert_eq!(described.error_code, if version >= 6 { GROUP_ID_NOT_FOUND } else { 0 });
    }
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn two_members_share_a_group_and_a_restart_does_not_disturb_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut core = self::core(&directory).await;
    let mut gateway = self::gateway(&core).await;
    let mut first = Client::connect(gateway.address()).await;
    let mut second = Client::connect(gateway.address()).await;
    create(&mut first, "t", 1, &[]).await;
    let leader = join(&mut first, 9, "g").await;
    first.ask(5, &sync_request("g", &leader, 5)).await;

    // The second one's join makes the first join again.
    let refused = second.ask(9, &join_request("g", "")).await;
    let waiting = second.send(9, &join_request("g", &refused.member_id)).await;
    while first.ask(4, &heartbeat("g", &leader)).await.error_code != REBALANCE_IN_PROGRESS {}
    let leader = first.ask(9, &join_request("g", &leader.member_id)).await;
    let follower: JoinGroupResponse = second.receive(9, waiting).await;
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(follower.leader, leader.member_id);
    let early = commit_request("g", Some(&follower), "t", 1);
    assert_eq!(second.ask(9, &early).await.topics[0].partitions[0].error_code, REBALANCE_IN_PROGRESS);
    let waiting = second.send(5, &sync_request("g", &follower, 5)).await;
    let synced = first.ask(5, &sync_request("g", &leader, 5)).await;
    assert_eq!(&synced.assignment[..], leader.member_id.as_bytes());
    let synced: codec_kafka::messages::SyncGroupResponse = second.receive(5, waiting).await;
    assert_eq!(&synced.assignment[..], follower.member_id.as_bytes());
    assert_eq!(
        second.ask(9, &commit_request("g", Some(&follower), "t", 7)).await.topics[0].partitions[0].error_code,
        0
    );

    // First the gateway alone, then the core too.
    for restart_core in [false, true] {
        gateway.stop().await;
        if restart_core {
            core.stop();
            drop(core);
            core = self::core(&directory).await;
        }
        gateway = self::gateway(&core).await;
        first = Client::connect(gateway.address()).await;
        for member in [&leader, &follower] {
            assert_eq!(first.ask(4, &heartbeat("g", member)).await.error_code, 0);
            let synced = first.ask(5, &sync_request("g", member, 5)).await;
            assert_eq!((synced.error_code, &synced.assignment[..]), (0, member.member_id.as_bytes()));
        }
        assert_eq!(fetch(&mut first, 9, "g", true).await, Some((7, 3, "words".into(), 0)));
        let stale = JoinGroupResponse { generation_id: 1, ..follower.clone() };
        let refused = first.ask(9, &commit_request("g", Some(&stale), "t", 1)).await;
        assert_eq!(refused.topics[0].partitions[0].error_code, ILLEGAL_GENERATION);
    }
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn a_static_member_takes_its_place_back() {
    let directory = tempfile::tempdir().unwrap();
    let core = core(&directory).await;
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    let request = JoinGroupRequest { group_instance_id: Some("one".into()), ..join_request("g", "") };
    let before = client.ask(9, &request).await;
    assert_eq!((before.error_code, before.members[0].group_instance_id.as_deref()), (0, Some("one")));
    assert!(before.member_id.starts_with("one-"));
    let sync = SyncGroupRequest { group_instance_id: Some("one".into()), ..sync_request("g", &before, 5) };
    assert_eq!(client.ask(5, &sync).await.error_code, 0);

    let after = client.ask(9, &request).await;
    assert_eq!((after.error_code, after.generation_id, after.skip_assignment), (0, 1, true));
    let sync = SyncGroupRequest { group_instance_id: Some("one".into()), ..sync_request("g", &after, 5) };
    // It keeps what its predecessor was assigned.
    assert_eq!(&client.ask(5, &sync).await.assignment[..], before.member_id.as_bytes());
    let old = HeartbeatRequest { group_instance_id: Some("one".into()), ..heartbeat("g", &before) };
    assert_eq!(client.ask(4, &old).await.error_code, FENCED_INSTANCE_ID);

    let by_operator = MemberIdentity { group_instance_id: Some("one".into()), ..Default::default() };
    let leave = LeaveGroupRequest { group_id: "g".into(), members: vec![by_operator], ..Default::default() };
    let left = client.ask(5, &leave).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(client.ask(4, &heartbeat("g", &after)).await.error_code, UNKNOWN_MEMBER_ID);
    gateway.stop().await;
    core.stop();
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let core = core(&directory).await;
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    create(&mut client, "u", 1, &[]).await;

    assert_eq!(client.ask(9, &join_request("", "")).await.error_code, INVALID_GROUP_ID);
    assert_eq!(client.ask(9, &join_request(&"g".repeat(3_000), "")).await.error_code, INVALID_GROUP_ID);
    let stranger = JoinGroupResponse { generation_id: 1, member_id: "stranger".into(), ..Default::default() };
    assert_eq!(client.ask(5, &sync_request("g", &stranger, 5)).await.error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(client.ask(5, &sync_request("g", &stranger, 4)).await.error_code, INCONSISTENT_GROUP_PROTOCOL);

    // Offsets: some partitions fail, others do not.
    let mut request = commit_request("simple", None, "t", 5);
    let partition = request.topics[0].partitions[0].clone();
    let partitions = &mut request.topics[0].partitions;
    partitions.push(OffsetCommitRequestPartition { partition_index: 1, ..partition.clone() });
    partitions.push(OffsetCommitRequestPartition { partition_index: -1, ..partition.clone() });
    let long = Some("é".repeat(4_097));
    partitions.push(OffsetCommitRequestPartition { committed_metadata: long, ..partition.clone() });
    partitions.push(OffsetCommitRequestPartition { committed_offset: -1, ..partition.clone() });
    let fits = Some("é".repeat(4_096));
    partitions.push(OffsetCommitRequestPartition {
        committed_offset: 6,
        committed_metadata: fits,
        ..partition.clone()
    });
    request.topics.push(OffsetCommitRequestTopic { name: "unknown".into(), partitions: vec![partition] });
    let committed = client.ask(9, &request).await;
    let codes: Vec<i16> = committed.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [0, unknown, unknown, OFFSET_METADATA_TOO_LARGE, 0, 0]);
    assert_eq!(committed.topics[1].partitions[0].error_code, unknown);
    assert_eq!(fetch(&mut client, 9, "simple", false).await.unwrap().0, 6);
    let timed = OffsetCommitRequest { retention_time_ms: 1_000, ..commit_request("simple", None, "t", 5) };
    assert_eq!(client.ask(4, &timed).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(fetch(&mut client, 9, "simple", false).await.unwrap().0, 5);
    for (version, code) in [(8, ILLEGAL_GENERATION), (9, GROUP_ID_NOT_FOUND)] {
        let refused = client.ask(version, &commit_request("none", Some(&stranger), "t", 1)).await;
        assert_eq!(refused.topics[0].partitions[0].error_code, code);
    }

    // Negative offsets, by which some clients mean the earliest or the latest.
    for offset in [-1, -2] {
        let committed = client.ask(8, &commit_request("simple", None, "t", offset)).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
        assert_eq!(fetch(&mut client, 9, "simple", false).await.unwrap().0, offset);
    }

    // A group that only has offsets is one: Empty, of no type.
    let listed = client.ask(5, &ListGroupsRequest::default()).await.groups;
    assert_eq!((listed[0].group_state.as_str(), listed[0].protocol_type.as_str()), ("Empty", ""));
    let filter = |states: &[&str], types: &[&str]| ListGroupsRequest {
        states_filter: states.iter().map(|state| state.to_string()).collect(),
        types_filter: types.iter().map(|state| state.to_string()).collect(),
    };
    for (request, count) in [
        (filter(&["empty"], &["Classic"]), 1),
        (filter(&["Stable"], &[]), 0),
        (filter(&[], &["consumer"]), 0),
        (filter(&["Stable", " Empty "], &["nonsense", "classic"]), 1),
    ] {
        assert_eq!(client.ask(5, &request).await.groups.len(), count, "{request:?}");
    }

    // Offsets of a topic being read stay.
    let joined = join(&mut client, 9, "g").await;
    client.ask(5, &sync_request("g", &joined, 5)).await;
    for topic in ["t", "u"] {
        client.ask(9, &commit_request("g", Some(&joined), topic, 1)).await;
    }
    let topic = |name: &str, indexes: &[i32]| OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: indexes.iter().map(|index| OffsetDeleteRequestPartition { partition_index: *index }).collect(),
    };
    let topics = vec![topic("t", &[0]), topic("u", &[0, 9]), topic("unknown", &[0])];
    let delete = OffsetDeleteRequest { group_id: "g".into(), topics };
    let deleted = client.ask(0, &delete).await;
    let codes: Vec<Vec<i16>> = (deleted.topics.iter())
        .map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect())
        .collect();
    assert_eq!(
        (deleted.error_code, codes),
        (0, vec![vec![GROUP_SUBSCRIBED_TO_TOPIC], vec![0, unknown], vec![unknown]])
    );
    let delete = OffsetDeleteRequest { group_id: "none".into(), ..delete };
    assert_eq!(client.ask(0, &delete).await.error_code, GROUP_ID_NOT_FOUND);
    gateway.stop().await;
    core.stop();
}

/// Waits until a topic's partition has records, and returns all of their keys and values.
async fn records_of(client: &mut Client, topic: &str, partition: i32, count: usize) -> Vec<(Bytes, Option<Bytes>)> {
    let reading = async {
        loop {
            let mut request = crate::support::fetch_request(topic, 0);
            request.topics[0].partitions[0].partition = partition;
            let mut response = client.ask(12, &request).await;
            let records = response.responses.remove(0).partitions.remove(0).records.unwrap().to_bytes();
            let mut found = Vec::new();
            let mut rest = records;
            while !rest.is_empty() {
                let header = codec_record::kafka_batch::BatchHeader::parse(&rest).unwrap();
                let batch = rest.split_to(header.batch_bytes());
                for record in codec_record::kafka_batch::records(&batch, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    found.push((record.key.unwrap(), record.value));
                }
            }
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), reading).await.expect("the records come")
}

#[tokio::test]
async fn what_groups_commit_is_readable_as_in_kafka() {
    const INVALID_TOPIC_EXCEPTION: i16 = 17;
    let directory = tempfile::tempdir().unwrap();
    let core = core(&directory).await;
    let gateway = gateway(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let topics = async |client: &mut Client| {
        let request = codec_kafka::messages::MetadataRequest { topics: None, ..Default::default() };
        client.ask(9, &request).await.topics
    };
    assert_eq!(topics(&mut client).await.len(), 1, "made when it is needed, not before");
    let partition = OffsetCommitRequestPartition {
        committed_offset: 7,
        committed_leader_epoch: -1,
        committed_metadata: Some("m".into()),
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "hello".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] }],
        ..Default::default()
    };
    assert_eq!(client.ask(8, &commit).await.topics[0].partitions[0].error_code, 0);
    // "hello".hashCode() is 99162322.
    let index = 99_162_322 % 50;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while topics(&mut client).await.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let listed = topics(&mut client).await;
    let internal = listed.iter().find(|topic| topic.is_internal).unwrap();
    assert_eq!((internal.name.as_deref(), internal.partitions.len()), (Some("__consumer_offsets"), 50));
    let records = records_of(&mut client, "__consumer_offsets", index, 1).await;
    assert_eq!(records[0].0, &b"\x00\x01\x00\x05hello\x00\x01t\x00\x00\x00\x00"[..]);
    let value = records[0].1.as_ref().unwrap();
    assert_eq!(value[..17], b"\x00\x03\0\0\0\0\0\0\0\x07\xff\xff\xff\xff\x00\x01m"[..]);
    // A member, then the group's end.
    let joined = {
        let first = client.ask(9, &join_request("hello", "")).await;
        client.ask(9, &join_request("hello", &first.member_id)).await
    };
    assert_eq!(client.ask(5, &sync_request("hello", &joined, 5)).await.error_code, 0);
    let records = records_of(&mut client, "__consumer_offsets", index, 2).await;
    assert_eq!(records[1].0, &b"\x00\x02\x00\x05hello"[..]);
    let leave = LeaveGroupRequest {
        group_id: "hello".into(),
        members: vec![MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(client.ask(5, &leave).await.error_code, 0);
    let delete = DeleteGroupsRequest { groups_names: vec!["hello".into()] };
    assert_eq!(client.ask(2, &delete).await.results[0].error_code, 0);
    // The empty group, then the tombstones of offset and group.
    let records = records_of(&mut client, "__consumer_offsets", index, 5).await;
    let tombstones = records.iter().filter(|(_, value)| value.is_none()).count();
    assert!(tombstones >= 2, "{records:?}");
    // Nobody else writes there.
    let mut produce = crate::support::produce_request("__consumer_offsets", index, crate::support::batch(&["x"]));
    produce.acks = 1;
    let response = client.ask(12, &produce).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, INVALID_TOPIC_EXCEPTION);
    gateway.stop().await;
}
