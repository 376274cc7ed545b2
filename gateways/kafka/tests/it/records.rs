//! Producing and fetching through a real socket.

use crate::support::client::Client;
use crate::support::memory_core::MemoryCore;
use crate::support::*;
use codec_kafka::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use codec_kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use codec_kafka::messages::metadata::MetadataRequestTopic;
use codec_kafka::messages::{InitProducerIdRequest, MetadataRequest};
use codec_record::amqp_message::{FieldTable, MessageView, PropertyList, ShortStr, Writer};
use codec_record::kafka_batch::{BatchEncoder, BatchHeader, Codec, TimestampType, records};
use core_rpc::{Append, AppendRequest, Core, PartitionId, Topic};
use kafka_gateway::{Config, start};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

#[tokio::test]
async fn what_is_produced_is_fetched() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 2, &[]).await;
    let sent = batch(&["one", "two"]);
    assert_eq!(produce(&mut client, "t", sent.clone()).await.base_offset, 0);
    assert_eq!(produce(&mut client, "t", sent.clone()).await.base_offset, 2);
    let fetched = fetch(&mut client, "t", 0).await;
    assert_eq!((fetched.high_watermark, fetched.log_start_offset, fetched.last_stable_offset), (4, 0, 4));
    let bytes = fetched.records.unwrap().to_bytes();
    assert_eq!(bytes.len(), 2 * sent.len());
    assert_eq!(&bytes[16..sent.len()], &sent[16..], "all but the prefix is untouched");
    let second = bytes.slice(sent.len()..);
    let header = BatchHeader::parse(&second).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (2, 0));
    header.check_crc(&second).unwrap();
    // From the middle of a batch, the whole batch.
    let fetched = fetch(&mut client, "t", 3).await;
    assert_eq!(fetched.records.unwrap().len(), sent.len());
    assert_eq!(fetch(&mut client, "t", 4).await.records.unwrap().len(), 0);
    assert_eq!(fetch(&mut client, "t", 5).await.error_code, OFFSET_OUT_OF_RANGE);
    gateway.stop().await;
}

#[tokio::test]
async fn what_amqp_wrote_is_fetched_at_the_same_offsets() {
    let core = MemoryCore::default();
    let gateway = start(core.clone(), Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).await;
    let gateway = gateway.unwrap();
    let mut client = Client::connect(gateway.address()).await;
    create(&mut client, "orders", 1, &[]).await;
    assert_eq!(produce(&mut client, "orders", batch(&["before"])).await.base_offset, 0);
    let topic = core.meta_get(Topic::key("default", "orders")).await.unwrap();
    let topic = Topic::from_entry(&topic.unwrap()).unwrap();
    let mut writer = Writer::new();
    for (number, body) in ["one", "two"].into_iter().enumerate() {
        let list = PropertyList {
            content_type: Some("text/plain".into()),
            headers: Some(FieldTable::from([("number", (number as i64).into())])),
            ..Default::default()
        };
        let (exchange, key) = (ShortStr::from_static("x"), ShortStr::from_static("orders"));
        let message = MessageView::arrived(1_700_000_000_000, exchange, key, list.encode(), body.into()).unwrap();
        writer.append(&message);
    }
    let append = Append { partition: PartitionId { topic: topic.id, index: 0 }, batch: writer.take().unwrap() };
    core.append(AppendRequest { appends: vec![append] }).await.remove(0).unwrap();
    assert_eq!(produce(&mut client, "orders", batch(&["after"])).await.base_offset, 3);
    let mut bytes = fetch(&mut client, "orders", 0).await.records.unwrap().to_bytes();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = BatchHeader::parse(&bytes).unwrap();
        header.check_crc(&bytes).unwrap();
        for record in records(&bytes, 1 << 20).unwrap() {
            let record = record.unwrap();
            let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let headers: Vec<String> =
                record.headers.iter().map(|(name, value)| format!("{}={}", text(name), text(value.unwrap()))).collect();
            let offset = header.base_offset + i64::from(record.offset_delta);
            found.push((offset, record.key.map(text), record.value.map(text).unwrap(), headers.join(" ")));
        }
        bytes = bytes.slice(header.batch_bytes()..);
    }
    let row = |offset, key: Option<&str>, value: &str, headers: &str| {
        (offset, key.map(str::to_owned), value.to_owned(), headers.to_owned())
    };
    let expected = [
        row(0, None, "before", ""),
        row(1, Some("orders"), "one", "content-type=text/plain amqp.exchange=x number=0"),
        row(2, Some("orders"), "two", "content-type=text/plain amqp.exchange=x number=1"),
        row(3, None, "after", ""),
    ];
    assert_eq!(found, expected);
    gateway.stop().await;
}

