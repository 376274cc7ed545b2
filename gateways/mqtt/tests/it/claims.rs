//! Messages of QoS 2 of a shared subscription while the core goes away in the middle of a claim, for longer than anybody waits for it:
//! each has one member, whatever became of the claim.

use std::collections::BTreeMap;
use std::time::Duration;

use codec_mqtt::{Connack, Packet, QoS, Reason, Version};
use core_rpc::{AnyCore, Core, TopicCreate, TopicSettings};
use mqtt_gateway::{Config, Handle};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::faulty_core::{By, FaultyCore, Lost};
use crate::common::{Client, config, connect, delivery, message, open_core, persistent, within};

const SHARED: &str = "$share/workers/jobs/+";
const MESSAGES: u16 = 10;

/// Longer than anything takes that is under way.
const STILL: Duration = Duration::from_millis(400);

struct World {
    directory: TempDir,
    core: FaultyCore,
    gateway: Handle,
    members: Vec<Client>,
}

impl World {
    /// Two members with sessions that stay. `by`: settled so, which is a matter of who made the topic.
    async fn begin(by: By, partitions: u32) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let local = open_core(&directory);
        if by == By::Settle {
            let create = TopicCreate {
                namespace: "default".into(),
                name: "jobs".into(),
                partitions,
                settings: TopicSettings::default(),
                labels: BTreeMap::new(),
            };
            local.topic_create(create).await.expect("a topic");
        }
        let core = FaultyCore::new(local);
        let config = Config { session_timeout: Duration::from_millis(600), ..config() };
        let gateway = mqtt_gateway::start(AnyCore::new(core.clone()), config).await.expect("a gateway");
        let mut world = World { directory, core, gateway, members: Vec::new() };
        for at in 0..2 {
            let mut member = world.connect(at).await.0;
            member.subscribe(SHARED, QoS::ExactlyOnce).await;
            world.members.push(member);
        }
        world
    }

    async fn connect(&self, at: usize) -> (Client, Connack) {
        let mut member = Client::raw(self.gateway.address(), Version::Mqtt5).await;
        let connack = member.connect(persistent(Version::Mqtt5, &format!("member-{at}"))).await;
        assert_eq!(connack.reason, Reason::Success);
        (member, connack)
    }

    /// Messages for both members, and the core goes when the first of them are claimed.
    async fn lose(&self, by: By, lost: Lost) {
        self.core.lose(by, lost);
        let _publisher = self.publish().await;
        within(self.core.gone()).await;
    }

    /// Does not wait for PUBREC, for there may be nobody who could send it.
    async fn publish(&self) -> Client {
        let mut publisher = Client::raw(self.gateway.address(), Version::Mqtt5).await;
        publisher.connect(connect(Version::Mqtt5, "publisher")).await;
        let publishes = (1..=MESSAGES).map(|number| {
            let delivery = delivery(QoS::ExactlyOnce, number);
            Packet::Publish(message(&format!("jobs/{}", number % 7), number.to_string(), delivery))
        });
        publisher.send_all(publishes).await;
        publisher
    }

    /// All that the members get, and how often.
    async fn all(&mut self) -> BTreeMap<String, usize> {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        within(async {
            loop {
                let mut is_still = true;
                for member in &mut self.members {
                    while let Ok((_, payload)) = timeout(STILL, member.message()).await {
                        *all.entry(payload).or_default() += 1;
                        is_still = false;
                    }
                }
                if is_still && all.len() >= usize::from(MESSAGES) {
                    return;
                }
            }
        })
        .await;
        all
    }

    /// Each member got its part, each message one member; and nothing is left for who comes back.
    async fn end(mut self, what: &str) {
        let all = self.all().await;
        let each = (1..=MESSAGES).map(|number| (number.to_string(), 1)).collect();
        assert_eq!(all, each, "{what}");
        for at in 0..2 {
            let (mut member, connack) = self.connect(at).await;
            assert!(connack.session_present, "{what}");
            member.silence().await;
        }
        self.gateway.stop().await;
        self.core.here().await.stop();
    }
}

/// Members that stay connected, or are back as soon as they find that they are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_is_away_in_the_middle_of_a_claim_leaves_each_message_with_one_member() {
    for (by, lost) in [By::Transfer, By::Settle].into_iter().flat_map(|by| [(by, Lost::Request), (by, Lost::Answer)]) {
        let mut world = World::begin(by, 1).await;
        world.lose(by, lost).await;
        world.core.restart(&world.directory).await;
        for at in 0..2 {
            world.members[at] = world.connect(at).await.0;
        }
        world.end(&format!("{by:?}, lost: {lost:?}")).await;
    }
}

/// Who was to have the messages is back before it is known whether they are its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_back_while_a_claim_is_in_doubt_gets_what_is_its_own() {
    for (by, lost) in [By::Transfer, By::Settle].into_iter().flat_map(|by| [(by, Lost::Request), (by, Lost::Answer)]) {
        let mut world = World::begin(by, 1).await;
        world.lose(by, lost).await;
        let (one, two, ()) = tokio::join!(world.connect(0), world.connect(1), async {
            // Their CONNECTs are there.
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.core.restart(&world.directory).await;
        });
        world.members = vec![one.0, two.0];
        world.end(&format!("{by:?}, lost: {lost:?}")).await;
    }
}

/// One claim of messages of several partitions, some of which lie in other shards: what was settled of it is the member's, and the rest is
/// handed out again.
#[tokio::test]
async fn of_a_claim_that_was_kept_in_part_that_part_is_its_members() {
    let mut world = World::begin(By::Settle, 3).await;
    for member in std::mem::take(&mut world.members) {
        member.disconnect().await;
    }
    let mut publisher = world.publish().await;
    for _ in 0..MESSAGES {
        assert!(matches!(publisher.packet().await, Packet::Pubrec(_)));
    }
    world.core.lose(By::Settle, Lost::Rest);
    let (one, ()) = tokio::join!(world.connect(0), async {
        within(world.core.gone()).await;
        world.core.restart(&world.directory).await;
    });
    world.members = vec![one.0, world.connect(1).await.0];
    world.end("lost: the rest").await;
}
