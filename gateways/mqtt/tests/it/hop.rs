//! A client that hops between two gateways while others publish at both: everything of QoS 1, everything of QoS 2 once, each in order, and
//! nothing of QoS 0 from while it was away.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use codec_mqtt::{Acknowledgement, Delivery, Disconnect, Packet, PacketId, QoS, Reason, Subscription, Version};
use tokio::time::{Instant, sleep, timeout};

use crate::chaos::{Chance, seeds};
use crate::common::{Broker, Client, config, connect, message, persistent, properties, text};

const HOPS: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(100);
/// Between two messages of a publisher: it is the hops that are tested.
const PAUSE: Duration = Duration::from_millis(2);

/// What the client has got.
#[derive(Default)]
struct Seen {
    by_topic: BTreeMap<String, Vec<usize>>,
    /// Of QoS 2, not released.
    pending: HashSet<PacketId>,
    /// So many times it was away, and how many of QoS 0 came that were published then.
    away: usize,
    stale: Vec<String>,
    fresh: usize,
}

impl Seen {
    /// Takes what comes for so long.
    async fn serve(&mut self, client: &mut Client, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(packet)) = tokio::time::timeout_at(end, client.next()).await {
            let answer = match packet {
                Packet::Publish(publish) => {
                    let payload = String::from_utf8(publish.payload.to_vec()).expect("text");
                    let mut got = || {
                        let numbers = self.by_topic.entry(publish.topic.to_string()).or_default();
                        numbers.push(payload.parse().expect("a number"));
                    };
                    match publish.delivery {
                        Delivery::AtMostOnce => {
                            match payload.strip_prefix("away ") {
                                Some(_) => self.stale.push(payload.clone()),
                                None => self.fresh += 1,
                            }
                            continue;
                        }
                        Delivery::AtLeastOnce(packet_id) => {
                            got();
                            Packet::Puback(Acknowledgement::success(packet_id))
                        }
                        Delivery::ExactlyOnce(packet_id) => {
                            if self.pending.insert(packet_id) {
                                got();
                            }
                            Packet::Pubrec(Acknowledgement::success(packet_id))
                        }
                    }
                }
                Packet::Pubrel(pubrel) => {
                    self.pending.remove(&pubrel.packet_id);
                    Packet::Pubcomp(Acknowledgement::success(pubrel.packet_id))
                }
                _ => continue,
            };
            client.send(answer).await;
        }
    }
}

/// Publishes until told to stop: QoS 1 and 2 by turns, each to a topic of its own. How many.
async fn run_publisher(at: usize, address: SocketAddr, is_done: Arc<AtomicBool>) -> usize {
    let mut client = Client::raw(address, Version::Mqtt5).await;
    client.connect(connect(Version::Mqtt5, &format!("publisher-{at}"))).await;
    let mut number = 0;
    while !is_done.load(Ordering::Acquire) {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        client.publish_to(&format!("hop/{at}/{}", qos as u8), number.to_string(), qos).await;
        number += 1;
        sleep(PAUSE).await;
    }
    number
}

/// To the session's next gateway, which has it from the one before.
async fn arrive(address: SocketAddr) -> (Client, bool) {
    let mut client = Client::raw(address, Version::Mqtt5).await;
    let connack = client.connect(persistent(Version::Mqtt5, "hopper")).await;
    assert_eq!(connack.reason, Reason::Success);
    (client, connack.session_present)
}

async fn run(seed: u64) {
    let broker = Broker::start().await;
    let other = mqtt_gateway::start(broker.core.clone(), config()).await.expect("a gateway");
    let addresses = [broker.address(), other.address()];
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut client, _) = arrive(addresses[0]).await;
    let wanted = [("hop/#", QoS::ExactlyOnce), ("zero/#", QoS::AtMostOnce)];
    client.subscribe_with(wanted.map(|(filter, qos)| Subscription::new(text(filter), qos)), properties([])).await;
    let mut besides = Vec::new();
    for (at, address) in addresses.into_iter().enumerate() {
        let mut client = Client::raw(address, Version::Mqtt5).await;
        client.connect(connect(Version::Mqtt5, &format!("besides-{at}"))).await;
        besides.push(client);
    }
    let is_done = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..2).map(|at| tokio::spawn(run_publisher(at, addresses[at], is_done.clone()))).collect();
    let mut seen = Seen::default();
    for _ in 0..HOPS {
        seen.serve(&mut client, Duration::from_millis(chance.below(30))).await;
        let next = addresses[chance.below(2) as usize];
        let mut before = None;
        match chance.below(3) {
            0 => {
                client.send(Packet::Disconnect(Disconnect::default())).await;
                while client.next().await.is_some() {}
                // It is away now, and what is acknowledged behind a message of QoS 0 says that that is in the log.
                let besides = &mut besides[chance.below(2) as usize];
                let text = format!("away {}", seen.away);
                besides.send(Packet::Publish(message("zero/x", &text, Delivery::AtMostOnce))).await;
                besides.publish_to("zero/x", &text, QoS::AtLeastOnce).await;
                seen.away += 1;
            }
            // Without a word.
            1 => drop(client),
            // The older connection is ended by the newer.
            _ => before = Some(client),
        }
        let (now, is_present) = arrive(next).await;
        assert!(is_present, "the session is lost");
        client = now;
        drop(before);
    }
    is_done.store(true, Ordering::Release);
    let mut counts = Vec::new();
    for publisher in publishers {
        counts.push(publisher.await.expect("a publisher"));
    }
    let last = |at: usize, qos: usize| (0..counts[at]).rev().find(|number| number % 2 == qos - 1);
    let is_all = |seen: &Seen| {
        [(0, 1), (0, 2), (1, 1), (1, 2)].into_iter().all(|(at, qos)| {
            let got = seen.by_topic.get(&format!("hop/{at}/{qos}"));
            last(at, qos).is_none_or(|last| got.is_some_and(|got| got.contains(&last)))
        })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_all(&seen) && Instant::now() < deadline {
        seen.serve(&mut client, Duration::from_millis(200)).await;
    }
    // One that is published while it is there, and whatever is too much.
    besides[1].publish_to("zero/x", "there", QoS::AtLeastOnce).await;
    seen.serve(&mut client, Duration::from_millis(500)).await;
    drop(besides);
    other.stop().await;
    broker.stop().await;
    assert!(seen.away > 10 && seen.stale.is_empty(), "seed {seed}: of QoS 0, from while it was away: {:?}", seen.stale);
    assert_eq!(seen.fresh, 1, "seed {seed}: what was published while it was there");
    for (at, count) in counts.iter().enumerate() {
        for qos in [1, 2] {
            let topic = format!("hop/{at}/{qos}");
            let mut got = seen.by_topic.remove(&topic).unwrap_or_default();
            if qos == 1 {
                // Those that came again are left out.
                let mut known = HashSet::new();
                got.retain(|number| known.insert(*number));
            }
            let all: Vec<usize> = (0..*count).filter(|number| number % 2 == qos - 1).collect();
            let wrong = got.iter().zip(&all).position(|(got, wanted)| got != wanted);
            let around = wrong.map(|wrong| (wrong, &got[wrong.saturating_sub(3)..(wrong + 4).min(got.len())]));
            assert!(got == all, "seed {seed}, {topic}: {} came of {}; first wrong {around:?}", got.len(), all.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hops_between_gateways_misses_nothing_and_gets_nothing_old() {
    for seed in seeds() {
        timeout(PATIENCE, run(seed)).await.unwrap_or_else(|_| panic!("seed {seed} does not end"));
    }
}
