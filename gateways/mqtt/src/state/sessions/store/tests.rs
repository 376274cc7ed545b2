//! Whole stores on a real core: gateways that die, take over and are restarted, without sockets.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use codec_mqtt::{Binary, PacketId, Properties, QoS, Will};
use codec_record::Formats;
use core_log::LocalCore;
use core_rpc::{AppendRequest, Core, Durability, FetchPartition, FetchRequest, Isolation, TopicCreate, TopicSettings};
use gateway_runtime::{CoreSession, Member, Members, Purpose, TopicCache};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::state::sessions::{Held, Subscribed, Wish, loader};
use crate::state::shares::{self, Shares};
use crate::state::{Round, TopicRules};

const PATIENCE: Duration = Duration::from_secs(20);
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

struct World {
    _directory: TempDir,
    core: LocalCore,
    live: watch::Sender<Members>,
}

struct Node {
    core: AnyCore,
    own: Member,
    topics: Arc<Topics>,
    router: Router,
    publishing: Publishing,
    membership: Membership,
    sessions: Sessions,
    stop: CancellationToken,
}

struct Client {
    session: Arc<Session>,
    connection: ConnectionId,
    present: bool,
    resends: Vec<Resend>,
    kicked: Kicked,
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), Formats::all()).unwrap();
        World { _directory: directory, core, live: watch::channel(Members::default()).0 }
    }

    /// A gateway that joins those that live.
    async fn node(&self, id: u8) -> Node {
        let own = Member {
            node_id: id.into(),
            host: "h".into(),
            port: id.into(),
            tls: None,
            rack: None,
            started_ms: 0,
            incarnation: [id; 16],
        };
        self.live.send_modify(|live| {
            *live = Arc::new(live.iter().cloned().chain([own.clone()]).collect());
        });
        let core = AnyCore::from(self.core.clone());
        let stop = CancellationToken::new();
        let cache = TopicCache::start(core.clone(), stop.clone()).await.unwrap();
        let rules = TopicRules {
            namespace: "default".into(),
            rules: Vec::new(),
            partitions: 2,
            durability: Durability::Fsync,
            retention: None,
            topics_max: 10,
        };
        let topics = Arc::new(Topics::start(cache, rules).await.unwrap());
        let router = Router::start(core.clone(), topics.clone(), stop.clone());
        let publishing = Publishing::new(core.clone(), topics.clone());
        let session = |purpose| CoreSession::start(core.clone(), Duration::from_secs(5), purpose, stop.clone());
        let shares = Shares::start(shares::Setup {
            core: core.clone(),
            topics: topics.clone(),
            keys: session(Purpose::Keys).await.unwrap(),
            leases: session(Purpose::Leases).await.unwrap(),
            holder_prefix: id.to_string(),
            node_id: id.into(),
            expiry: Duration::ZERO,
            stop: stop.clone(),
        });
        let membership = Membership::fixed(own.clone(), self.live.subscribe());
        let limits = Limits { here_messages_max: 100, here_bytes_max: 1 << 20, there_messages_max: 10_000 };
        let parts = Parts {
            core: core.clone(),
            topics: topics.clone(),
            router: router.clone(),
            shares,
            publishing: publishing.clone(),
            membership: membership.clone(),
            places: Arc::default(),
            sys: Default::default(),
            may_publish: Arc::new(|_: &str, _: Option<&str>, _: &str| true),
            settings: Settings {
                limits,
                session_timeout: Duration::from_millis(500),
                checkpoint_interval: Duration::from_millis(50),
            },
            stop: stop.clone(),
        };
        let sessions = within(Sessions::start(parts)).await;
        Node { core, own, topics, router, publishing, membership, sessions, stop }
    }

    /// As if its process were gone.
    fn kill(&self, node: &Node) {
        node.stop.cancel();
        self.leaves(node);
    }

    /// The others take it for dead.
    fn leaves(&self, node: &Node) {
        self.live.send_modify(|live| {
            *live = Arc::new(live.iter().filter(|member| **member != node.own).cloned().collect());
        });
    }
}

