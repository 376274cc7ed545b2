//! Transactions through real sockets: what producers, consumers and tools see of them.

use std::sync::Arc;

use crate::support::client::Client;
use crate::support::memory_core::{MemoryCore, PutFate};
use crate::support::{create, fetch_request, produce_request, record};
use bytes::Bytes;
use codec_kafka::messages::add_partitions_to_txn::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use codec_kafka::messages::describe_producers::TopicRequest;
use codec_kafka::messages::fetch::PartitionData;
use codec_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponsePartitions,
};
use codec_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use codec_kafka::messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};
use codec_kafka::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ProduceRequest,
};
use codec_record::kafka_batch::{BatchEncoder, BatchHeader, records};
use core_rpc::{Core, Outcome};
use kafka_gateway::state::internal_topics::Journal;
use kafka_gateway::state::transactions::{Addition, ProducerEpoch, TransactionError, TransactionState, Transactions};
use kafka_gateway::state::{ProducerIds, TransactionConfig};
use kafka_gateway::{Config, Handle, start};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

const INVALID_REQUEST: i16 = 42;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const TRANSACTION_ABORTABLE: i16 = 120;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// The version of each request that a client uses: of KIP-890, or one that announces.
#[derive(Clone, Copy)]
struct Versions {
    produce: i16,
    end: i16,
    offsets: i16,
}

const NEW: Versions = Versions { produce: 12, end: 5, offsets: 5 };
const OLD: Versions = Versions { produce: 10, end: 3, offsets: 3 };

struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
    sequence: i32,
    versions: Versions,
}

async fn init(client: &mut Client, timeout_ms: i32) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
    };
    client.ask(4, &request).await
}

impl Producer {
    async fn new(gateway: &Handle, versions: Versions) -> Producer {
        Producer::with_timeout(gateway, versions, 60_000).await
    }

    async fn with_timeout(gateway: &Handle, versions: Versions, timeout_ms: i32) -> Producer {
        let mut client = Client::connect(gateway.address()).await;
        let response = init(&mut client, timeout_ms).await;
        assert_eq!(response.error_code, 0);
        Producer { client, id: response.producer_id, epoch: response.producer_epoch, sequence: 0, versions }
    }

    fn request(&self, topic: &str, value: &str) -> ProduceRequest {
        let encoder = BatchEncoder {
            transactional: true,
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: self.sequence,
            ..Default::default()
        };
        let batch = encoder.encode(&[record(value)]);
        ProduceRequest { transactional_id: Some("tx".into()), ..produce_request(topic, 0, batch) }
    }

    async fn send(&mut self, topic: &str, value: &str) -> i16 {
        let request = self.request(topic, value);
        let response = self.client.ask(self.versions.produce, &request).await;
        self.sequence += 1;
        response.responses[0].partition_responses[0].error_code
    }

    async fn announce(&mut self, topic: &str) -> i16 {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "tx".into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: vec![0] }],
            ..Default::default()
        };
        let response = self.client.ask(3, &request).await;
        response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    async fn announce_offsets(&mut self, group: &str) -> i16 {
        let request = AddOffsetsToTxnRequest {
            transactional_id: "tx".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            group_id: group.into(),
        };
        self.client.ask(3, &request).await.error_code
    }

    async fn commit_offset(&mut self, group: &str, topic: &str, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: "tx".into(),
            group_id: group.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] }],
            ..Default::default()
        };
        self.client.ask(self.versions.offsets, &request).await.topics[0].partitions[0].error_code
    }

    async fn ask_end(&mut self, committed: bool) -> EndTxnResponse {
        let request = EndTxnRequest {
            transactional_id: "tx".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        self.client.ask(self.versions.end, &request).await
    }

    async fn end(&mut self, committed: bool) -> i16 {
        let response = self.ask_end(committed).await;
        if response.error_code == 0 && self.versions.end >= 5 {
            (self.id, self.epoch, self.sequence) = (response.producer_id, response.producer_epoch, 0);
        }
        response.error_code
    }
}

async fn fetch(client: &mut Client, topic: &str, isolation_level: i8) -> PartitionData {
    let request = codec_kafka::messages::FetchRequest { isolation_level, ..fetch_request(topic, 0) };
    client.ask(12, &request).await.responses.remove(0).partitions.remove(0)
}

