//! `$SYS/broker/…`: what mosquitto tells of itself, of this gateway, for the dashboards that read it.
//!
//! Values are held in memory only and made anew every few seconds. Those that changed are given to whoever delivers them;
//! who subscribes later gets them like retained messages. No filter that begins with a wildcard matches them.
//!
//! Also what bridges say of themselves is kept here: mosquitto publishes it, retained, to
//! `$SYS/broker/connection/NAME/state`, which is the only name under `$SYS` that clients may publish to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_mqtt::{Properties, QoS, SharedPublish, Text};
use parking_lot::RwLock;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::state::counts::Counts;
use crate::state::filter::matches;
use crate::state::router::Router;
use crate::state::sessions::{Delivery, Message, Session, SubscriptionIds, Wish};

/// Names that are held, at most: bridges are few.
const STATES_MAX: usize = 1_000;

/// What a bridge may say, bytes.
const STATE_BYTES_MAX: usize = 1024;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysMessage {
    pub name: Text,
    pub payload: Bytes,
}

impl SysMessage {
    /// As it goes to subscribers: nobody's, and nowhere in the log.
    pub fn to_message(&self) -> Option<Message> {
        let publish = SharedPublish::new(self.name.clone(), &Properties::default(), self.payload.clone()).ok()?;
        Some(Message { place: None, qos: QoS::AtMostOnce, retain: true, publisher: 0, expires_ms: None, publish })
    }
}

/// The values. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Sys {
    values: Arc<RwLock<BTreeMap<String, SysMessage>>>,
}

impl Sys {
    /// Makes the values at once and then every `interval`, in a task that ends with `stop`. `count` is asked before for what is
    /// counted by looking; `deliver` gets what changed.
    pub fn start(
        &self,
        counts: Arc<Counts>,
        interval: Duration,
        count: impl Fn(&Counts) + Send + 'static,
        deliver: impl Fn(Vec<SysMessage>) + Send + 'static,
        stop: CancellationToken,
    ) {
        let kept = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = kept.keep(&counts, interval, count, deliver) => {}
            }
        });
    }

    async fn keep(
        &self,
        counts: &Counts,
        interval: Duration,
        count: impl Fn(&Counts),
        deliver: impl Fn(Vec<SysMessage>),
    ) {
        let started = Instant::now();
        let mut loads = Loads::default();
        let mut last = started;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            count(counts);
            let changed = self.renew(counts, &mut loads, now - started, now - last);
            last = now;
            if !changed.is_empty() {
                deliver(changed);
            }
        }
    }

    fn renew(&self, counts: &Counts, loads: &mut Loads, uptime: Duration, passed: Duration) -> Vec<SysMessage> {
        loads.advance(&rates(counts), passed);
        self.update(values(counts, uptime, loads))
    }

    /// Takes new values; returns those that are different.
    fn update(&self, values: Vec<(String, String)>) -> Vec<SysMessage> {
        let mut held = self.values.write();
        let mut changed = Vec::new();
        for (name, payload) in values {
            let Some(text) = Text::new(name.as_str()) else { continue };
            let message = SysMessage { name: text, payload: payload.into() };
            if held.get(&name) != Some(&message) {
                held.insert(name, message.clone());
                changed.push(message);
            }
        }
        changed
    }

    /// What a bridge says of itself, to be kept for later subscribers; with no payload, that it is to be forgotten. False: the
    /// name is none that clients may publish to, or there is too much already.
    pub fn keep_state(&self, name: &Text, payload: &Bytes) -> bool {
        if !matches("$SYS/broker/connection/+/state", name) || payload.len() > STATE_BYTES_MAX {
            return false;
        }
        let mut held = self.values.write();
        if payload.is_empty() {
            held.remove(name.as_str());
            return true;
        }
        if !held.contains_key(name.as_str()) && held.len() >= STATES_MAX {
            return false;
        }
        // Of its own memory: the payload is a slice of what the client sent with it.
        let (kept, payload) = (Text::new(name.as_str()), Bytes::copy_from_slice(payload));
        kept.is_some_and(|kept| {
            held.insert(name.to_string(), SysMessage { name: kept, payload });
            true
        })
    }

    /// The same, and who is subscribed gets it.
    pub fn tell_state(&self, router: &Router, name: &Text, payload: &Bytes) -> bool {
        let is_kept = self.keep_state(name, payload);
        if is_kept {
            let message = SysMessage { name: name.clone(), payload: payload.clone() };
            message.to_message().into_iter().for_each(|message| router.push_local(message));
        }
        is_kept
    }

    /// Gives a subscription that was just made the values that its filter matches.
    pub fn deliver(&self, session: &Session, filter: &str, wish: Wish, may_read: impl Fn(&str) -> bool) {
        let subscription_ids = wish.subscription_id.map_or(SubscriptionIds::None, SubscriptionIds::One);
        for message in self.retained(filter).iter().filter(|message| may_read(&message.name)) {
            let Some(message) = message.to_message() else { continue };
            let (message, qos) = (Arc::new(message), QoS::AtMostOnce);
            let subscription_ids = subscription_ids.clone();
            if session.push_delivery(Delivery { message, qos, retain: true, subscription_ids, share: None }) {
                session.wake();
            }
        }
    }

    /// What a new subscriber of `filter` gets, in the order of the names.
    pub fn retained(&self, filter: &str) -> Vec<SysMessage> {
        if !filter.starts_with("$SYS") {
            return Vec::new();
        }
        self.values.read().values().filter(|message| matches(filter, &message.name)).cloned().collect()
    }
}

