//! Delayed messages on a real core, without a gateway around them.

use std::sync::Arc;
use std::time::Duration;

use codec_record::Formats;
use codec_record::mqtt_message::{MessageParts, MessageView};
use codec_record::translate::mqtt_messages;
use core_log::LocalCore;
use core_rpc::{
    AnyCore, AppendRequest, Core, Durability, FetchPartition, FetchRequest, Isolation, PartitionId, TopicCreate,
    TopicSettings,
};
use gateway_runtime::{CoreSession, Member, Membership, Purpose, TopicCache};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::now_ms;
use crate::state::{Publishing, TopicRules};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

const NOW_MS: i64 = 1_700_000_000_000;

#[test]
fn names_say_when() {
    let parsed = |name| parse(name, NOW_MS);
    assert_eq!(parsed("a/b"), None);
    assert_eq!(parsed("$delayed"), None);
    let delay = |due_ms, name| Some(Ok(Delay { due_ms, name }));
    assert_eq!(parsed("$delayed/15/x/y"), delay(NOW_MS + 15_000, "x/y"));
    assert_eq!(parsed("$delayed/0//y"), delay(NOW_MS, "/y"));
    assert_eq!(parsed("$delayed/42949670/x"), delay(NOW_MS + 42_949_670_000, "x"));
    // A greater number is a time.
    assert_eq!(parsed("$delayed/1700000060/x"), delay(NOW_MS + 60_000, "x"));
    assert_eq!(parsed("$delayed/1600000000/x"), delay(1_600_000_000_000, "x"));
    assert_eq!(parsed("$delayed/1742949671/x"), Some(Err(InvalidDelay::TooLong)));
    assert_eq!(parsed("$delayed/99999999999999999999/x"), Some(Err(InvalidDelay::TooLong)));
    assert_eq!(parsed("$delayed/9999999999999999/x"), Some(Err(InvalidDelay::TooLong)));
    for name in ["$delayed/", "$delayed/5", "$delayed/x/y", "$delayed/-5/y", "$delayed/+5/y", "$delayed//y"] {
        assert_eq!(parsed(name), Some(Err(InvalidDelay::NoDelay)), "{name}");
    }
    for name in ["$delayed/5/", "$delayed/5/$SYS/x", "$delayed/5/$delayed/5/x"] {
        assert_eq!(parsed(name), Some(Err(InvalidDelay::NoName)), "{name}");
    }
}

struct Kit {
    core: AnyCore,
    topics: Arc<Topics>,
    mover: Option<Mover>,
    members: watch::Sender<Arc<Vec<Member>>>,
    local: LocalCore,
    _directory: TempDir,
    stop: CancellationToken,
}

fn member(node_id: i32) -> Member {
    let host = "h".to_owned();
    Member { node_id, host, port: 1, tls: None, rack: None, started_ms: 0, incarnation: [0; 16] }
}

impl Kit {
    async fn start() -> Kit {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalCore::open_directory(core_log::Config::default(), directory.path(), Formats::all()).unwrap();
        let (core, stop) = (AnyCore::from(local.clone()), CancellationToken::new());
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
        let session = CoreSession::start(core.clone(), PATIENCE, Purpose::Leases, stop.clone()).await.unwrap();
        let (members, live) = watch::channel(Arc::new(vec![member(1)]));
        let mover = Mover {
            core: core.clone(),
            topics: topics.clone(),
            publishing: Publishing::new(core.clone(), topics.clone()),
            membership: Membership::fixed(member(1), live),
            lease_session: session,
            stop: stop.clone(),
        };
        Kit { core, topics, mover: Some(mover), members, local, _directory: directory, stop }
    }

    fn run(&mut self) {
        if let Some(mover) = self.mover.take() {
            tokio::spawn(mover.run());
        }
    }

    /// Keeps a message that is due so many milliseconds from now on.
    async fn delay(&self, message: &MessageParts<'_>, after_ms: i64) {
        let append = hold_back(&self.topics, message, now_ms() + after_ms);
        let answer = self.core.append(AppendRequest { appends: vec![append] }).await;
        assert!(answer[0].is_ok(), "{answer:?}");
    }

    /// The first messages of a name's partition, waiting until there are so many.
    async fn published(&self, partition: PartitionId, count: usize) -> Vec<MessageView> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = FetchRequest {
                partitions: vec![FetchPartition { partition, offset: 0, bytes_max: 1 << 20 }],
                bytes_min: u32::MAX,
                bytes_max: 1 << 20,
                wait: Duration::from_millis(100),
                isolation: Isolation::All,
            };
            let fetched = self.core.fetch(request).await.pop().unwrap().unwrap();
            let views = fetched.batches.iter().flat_map(|batch| mqtt_messages(batch, "t").unwrap());
            let found: Vec<MessageView> = views.map(Result::unwrap).collect();
            if found.len() >= count {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} of {count} within {PATIENCE:?}", found.len());
        }
    }

    async fn texts(&self, name: &str, count: usize) -> Vec<String> {
        let partition = self.topics.partition(name).await.unwrap();
        let found = self.published(partition, count).await;
        found.iter().map(|view| String::from_utf8(view.payload.to_vec()).unwrap()).collect()
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.stop.cancel();
        self.local.stop();
    }
}