/// The values of the data in what was fetched; and what each control batch says: (offset, epoch, whether it is a commit).
fn contents(data: &PartitionData) -> (Vec<String>, Vec<(i64, i16, bool)>) {
    let (mut values, mut markers) = (Vec::new(), Vec::new());
    let mut rest: Bytes = data.records.as_ref().unwrap().to_bytes();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).unwrap();
        header.check_crc(&rest).unwrap();
        let batch = rest.split_to(header.batch_bytes());
        for record in records(&batch, 1 << 20).unwrap() {
            let record = record.unwrap();
            if header.attributes.is_control() {
                assert!(header.attributes.is_transactional());
                assert_eq!(record.value.unwrap(), &[0, 0, 0, 0, 0, 0][..]);
                let key = record.key.unwrap();
                assert_eq!(&key[..3], [0, 0, 0]);
                markers.push((header.base_offset, header.producer_epoch, key[3] == 1));
            } else {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
    (values, markers)
}

async fn offset_of(client: &mut Client, require_stable: bool) -> OffsetFetchResponsePartitions {
    let topics = vec![OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0] }];
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(topics), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
    client.ask(8, &request).await.groups.remove(0).topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn what_is_committed_is_seen_at_once_and_what_is_aborted_never() {
    for versions in [NEW, OLD] {
        let (gateway, mut client) = crate::support::gateway().await;
        create(&mut client, "t", 1, &[]).await;
        let mut producer = Producer::new(&gateway, versions).await;
        let is_old = versions.produce < 12;
        if is_old {
            assert_eq!(producer.send("t", "unannounced").await, INVALID_TXN_STATE);
            producer.sequence = 0;
            assert_eq!(producer.announce("t").await, 0);
        }
        assert_eq!(producer.send("t", "a").await, 0);
        assert_eq!(producer.send("t", "b").await, 0);
        let seen = fetch(&mut client, "t", 1).await;
        assert_eq!((seen.last_stable_offset, seen.high_watermark, contents(&seen).0.len()), (0, 2, 0));
        assert_eq!(contents(&fetch(&mut client, "t", 0).await).0, ["a", "b"]);
        assert_eq!(producer.end(true).await, 0);
        let seen = fetch(&mut client, "t", 1).await;
        assert_eq!((seen.last_stable_offset, seen.high_watermark), (3, 3));
        assert_eq!(contents(&seen).0, ["a", "b"]);
        assert_eq!(contents(&seen).1, [(2, if is_old { 0 } else { 1 }, true)]);
        assert_eq!(seen.aborted_transactions, Some(vec![]));

        if is_old {
            assert_eq!(producer.announce("t").await, 0);
        }
        assert_eq!(producer.send("t", "c").await, 0);
        assert_eq!(producer.end(false).await, 0);
        let seen = fetch(&mut client, "t", 1).await;
        let aborted = seen.aborted_transactions.as_ref().unwrap();
        assert_eq!((aborted.len(), aborted[0].producer_id, aborted[0].first_offset), (1, producer.id, 3));
        assert_eq!(contents(&seen).1[1], (4, if is_old { 0 } else { 2 }, false));
        assert_eq!(fetch(&mut client, "t", 0).await.aborted_transactions, None);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn offsets_are_part_of_a_transaction() {
    for versions in [NEW, OLD] {
        let (gateway, mut client) = crate::support::gateway().await;
        create(&mut client, "t", 1, &[]).await;
        let mut producer = Producer::new(&gateway, versions).await;
        let is_old = versions.produce < 12;
        if is_old {
            assert_eq!(producer.commit_offset("g", "t", 5).await, INVALID_TXN_STATE);
            assert_eq!(producer.announce_offsets("g").await, 0);
        }
        assert_eq!(producer.commit_offset("g", "t", 5).await, 0);
        assert_eq!(producer.commit_offset("g", "unknown", 5).await, UNKNOWN_TOPIC_OR_PARTITION);
        let offset = offset_of(&mut client, true).await;
        assert_eq!((offset.error_code, offset.committed_offset), (UNSTABLE_OFFSET_COMMIT, -1));
        let offset = offset_of(&mut client, false).await;
        assert_eq!((offset.error_code, offset.committed_offset), (0, -1));
        assert_eq!(producer.end(true).await, 0);
        assert_eq!(offset_of(&mut client, true).await.committed_offset, 5);

        if is_old {
            assert_eq!(producer.announce_offsets("g").await, 0);
        }
        assert_eq!(producer.commit_offset("g", "t", 9).await, 0);
        assert_eq!(offset_of(&mut client, false).await.committed_offset, 5);
        assert_eq!(producer.end(false).await, 0);
        assert_eq!(offset_of(&mut client, true).await.committed_offset, 5);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_zombie_is_fenced() {
    for versions in [NEW, OLD] {
        let (gateway, mut client) = crate::support::gateway().await;
        create(&mut client, "t", 1, &[]).await;
        let mut zombie = Producer::new(&gateway, versions).await;
        assert_eq!(zombie.announce("t").await, 0);
        assert_eq!(zombie.send("t", "lost").await, 0);
        // What it has open is aborted, and the answer waits for that.
        let mut successor = Producer::new(&gateway, versions).await;
        assert_eq!((successor.id, successor.epoch), (zombie.id, zombie.epoch + 2));
        assert_eq!(zombie.send("t", "late").await, INVALID_PRODUCER_EPOCH);
        assert_eq!(zombie.announce("t").await, PRODUCER_FENCED);
        assert_eq!(zombie.end(true).await, PRODUCER_FENCED);
        zombie.versions.end = 1;
        assert_eq!(zombie.end(true).await, INVALID_PRODUCER_EPOCH);
        assert_eq!(successor.announce("t").await, 0);
        assert_eq!(successor.send("t", "kept").await, 0);
        assert_eq!(successor.end(true).await, 0);
        let seen = fetch(&mut client, "t", 1).await;
        assert_eq!(contents(&seen).0, ["lost", "kept"]);
        assert_eq!(seen.aborted_transactions.unwrap().len(), 1);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_abandoned_transaction_is_aborted_in_time() {
    let (gateway, mut client) = crate::support::gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::with_timeout(&gateway, NEW, 50).await;
    assert_eq!(producer.send("t", "a").await, 0);
    let aborted = async {
        loop {
            // A long poll, woken when the stable offset moves.
            let mut request = codec_kafka::messages::FetchRequest { isolation_level: 1, ..fetch_request("t", 0) };
            request.max_wait_ms = 5_000;
            let data = client.ask(12, &request).await.responses.remove(0).partitions.remove(0);
            if data.last_stable_offset == 2 {
                return data;
            }
        }
    };
    let data = timeout(Duration::from_secs(20), aborted).await.expect("the transaction is aborted");
    assert_eq!(data.aborted_transactions.unwrap().len(), 1);
    assert_eq!(producer.end(true).await, PRODUCER_FENCED);
    assert_eq!(producer.send("t", "b").await, INVALID_PRODUCER_EPOCH);
    gateway.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let (gateway, mut client) = crate::support::gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let request = |id: &str, producer_id, producer_epoch| InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 1_000,
        producer_id,
        producer_epoch,
    };
    assert_eq!(client.ask(4, &request("", -1, -1)).await.error_code, INVALID_REQUEST);
    assert_eq!(client.ask(4, &request("tx", 5, -1)).await.error_code, INVALID_REQUEST);
    assert_eq!(client.ask(4, &request(&"x".repeat(3_000), -1, -1)).await.error_code, INVALID_REQUEST);
    assert_eq!(init(&mut client, 900_001).await.error_code, INVALID_TRANSACTION_TIMEOUT);
    let mut producer = Producer::new(&gateway, NEW).await;
    assert_eq!(client.ask(4, &request("tx", 999, 3)).await.error_code, PRODUCER_FENCED);
    assert_eq!(client.ask(3, &request("tx", 999, 3)).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(producer.end(true).await, INVALID_TXN_STATE);
    // Without the id; of an id that does not exist.
    let mut unnamed = producer.request("t", "a");
    unnamed.transactional_id = None;
    let error_of =
        |response: codec_kafka::messages::ProduceResponse| response.responses[0].partition_responses[0].error_code;
    assert_eq!(error_of(client.ask(12, &unnamed).await), TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    unnamed.transactional_id = Some("other".into());
    assert_eq!(error_of(client.ask(12, &unnamed).await), INVALID_PRODUCER_ID_MAPPING);
    // An unknown partition fails them all.
    let topic = |name: &str| AddPartitionsToTxnTopic { name: name.into(), partitions: vec![0] };
    let add = |verify_only, topics| AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: "tx".into(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only,
            topics,
        }],
        ..Default::default()
    };
    let response = client.ask(5, &add(false, vec![topic("t"), topic("unknown")])).await;
    let codes: Vec<i16> = response.results_by_transaction[0]
        .topic_results
        .iter()
        .map(|topic| topic.results_by_partition[0].partition_error_code)
        .collect();
    assert_eq!(codes, [OPERATION_NOT_ATTEMPTED, UNKNOWN_TOPIC_OR_PARTITION]);
    for (version, request, code) in [
        (5, add(true, vec![topic("t")]), TRANSACTION_ABORTABLE),
        (4, add(true, vec![topic("t")]), INVALID_TXN_STATE),
        (4, add(false, vec![topic("t")]), 0),
        (5, add(true, vec![topic("t")]), 0),
    ] {
        let response = client.ask(version, &request).await;
        let result = &response.results_by_transaction[0].topic_results[0].results_by_partition[0];
        assert_eq!(result.partition_error_code, code);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_end_is_told_again_to_who_asks_again() {
    let (gateway, mut client) = crate::support::gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&gateway, NEW).await;
    assert_eq!(producer.send("t", "a").await, 0);
    let first = producer.ask_end(true).await;
    assert_eq!((first.error_code, first.producer_epoch), (0, 1));
    assert_eq!(producer.ask_end(true).await, first);
    assert_eq!(producer.ask_end(false).await.error_code, INVALID_TXN_STATE);
    // An abort of nothing raises the epoch too.
    (producer.epoch, producer.sequence) = (1, 0);
    assert_eq!(producer.ask_end(false).await.producer_epoch, 2);
    assert_eq!(producer.send("t", "late").await, INVALID_PRODUCER_EPOCH);
    gateway.stop().await;
}

#[tokio::test]
async fn tools_see_transactions_and_can_abort_them() {
    let (gateway, mut client) = crate::support::gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&gateway, NEW).await;
    assert_eq!(producer.send("t", "a").await, 0);
    assert_eq!(producer.commit_offset("g", "t", 5).await, 0);

    let list = |states: &[&str], pattern: Option<&str>, duration_filter| ListTransactionsRequest {
        state_filters: states.iter().map(|state| state.to_string()).collect(),
        producer_id_filters: vec![],
        duration_filter,
        transactional_id_pattern: pattern.map(str::to_owned),
    };
    let response = client.ask(2, &list(&[], None, -1)).await;
    let listed = &response.transaction_states[0];
    assert_eq!((listed.transactional_id.as_str(), listed.producer_id), ("tx", producer.id));
    assert_eq!(listed.transaction_state, "Ongoing");
    for (states, pattern, duration, count) in [
        (&["Ongoing"][..], Some("t."), -1, 1),
        (&["Dead", "Empty"], None, -1, 0),
        (&[], Some("t"), -1, 0),
        (&[], None, 3_600_000, 0),
    ] {
        assert_eq!(client.ask(2, &list(states, pattern, duration)).await.transaction_states.len(), count);
    }
    assert_eq!(client.ask(2, &list(&["Nonsense"], None, -1)).await.unknown_state_filters, ["Nonsense"]);
    assert_eq!(client.ask(2, &list(&[], Some("("), -1)).await.error_code, INVALID_REGULAR_EXPRESSION);

    let request = DescribeTransactionsRequest { transactional_ids: vec!["tx".into(), "other".into()] };
    let response = client.ask(0, &request).await;
    let described = &response.transaction_states[0];
    assert_eq!((described.transaction_state.as_str(), described.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!((described.topics[0].topic.as_str(), &described.topics[0].partitions[..]), ("t", &[0][..]));
    assert_eq!(response.transaction_states[1].error_code, TRANSACTIONAL_ID_NOT_FOUND);

    let request =
        DescribeProducersRequest { topics: vec![TopicRequest { name: "t".into(), partition_indexes: vec![0] }] };
    let response = client.ask(0, &request).await;
    let active = &response.topics[0].partitions[0].active_producers[0];
    assert_eq!((active.producer_id, active.current_txn_start_offset), (producer.id, 0));

    let topics = ["t", "unknown"];
    let topics = topics.map(|name| WritableTxnMarkerTopic { name: name.into(), partition_indexes: vec![0] });
    let request = WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            transaction_result: false,
            topics: topics.into(),
            coordinator_epoch: 0,
        }],
    };
    let response = client.ask(1, &request).await;
    let codes: Vec<i16> = response.markers[0].topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [0, UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(fetch(&mut client, "t", 1).await.aborted_transactions.unwrap().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn clients_learn_that_there_are_transactions() {
    let (gateway, mut client) = crate::support::gateway().await;
    let request = ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() };
    for version in [3, 4] {
        let response = client.ask(version, &request).await;
        let finalized = response.finalized_features.iter().find(|key| key.name == "transaction.version").unwrap();
        assert_eq!(finalized.max_version_level, 2);
        assert!(response.finalized_features_epoch >= 0);
    }
    let request = FindCoordinatorRequest { key_type: 1, coordinator_keys: vec!["tx".into()], ..Default::default() };
    let response = client.ask(4, &request).await;
    assert_eq!((response.coordinators[0].error_code, response.coordinators[0].node_id), (0, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn appends_that_wait_for_their_transaction_stay_in_order() {
    let (gateway, mut client) = crate::support::gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&gateway, NEW).await;
    let mut asked = Vec::new();
    for index in 0..20 {
        let request = producer.request("t", &index.to_string());
        asked.push(producer.client.send(12, &request).await);
        producer.sequence += 1;
    }
    for (offset, correlation_id) in asked.into_iter().enumerate() {
        let response: codec_kafka::messages::ProduceResponse = producer.client.receive(12, correlation_id).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset as i64));
    }
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(contents(&fetch(&mut client, "t", 1).await).0.len(), 20);
    gateway.stop().await;
}

async fn start_on(core: &MemoryCore) -> Handle {
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    start(core.clone(), config).await.unwrap()
}

#[tokio::test]
async fn a_decision_outlives_the_gateway_that_made_it() {
    let core = MemoryCore::default();
    let gateway = start_on(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&gateway, NEW).await;
    assert_eq!(producer.send("t", "a").await, 0);
    core.fail_ends(true);
    // Decided, though it cannot be carried out yet.
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(fetch(&mut client, "t", 1).await.last_stable_offset, 0);
    gateway.stop().await;
    core.fail_ends(false);

    let gateway = start_on(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    let request =
        codec_kafka::messages::FetchRequest { isolation_level: 1, max_wait_ms: 20_000, ..fetch_request("t", 0) };
    let data = client.ask(12, &request).await.responses.remove(0).partitions.remove(0);
    assert_eq!(contents(&data).0, ["a"]);
    // Its producer goes on in its new epoch.
    producer.client = client;
    assert_eq!(producer.send("t", "b").await, 0);
    assert_eq!(producer.end(true).await, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_becomes_of_a_transactional_id_is_readable_as_in_kafka() {
    const INVALID_TOPIC_EXCEPTION: i16 = 17;
    // "tx".hashCode() is 3716.
    const INDEX: i32 = 3_716 % 50;
    let core = MemoryCore::default();
    let gateway = start_on(&core).await;
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = Producer::new(&gateway, NEW).await;
    for committed in [false, true] {
        assert_eq!(producer.send("t", "a").await, 0);
        assert_eq!(producer.end(committed).await, 0);
    }
    // The last of what is written is how it ended; how much is written before depends on how fast.
    let ended = async {
        loop {
            let mut request = fetch_request("__transaction_state", 0);
            request.topics[0].partitions[0].partition = INDEX;
            let fetched = client.ask(12, &request).await.responses.remove(0).partitions.remove(0);
            let mut rest = fetched.records.map(|records| records.to_bytes()).unwrap_or_default();
            while !rest.is_empty() {
                let batch = rest.split_to(BatchHeader::parse(&rest).unwrap().batch_bytes());
                for record in records(&batch, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    assert_eq!(record.key.unwrap(), &b"\0\0\0\x02tx"[..]);
                    let value = record.value.unwrap();
                    assert_eq!((&value[..2], &value[2..10]), (&[0, 1][..], &producer.id.to_be_bytes()[..]));
                    // The epoch, the time-out and the state.
                    if value[10..17] == *b"\0\x02\0\0\xea\x60\x04" {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), ended).await.expect("it is written down");
    // Nobody else writes there.
    let mut produce = produce_request("__transaction_state", INDEX, crate::support::batch(&["x"]));
    produce.acks = 1;
    let response = client.ask(12, &produce).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, INVALID_TOPIC_EXCEPTION);
    gateway.stop().await;
}

/// Two gateways' worth of transactions on one core, without sockets.
async fn two(core: &MemoryCore) -> [Transactions<MemoryCore>; 2] {
    let start = || async {
        let ids = Arc::new(ProducerIds::new(core.clone()));
        let config = TransactionConfig::default();
        let coordinates = Arc::new(|_: &str| true);
        Transactions::start(
            core.clone(),
            "default",
            config,
            ids,
            coordinates,
            Journal::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap()
    };
    [start().await, start().await]
}

#[tokio::test]
async fn gateways_that_decide_on_outdated_records_decide_again() {
    let core = MemoryCore::default();
    let [one, other] = two(&core).await;
    let first = one.init("tx", 1_000, None).await.unwrap();
    let second = other.init("tx", 1_000, None).await.unwrap();
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    assert_eq!(one.add("tx", first, Addition::default()).await, Err(TransactionError::ProducerFenced));
    // Begun at the one, ended at the other, several times.
    let mut producer = second;
    for _ in 0..5 {
        one.admit("tx", producer, Addition::default(), false).await.unwrap();
        producer = other.end("tx", producer, Outcome::Commit, true).await.unwrap();
        assert_eq!(one.end("tx", producer, Outcome::Commit, true).await, Err(TransactionError::InvalidState));
    }
    assert_eq!(one.describe("tx").await.unwrap().record.epoch, producer.epoch);
}

#[tokio::test]
async fn a_store_whose_answer_is_lost_is_found_out() {
    let core = MemoryCore::default();
    let [one, _] = two(&core).await;
    let producer = one.init("tx", 1_000, None).await.unwrap();
    for fate in [PutFate::Fails, PutFate::AnswerLost] {
        core.next_put(fate);
        let begun = one.admit("tx", producer, Addition::default(), false).await;
        assert_eq!(begun, Err(TransactionError::CoordinatorNotAvailable));
    }
    one.admit("tx", producer, Addition::default(), false).await.unwrap();
    core.next_put(PutFate::AnswerLost);
    let end = || one.end("tx", producer, Outcome::Commit, true);
    assert_eq!(end().await, Err(TransactionError::CoordinatorNotAvailable));
    assert_eq!(end().await, Ok(ProducerEpoch { epoch: 1, ..producer }));
    assert_eq!(one.describe("tx").await.unwrap().record.state, TransactionState::CompleteCommit);
}

#[tokio::test]
async fn an_id_that_nobody_uses_is_forgotten() {
    let core = MemoryCore::default();
    let ids = Arc::new(ProducerIds::new(core.clone()));
    let config = TransactionConfig { id_expiration: Duration::from_millis(20), ..TransactionConfig::default() };
    let coordinates = Arc::new(|_: &str| true);
    let transactions = Transactions::start(
        core.clone(),
        "default",
        config,
        ids,
        coordinates,
        Journal::default(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let first = transactions.init("tx", 1_000, None).await.unwrap();
    let forgotten = async {
        while core.meta_get("kafka/transaction/default/tx".into()).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), forgotten).await.expect("it is forgotten");
    assert_ne!(transactions.init("tx", 1_000, None).await.unwrap().id, first.id);
}
