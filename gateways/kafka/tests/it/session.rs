//! Connections: what bytes of a peer may and may not do.

use crate::support::client::Client;
use crate::support::*;
use codec_kafka::frame::decode_response_header;
use codec_kafka::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use codec_kafka::{ApiKey, Reader};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

fn versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() }
}

#[tokio::test]
async fn the_versions_are_those_of_the_table() {
    let (gateway, mut client) = gateway().await;
    for version in 0..=4 {
        let response = client.ask(version, &versions_request()).await;
        assert_eq!(response.error_code, 0);
        let produce = response.api_keys.iter().find(|api| api.api_key == ApiKey::Produce as i16).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert_eq!(response.api_keys.len(), kafka_gateway::handlers::SERVED.len());
    }
    let unnamed = ApiVersionsRequest::default();
    assert_eq!(client.ask(3, &unnamed).await.error_code, 42);
    gateway.stop().await;
}

#[tokio::test]
async fn a_newer_version_of_api_versions_is_answered_in_the_oldest() {
    let (gateway, mut client) = gateway().await;
    // Length 8, API 18, version 99, correlation id 5.
    client.stream.write_all(&[0, 0, 0, 8, 0, 18, 0, 99, 0, 0, 0, 5]).await.unwrap();
    let mut reader = Reader::new(client.next_frame().await.unwrap());
    assert_eq!(decode_response_header(&mut reader, ApiKey::ApiVersions, 0), Ok(5));
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
    // The connection goes on.
    assert_eq!(client.ask(3, &versions_request()).await.error_code, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_closes_the_connection() {
    let (gateway, mut good) = gateway().await;
    let cases: [&[u8]; 7] = [
        // A negative length, and one over the limit.
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        // No header.
        &[0, 0, 0, 0],
        // An API that does not exist.
        &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        // Produce in a version that is only advertised.
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        // Metadata version 1 with 2^31-1 topics, and with too few bytes.
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 11, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0],
    ];
    for bytes in cases {
        let mut client = Client::connect(gateway.address()).await;
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.next_frame().await, None, "{bytes:?}");
    }
    assert_eq!(good.ask(3, &versions_request()).await.error_code, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_left_waiting() {
    let (gateway, mut client) = gateway().await;
    create(&mut client, "t", 1, &[]).await;
    let large = "x".repeat(500_000);
    for _ in 0..2 {
        assert_eq!(produce(&mut client, "t", batch(&[&large])).await.error_code, 0);
    }
    // 400 MB of answers if all were made. The gateway stops taking requests instead, so that the sockets fill.
    let mut greedy = Client::connect(gateway.address()).await;
    let mut sent = 0;
    let blocked = tokio::time::timeout(std::time::Duration::from_secs(2), async {
        loop {
            greedy.send(12, &fetch_request("t", 0)).await;
            sent += 1;
        }
    });
    assert!(blocked.await.is_err());
    // Others do not notice, and once it reads it gets its answers.
    assert_eq!(client.ask(3, &versions_request()).await.error_code, 0);
    for correlation_id in 1..=20 {
        let response: codec_kafka::messages::FetchResponse = greedy.receive(12, correlation_id).await;
        assert!(response.responses[0].partitions[0].records.as_ref().unwrap().len() > 900_000);
    }
    assert!(sent > 20);
    drop(greedy);
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let config =
        kafka_gateway::Config { connections_max_idle: std::time::Duration::from_millis(200), ..Default::default() };
    let (gateway, mut client) = gateway_with(config).await;
    assert_eq!(client.ask(3, &versions_request()).await.error_code, 0);
    assert_eq!(client.next_frame().await, None);
    gateway.stop().await;
}

#[tokio::test]
async fn requests_may_arrive_in_pieces() {
    let (gateway, mut client) = gateway().await;
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let bytes = codec_kafka::frame::encode_request(&request, 9, 7, Some("test")).unwrap().into_bytes();
    for byte in bytes {
        client.stream.write_all(&[byte]).await.unwrap();
        client.stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let _: codec_kafka::messages::MetadataResponse = client.receive(9, 7).await;
    gateway.stop().await;
}

/// Frames of random content behind a header that is likely to be known.
fn bad_frame() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    (0i16..80, 0i16..19, body).prop_map(|(key, version, body)| {
        let mut frame = Vec::new();
        frame.extend_from_slice(&(10 + body.len() as i32).to_be_bytes());
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff]);
        frame.extend_from_slice(&body);
        frame
    })
}

#[test]
fn bad_bytes_harm_nobody_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (gateway, mut client) = runtime.block_on(gateway());
    let address = gateway.address();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let streams =
        proptest::collection::vec(prop_oneof![bad_frame(), proptest::collection::vec(any::<u8>(), 0..64)], 1..8);
    runner
        .run(&streams, |frames| {
            runtime.block_on(async {
                let mut bad = Client::connect(address).await;
                for frame in frames {
                    if bad.stream.write_all(&frame).await.is_err() {
                        break;
                    }
                }
                // The gateway has taken it all when it has closed its side.
                let _ = bad.stream.shutdown().await;
                while bad.next_frame_or_garbage().await {}
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        assert_eq!(client.ask(3, &versions_request()).await.error_code, 0);
        gateway.stop().await;
    });
}