impl Node {
    async fn try_open(
        &self,
        client_id: &str,
        expiry_s: u32,
        clean_start: bool,
        will: Option<&str>,
    ) -> Result<Client, OpenError> {
        let connection = ConnectionId(NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed));
        let kick = Kicked::default();
        let will = will.map(|topic| Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
            topic: text(topic),
            payload: Binary::new("gone").unwrap(),
        });
        let request = OpenRequest {
            client_id: text(client_id),
            clean_start,
            expiry_s,
            version: Version::Mqtt5,
            connection,
            kick: kick.clone(),
            will: will.and_then(|will| StoredWill::of(&will, None)),
            window: 10,
        };
        let opened = within(self.sessions.open(request)).await?;
        let (sessions, session) = (self.sessions.clone(), opened.session.clone());
        let kicked = Kicked::default();
        let told = kicked.clone();
        tokio::spawn(async move {
            kick.kicked().await;
            sessions.close(&session, connection, Closing { expiry_s: None, send_will: true }).await;
            told.kick();
        });
        let Opened { session, session_present, resends, .. } = opened;
        Ok(Client { session, connection, present: session_present, resends, kicked })
    }

    async fn open(&self, client_id: &str, expiry_s: u32, clean_start: bool) -> Client {
        self.try_open(client_id, expiry_s, clean_start, None).await.unwrap()
    }

    async fn close(&self, client: &Client) {
        self.sessions.close(&client.session, client.connection, Closing { expiry_s: None, send_will: false }).await;
    }

    async fn subscribe(&self, client: &Client, filter: &str, qos: QoS) {
        let wish = Wish { qos, no_local: false, retain_as_published: false, subscription_id: None };
        client.session.subscribe(text(filter), Subscribed { wish });
        within(self.router.subscribe(&client.session, &[(text(filter), wish)])).await;
        within(self.sessions.record(&client.session)).await.unwrap();
    }

    async fn publish(&self, topic: &str, qos: u8, payload: &str) {
        let partition = self.topics.partition(topic).await.unwrap();
        let mut round = Round::default();
        let parts = MessageParts { qos, topic: topic.as_bytes(), payload: payload.as_bytes(), ..Default::default() };
        round.add(partition, &parts);
        within(self.publishing.send(round)).await.unwrap();
    }

    /// So many messages, as the connection's task takes them: recorded before they are sent.
    async fn take(&self, client: &Client, count: usize) -> BTreeMap<String, Option<PacketId>> {
        let mut got = BTreeMap::new();
        while got.len() < count {
            let taken = within(poll_fn(|context| {
                let taken = client.session.take(client.connection, context.waker(), count - got.len(), crate::now_ms());
                match taken.deliveries.is_empty() && taken.load.is_empty() {
                    true => Poll::Pending,
                    false => Poll::Ready(taken),
                }
            }))
            .await;
            if !taken.load.is_empty() {
                let loaded = loader::load(&self.core, &self.topics, &taken.load).await.unwrap();
                client.session.loaded(client.connection, loaded);
            }
            if taken.must_record {
                within(self.sessions.record(&client.session)).await.unwrap();
            }
            for (packet_id, delivery) in taken.deliveries {
                let payload = String::from_utf8(delivery.message.publish.payload().to_vec()).unwrap();
                assert_eq!(got.insert(payload.clone(), packet_id), None, "{payload} came twice");
            }
        }
        got
    }

    /// What the client is sent again: payload by identifier, and the identifiers that are released.
    async fn resends(&self, client: &Client) -> (BTreeMap<PacketId, String>, Vec<PacketId>) {
        let (mut sent, mut released) = (BTreeMap::new(), Vec::new());
        for resend in &client.resends {
            match resend {
                Resend::Release { packet_id } => released.push(*packet_id),
                Resend::Publish { packet_id, what } => {
                    let delivery = match what {
                        Held::Here(delivery) => delivery.clone(),
                        Held::There(waiting) => {
                            let loaded = loader::load(&self.core, &self.topics, std::slice::from_ref(waiting)).await;
                            loaded.unwrap().pop().flatten().unwrap()
                        }
                    };
                    sent.insert(*packet_id, String::from_utf8(delivery.message.publish.payload().to_vec()).unwrap());
                }
            }
        }
        (sent, released)
    }
}

