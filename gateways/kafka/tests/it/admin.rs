//! Admin requests through a real socket, in every version that is advertised.

use crate::support::*;
use codec_kafka::Uuid;
use codec_kafka::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use codec_kafka::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use codec_kafka::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use codec_kafka::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use codec_kafka::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use codec_kafka::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use codec_kafka::messages::describe_topic_partitions::{Cursor, DescribeTopicPartitionsRequest};
use codec_kafka::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use codec_kafka::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use codec_kafka::messages::{
    AlterConfigsRequest, ApiVersionsRequest, DescribeClusterRequest, DescribeLogDirsRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, SaslHandshakeRequest, alter_configs, incremental_alter_configs,
};

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 1, ..Default::default() }
}

#[tokio::test]
async fn topics_are_created_grown_and_deleted_in_every_version() {
    let (gateway, mut client) = gateway().await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let created =
            client.ask(version, &CreateTopicsRequest { topics: vec![topic(&name)], ..Default::default() }).await;
        assert_eq!(created.topics[0].error_code, 0);
        let configs = created.topics[0].configs.as_ref();
        assert!(version < 5 || configs.is_some_and(|configs| configs.len() > 30));
    }
    for version in 0..=3 {
        let grown = CreatePartitionsTopic { name: "t2".into(), count: 2 + i32::from(version), assignments: None };
        let mut request = CreatePartitionsRequest { topics: vec![grown], ..Default::default() };
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 0);
        // Not an increase.
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 37);
        request.topics[0].name = "unknown".into();
        assert_eq!(client.ask(version, &request).await.results[0].error_code, 3);
    }
    for version in 1..=5 {
        let request = DeleteTopicsRequest { topic_names: vec![format!("t{}", version + 1)], ..Default::default() };
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 3);
    }
    let unknown = DeleteTopicState { name: None, topic_id: Uuid([9; 16]) };
    let both = DeleteTopicState { name: Some("t7".into()), topic_id: Uuid([9; 16]) };
    let known = DeleteTopicState { name: Some("t7".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![unknown, both, known], ..Default::default() };
    let codes: Vec<_> = client.ask(6, &request).await.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [100, 42, 0]);
    gateway.stop().await;
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "a.b", 1, &[]).await;
    let config = |name: &str, value: Option<&str>| {
        let config = CreatableTopicConfig { name: name.into(), value: value.map(str::to_owned) };
        CreatableTopic { configs: vec![config], ..topic("x") }
    };
    let assigned = |brokers: Vec<i32>| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: brokers }],
        ..topic("x")
    };
    let cases = [
        (topic("a b"), 17),
        (topic("a_b"), 17),
        (topic("a.b"), 36),
        (CreatableTopic { num_partitions: 0, ..topic("x") }, 37),
        (CreatableTopic { replication_factor: 3, ..topic("x") }, 38),
        (CreatableTopic { replication_factor: 0, ..topic("x") }, 38),
        (assigned(vec![2]), 39),
        (assigned(vec![]), 39),
        (CreatableTopic { replication_factor: 1, ..assigned(vec![1]) }, 42),
        (config("no.such", Some("1")), 40),
        (config("retention.ms", Some("soon")), 40),
        (config("retention.ms", None), 40),
        (config("cleanup.policy", Some("shred")), 40),
    ];
    for (index, (topic, code)) in cases.into_iter().enumerate() {
        let response = client.ask(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await;
        let result = &response.topics[0];
        assert_eq!((result.error_code, result.error_message.is_some()), (code, true), "case {index}");
    }
    let twice = CreateTopicsRequest { topics: vec![topic("x"), topic("x")], ..Default::default() };
    assert!(client.ask(7, &twice).await.topics.iter().all(|result| result.error_code == 42));
    let only_checked =
        CreateTopicsRequest { topics: vec![assigned(vec![1])], validate_only: true, ..Default::default() };
    assert_eq!(client.ask(7, &only_checked).await.topics[0].error_code, 0);
    let wanted = CreateTopicsRequest { topics: vec![assigned(vec![1])], ..Default::default() };
    assert_eq!(client.ask(7, &wanted).await.topics[0].error_code, 0, "checking created nothing");
    gateway.stop().await;
}

async fn described(client: &mut client::Client, resource_type: i8, name: &str, key: &str) -> (i16, Option<String>, i8) {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let result = client.ask(4, &request).await.results.remove(0);
    match result.configs.into_iter().next() {
        Some(config) => (result.error_code, config.value, config.config_source),
        None => (result.error_code, None, 0),
    }
}

