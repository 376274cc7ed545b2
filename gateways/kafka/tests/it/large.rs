//! What costs by the number of things: groups of many members, a fetch session of ten thousand partitions. On the real core;
//! `--nocapture` shows the times; `POLYMQ_TEST_MEMBERS=1000` makes the groups large ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::groups::{REBALANCE_IN_PROGRESS, heartbeat, join, join_request, sync_request};
use crate::support::client::Client;
use crate::support::*;
use codec_kafka::messages::consumer_group_heartbeat::TopicPartitions;
use codec_kafka::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use codec_kafka::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use core_log::LocalCore;
use kafka_gateway::state::GroupConfig;
use kafka_gateway::{Config, Handle, start};

async fn gateway_in(directory: &tempfile::TempDir) -> (LocalCore, Handle, Client) {
    let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
    // Nobody is to be late because the machine is.
    let groups =
        GroupConfig { consumer_session_timeout_ms: 600_000, initial_rebalance_delay_ms: 100, ..GroupConfig::default() };
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), groups, ..Config::default() };
    let gateway = start(core.clone(), config).await.unwrap();
    let client = Client::connect(gateway.address()).await;
    (core, gateway, client)
}

/// A member, as it was told last.
struct Member {
    told: ConsumerGroupHeartbeatResponse,
    owned: Vec<TopicPartitions>,
}

impl Member {
    async fn beat(&mut self, client: &mut Client, request: ConsumerGroupHeartbeatRequest) {
        self.told = client.ask(1, &request).await;
        assert_eq!(self.told.error_code, 0, "{:?}", self.told.error_message);
        if let Some(assignment) = &self.told.assignment {
            self.owned = assignment.topic_partitions.clone();
        }
    }

    fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.owned.iter().flat_map(|topic| topic.partitions.iter().copied())
    }
}

fn members_wanted() -> usize {
    std::env::var("POLYMQ_TEST_MEMBERS").ok().and_then(|number| number.parse().ok()).unwrap_or(100)
}

/// A member of the classic protocol: joins as often as it must, until all are in one generation. Returns that.
async fn classic_member(
    address: SocketAddr,
    all: usize,
    mut done: tokio::sync::watch::Receiver<bool>,
    tell: Arc<tokio::sync::watch::Sender<bool>>,
) -> (i32, String) {
    let mut client = Client::connect(address).await;
    let mut joined = join(&mut client, 9, "classic").await;
    loop {
        let synced = client.ask(5, &sync_request("classic", &joined, 5)).await;
        if synced.error_code == 0 {
            assert_eq!(&synced.assignment[..], joined.member_id.as_bytes(), "each gets its own");
            if joined.members.len() == all {
                tell.send_replace(true);
            }
            let settled = loop {
                if *done.borrow_and_update() {
                    break true;
                }
                if client.ask(4, &heartbeat("classic", &joined)).await.error_code != 0 {
                    break false;
                }
                let _ = tokio::time::timeout(Duration::from_millis(200), done.changed()).await;
            };
            // The leader's answer is there before that of others, who may be behind.
            if settled && client.ask(4, &heartbeat("classic", &joined)).await.error_code == 0 {
                return (joined.generation_id, joined.member_id);
            }
        } else {
            assert_eq!(synced.error_code, REBALANCE_IN_PROGRESS);
        }
        joined = client.ask(9, &join_request("classic", &joined.member_id)).await;
        assert_eq!(joined.error_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_group_of_many_members_settles() {
    let all = members_wanted();
    let directory = tempfile::tempdir().unwrap();
    let (core, gateway, mut client) = gateway_in(&directory).await;
    create(&mut client, "t", 1, &[]).await;
    let began = Instant::now();
    let (tell, done) = tokio::sync::watch::channel(false);
    let tell = Arc::new(tell);
    let members: Vec<_> =
        (0..all).map(|_| tokio::spawn(classic_member(gateway.address(), all, done.clone(), tell.clone()))).collect();
    let mut found = Vec::with_capacity(all);
    for member in members {
        found.push(member.await.unwrap());
    }
    println!("{all} members of a classic group: all in generation {} after {:?}", found[0].0, began.elapsed());
    assert!(found.iter().all(|(generation, _)| *generation == found[0].0));
    let names: std::collections::HashSet<String> = found.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), all);
    gateway.stop().await;
    core.stop();
}

fn joining(number: usize) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: format!("a-member-with-a-long-name-{number:04}"),
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// Each member over its connection, all at once.
async fn beat_all(
    members: Vec<(Member, Client)>,
    request: impl Fn(usize, &Member) -> ConsumerGroupHeartbeatRequest,
) -> Vec<(Member, Client)> {
    let beats: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(number, (mut member, mut client))| {
            let request = request(number, &member);
            tokio::spawn(async move {
                member.beat(&mut client, request).await;
                (member, client)
            })
        })
        .collect();
    let mut beaten = Vec::with_capacity(beats.len());
    for beat in beats {
        beaten.push(beat.await.unwrap());
    }
    beaten
}

