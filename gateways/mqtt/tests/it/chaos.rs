//! Clients that come and go while gateways are killed: each message of QoS 2 arrives once, each of QoS 1 at least once.
//!
//! Two gateways share a core. Each runs in a runtime of its own, which is dropped in the middle of whatever it does: that is how a
//! process dies, but for the machine's state. Clients keep what the specification wants them to keep, and break off whenever they like.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use codec_mqtt::{
    Acknowledgement, Connect, Delivery, PACKET_BYTES_MAX, Packet, PacketId, Property, QoS, Sender, Subscribe,
    Subscription, Version, split,
};
use core_log::LocalCore;
use core_rpc::{Core, TopicCreate, TopicSettings};
use mqtt_gateway::{Config, Handle};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::common::{Client, config, connect, id, message, open_core, persistent, properties, text};

const MESSAGES: usize = 300;
const WINDOW: usize = 8;
const PATIENCE: Duration = Duration::from_secs(150);
const SESSION_TIMEOUT: Duration = Duration::from_millis(1500);

/// Xorshift: the same for the same seed.
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A gateway as a process would be.
struct Life {
    runtime: Option<Runtime>,
    address: SocketAddr,
    _handle: Handle,
}

/// It dies.
impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Life {
    async fn begin(core: LocalCore) -> Life {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let config = Config {
            // Longer than a thread waits for a processor where many tests share it: who is late is taken for dead.
            session_timeout: SESSION_TIMEOUT,
            checkpoint_interval: Duration::from_millis(100),
            ..config()
        };
        let handle = runtime.spawn(async move { mqtt_gateway::start(core, config).await });
        let handle = handle.await.expect("a start").expect("a gateway");
        Life { runtime: Some(runtime), address: handle.address(), _handle: handle }
    }
}

struct World {
    addresses: Mutex<Vec<SocketAddr>>,
    is_done: AtomicBool,
}

/// A connection that may break at any time.
struct Link {
    stream: TcpStream,
    input: BytesMut,
}

impl Link {
    /// A new connection to any gateway, and whether the session was there.
    async fn open(world: &World, chance: &mut Chance, what: &Connect) -> Option<(Link, bool)> {
        let address = {
            let addresses = world.addresses.lock();
            addresses[chance.below(addresses.len() as u64) as usize]
        };
        let stream = timeout(Duration::from_secs(1), TcpStream::connect(address)).await.ok()?.ok()?;
        let mut link = Link { stream, input: BytesMut::new() };
        link.send(Packet::Connect(Box::new(what.clone()))).await?;
        match link.next(Duration::from_secs(10)).await? {
            Packet::Connack(connack) if !connack.reason.is_failure() => Some((link, connack.session_present)),
            _ => None,
        }
    }

    async fn send(&mut self, packet: Packet) -> Option<()> {
        let mut out = BytesMut::new();
        packet.encode(Version::Mqtt5, &mut out).expect("a packet");
        self.stream.write_all(&out).await.ok()
    }

    /// None: the connection is over, or says nothing.
    async fn next(&mut self, patience: Duration) -> Option<Packet> {
        loop {
            if let Some(frame) = split(&mut self.input, PACKET_BYTES_MAX).expect("a frame") {
                return Some(Packet::decode(frame, Version::Mqtt5, Sender::Server).expect("a packet"));
            }
            match timeout(patience, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(read)) if read > 0 => {}
                _ => return None,
            }
        }
    }
}

/// What a publisher has sent and not finished.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Sent(usize),
    Released,
}

fn publish(number: usize, packet_id: PacketId, duplicate: bool) -> Packet {
    let delivery = match number.is_multiple_of(3) {
        true => Delivery::AtLeastOnce(packet_id),
        false => Delivery::ExactlyOnce(packet_id),
    };
    let publish = message(&format!("chaos/{}", number % 7), number.to_string(), delivery);
    Packet::Publish(codec_mqtt::Publish { duplicate, ..publish })
}