#[tokio::test]
async fn a_session_outlives_its_gateway_and_each_message_comes_once() {
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 100, false).await;
    assert!(!client.present);
    first.subscribe(&client, "t/#", QoS::ExactlyOnce).await;
    for number in 0..6 {
        first.publish(&format!("t/{number}"), 2, &format!("m{number}")).await;
    }
    // Three go out; of one of them PUBREC comes, and of one PUBCOMP too.
    let sent = first.take(&client, 3).await;
    let ids: Vec<PacketId> = sent.values().map(|id| id.unwrap()).collect();
    client.session.received(ids[0]).unwrap();
    client.session.received(ids[1]).unwrap();
    first.sessions.record(&client.session).await.unwrap();
    client.session.completed(ids[0]).unwrap();
    first.sessions.record(&client.session).await.unwrap();
    world.kill(&first);

    let second = world.node(2).await;
    second.publish("t/6", 2, "m6").await;
    let client = second.open("c", 100, false).await;
    assert!(client.present);
    let (again, released) = second.resends(&client).await;
    assert_eq!(released, [ids[1]]);
    let third = sent.iter().find(|(_, id)| **id == Some(ids[2])).map(|(payload, _)| payload.clone()).unwrap();
    assert_eq!(again, BTreeMap::from([(ids[2], third)]));
    let rest = second.take(&client, 4).await;
    let mut all: Vec<&String> = sent.keys().chain(rest.keys()).collect();
    all.sort();
    assert_eq!(all, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    assert!(second.take(&client, 0).await.is_empty());
    world.kill(&second);
}

/// A gateway that stood still for too long sends nothing that another may have sent by now, and goes on with what is its own still.
#[tokio::test]
async fn who_was_taken_for_dead_gives_way() {
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 100, false).await;
    first.subscribe(&client, "t/#", QoS::ExactlyOnce).await;
    first.membership.set_sure(false);
    world.leaves(&first);
    first.publish("t/1", 2, "one").await;
    let taken = within(poll_fn(|context| {
        let taken = client.session.take(client.connection, context.waker(), 1, crate::now_ms());
        if taken.deliveries.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
    }));
    assert!(taken.await.must_record);
    assert_eq!(within(first.sessions.record(&client.session)).await, Err(PublishError::Unavailable));
    assert_eq!(first.sessions.certain_in(), Err(PublishError::Unavailable));
    let second = world.node(2).await;
    let there = second.open("c", 100, false).await;
    assert!(there.present);
    // It is heard of again: it has lost the one, and has clients again.
    world.live.send_modify(|live| {
        *live = Arc::new(live.iter().cloned().chain([first.own.clone()]).collect());
    });
    first.membership.set_sure(true);
    let other = first.open("d", 100, false).await;
    assert!(!other.present);
    within(client.kicked.kicked()).await;
    assert_eq!((first.sessions.counts(), second.sessions.counts()), ((1, 1), (1, 1)));
    first.sessions.certain_in().unwrap();
    world.kill(&first);
    world.kill(&second);
}

#[tokio::test]
async fn what_waits_for_a_client_that_is_away_is_there_after_a_restart() {
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 100, false).await;
    first.subscribe(&client, "t/#", QoS::AtLeastOnce).await;
    first.close(&client).await;
    for number in 0..20 {
        first.publish("t/a", 1, &format!("a{number:02}")).await;
    }
    first.sessions.finish_stop().await;
    for number in 20..25 {
        first.publish("t/a", 1, &format!("a{number:02}")).await;
    }
    world.kill(&first);
    let second = world.node(2).await;
    let client = second.open("c", 100, false).await;
    assert!(client.present && client.resends.is_empty());
    let got: Vec<String> = second.take(&client, 5).await.into_keys().collect();
    assert_eq!(got, ["a00", "a01", "a02", "a03", "a04"], "in order");
    world.kill(&second);
}