/// A group is one record, which each change writes anew; but changes that come together are written together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_many_members_settles() {
    let members_wanted = members_wanted();
    let directory = tempfile::tempdir().unwrap();
    let (core, gateway, mut client) = gateway_in(&directory).await;
    create(&mut client, "t", members_wanted as i32, &[]).await;
    let mut members = Vec::with_capacity(members_wanted);
    for _ in 0..members_wanted {
        let member = Member { told: Default::default(), owned: Vec::new() };
        members.push((member, Client::connect(gateway.address()).await));
    }
    let began = Instant::now();
    members = beat_all(members, |number, _| joining(number)).await;
    let joined = began.elapsed();
    let last_epoch = members.iter().map(|(member, _)| member.told.member_epoch).max().unwrap();
    assert!(last_epoch <= members_wanted as i32 / 2, "an epoch for each that joins: {last_epoch}");
    let mut rounds = 0;
    let is_behind = |member: &Member| member.told.member_epoch < last_epoch || member.partitions().next().is_none();
    while members.iter().any(|(member, _)| is_behind(member)) {
        rounds += 1;
        assert!(rounds < 10, "they never settle");
        members = beat_all(members, |_, member| ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: member.told.member_id.clone().unwrap_or_default(),
            member_epoch: member.told.member_epoch,
            rebalance_timeout_ms: -1,
            topic_partitions: Some(member.owned.clone()),
            ..Default::default()
        })
        .await;
    }
    let settled = began.elapsed() - joined;
    println!(
        "{members_wanted} members: joined in {joined:?} with {last_epoch} epochs, settled by {rounds} rounds of \
         heartbeats in {settled:?}"
    );
    let mut all: Vec<i32> = members.iter().flat_map(|(member, _)| member.partitions()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..members_wanted as i32), "each partition is one member's");
    gateway.stop().await;
    core.stop();
}

/// An incremental fetch that names nothing still looks at every partition of its session, as in Kafka.
#[tokio::test]
async fn ten_thousand_idle_partitions_are_fetched() {
    const PARTITIONS: i32 = 10_000;
    const FETCHES: u32 = 10;
    let directory = tempfile::tempdir().unwrap();
    let (core, gateway, mut client) = gateway_in(&directory).await;
    create(&mut client, "t", PARTITIONS, &[]).await;
    let wanted = |partition| FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    let partitions = (0..PARTITIONS).map(wanted).collect();
    let mut request = FetchRequest {
        session_epoch: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let full = client.ask(12, &request).await;
    assert_eq!((full.error_code, full.responses[0].partitions.len()), (0, PARTITIONS as usize));
    request.session_id = full.session_id;
    request.topics.clear();
    let mut took = Duration::ZERO;
    for epoch in 1..=FETCHES {
        request.session_epoch = epoch as i32;
        let began = Instant::now();
        let answer = client.ask(12, &request).await;
        took += began.elapsed();
        assert_eq!((answer.error_code, answer.responses.len()), (0, 0), "nothing has happened");
    }
    println!("an empty fetch of {PARTITIONS} partitions takes {:?}", took / FETCHES);
    let records = batch(&["x"]);
    assert_eq!(client.ask(12, &produce_request("t", 9_999, records)).await.responses.len(), 1);
    request.session_epoch += 1;
    let answer = client.ask(12, &request).await;
    assert_eq!(answer.responses[0].partitions.len(), 1);
    assert_eq!(answer.responses[0].partitions[0].partition_index, 9_999);
    gateway.stop().await;
    core.stop();
}