#[tokio::test]
async fn every_version_of_produce_and_fetch_works() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let asked = MetadataRequest { topics: None, ..Default::default() };
    let topic_id = client.ask(12, &asked).await.topics[0].topic_id;
    for version in 3..=13 {
        let mut request = produce_request("t", 0, batch(&["x"]));
        request.topic_data[0].topic_id = topic_id;
        let response = client.ask(version, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, i64::from(version) - 3), "{version}");
    }
    for version in 4..=18 {
        let mut request = fetch_request("t", 0);
        request.topics[0].topic_id = topic_id;
        let response = client.ask(version, &request).await;
        assert!(response.responses[0].partitions[0].records.as_ref().unwrap().len() > 11 * 61, "{version}");
    }
    let mut unknown = fetch_request("t", 0);
    unknown.topics[0].topic_id = codec_kafka::Uuid([7; 16]);
    assert_eq!(client.ask(13, &unknown).await.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_ID);
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_batches_are_refused() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[("max.message.bytes", "1000")]).await;
    let good = batch(&["x"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let twice = [&good[..], &good[..]].concat();
    let mut old = good.to_vec();
    old[16] = 1;
    let control = BatchEncoder { control: true, ..Default::default() }.encode(&[record("x")]);
    let by_broker = BatchEncoder { timestamp_type: TimestampType::LogAppendTime, ..Default::default() };
    let mut late = record("x");
    late.timestamp_ms += 7_200_000;
    let cases = [
        (flipped, CORRUPT_MESSAGE),
        (twice, INVALID_RECORD),
        (good[..30].to_vec(), INVALID_RECORD),
        (Vec::new(), INVALID_RECORD),
        (old, INVALID_RECORD),
        (control.to_vec(), INVALID_RECORD),
        (by_broker.encode(&[record("x")]).to_vec(), INVALID_TIMESTAMP),
        (BatchEncoder::default().encode(&[record("x"), late]).to_vec(), INVALID_RECORD),
        (batch(&[&"x".repeat(1000)]).to_vec(), MESSAGE_TOO_LARGE),
    ];
    for (index, (bytes, code)) in cases.into_iter().enumerate() {
        let answer = produce(&mut client, "t", bytes.into()).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "case {index}");
        assert!(answer.error_message.is_some());
    }
    let mut late = record("x");
    late.timestamp_ms += 7_200_000;
    let answer = produce(&mut client, "t", BatchEncoder::default().encode(&[late])).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (INVALID_TIMESTAMP, 1));
    assert_eq!(produce(&mut client, "u", good.clone()).await.error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let mut request = produce_request("t", 0, good);
    request.acks = 2;
    let answer = client.ask(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, INVALID_REQUIRED_ACKS);
    gateway.stop().await;
}

#[tokio::test]
async fn the_topic_s_configuration_is_obeyed() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[("message.timestamp.type", "LogAppendTime"), ("compression.type", "zstd")]).await;
    let mut old = record("x");
    old.timestamp_ms = 5;
    let answer = produce(&mut client, "t", BatchEncoder::default().encode(&[old])).await;
    assert!(answer.log_append_time_ms > 5);
    let bytes = fetch(&mut client, "t", 0).await.records.unwrap().to_bytes();
    let header = BatchHeader::parse(&bytes).unwrap();
    header.check_crc(&bytes).unwrap();
    assert_eq!(header.attributes.codec(), Ok(Codec::Zstd));
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let record = records(&bytes, 1 << 20).unwrap().next().unwrap().unwrap();
    assert_eq!((record.timestamp_ms, record.value.as_deref()), (answer.log_append_time_ms, Some(&b"x"[..])));
    gateway.stop().await;
}

