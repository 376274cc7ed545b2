//! A gateway that was out of the core's reach until others took it for dead, and is back: what it had begun, or begins before it knows, must
//! not be done to sessions that live elsewhere by now.

use std::collections::BTreeMap;
use std::time::Duration;

use codec_mqtt::{Acknowledgement, Connack, Connect, Packet, QoS, Reason, Version};
use core_log::LocalCore;
use core_rpc::{AnyCore, Core, TopicCreate, TopicSettings};
use mqtt_gateway::{Config, Handle};
use tempfile::TempDir;

use crate::common::far_core::FarCore;
use crate::common::{Client, config, connect, delivery, id, message, open_core, persistent, will};

/// After so long a gateway is taken for dead.
const TIMEOUT: Duration = Duration::from_millis(900);

struct World {
    _directory: TempDir,
    core: LocalCore,
    way: FarCore,
    /// It is cut off.
    far: Handle,
    near: Handle,
    /// At the other gateway, and wants to know everything.
    watcher: Client,
}

impl World {
    async fn begin() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let core = open_core(&directory);
        let way = FarCore::new(core.clone());
        let config = Config { session_timeout: TIMEOUT, ..config() };
        let far = mqtt_gateway::start(AnyCore::new(way.clone()), config.clone()).await.expect("a gateway");
        let near = mqtt_gateway::start(core.clone(), config).await.expect("a gateway");
        let mut watcher = Client::raw(near.address(), Version::Mqtt5).await;
        watcher.connect(connect(Version::Mqtt5, "watcher")).await;
        watcher.subscribe("seen/#", QoS::ExactlyOnce).await;
        World { _directory: directory, core, way, far, near, watcher }
    }

    /// At the gateway that is cut off, or will be.
    async fn at_far(&self, connect: Connect) -> (Client, Connack) {
        arrive(&self.far, connect).await
    }

    /// At the other one.
    async fn at_near(&self, connect: Connect) -> (Client, Connack) {
        arrive(&self.near, connect).await
    }

    /// It is back, has done what it had to do, and knows what is its own.
    async fn mend(&self) {
        self.way.mend().await;
        let (helper, _) = self.at_far(persistent(Version::Mqtt5, "helper")).await;
        helper.disconnect().await;
    }

    /// All that the watcher got, and how often.
    async fn seen(&mut self) -> BTreeMap<String, usize> {
        let mut helper = Client::raw(self.near.address(), Version::Mqtt5).await;
        helper.connect(connect(Version::Mqtt5, "last")).await;
        helper.publish_to("seen/last", "last", QoS::ExactlyOnce).await;
        let mut seen = BTreeMap::new();
        loop {
            let (_, payload) = self.watcher.message().await;
            if payload == "last" {
                return seen;
            }
            *seen.entry(payload).or_default() += 1;
        }
    }

    async fn end(self) {
        self.far.stop().await;
        self.near.stop().await;
        self.core.stop();
    }
}

/// A gateway that is not sure of itself refuses; its clients try again.
async fn arrive(gateway: &Handle, connect: Connect) -> (Client, Connack) {
    loop {
        let mut client = Client::raw(gateway.address(), connect.version).await;
        let connack = client.connect(connect.clone()).await;
        if connack.reason == Reason::Success {
            return (client, connack);
        }
    }
}

fn once(payloads: &[&str]) -> BTreeMap<String, usize> {
    payloads.iter().map(|payload| (payload.to_string(), 1)).collect()
}

/// Its client sends the message again, to the gateway that has the session then. `made`: the topic is one that other protocols' clients
/// made, so that message and identifier do not lie together.
async fn a_round_on_its_way(made: bool) {
    let mut world = World::begin().await;
    if made {
        let create = TopicCreate {
            namespace: "default".into(),
            name: "seen".into(),
            partitions: 1,
            settings: TopicSettings::default(),
            labels: BTreeMap::new(),
        };
        world.core.topic_create(create).await.expect("a topic");
    }
    let (mut phone, _) = world.at_far(persistent(Version::Mqtt5, "phone")).await;
    phone.publish_to("seen/x", "first", QoS::ExactlyOnce).await;
    world.way.hold("r/7/phone");
    let publish = message("seen/x", "second", delivery(QoS::ExactlyOnce, 7));
    phone.send(Packet::Publish(publish.clone())).await;
    world.way.holds_some().await;
    world.way.cut();
    let (mut phone, connack) = world.at_near(persistent(Version::Mqtt5, "phone")).await;
    assert!(connack.session_present);
    phone.send(Packet::Publish(codec_mqtt::Publish { duplicate: true, ..publish })).await;
    assert_eq!(phone.packet().await, Packet::Pubrec(Acknowledgement::success(id(7))));
    phone.send(Packet::Pubrel(Acknowledgement::success(id(7)))).await;
    assert_eq!(phone.packet().await, Packet::Pubcomp(Acknowledgement::success(id(7))));
    world.mend().await;
    assert_eq!(world.seen().await, once(&["first", "second"]), "made by others: {made}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_on_its_way_is_not_kept_once_its_session_is_anothers() {
    a_round_on_its_way(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_one_that_lies_apart_from_its_identifier() {
    a_round_on_its_way(true).await;
}

/// A connection that ends at a gateway that is cut off: its session ends there, and has been gone on with elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_it_is_cut_off_ends_no_session_elsewhere() {
    let mut world = World::begin().await;
    let mut phone = connect(Version::Mqtt5, "phone");
    phone.will = Some(will("seen/will", b"gone", QoS::AtLeastOnce));
    let (old, _) = world.at_far(phone).await;
    // Its record is in the log.
    world.mend().await;
    world.way.cut();
    drop(old);
    let (mut phone, _) = world.at_near(persistent(Version::Mqtt5, "phone")).await;
    phone.subscribe("phone", QoS::AtLeastOnce).await;
    world.mend().await;
    let (phone, connack) = world.at_far(persistent(Version::Mqtt5, "phone")).await;
    assert!(connack.session_present, "the session that lived elsewhere is gone");
    phone.disconnect().await;
    assert_eq!(world.seen().await, once(&["gone"]), "the will");
    world.end().await;
}

/// The same if it was just about to be written that the session has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_of_a_session_is_not_kept_once_it_is_anothers() {
    let world = World::begin().await;
    let mut phone = connect(Version::Mqtt5, "phone");
    phone.will = Some(will("seen/will", b"gone", QoS::AtLeastOnce));
    let (old, _) = world.at_far(phone).await;
    world.mend().await;
    world.way.hold("s/phone");
    old.disconnect().await;
    world.way.holds_some().await;
    world.way.cut();
    let (mut phone, _) = world.at_near(persistent(Version::Mqtt5, "phone")).await;
    phone.subscribe("phone", QoS::AtLeastOnce).await;
    world.mend().await;
    let (phone, connack) = world.at_far(persistent(Version::Mqtt5, "phone")).await;
    assert!(connack.session_present, "the session that lived elsewhere is gone");
    phone.disconnect().await;
    world.end().await;
}