#[tokio::test]
async fn configurations_are_altered_and_described() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let incremental = |kind: i8, name: &str, key: &str, operation: i8, value: Option<&str>| {
        let config = incremental_alter_configs::AlterableConfig {
            name: key.into(),
            config_operation: operation,
            value: value.map(str::to_owned),
        };
        let resource = incremental_alter_configs::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: vec![config],
        };
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
    };
    for version in 0..=1 {
        let value = format!("{}", 1000 + version);
        let request = incremental(2, "t", "retention.ms", 0, Some(&value));
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
        assert_eq!(described(&mut client, 2, "t", "retention.ms").await, (0, Some(value), 1));
    }
    assert_eq!(client.ask(1, &incremental(2, "t", "retention.ms", 1, None)).await.responses[0].error_code, 0);
    assert_eq!(described(&mut client, 2, "t", "retention.ms").await, (0, Some("604800000".into()), 5));
    let cases = [
        (incremental(2, "t", "retention.ms", 0, None), 42),
        (incremental(2, "t", "retention.ms", 9, Some("1")), 42),
        (incremental(2, "t", "retention.ms", 2, Some("1")), 40),
        (incremental(2, "t", "no.such", 0, Some("1")), 40),
        (incremental(2, "u", "retention.ms", 0, Some("1")), 3),
        (incremental(4, "1", "num.partitions", 0, Some("1")), 42),
        (incremental(77, "t", "retention.ms", 0, Some("1")), 42),
    ];
    for (index, (request, code)) in cases.into_iter().enumerate() {
        assert_eq!(client.ask(1, &request).await.responses[0].error_code, code, "case {index}");
    }
    for version in 0..=2 {
        let value = format!("{}", 2000 + version);
        let config = alter_configs::AlterableConfig { name: "max.message.bytes".into(), value: Some(value.clone()) };
        let resource =
            alter_configs::AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let mut request = AlterConfigsRequest { resources: vec![resource], ..Default::default() };
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
        request.validate_only = true;
        request.resources[0].configs[0].value = Some("1".into());
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
        assert_eq!(described(&mut client, 2, "t", "max.message.bytes").await, (0, Some(value), 1));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn everything_that_can_be_described_is() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(described(&mut client, 4, "1", "node.id").await, (0, Some("1".into()), 4));
    assert_eq!(described(&mut client, 4, "", "node.id").await, (0, None, 0));
    assert_eq!(described(&mut client, 4, "2", "node.id").await.0, 42);
    assert_eq!(described(&mut client, 8, "1", "root").await.0, 0);
    assert_eq!(described(&mut client, 16, "", "x").await.0, 42);
    assert_eq!(described(&mut client, 16, "m", "interval.ms").await, (0, Some("300000".into()), 5));
    assert_eq!(described(&mut client, 2, "u", "x").await.0, 3);
    assert_eq!(described(&mut client, 2, "a b", "x").await.0, 17);
    for version in 1..=4 {
        let resource = DescribeConfigsResource { resource_type: 2, resource_name: "t".into(), ..Default::default() };
        let request =
            DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
        let result = client.ask(version, &request).await.results.remove(0);
        assert_eq!((result.error_code, result.configs.len()), (0, kafka_gateway::configs::TOPIC_CONFIGS.len()));
        let retention = result.configs.iter().find(|config| config.name == "retention.ms").unwrap();
        assert_eq!(retention.synonyms[0].name, "log.retention.ms");
        assert_eq!(retention.documentation.is_some(), version >= 3);
    }
    for version in 0..=2 {
        let response = client.ask(version, &DescribeClusterRequest::default()).await;
        assert_eq!((response.brokers.len(), response.controller_id, response.cluster_id.len()), (1, 1, 22));
    }
    produce(&mut client, "t", batch(&["x"])).await;
    for version in 1..=4 {
        let response = client.ask(version, &DescribeLogDirsRequest { topics: None }).await;
        assert!(response.results[0].topics[0].partitions[0].partition_size > 60);
    }
    for version in 0..=1 {
        let request = SaslHandshakeRequest { mechanism: "PLAIN".into() };
        assert_eq!(client.ask(version, &request).await.error_code, 34);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn replicas_stay_where_they_are() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 2, &[]).await;
    let dirs = client.ask(4, &DescribeLogDirsRequest { topics: None }).await;
    let path = dirs.results[0].log_dir.clone();
    for version in 1..=2 {
        for (path, expected) in [(path.as_str(), [0, 0, 3]), ("/elsewhere", [57, 57, 3])] {
            let topics = vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![0, 1, 2] }];
            let request = AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path: path.into(), topics }] };
            let response = client.ask(version, &request).await;
            assert_eq!(response.results[0].topic_name, "t");
            let codes = response.results[0].partitions.iter().map(|partition| partition.error_code);
            assert!(codes.eq(expected), "{path} {response:?}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn features_have_the_levels_of_this_build() {
    let (gateway, mut client) = gateway().await;
    let versions = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let finalized = client.ask(3, &versions).await.finalized_features;
    assert!(!finalized.is_empty());
    for version in 0..=2 {
        let mut ask = async |features: &[(&str, i16)], upgrade_type: i8| {
            let update = |&(feature, level): &(&str, i16)| FeatureUpdateKey {
                feature: feature.into(),
                max_version_level: level,
                upgrade_type,
                ..Default::default()
            };
            let feature_updates = features.iter().map(update).collect();
            let response = client.ask(version, &UpdateFeaturesRequest { feature_updates, ..Default::default() }).await;
            let results: Vec<(String, i16)> =
                response.results.into_iter().map(|result| (result.feature, result.error_code)).collect();
            (response.error_code, results)
        };
        const UPGRADE: i8 = 1;
        for feature in &finalized {
            let (name, level) = (feature.name.as_str(), feature.max_version_level);
            let expected = if version < 2 { vec![(name.to_owned(), 0)] } else { Vec::new() };
            assert_eq!(ask(&[(name, level)], UPGRADE).await, (0, expected), "version {version} {feature:?}");
            let refused = (95, Vec::new());
            assert_eq!(ask(&[(name, level + 1)], UPGRADE).await, refused, "version {version} {feature:?}");
            // All or none, and the results of those that could have been say nothing.
            assert_eq!(ask(&[(name, level), ("no.such", 1)], UPGRADE).await, refused, "version {version}");
            if version > 0 {
                assert_eq!(ask(&[(name, level)], 7).await, refused, "version {version}");
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let (gateway, mut client) = gateway().await;
    for (name, partitions) in [("a", 3), ("b", 2), ("c", 1)] {
        create(&mut client, name, partitions, &[]).await;
    }
    let mut seen = Vec::new();
    let mut request = DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    loop {
        let response = client.ask(0, &request).await;
        for topic in &response.topics {
            let name = topic.name.clone().unwrap();
            seen.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
        }
        match response.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_string(), index)));
    request.cursor = Some(Cursor { topic_name: "a".into(), partition_index: -1 });
    assert!(client.ask(0, &request).await.topics.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn records_are_deleted_before_an_offset() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", batch(&["a", "b", "c"])).await;
    for version in 0..=2 {
        let mut ask = async |offset: i64| {
            let partition = DeleteRecordsPartition { partition_index: 0, offset };
            let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] }];
            let response = client.ask(version, &DeleteRecordsRequest { topics, ..Default::default() }).await;
            let result = &response.topics[0].partitions[0];
            (result.error_code, result.low_watermark)
        };
        assert_eq!(ask(i64::from(version)).await, (0, i64::from(version)));
        assert_eq!(ask(4).await, (1, -1));
        assert_eq!(ask(-2).await, (1, -1));
    }
    let partition = DeleteRecordsPartition { partition_index: 0, offset: -1 };
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] }];
    let response = client.ask(2, &DeleteRecordsRequest { topics, ..Default::default() }).await;
    assert_eq!(response.topics[0].partitions[0].low_watermark, 3);
    assert_eq!(fetch(&mut client, "t", 0).await.error_code, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn coordinators_and_epochs_are_found() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", batch(&["a"])).await;
    for version in 0..=6 {
        let mut ask = async |key_type: i8| {
            let request = FindCoordinatorRequest { key: "g".into(), key_type, coordinator_keys: vec!["g".into()] };
            let response = client.ask(version, &request).await;
            match response.coordinators.first() {
                Some(found) => (found.error_code, found.node_id),
                None => (response.error_code, response.node_id),
            }
        };
        assert_eq!(ask(0).await, (0, 1));
        if version >= 1 {
            assert_eq!(ask(1).await, (0, 1));
            assert_eq!(ask(2).await, (42, -1));
        }
    }
    for version in 2..=4 {
        for (leader_epoch, expected) in [(0, (0, 0, 1)), (1, (0, -1, -1))] {
            let partition = OffsetForLeaderPartition { leader_epoch, ..Default::default() };
            let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] }];
            let response = client.ask(version, &OffsetForLeaderEpochRequest { topics, ..Default::default() }).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!((found.error_code, found.leader_epoch, found.end_offset), expected);
        }
    }
    gateway.stop().await;
}
