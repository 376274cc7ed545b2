//! Several gateways on one core are one cluster.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::memory_core::MemoryCore;
use crate::support::{batch, create, fetch, produce_request};
use codec_kafka::messages::{DescribeClusterRequest, FindCoordinatorRequest, HeartbeatRequest, MetadataRequest};
use gateway_runtime::NodeId;
use kafka_gateway::{Config, Handle, start};
use tokio::time::{Duration, Instant, sleep};

const NOT_COORDINATOR: i16 = 16;
const UNKNOWN_MEMBER_ID: i16 = 25;

fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), session_timeout: Duration::from_millis(600), ..Config::default() }
}

async fn gateway(core: &MemoryCore) -> (Handle, Client) {
    let gateway = start(core.clone(), config()).await.unwrap();
    let client = Client::connect(gateway.address()).await;
    (gateway, client)
}

/// Ids and ports of the brokers that a gateway tells of, once there are `count`.
async fn brokers(client: &mut Client, count: usize) -> Vec<(i32, i32)> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let response = client.ask(9, &request).await;
        let described = client.ask(1, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
        assert_eq!(response.brokers[0].node_id, response.controller_id);
        if response.brokers.len() == count && described.brokers.len() == count {
            return response.brokers.iter().map(|broker| (broker.node_id, broker.port)).collect();
        }
        assert!(Instant::now() < deadline, "{:?}", response.brokers);
        sleep(Duration::from_millis(5)).await;
    }
}

fn port(address: SocketAddr) -> i32 {
    i32::from(address.port())
}

#[tokio::test]
async fn gateways_know_each_other_and_share_partitions_and_groups() {
    let core = MemoryCore::default();
    let (one, mut to_one) = gateway(&core).await;
    assert_eq!(brokers(&mut to_one, 1).await, [(1, port(one.address()))]);
    let (two, mut to_two) = gateway(&core).await;
    let both = [(1, port(one.address())), (2, port(two.address()))];
    assert_eq!(brokers(&mut to_one, 2).await, both);
    assert_eq!(brokers(&mut to_two, 2).await, both);

    // Leaders are dealt evenly, and both gateways say the same.
    create(&mut to_one, "t", 100, &[]).await;
    let request = MetadataRequest { topics: None, ..Default::default() };
    let leaders = |response: codec_kafka::messages::MetadataResponse| -> Vec<i32> {
        response.topics[0].partitions.iter().map(|partition| partition.leader_id).collect()
    };
    let of_one = leaders(to_one.ask(9, &request).await);
    let deadline = Instant::now() + Duration::from_secs(20);
    while to_two.ask(9, &request).await.topics.is_empty() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(of_one, leaders(to_two.ask(9, &request).await));
    let led_by_one = of_one.iter().filter(|leader| **leader == 1).count();
    assert_eq!(led_by_one, 50);
    // Anybody serves any partition all the same.
    for client in [&mut to_one, &mut to_two] {
        let response = client.ask(12, &produce_request("t", 0, batch(&["x"]))).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(fetch(client, "t", 0).await.error_code, 0);
    }

    // A group is coordinated by the one that both name, and refused by the other.
    for index in 0..20 {
        let group = format!("g{index}");
        let find = FindCoordinatorRequest { coordinator_keys: vec![group.clone()], ..Default::default() };
        let found = to_one.ask(4, &find).await.coordinators.remove(0);
        assert_eq!(found, to_two.ask(4, &find).await.coordinators.remove(0));
        let heartbeat = HeartbeatRequest { group_id: group, member_id: "m".into(), ..Default::default() };
        for (id, client) in [(1, &mut to_one), (2, &mut to_two)] {
            let expected = if id == found.node_id { UNKNOWN_MEMBER_ID } else { NOT_COORDINATOR };
            assert_eq!(client.ask(4, &heartbeat).await.error_code, expected);
        }
    }

    // Who is stopped is gone at once.
    two.stop().await;
    assert_eq!(brokers(&mut to_one, 1).await, [(1, port(one.address()))]);
    one.stop().await;
}

#[tokio::test]
async fn a_node_id_has_one_gateway() {
    let core = MemoryCore::default();
    let fixed = Config { node_id: NodeId::Fixed(7), ..config() };
    let one = start(core.clone(), fixed.clone()).await.unwrap();
    let refused = start(core.clone(), fixed.clone()).await.unwrap_err().to_string();
    assert!(refused.contains("the node id 7 is in use by the gateway at 127.0.0.1:"), "{refused}");
    // Who waits for it gets it when the other has left.
    let (waiting, stopped) = tokio::join!(start(core.clone(), fixed), one.stop());
    let two = waiting.unwrap();
    let () = stopped;
    let mut client = Client::connect(two.address()).await;
    assert_eq!(brokers(&mut client, 1).await, [(7, port(two.address()))]);
    two.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_started_again_where_it_was_waits_for_nothing() {
    let core = MemoryCore::default();
    let other = start(core.clone(), config()).await.unwrap();
    let address = {
        // It dies: nothing of it is closed, but its address is free again.
        let died = start(core.clone(), Config { advertised: Some(("here".into(), 9)), ..config() }).await.unwrap();
        let address = died.address();
        std::mem::forget(died);
        address
    };
    assert_ne!(address, other.address());
    let again = start(core.clone(), Config { advertised: Some(("here".into(), 9)), ..config() }).await.unwrap();
    let mut client = Client::connect(again.address()).await;
    assert_eq!(brokers(&mut client, 2).await, [(1, port(other.address())), (2, 9)]);
    again.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn clients_are_told_the_rack() {
    let config = Config { rack: Some("zone-b".into()), ..config() };
    let gateway = start(MemoryCore::default(), config).await.unwrap();
    let mut client = Client::connect(gateway.address()).await;
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    assert_eq!(client.ask(9, &request).await.brokers[0].rack.as_deref(), Some("zone-b"));
    let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
    assert_eq!(client.ask(1, &request).await.brokers[0].rack.as_deref(), Some("zone-b"));
    gateway.stop().await;
}