#[tokio::test]
async fn idempotent_producers_are_checked() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let producer = client.ask(4, &InitProducerIdRequest::default()).await;
    assert_eq!((producer.error_code, producer.producer_epoch), (0, 0));
    let encoder = |sequence| BatchEncoder {
        producer_id: producer.producer_id,
        producer_epoch: 0,
        base_sequence: sequence,
        ..Default::default()
    };
    let first = encoder(0).encode(&[record("x")]);
    assert_eq!(produce(&mut client, "t", first.clone()).await.base_offset, 0);
    let again = produce(&mut client, "t", first).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = produce(&mut client, "t", encoder(5).encode(&[record("x")])).await;
    assert_eq!(gap.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let other = client.ask(4, &InitProducerIdRequest::default()).await;
    assert_ne!(other.producer_id, producer.producer_id);
    gateway.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut sent = Vec::new();
    for round in 0..20 {
        for _ in 0..10 {
            sent.push((client.send(9, &produce_request("t", 0, batch(&["x"]))).await, true));
        }
        let metadata = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        sent.push((client.send(9, &metadata).await, false));
        // Not answered at all.
        let mut silent = produce_request("t", 0, batch(&["y"]));
        silent.acks = 0;
        client.send(9, &silent).await;
        assert!(round < 20);
    }
    let mut offset = 0;
    for (correlation_id, produced) in sent {
        if produced {
            let response: codec_kafka::messages::ProduceResponse = client.receive(9, correlation_id).await;
            assert_eq!(response.responses[0].partition_responses[0].base_offset, offset);
            offset += 1;
        } else {
            let _: codec_kafka::messages::MetadataResponse = client.receive(9, correlation_id).await;
            offset += 1;
        }
    }
    assert_eq!(fetch(&mut client, "t", 0).await.high_watermark, 220);
    // An error cannot be told to a client that asked for no answer: the connection is closed.
    let mut silent = produce_request("unknown", 0, batch(&["y"]));
    silent.acks = 0;
    client.send(9, &silent).await;
    assert_eq!(client.next_frame().await, None);
    gateway.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_for_records() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut producer = client::Client::connect(gateway.address()).await;
    let waiting = FetchRequest { max_wait_ms: 15_000, ..fetch_request("t", 0) };
    let correlation_id = client.send(12, &waiting).await;
    produce(&mut producer, "t", batch(&["x"])).await;
    let response: codec_kafka::messages::FetchResponse = client.receive(12, correlation_id).await;
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    // An error is told at once.
    let unknown = FetchRequest { max_wait_ms: 15_000, ..fetch_request("u", 0) };
    let asked = std::time::Instant::now();
    assert_eq!(client.ask(12, &unknown).await.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert!(asked.elapsed().as_secs() < 10);
    gateway.stop().await;
}

#[tokio::test]
async fn a_newer_epoch_is_refused() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let mut newer = fetch_request("t", 0);
    newer.topics[0].partitions[0].current_leader_epoch = 1;
    assert_eq!(client.ask(12, &newer).await.responses[0].partitions[0].error_code, UNKNOWN_LEADER_EPOCH);
    gateway.stop().await;
}