/// What is told as an average, and its count so far.
fn rates(counts: &Counts) -> [(&'static str, u64); 9] {
    [
        ("messages/received", counts.packets_received.get()),
        ("messages/sent", counts.packets_sent.get()),
        ("publish/dropped", counts.publishes_dropped.get()),
        ("publish/received", counts.publishes_received.get()),
        ("publish/sent", counts.publishes_sent.get()),
        ("bytes/received", counts.bytes_received.get()),
        ("bytes/sent", counts.bytes_sent.get()),
        ("sockets", counts.sockets_opened.get()),
        ("connections", counts.connects_received.get()),
    ]
}

/// Over how many minutes averages go.
const MINUTES: [u32; 3] = [1, 5, 15];

/// Exponentially weighted averages per minute, as mosquitto (and a system's load) has them.
#[derive(Debug, Default)]
struct Loads {
    loads: Vec<Load>,
}

#[derive(Debug)]
struct Load {
    name: &'static str,
    count: u64,
    averages: [f64; MINUTES.len()],
}

impl Loads {
    fn advance(&mut self, counts: &[(&'static str, u64)], passed: Duration) {
        let minutes_passed = passed.as_secs_f64() / 60.0;
        for (name, count) in counts {
            let Some(load) = self.loads.iter_mut().find(|load| load.name == *name) else {
                self.loads.push(Load { name, count: *count, averages: [0.0; MINUTES.len()] });
                continue;
            };
            if minutes_passed <= 0.0 {
                continue;
            }
            let per_minute = count.saturating_sub(load.count) as f64 / minutes_passed;
            load.count = *count;
            for (average, minutes) in load.averages.iter_mut().zip(MINUTES) {
                let kept = (-minutes_passed / f64::from(minutes)).exp();
                *average = per_minute + kept * (*average - per_minute);
            }
        }
    }
}

fn values(counts: &Counts, uptime: Duration, loads: &Loads) -> Vec<(String, String)> {
    let connected = counts.clients_connected();
    let total = counts.sessions.get().max(connected);
    let numbers = [
        ("clients/total", total),
        ("clients/maximum", counts.clients_maximum()),
        ("clients/disconnected", total - connected),
        ("clients/inactive", total - connected),
        ("clients/connected", connected),
        ("clients/active", connected),
        ("clients/expired", counts.sessions_expired.get()),
        ("subscriptions/count", counts.subscriptions.get()),
        ("shared_subscriptions/count", counts.shared_subscriptions.get()),
        ("retained messages/count", counts.retained_messages.get()),
        ("store/messages/count", counts.stored_messages.get()),
        ("store/messages/bytes", counts.stored_bytes.get()),
        ("messages/stored", counts.stored_messages.get()),
        ("messages/received", counts.packets_received.get()),
        ("messages/sent", counts.packets_sent.get()),
        ("publish/messages/dropped", counts.publishes_dropped.get()),
        ("publish/messages/received", counts.publishes_received.get()),
        ("publish/messages/sent", counts.publishes_sent.get()),
        ("publish/bytes/received", counts.payload_bytes_received.get()),
        ("publish/bytes/sent", counts.payload_bytes_sent.get()),
        ("bytes/received", counts.bytes_received.get()),
        ("bytes/sent", counts.bytes_sent.get()),
    ];
    let named = |(name, value): (&str, String)| (format!("$SYS/broker/{name}"), value);
    let texts = [
        ("version", format!("PolyMQ version {}", env!("CARGO_PKG_VERSION"))),
        ("uptime", format!("{} seconds", uptime.as_secs())),
    ];
    let averages = loads.loads.iter().flat_map(|load| {
        let of = move |(average, minutes)| (format!("$SYS/broker/load/{}/{minutes}min", load.name), average);
        load.averages.iter().zip(MINUTES).map(of).map(|(name, average)| (name, format!("{average:.2}")))
    });
    let numbers = numbers.map(|(name, number)| (name, number.to_string()));
    texts.into_iter().chain(numbers).map(named).chain(averages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(sys: &Sys, name: &str) -> Option<String> {
        let found = sys.retained(&format!("$SYS/broker/{name}"));
        found.first().map(|message| String::from_utf8(message.payload.to_vec()).unwrap())
    }

    #[test]
    fn values_change_with_the_counts() {
        let counts = Counts::default();
        counts.client_connects();
        counts.sessions.set(3);
        let (sys, mut loads, ten) = (Sys::default(), Loads::default(), Duration::from_secs(10));

        assert_eq!(sys.renew(&counts, &mut loads, Duration::ZERO, Duration::ZERO).len(), 2 + 22 + 9 * 3);
        assert_eq!(payload(&sys, "uptime").as_deref(), Some("0 seconds"));
        assert_eq!(payload(&sys, "clients/disconnected").as_deref(), Some("2"));
        assert_eq!(payload(&sys, "load/bytes/sent/1min").as_deref(), Some("0.00"));

        counts.bytes_sent.add(60);
        let changed = sys.renew(&counts, &mut loads, ten, ten);
        let mut names: Vec<_> = changed.iter().map(|message| message.name.to_string()).collect();
        names.sort();
        let expected =
            ["bytes/sent", "load/bytes/sent/15min", "load/bytes/sent/1min", "load/bytes/sent/5min", "uptime"];
        assert_eq!(names, expected.map(|name| format!("$SYS/broker/{name}")));
        assert_eq!(payload(&sys, "uptime").as_deref(), Some("10 seconds"));
        assert_eq!(payload(&sys, "bytes/sent").as_deref(), Some("60"));
        // 360 a minute, a sixth of a minute long.
        assert_eq!(payload(&sys, "load/bytes/sent/1min").as_deref(), Some("55.27"));
    }

    #[tokio::test]
    async fn values_are_made_at_once_and_again_until_the_end() {
        let (sender, mut delivered) = tokio::sync::mpsc::unbounded_channel();
        let (counts, stop) = (Arc::new(Counts::default()), CancellationToken::new());
        let deliver = move |messages| sender.send(messages).unwrap();
        let (sys, count) = (Sys::default(), |counts: &Counts| counts.sessions.set(7));
        sys.start(counts.clone(), Duration::from_millis(1), count, deliver, stop.clone());
        assert!(!delivered.recv().await.unwrap().is_empty());
        assert_eq!(payload(&sys, "clients/total").as_deref(), Some("7"));
        counts.bytes_sent.add(1);
        while payload(&sys, "bytes/sent").as_deref() != Some("1") {
            assert!(delivered.recv().await.is_some());
        }
        stop.cancel();
        while delivered.recv().await.is_some() {}
    }

    #[test]
    fn no_wildcard_at_the_first_level_matches() {
        let sys = Sys::default();
        sys.update(values(&Counts::default(), Duration::ZERO, &Loads::default()));
        for filter in ["#", "+/broker/uptime", "+/#", "$SYS", "$SYS/broker", "$other/#"] {
            assert!(sys.retained(filter).is_empty(), "{filter}");
        }
        assert_eq!(sys.retained("$SYS/#").len(), 24);
        assert_eq!(sys.retained("$SYS/broker/clients/+").len(), 7);
        assert_eq!(sys.retained("$SYS/broker/retained messages/count").len(), 1);
    }

    #[test]
    fn bridges_say_how_they_are() {
        let sys = Sys::default();
        let name = Text::new("$SYS/broker/connection/b/state").unwrap();
        assert!(sys.keep_state(&name, &Bytes::from_static(b"1")));
        assert_eq!(payload(&sys, "connection/b/state").as_deref(), Some("1"));
        assert!(sys.keep_state(&name, &Bytes::new()));
        assert!(sys.retained("$SYS/#").is_empty());
        assert!(!sys.keep_state(&Text::new("$SYS/broker/uptime").unwrap(), &Bytes::from_static(b"1")));
        assert!(!sys.keep_state(&name, &vec![0; STATE_BYTES_MAX + 1].into()));
        for number in 0..STATES_MAX + 10 {
            let name = Text::new(format!("$SYS/broker/connection/{number}/state")).unwrap();
            assert_eq!(sys.keep_state(&name, &Bytes::from_static(b"1")), number < STATES_MAX);
        }
    }

    #[test]
    fn averages_come_near_what_goes_on() {
        let mut loads = Loads::default();
        for minute in 0..=120 {
            loads.advance(&[("x", minute * 600)], Duration::from_secs(60));
        }
        let averages = loads.loads[0].averages;
        assert!(averages.iter().all(|average| (average - 600.0).abs() < 1.0), "{averages:?}");
    }
}
