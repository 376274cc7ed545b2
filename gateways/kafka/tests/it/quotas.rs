//! Quotas through a real socket: set, described, obeyed; and what a cluster without replicas answers to their movers.

use crate::support::client::Client;
use crate::support::*;
use codec_kafka::messages::alter_client_quotas::{AlterClientQuotasRequest, EntityData, OpData, RequestEntryData};
use codec_kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use codec_kafka::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use codec_kafka::messages::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use codec_kafka::messages::describe_quorum::{DescribeQuorumRequest, PartitionRequest, TopicRequest};
use codec_kafka::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use codec_kafka::messages::{ListConfigResourcesRequest, UnregisterBrokerRequest};
use tokio::time::{Duration, Instant};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
const BROKER_ID_NOT_REGISTERED: i16 = 102;

/// Sets one quota (removes it with None); returns the error.
async fn alter(client: &mut Client, entity: &[(&str, Option<&str>)], key: &str, value: Option<f64>) -> i16 {
    let part = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: kind.to_string(),
        entity_name: name.map(str::to_owned),
    };
    let entry = RequestEntryData {
        entity: entity.iter().map(part).collect(),
        ops: vec![OpData { key: key.into(), value: value.unwrap_or_default(), remove: value.is_none() }],
    };
    let request = AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
    client.ask(1, &request).await.entries[0].error_code
}

/// Entities and limits that match a filter, in a short form.
async fn described(client: &mut Client, filter: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: kind.to_string(),
        match_type: *match_type,
        r#match: name.map(str::to_owned),
    };
    let request = DescribeClientQuotasRequest { components: filter.iter().map(component).collect(), strict };
    let response = client.ask(1, &request).await;
    assert_eq!(response.error_code, 0);
    let entries = response.entries.unwrap().into_iter();
    let mut entries: Vec<String> = entries
        .map(|entry| {
            let part = |part: EntityPart| format!("{}={}", part.entity_type, part.entity_name.unwrap_or("*".into()));
            let entity: Vec<String> = entry.entity.into_iter().map(part).collect();
            let values: Vec<String> =
                entry.values.iter().map(|value| format!("{}:{}", value.key, value.value)).collect();
            format!("{} {}", entity.join(","), values.join(","))
        })
        .collect();
    entries.sort();
    entries
}

type EntityPart = codec_kafka::messages::describe_client_quotas::EntityData;

#[tokio::test]
async fn quotas_are_set_and_described() {
    let (gateway, mut client) = gateway().await;
    let (user, default) = (("user", Some("alice")), ("client-id", None));
    assert_eq!(alter(&mut client, &[user], "producer_byte_rate", Some(1024.0)).await, 0);
    assert_eq!(alter(&mut client, &[user], "consumer_byte_rate", Some(2048.0)).await, 0);
    assert_eq!(alter(&mut client, &[user, default], "controller_mutation_rate", Some(0.5)).await, 0);
    assert_eq!(alter(&mut client, &[("ip", Some("10.0.0.1"))], "connection_creation_rate", Some(9.0)).await, 0);
    let of_user = "user=alice consumer_byte_rate:2048,producer_byte_rate:1024";
    let of_both = "user=alice,client-id=* controller_mutation_rate:0.5";
    assert_eq!(described(&mut client, &[("user", 0, Some("alice"))], false).await, [of_user, of_both]);
    assert_eq!(described(&mut client, &[("user", 0, Some("alice"))], true).await, [of_user]);
    assert_eq!(described(&mut client, &[("client-id", 1, None)], false).await, [of_both]);
    assert_eq!(described(&mut client, &[("ip", 2, None)], false).await, ["ip=10.0.0.1 connection_creation_rate:9"]);
    assert_eq!(described(&mut client, &[], false).await.len(), 3);

    for (entity, key, value) in [
        (vec![user], "request_percentage", Some(0.0)),
        (vec![user], "producer_byte_rate", Some(-1.0)),
        (vec![user], "connection_creation_rate", Some(1.0)),
        (vec![user, ("ip", None)], "producer_byte_rate", Some(1.0)),
        (vec![("host", None)], "producer_byte_rate", Some(1.0)),
        (vec![], "producer_byte_rate", Some(1.0)),
    ] {
        assert_eq!(alter(&mut client, &entity, key, value).await, INVALID_REQUEST, "{entity:?} {key}");
    }
    assert_eq!(alter(&mut client, &[user], "producer_byte_rate", None).await, 0);
    assert_eq!(alter(&mut client, &[user], "consumer_byte_rate", None).await, 0);
    // Deletions come back with the watch, a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    while described(&mut client, &[("user", 0, Some("alice"))], true).await != [] as [&str; 0] {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    gateway.stop().await;
}

/// The table that is obeyed follows the mirror a moment later; the first tries may go free.
async fn until_throttled(client: &mut Client, mut ask: impl AsyncFnMut(&mut Client) -> i32) -> i32 {
    for _ in 0..200 {
        let throttle_time_ms = ask(client).await;
        if throttle_time_ms > 0 {
            return throttle_time_ms;
        }
    }
    panic!("never throttled");
}