#[tokio::test]
async fn fetch_sessions_tell_what_is_new() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 3, &[]).await;
    let metadata = client.ask(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    let id = metadata.topics[0].topic_id;
    for version in [7, 12, 13, 18] {
        let mut begin = FetchRequest { session_epoch: 0, ..fetch_request("t", 0) };
        begin.topics[0].topic_id = id;
        let template = begin.topics[0].partitions[0].clone();
        let at = |partition, fetch_offset| FetchPartition { partition, fetch_offset, ..template.clone() };
        let end = client.ask(12, &fetch_request("t", 0)).await.responses[0].partitions[0].high_watermark;
        begin.topics[0].partitions = vec![at(0, end), at(1, 0), at(2, 0)];
        let response = client.ask(version, &begin).await;
        let session_id = response.session_id;
        assert_eq!((response.error_code, response.responses[0].partitions.len()), (0, 3));
        assert!(session_id > 0);
        // Nothing new, nothing said.
        let go_on = |session_epoch| FetchRequest { session_id, session_epoch, topics: Vec::new(), ..begin.clone() };
        let response = client.ask(version, &go_on(1)).await;
        assert_eq!((response.error_code, response.session_id, response.responses.len()), (0, session_id, 0));
        produce(&mut client, "t", batch(&["x"])).await;
        let mut response = client.ask(version, &go_on(2)).await;
        assert_eq!(response.responses.len(), 1);
        let told = response.responses.remove(0);
        assert_eq!((told.topic_id == id, told.topic == "t"), (version >= 13, version < 13));
        assert_eq!((told.partitions.len(), told.partitions[0].high_watermark), (1, end + 1));
        assert!(told.partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
        // The offset moves on, and one partition is forgotten.
        let mut next = go_on(3);
        next.topics = vec![FetchTopic { partitions: vec![at(0, end + 1)], ..begin.topics[0].clone() }];
        next.forgotten_topics_data = vec![ForgottenTopic { topic: "t".into(), topic_id: id, partitions: vec![1] }];
        assert_eq!(client.ask(version, &next).await.responses, []);
        // Errors of the session.
        assert_eq!(client.ask(version, &go_on(3)).await.error_code, INVALID_FETCH_SESSION_EPOCH);
        let unknown = FetchRequest { session_id: session_id ^ 1, ..go_on(4) };
        assert_eq!(client.ask(version, &unknown).await.error_code, FETCH_SESSION_ID_NOT_FOUND);
        let other_naming = if version < 13 { 13 } else { 12 };
        assert_eq!(client.ask(other_naming, &go_on(4)).await.error_code, FETCH_SESSION_TOPIC_ID_ERROR);
        // Closed by a last full fetch.
        let close = FetchRequest { session_id, session_epoch: -1, ..begin.clone() };
        assert_eq!(client.ask(version, &close).await.session_id, 0);
        assert_eq!(client.ask(version, &go_on(4)).await.error_code, FETCH_SESSION_ID_NOT_FOUND);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn offsets_are_listed() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let timed = |time| {
        let mut record = record("x");
        record.timestamp_ms = time;
        BatchEncoder::default().encode(&[record])
    };
    for time in [1000, 3000, 2000] {
        produce(&mut client, "t", timed(time)).await;
    }
    let mut ask = async |version: i16, timestamp: i64| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let found = client.ask(version, &request).await.topics.remove(0).partitions.remove(0);
        (found.error_code, found.offset, found.timestamp)
    };
    for version in 1..=10 {
        assert_eq!(ask(version, -1).await, (0, 3, -1));
        assert_eq!(ask(version, -2).await, (0, 0, -1));
        assert_eq!(ask(version, 1500).await, (0, 1, 3000));
        assert_eq!(ask(version, 9000).await, (0, -1, -1));
        assert_eq!(ask(version, -3).await, if version >= 7 { (0, 1, 3000) } else { (35, -1, -1) });
        assert_eq!(ask(version, -4).await, if version >= 8 { (0, 0, -1) } else { (35, -1, -1) });
        assert_eq!(ask(version, -5).await, if version >= 9 { (0, -1, -1) } else { (35, -1, -1) });
    }
    gateway.stop().await;
}

#[tokio::test]
async fn asking_for_an_unknown_topic_creates_it_where_allowed() {
    let (gateway, mut client) = gateway_with(kafka_gateway::Config { num_partitions: 3, ..Default::default() }).await;
    let named = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let mut request = MetadataRequest { topics: Some(vec![named("new"), named("a b")]), ..Default::default() };
    for version in 0..=13 {
        let response = client.ask(version, &request).await;
        let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!((codes, response.topics[0].partitions.len()), (vec![0, 17], 3), "{version}");
    }
    request.allow_auto_topic_creation = false;
    request.topics = Some(vec![named("other")]);
    assert_eq!(client.ask(9, &request).await.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    gateway.stop().await;
}