fn message<'a>(topic: &'a str, payload: &'a str) -> MessageParts<'a> {
    MessageParts { qos: 1, publisher: 7, topic: topic.as_bytes(), payload: payload.as_bytes(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_published_when_they_are_due() {
    let mut kit = Kit::start().await;
    kit.run();
    let begun = std::time::Instant::now();
    kit.delay(&message("t/a", "late"), 600).await;
    kit.delay(&MessageParts { qos: 2, expiry_s: Some(60), properties: &[1, 1], ..message("t/a", "soon") }, 200).await;
    kit.delay(&message("t/a", "at once"), -5_000).await;
    assert_eq!(kit.texts("t/a", 1).await[0], "at once");
    assert_eq!(kit.texts("t/a", 3).await, ["at once", "soon", "late"]);
    assert!(begun.elapsed() >= Duration::from_millis(600));
    let partition = kit.topics.partition("t/a").await.unwrap();
    let soon = kit.published(partition, 3).await.swap_remove(1);
    assert_eq!((soon.qos, soon.publisher, &soon.properties[..]), (2, 7, &[1, 1][..]));
    assert!(soon.expiry_s.is_some_and(|left_s| (55..=60).contains(&left_s)), "{:?}", soon.expiry_s);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_meanwhile_is_not_published() {
    let mut kit = Kit::start().await;
    kit.delay(&MessageParts { expiry_s: Some(1), ..message("t/a", "expired") }, 1_200).await;
    kit.delay(&MessageParts { expiry_s: Some(60), ..message("t/a", "alive") }, 1_300).await;
    kit.run();
    assert_eq!(kit.texts("t/a", 1).await, ["alive"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retained_is_so_when_it_is_due() {
    let mut kit = Kit::start().await;
    kit.run();
    kit.delay(&MessageParts { retain: true, ..message("t/kept", "yes") }, 100).await;
    assert_eq!(kit.texts("t/kept", 1).await, ["yes"]);
    let retained = kit.published(kit.topics.own_partition(Own::Retained, "t/kept"), 1).await;
    assert_eq!((&retained[0].topic[..], retained[0].retain), (&b"t/kept"[..], true));
}

/// The gateway with the lowest number publishes, and whoever is it next goes on.
#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_publishes() {
    let mut kit = Kit::start().await;
    kit.members.send_replace(Arc::new(vec![member(0), member(1)]));
    kit.run();
    kit.delay(&message("t/a", "1"), 0).await;
    let partition = kit.topics.partition("t/a").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), kit.published(partition, 1)).await;
    assert!(waiting.is_err(), "another gateway's");
    kit.members.send_replace(Arc::new(vec![member(1)]));
    assert_eq!(kit.texts("t/a", 1).await, ["1"]);
}

/// A topic that Kafka made does not lie where those of MQTT do: it takes two steps.
#[tokio::test(flavor = "multi_thread")]
async fn topics_of_others_get_theirs_too() {
    let mut kit = Kit::start().await;
    let create = TopicCreate {
        namespace: "default".into(),
        name: "theirs".into(),
        partitions: 1,
        settings: TopicSettings::default(),
        labels: Default::default(),
    };
    let topic = kit.core.topic_create(create).await.unwrap();
    let appears = async {
        while kit.topics.by_id(topic.id).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, appears).await.unwrap();
    for payload in ["1", "2", "3"] {
        kit.delay(&MessageParts { qos: 2, ..message("theirs/a", payload) }, 0).await;
    }
    kit.delay(&message("t/a", "own"), 0).await;
    kit.run();
    assert_eq!(kit.texts("theirs/a", 3).await, ["1", "2", "3"]);
    assert_eq!(kit.texts("t/a", 1).await, ["own"]);
}

/// Kept and not settled, as a crash leaves it: the next mover's append is known again.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_steps_repeats_nothing_of_qos_2() {
    let mut kit = Kit::start().await;
    let create = TopicCreate {
        namespace: "default".into(),
        name: "theirs".into(),
        partitions: 1,
        settings: TopicSettings::default(),
        labels: Default::default(),
    };
    let topic = kit.core.topic_create(create).await.unwrap();
    let partition = PartitionId { topic: topic.id, index: 0 };
    kit.delay(&MessageParts { qos: 2, ..message("theirs/a", "once") }, 0).await;
    let mover = kit.mover.as_ref().unwrap();
    mover.append_without_settling().await.unwrap();
    assert_eq!(kit.published(partition, 1).await.len(), 1);
    kit.delay(&MessageParts { qos: 2, ..message("theirs/a", "next") }, 0).await;
    kit.run();
    assert_eq!(kit.texts("theirs/a", 2).await, ["once", "next"]);
}