#[tokio::test]
async fn a_client_takes_its_session_to_another_gateway() {
    let world = World::new();
    let (first, second) = (world.node(1).await, world.node(2).await);
    let client = first.open("c", 100, false).await;
    first.subscribe(&client, "t/#", QoS::ExactlyOnce).await;
    first.publish("t/1", 2, "one").await;
    let sent = first.take(&client, 1).await;
    let there = second.open("c", 100, false).await;
    within(client.kicked.kicked()).await;
    assert!(there.present);
    let (again, _) = second.resends(&there).await;
    assert_eq!(again, BTreeMap::from([(sent["one"].unwrap(), "one".to_owned())]));
    second.publish("t/2", 2, "two").await;
    assert_eq!(second.take(&there, 1).await.into_keys().collect::<Vec<_>>(), ["two"]);
    assert_eq!((first.sessions.counts(), second.sessions.counts()), ((0, 0), (1, 1)));
    // And back, as one that is new.
    let back = first.open("c", 0, true).await;
    within(there.kicked.kicked()).await;
    assert!(!back.present && back.session.subscriptions().is_empty());
    assert_eq!((first.sessions.counts(), second.sessions.counts()), ((1, 1), (0, 0)));
    world.kill(&first);
    world.kill(&second);
}

#[tokio::test]
async fn a_client_has_one_connection_also_where_a_gateway_is_new() {
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 0, true).await;
    let second = world.node(2).await;
    let there = second.open("c", 0, true).await;
    within(client.kicked.kicked()).await;
    let here = second.open("c", 0, false).await;
    within(there.kicked.kicked()).await;
    assert!(!here.present);
    let back = first.open("c", 0, false).await;
    within(here.kicked.kicked()).await;
    assert!(!back.present);
    world.kill(&first);
    world.kill(&second);
}