/// Sends all messages; every third with QoS 1.
async fn run_publisher(world: Arc<World>, mut chance: Chance) {
    let mut flights: BTreeMap<PacketId, Stage> = BTreeMap::new();
    let (mut next, mut next_id, mut has_been) = (0, 0u16, false);
    while next < MESSAGES || !flights.is_empty() {
        let opened = Link::open(&world, &mut chance, &persistent(Version::Mqtt5, "publisher")).await;
        let Some((mut link, present)) = opened else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        assert!(present || !has_been, "the publisher's session is lost");
        has_been = true;
        // Of a connection that ends somewhere.
        let mut left = 1 + chance.below(60);
        for (packet_id, stage) in flights.clone() {
            let again = match stage {
                Stage::Sent(number) => publish(number, packet_id, true),
                Stage::Released => Packet::Pubrel(Acknowledgement::success(packet_id)),
            };
            if link.send(again).await.is_none() {
                break;
            }
        }
        while left > 0 && (next < MESSAGES || !flights.is_empty()) {
            left -= 1;
            while flights.len() < WINDOW && next < MESSAGES {
                next_id = next_id % 50 + 1;
                while flights.contains_key(&id(next_id)) {
                    next_id = next_id % 50 + 1;
                }
                flights.insert(id(next_id), Stage::Sent(next));
                if link.send(publish(next, id(next_id), false)).await.is_none() {
                    left = 0;
                }
                next += 1;
            }
            match link.next(Duration::from_secs(5)).await {
                Some(Packet::Puback(puback)) => {
                    assert!(!puback.reason.is_failure());
                    flights.remove(&puback.packet_id);
                }
                Some(Packet::Pubrec(pubrec)) => {
                    assert!(!pubrec.reason.is_failure());
                    flights.insert(pubrec.packet_id, Stage::Released);
                    if link.send(Packet::Pubrel(Acknowledgement::success(pubrec.packet_id))).await.is_none() {
                        break;
                    }
                }
                Some(Packet::Pubcomp(pubcomp)) => {
                    if flights.get(&pubcomp.packet_id) == Some(&Stage::Released) {
                        flights.remove(&pubcomp.packet_id);
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
    }
}

/// Takes messages until it has all that are to come, and then whatever is too much.
async fn run_subscriber(world: Arc<World>, mut chance: Chance) -> HashMap<usize, usize> {
    let mut got: HashMap<usize, usize> = HashMap::new();
    let mut received: HashSet<PacketId> = HashSet::new();
    let mut has_been = false;
    loop {
        let opened = Link::open(&world, &mut chance, &persistent(Version::Mqtt5, "subscriber")).await;
        let Some((mut link, present)) = opened else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        assert!(present || !has_been, "the subscriber's session is lost");
        has_been = true;
        let mut left = 1 + chance.below(80);
        while left > 0 {
            left -= 1;
            let is_done = world.is_done.load(Ordering::Acquire) && got.len() == MESSAGES;
            let patience = Duration::from_millis(if is_done { 500 } else { 2_000 });
            let answer = match link.next(patience).await {
                Some(Packet::Publish(publish)) => {
                    let number: usize = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
                    match publish.delivery {
                        Delivery::ExactlyOnce(packet_id) => {
                            if received.insert(packet_id) {
                                *got.entry(number).or_default() += 1;
                            }
                            Packet::Pubrec(Acknowledgement::success(packet_id))
                        }
                        Delivery::AtLeastOnce(packet_id) => {
                            *got.entry(number).or_default() += 1;
                            Packet::Puback(Acknowledgement::success(packet_id))
                        }
                        Delivery::AtMostOnce => panic!("QoS 0"),
                    }
                }
                Some(Packet::Pubrel(pubrel)) => {
                    received.remove(&pubrel.packet_id);
                    Packet::Pubcomp(Acknowledgement::success(pubrel.packet_id))
                }
                Some(_) => continue,
                None if is_done => return got,
                None => break,
            };
            if chance.below(40) == 0 || link.send(answer).await.is_none() {
                break;
            }
        }
    }
}

/// `is_foreign`: into a topic that no MQTT client has made, and that does not lie with the sessions.
async fn run(seed: u64, is_foreign: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let core = open_core(&directory);
    if is_foreign {
        let create = TopicCreate {
            namespace: "default".into(),
            name: "chaos".into(),
            partitions: 3,
            settings: TopicSettings::default(),
            labels: BTreeMap::new(),
        };
        core.topic_create(create).await.expect("a topic");
    }
    let mut lives = vec![Life::begin(core.clone()).await, Life::begin(core.clone()).await];
    let addresses = Mutex::new(lives.iter().map(|life| life.address).collect());
    let world = Arc::new(World { addresses, is_done: AtomicBool::new(false) });
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Subscribed before anything is published.
    let (mut link, _) = loop {
        if let Some(opened) = Link::open(&world, &mut chance, &persistent(Version::Mqtt5, "subscriber")).await {
            break opened;
        }
    };
    let subscriptions = [Subscription::new(text("chaos/#"), QoS::ExactlyOnce)].into();
    let subscribe = Subscribe { packet_id: id(1), properties: Default::default(), subscriptions };
    link.send(Packet::Subscribe(subscribe)).await.unwrap();
    assert!(matches!(link.next(Duration::from_secs(5)).await, Some(Packet::Suback(_))));
    drop(link);
    let fork = |number: u64| Chance(chance.0.wrapping_add(number.wrapping_mul(0x2545_f491_4f6c_dd1d)) | 1);
    let (of_publisher, of_subscriber, mut of_killer) = (fork(1), fork(2), fork(3));
    let publisher = tokio::spawn(run_publisher(world.clone(), of_publisher));
    let subscriber = tokio::spawn(run_subscriber(world.clone(), of_subscriber));
    let mut kills = 0;
    while !publisher.is_finished() {
        sleep(Duration::from_millis(50 + of_killer.below(1500))).await;
        let at = of_killer.below(2) as usize;
        let life = Life::begin(core.clone()).await;
        world.addresses.lock()[at] = life.address;
        lives[at] = life;
        kills += 1;
    }
    publisher.await.expect("a publisher");
    world.is_done.store(true, Ordering::Release);
    let got = subscriber.await.expect("a subscriber");
    drop(lives);
    core.stop();
    let missing: Vec<usize> = (0..MESSAGES).filter(|number| !got.contains_key(number)).collect();
    let twice: Vec<_> = got.iter().filter(|(number, count)| !number.is_multiple_of(3) && **count > 1).collect();
    assert!(missing.is_empty() && twice.is_empty(), "seed {seed}, {kills} kills: missing {missing:?}, twice {twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_quality_2_comes_once_while_gateways_die() {
    for seed in seeds() {
        timeout(PATIENCE, run(seed, false)).await.unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_2_comes_once_through_a_topic_of_others() {
    for seed in seeds() {
        timeout(PATIENCE, run(seed, true)).await.unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
}

/// POLYMQ_SEEDS=1,2,3 for others.
pub fn seeds() -> Vec<u64> {
    let seeds = std::env::var("POLYMQ_SEEDS").unwrap_or_else(|_| "1,2".into());
    seeds.split(',').filter_map(|seed| seed.parse().ok()).collect()
}

/// A client that is not persistent leaves nothing behind, whatever becomes of its gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_session_is_gone_with_its_gateway() {
    let directory = tempfile::tempdir().expect("a directory");
    let core = open_core(&directory);
    let life = Life::begin(core.clone()).await;
    let world = World { addresses: Mutex::new(vec![life.address]), is_done: AtomicBool::new(false) };
    let mut chance = Chance(7);
    let (link, present) = Link::open(&world, &mut chance, &connect(Version::Mqtt5, "clean")).await.unwrap();
    assert!(!present);
    drop(life);
    drop(link);
    let life = Life::begin(core.clone()).await;
    *world.addresses.lock() = vec![life.address];
    let (_link, present) = Link::open(&world, &mut chance, &persistent(Version::Mqtt5, "clean")).await.unwrap();
    assert!(!present);
    drop(life);
    core.stop();
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5]: what was sent to a member with QoS 2 is finished with that member, or with nobody, though its
/// gateway dies; what was not sent goes to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_message_of_quality_2_has_one_member_though_its_gateway_dies() {
    let directory = tempfile::tempdir().expect("a directory");
    let core = open_core(&directory);
    let (first, second) = (Life::begin(core.clone()).await, Life::begin(core.clone()).await);
    for is_persistent in [true, false] {
        let (filter, name) = (format!("$share/g/jobs/{is_persistent}"), format!("jobs/{is_persistent}"));
        let what = |client_id: &str| match is_persistent {
            true => persistent(Version::Mqtt5, client_id),
            false => connect(Version::Mqtt5, client_id),
        };
        // A member that takes one at a time.
        let receive_maximum = Property::ReceiveMaximum(std::num::NonZeroU16::MIN);
        let mine =
            Connect { properties: properties(what("dies").properties.iter().chain([receive_maximum])), ..what("dies") };
        let life = Life::begin(core.clone()).await;
        let mut client = Client::raw(life.address, Version::Mqtt5).await;
        client.connect(mine.clone()).await;
        client.subscribe(&filter, QoS::ExactlyOnce).await;
        let mut publisher = Client::raw(first.address, Version::Mqtt5).await;
        publisher.connect(connect(Version::Mqtt5, "publishes")).await;
        publisher.publish_to(&name, "sent", QoS::ExactlyOnce).await;
        publisher.publish_to(&name, "not sent", QoS::ExactlyOnce).await;
        let sent = client.publish().await;
        assert_eq!(&*sent.payload, b"sent");
        let mut other = Client::raw(second.address, Version::Mqtt5).await;
        other.connect(what("lives")).await;
        other.subscribe(&filter, QoS::ExactlyOnce).await;
        drop(life);
        assert_eq!(other.message().await.1, "not sent");
        // Until what the dead gateway held is free.
        for _ in 0..10 {
            other.silence().await;
        }
        let mut client = Client::raw(second.address, Version::Mqtt5).await;
        let connack = client.connect(mine).await;
        assert_eq!(connack.session_present, is_persistent);
        if is_persistent {
            let again = client.publish().await;
            assert!(again.duplicate);
            assert_eq!((again.delivery, again.payload), (sent.delivery, sent.payload));
            client.send(Packet::Pubrec(Acknowledgement::success(sent.delivery.packet_id().expect("one")))).await;
            assert!(matches!(client.packet().await, Packet::Pubrel(_)));
        }
        client.silence().await;
        other.silence().await;
    }
    drop((first, second));
    core.stop();
}