#[tokio::test]
async fn who_uses_too_much_is_not_listened_to() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let large = "x".repeat(10_000);
    let id = ("client-id", Some("test"));
    for key in ["producer_byte_rate", "consumer_byte_rate"] {
        // 20,000 may be used at once; after that 10,000 take five seconds.
        assert_eq!(alter(&mut client, &[id], key, Some(2_000.0)).await, 0);
    }
    let records = batch(&[&large]);
    let produce = async |client: &mut Client| {
        let request = produce_request("t", 0, records.clone());
        let response = client.ask(12, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        response.throttle_time_ms
    };
    let began = Instant::now();
    let throttle_time_ms = until_throttled(&mut client, produce).await;
    assert!((100..=5_500).contains(&throttle_time_ms), "{throttle_time_ms}");
    // What is asked next is answered after that time. Another connection is not silenced.
    let mut other = Client::connect(gateway.address()).await;
    let silent = Instant::now();
    assert_eq!(described(&mut other, &[("ip", 2, None)], false).await.len(), 0);
    assert!(silent.elapsed() < Duration::from_millis(u64::try_from(throttle_time_ms).unwrap()));
    let fetched = client.ask(12, &fetch_request("t", 0)).await;
    assert!(silent.elapsed() + Duration::from_millis(50) >= Duration::from_millis(throttle_time_ms as u64));
    // An answer is not larger than what may be used at once.
    assert!(fetched.responses[0].partitions[0].records.as_ref().unwrap().len() <= 21_000);
    assert!(began.elapsed() < Duration::from_secs(20));
    gateway.stop().await;
}

#[tokio::test]
async fn who_takes_too_much_time_is_not_listened_to() {
    let (gateway, mut client) = gateway().await;
    // A hundred thousandth of a thread; ten times as much at once.
    assert_eq!(alter(&mut client, &[("user", None)], "request_percentage", Some(0.001)).await, 0);
    let ask = async |client: &mut Client| {
        let resources = ListConfigResourcesRequest::default();
        client.ask(1, &resources).await.throttle_time_ms
    };
    let throttle_time_ms = until_throttled(&mut client, ask).await;
    let silent = Instant::now();
    assert!(throttle_time_ms <= 1_000, "a second at most: {throttle_time_ms}");
    ask(&mut client).await;
    assert!(silent.elapsed() + Duration::from_millis(50) >= Duration::from_millis(throttle_time_ms as u64));
    gateway.stop().await;
}

#[tokio::test]
async fn changes_are_limited() {
    let (gateway, mut client) = gateway().await;
    assert_eq!(alter(&mut client, &[("user", None)], "controller_mutation_rate", Some(0.5)).await, 0);
    // Five at once; more than that is a debt, with which nothing more is done.
    let mut codes = Vec::new();
    for index in 0..20 {
        let topic = CreatableTopic {
            name: format!("t{index}"),
            num_partitions: 3,
            replication_factor: -1,
            ..Default::default()
        };
        let mut other = Client::connect(gateway.address()).await;
        let response = other.ask(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
        codes.push(response.topics[0].error_code);
        assert_eq!(response.topics[0].error_code == THROTTLING_QUOTA_EXCEEDED, response.throttle_time_ms > 0);
    }
    assert_eq!(codes[0], 0);
    assert_eq!(codes.last(), Some(&THROTTLING_QUOTA_EXCEEDED));
    gateway.stop().await;
}

#[tokio::test]
async fn connections_of_an_address_wait() {
    let (gateway, mut client) = gateway().await;
    assert_eq!(alter(&mut client, &[("ip", None)], "connection_creation_rate", Some(2.0)).await, 0);
    let began = Instant::now();
    let mut connections = 0;
    // Twenty are free; half a second more for each of those after them.
    while began.elapsed() < Duration::from_millis(300) {
        let mut other = Client::connect(gateway.address()).await;
        described(&mut other, &[], false).await;
        connections += 1;
        assert!(connections < 1_000, "nobody waits");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_cluster_without_replicas_is_healthy() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 2, &[]).await;
    for version in 0..=2 {
        let topics = |partitions| Some(vec![TopicPartitions { topic: "t".into(), partitions }]);
        let elect = ElectLeadersRequest { topic_partitions: topics(vec![1, 2]), ..Default::default() };
        let response = client.ask(version, &elect).await;
        let codes: Vec<i16> =
            response.replica_election_results[0].partition_result.iter().map(|result| result.error_code).collect();
        assert_eq!((response.error_code, codes), (0, vec![ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION]));
        let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
        assert_eq!(client.ask(version, &all).await.replica_election_results, []);
    }
    for (replicas, expected) in [
        (Some(vec![1]), 0),
        (Some(vec![2]), INVALID_REPLICA_ASSIGNMENT),
        (Some(vec![1, 1]), INVALID_REPLICA_ASSIGNMENT),
        (None, NO_REASSIGNMENT_IN_PROGRESS),
    ] {
        let partitions = vec![ReassignablePartition { partition_index: 0, replicas }];
        let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        assert_eq!(client.ask(1, &request).await.responses[0].partitions[0].error_code, expected);
    }
    for version in 0..=2 {
        let partitions = vec![PartitionRequest { partition_index: 0 }];
        let topics = vec![TopicRequest { topic_name: "__cluster_metadata".into(), partitions }];
        let response = client.ask(version, &DescribeQuorumRequest { topics }).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id, partition.current_voters.len()), (0, 1, 1));
    }
    let unregister =
        async |client: &mut Client, broker_id| client.ask(0, &UnregisterBrokerRequest { broker_id }).await.error_code;
    assert_eq!(unregister(&mut client, 1).await, INVALID_REQUEST);
    assert_eq!(unregister(&mut client, 9).await, BROKER_ID_NOT_REGISTERED);
    let resources = client.ask(1, &ListConfigResourcesRequest::default()).await.config_resources;
    let mut resources: Vec<_> = resources.iter().map(|it| (it.resource_type, it.resource_name.as_str())).collect();
    resources.sort_unstable();
    assert_eq!(resources, [(2, "t"), (4, "1"), (8, "1")]);
    assert_eq!(client.ask(0, &ListConfigResourcesRequest::default()).await.config_resources, []);
    gateway.stop().await;
}