#[tokio::test]
async fn many_connections_of_a_client_leave_one() {
    let world = World::new();
    let nodes = [world.node(1).await, world.node(2).await];
    let opens = (0..20).map(|number: usize| nodes[number % 2].try_open("c", 100, false, None));
    let opened: Vec<_> = futures_all(opens.collect()).await;
    let clients: Vec<Client> = opened.into_iter().filter_map(Result::ok).collect();
    assert!(!clients.is_empty());
    let counts = || nodes.iter().map(|node| node.sessions.counts()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    within(async {
        while counts() != (1, 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    nodes.iter().for_each(|node| world.kill(node));
}

async fn futures_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(move |context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(done.drain(..).flatten().collect()),
            false => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_will_is_published_when_a_gateway_dies_with_its_client() {
    let world = World::new();
    let (first, second) = (world.node(1).await, world.node(2).await);
    let watcher = second.open("w", 0, true).await;
    second.publish("will/0", 0, "first").await;
    second.subscribe(&watcher, "will/#", QoS::AtLeastOnce).await;
    for (client_id, expiry_s) in [("a", 0), ("b", 100)] {
        first.try_open(client_id, expiry_s, true, Some(&format!("will/{client_id}"))).await.unwrap();
    }
    first.sessions.finish_stop().await;
    world.kill(&first);
    let mut wills = Vec::new();
    for _ in 0..2 {
        let taken = within(poll_fn(|context| {
            let taken = watcher.session.take(watcher.connection, context.waker(), 1, crate::now_ms());
            if taken.deliveries.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
        }))
        .await;
        wills.extend(taken.deliveries.iter().map(|(_, one)| one.message.publish.topic().to_string()));
    }
    wills.sort();
    assert_eq!(wills, ["will/a", "will/b"]);
    world.kill(&second);
}

#[tokio::test]
async fn a_will_is_published_when_its_connection_is_taken_over() {
    let world = World::new();
    let (first, second) = (world.node(1).await, world.node(2).await);
    let watcher = second.open("w", 0, true).await;
    second.publish("will/0", 0, "first").await;
    second.subscribe(&watcher, "will/#", QoS::AtLeastOnce).await;
    first.try_open("a", 100, false, Some("will/1")).await.unwrap();
    first.try_open("a", 100, false, Some("will/2")).await.unwrap();
    second.try_open("a", 100, false, Some("will/3")).await.unwrap();
    assert_eq!(second.take(&watcher, 1).await.len(), 1);
    assert_eq!(second.take(&watcher, 1).await.len(), 1);
    world.kill(&first);
    world.kill(&second);
}

#[tokio::test]
async fn a_message_that_was_received_is_not_published_again() {
    let world = World::new();
    let id = |id| PacketId::new(id).unwrap();
    let first = world.node(1).await;
    let client = first.open("c", 100, false).await;
    let partition = first.topics.partition("t").await.unwrap();
    assert!(client.session.begin_receive(id(5)) && client.session.begin_receive(id(6)));
    let mut round = Round::default();
    round.add(partition, &MessageParts { topic: b"t", payload: b"x", ..Default::default() });
    round.record(first.sessions.record_append(&client.session).with.unwrap());
    within(first.publishing.send(round)).await.unwrap();
    assert!(first.sessions.record_append(&client.session).with.is_none(), "each is told once");
    // Of a round that never came to the log.
    assert!(client.session.begin_receive(id(7)));
    world.kill(&first);

    let second = world.node(2).await;
    let client = second.open("c", 100, false).await;
    assert!(client.present);
    assert!(!client.session.begin_receive(id(5)) && !client.session.begin_receive(id(6)));
    assert!(client.session.begin_receive(id(7)), "it was not kept, so it is new");
    assert!(client.session.end_receive(id(5)));
    within(second.sessions.record_released(&client.session)).await.unwrap();
    world.kill(&second);

    let third = world.node(3).await;
    let client = third.open("c", 100, false).await;
    assert!(client.session.begin_receive(id(5)), "its release was kept");
    assert!(!client.session.begin_receive(id(6)));
    // A new session knows nothing of it.
    let client = third.open("c", 100, true).await;
    assert!(!client.present && client.session.begin_receive(id(6)));
    world.kill(&third);
}

/// Into a topic that does not lie with the sessions: the gateway dies between identifier and message, and behind both.
#[tokio::test]
async fn a_message_for_a_topic_of_others_is_published_once() {
    let world = World::new();
    let id = |id| PacketId::new(id).unwrap();
    let first = world.node(1).await;
    let create = TopicCreate {
        namespace: "default".into(),
        name: "t".into(),
        partitions: 1,
        settings: TopicSettings::default(),
        labels: BTreeMap::new(),
    };
    let topic = world.core.topic_create(create).await.unwrap();
    let partition = PartitionId { topic: topic.id, index: 0 };
    within(async {
        while first.topics.by_id(topic.id).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!first.topics.is_together(partition));
    let round = |node: &Node, client: &Client, packet_id| {
        assert!(client.session.begin_receive(packet_id), "nobody knows whether it was kept");
        let attempt = client.session.attempt(packet_id, partition);
        let mut round = Round::default();
        let payload = packet_id.to_string();
        round.add_apart(attempt, &MessageParts { topic: b"t", payload: payload.as_bytes(), ..Default::default() });
        let records = node.sessions.record_append(&client.session);
        assert!(records.with.is_none());
        (round, attempt, records.before)
    };
    let client = first.open("c", 100, false).await;
    // Of the first only the identifier is kept, of the second the message too, of the third all is done.
    let (_, unkept, before) = round(&first, &client, id(5));
    first.core.append(AppendRequest { appends: vec![before.unwrap()] }).await[0].as_ref().unwrap();
    for packet_id in [id(6), id(7)] {
        let (mut round, _, before) = round(&first, &client, packet_id);
        round.record_before(before.unwrap());
        within(first.publishing.send(round)).await.unwrap();
    }
    first.sessions.kept_apart(&client.session, &[id(7)]);
    within(first.sessions.record(&client.session)).await.unwrap();
    world.kill(&first);

    let second = world.node(2).await;
    let client = second.open("c", 100, false).await;
    assert!(!client.session.begin_receive(id(7)), "it was kept for sure");
    for packet_id in [id(5), id(6)] {
        let (round, attempt, before) = round(&second, &client, packet_id);
        assert!(before.is_none() && (packet_id != id(5) || attempt == unkept), "as it was tried before");
        within(second.publishing.send(round)).await.unwrap();
        second.sessions.kept_apart(&client.session, &[packet_id]);
        assert!(!client.session.begin_receive(packet_id), "it is answered only");
    }
    let fetch = FetchPartition { partition, offset: 0, bytes_max: 1 << 20 };
    let wait = Duration::ZERO;
    let request =
        FetchRequest { partitions: vec![fetch], bytes_min: 0, bytes_max: 1 << 20, wait, isolation: Isolation::All };
    let fetched = second.core.fetch(request).await.remove(0).unwrap();
    let payloads: Vec<String> = (fetched.batches.iter())
        .flat_map(|batch| codec_record::mqtt_message::messages(&batch.payload).map(|view| view.unwrap()))
        .map(|view| String::from_utf8(view.payload.to_vec()).unwrap())
        .collect();
    assert_eq!(payloads, ["6", "7", "5"]);
    // Released, it is forgotten; the next under its identifier is another.
    assert!(client.session.end_receive(id(6)));
    within(second.sessions.record_released(&client.session)).await.unwrap();
    world.kill(&second);
    let third = world.node(3).await;
    let client = third.open("c", 100, false).await;
    let (_, _, before) = round(&third, &client, id(6));
    assert!(before.is_some());
    assert!(client.session.end_receive(id(5)), "PUBREL for what may have been answered");
    world.kill(&third);
}

/// A session with a large backlog is not written whole for each few messages that it is sent, and is what it was after a crash.
#[tokio::test]
async fn of_a_large_session_what_changes_is_written_alone() {
    const COUNT: usize = 10_000;
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 100, false).await;
    first.subscribe(&client, "t/#", QoS::ExactlyOnce).await;
    first.close(&client).await;
    let partition = first.topics.partition("t/a").await.unwrap();
    let mut round = Round::default();
    for number in 0..2 * COUNT {
        // Those between are not for who is away.
        let (qos, payload) = (if number % 2 == 0 { 2 } else { 0 }, format!("{:05}", number / 2));
        round.add(partition, &MessageParts { qos, topic: b"t/a", payload: payload.as_bytes(), ..Default::default() });
    }
    within(first.publishing.send(round)).await.unwrap();
    let client = first.open("c", 100, false).await;
    let mut got = BTreeMap::new();
    while got.len() < COUNT / 2 {
        let taken = first.take(&client, 10).await;
        for packet_id in taken.values().flatten() {
            client.session.received(*packet_id).unwrap();
            client.session.completed(*packet_id).unwrap();
        }
        got.extend(taken);
        if got.len() == 200 {
            // More comes meanwhile, and a subscription.
            first.subscribe(&client, "u", QoS::ExactlyOnce).await;
            first.publish("u", 2, "more").await;
        }
    }
    let last = first.take(&client, 10).await;
    let (records, deltas) = written(&first).await;
    assert!(deltas.0 > 400 && records.0 < 60, "{records:?} {deltas:?}");
    // Whole they would be ten times as much.
    assert!(records.1 + deltas.1 < 500_000, "{records:?} {deltas:?}");
    world.kill(&first);

    let second = world.node(2).await;
    let client = second.open("c", 100, false).await;
    assert!(client.present);
    let filters: Vec<String> = client.session.subscriptions().iter().map(|(filter, _)| filter.to_string()).collect();
    assert_eq!(filters, ["t/#", "u"]);
    let (again, _) = second.resends(&client).await;
    assert_eq!(again.len(), 10);
    assert!(again.iter().all(|(id, payload)| last[payload] == Some(*id)));
    let finish = |packet_ids: Vec<PacketId>| {
        for packet_id in packet_ids {
            client.session.received(packet_id).unwrap();
            client.session.completed(packet_id).unwrap();
        }
    };
    finish(again.into_keys().collect());
    got.extend(last);
    while got.len() < COUNT + 1 {
        let taken = second.take(&client, (COUNT + 1 - got.len()).min(10)).await;
        finish(taken.values().flatten().copied().collect());
        for (payload, packet_id) in taken {
            assert_eq!(got.insert(payload.clone(), packet_id), None, "{payload} came twice");
        }
    }
    assert_eq!(client.session.tally().messages, 0, "nothing else waits");
    world.kill(&second);
}

/// How many records of sessions lie in the log, and deltas, with their bytes.
async fn written(node: &Node) -> ((usize, usize), (usize, usize)) {
    let (mut records, mut deltas) = ((0, 0), (0, 0));
    let topic = node.topics.own(Own::Sessions);
    for index in 0..topic.partitions {
        let mut offset = 0;
        loop {
            let fetch =
                FetchPartition { partition: PartitionId { topic: topic.id, index }, offset, bytes_max: 8 << 20 };
            let (wait, isolation) = (Duration::ZERO, Isolation::All);
            let request = FetchRequest { partitions: vec![fetch], bytes_min: 0, bytes_max: 8 << 20, wait, isolation };
            let fetched = node.core.fetch(request).await.remove(0).unwrap();
            let Some(last) = fetched.batches.last() else { break };
            offset = last.header.next_offset();
            for view in fetched.batches.iter().flat_map(|batch| codec_record::mqtt_message::messages(&batch.payload)) {
                let view = view.unwrap();
                let kind = match Key::parse(&view.topic) {
                    Some(Key::Session(_)) => &mut records,
                    Some(Key::Delta(_)) => &mut deltas,
                    _ => continue,
                };
                *kind = (kind.0 + 1, kind.1 + view.payload.len());
            }
        }
    }
    (records, deltas)
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let world = World::new();
    let first = world.node(1).await;
    let client = first.open("c", 1, false).await;
    first.close(&client).await;
    let other = first.open("d", 100, false).await;
    first.close(&other).await;
    within(async {
        while first.sessions.counts() != (1, 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!first.open("c", 1, false).await.present);
    assert!(first.open("d", 0, false).await.present, "it ends with this connection");
    world.kill(&first);
    let second = world.node(2).await;
    assert!(!second.open("d", 100, false).await.present);
    world.kill(&second);
}

/// Whoever was told that a record is kept relies on what it says, also if another record of the session was being gathered when it
/// changed: a session that was given up was nobody's for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_records_are_gathered_is_kept() {
    let world = World::new();
    let node = world.node(1).await;
    let client = node.open("changing", 3600, true).await;
    let shared = &node.sessions.shared;
    let kept = shared.kept_of(&client.session).unwrap();
    let key = Key::Received(PacketId::new(1).unwrap(), &text("others")).to_string();
    for expiry_s in 1..=20 {
        // So many that the writer is busy with them.
        let others = (0..20_000).map(|_| Job::Entry(key.clone(), Bytes::new()));
        shared.queue.post([Job::Record(kept.clone())].into_iter().chain(others).collect());
        while !shared.queue.is_empty() {
            tokio::task::yield_now().await;
        }
        {
            let mut state = kept.state.lock();
            state.expiry_s = expiry_s;
            state.changes += 1;
        }
        within(shared.queue.write(vec![Job::Record(kept.clone())])).await.unwrap();
        // Not where that ended: a checkpoint may have told it just before.
        let ends = shared.ends().await.unwrap();
        within(shared.passed(&ends)).await;
        let told = shared.image.lock().record(&client.session.client_id).map(|known| known.head.expiry_s);
        assert_eq!(told, Some(expiry_s));
    }
}
