//! Shared subscriptions.

use std::collections::BTreeMap;
use std::time::Duration;

use codec_mqtt::{Acknowledgement, Delivery, Packet, QoS, Unsubscribe, Version};
use core_rpc::{
    AcquireMode, AcquireRequest, Core, GroupName, Isolation, Lease, MetaCondition, MetaPut, OffsetAt, PartitionId,
    SeekTo, Topic,
};
use mqtt_gateway::Config;

use crate::common::{Broker, Client, config, connect, id, persistent, text, within};

const SHARED: &str = "$share/workers/jobs/+";

async fn member(broker: &Broker, name: &str, qos: QoS) -> Client {
    let mut client = broker.client(Version::Mqtt5, name).await;
    client.subscribe(SHARED, qos).await;
    client
}

async fn publish(client: &mut Client, numbers: std::ops::Range<usize>, qos: QoS) {
    for number in numbers {
        client.publish_to(&format!("jobs/{}", number % 5), number.to_string(), qos).await;
    }
}

/// The next messages' numbers, acknowledged.
async fn numbers(client: &mut Client, count: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(client.message().await.1.parse().expect("a number"));
    }
    found
}

async fn unsubscribe(client: &mut Client) {
    let packet_id = id(client.id());
    let filters = [text(SHARED)].into();
    client.send(Packet::Unsubscribe(Unsubscribe { packet_id, properties: Default::default(), filters })).await;
    assert!(matches!(client.packet().await, Packet::Unsuback(_)));
}

/// Each message comes to one of them, evenly; to a subscription of its own it comes besides.
#[tokio::test]
async fn one_member_gets_each_message() {
    let broker = Broker::start().await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut members = Vec::new();
        for name in ["one", "two", "three"] {
            members.push(member(&broker, name, qos).await);
        }
        let mut all = broker.client(Version::Mqtt311, "all").await;
        all.subscribe("jobs/#", qos).await;
        let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
        publisher.publish_to("jobs/deeper/x", "not theirs", QoS::AtLeastOnce).await;
        publish(&mut publisher, 0..90, QoS::ExactlyOnce).await;
        let mut found = Vec::new();
        for member in &mut members {
            // Who has acknowledged all has the fewest; nobody is left out.
            while let Ok(number) = tokio::time::timeout(Duration::from_millis(500), member.message()).await {
                found.push(number.1.parse::<usize>().expect("a number"));
            }
        }
        found.sort_unstable();
        assert_eq!(found, (0..90).collect::<Vec<_>>());
        for _ in 0..91 {
            all.message().await;
        }
        for member in &mut members {
            unsubscribe(member).await;
        }
    }
    broker.stop().await;
}

/// Whoever acknowledges nothing gets no more than its window, and the others all else; when it goes, they get that, too, in order.
#[tokio::test]
async fn what_a_member_has_when_it_dies_goes_to_others() {
    let broker = Broker::start().await;
    let mut lazy = broker.client(Version::Mqtt5, "lazy").await;
    lazy.subscribe(SHARED, QoS::AtLeastOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 0..10, QoS::AtLeastOnce).await;
    let mut had = Vec::new();
    for _ in 0..10 {
        had.push(lazy.publish().await);
    }
    let mut busy = member(&broker, "busy", QoS::AtLeastOnce).await;
    publish(&mut publisher, 10..40, QoS::AtLeastOnce).await;
    // The other has ten already: the first ten are for this one.
    let mut found = numbers(&mut busy, 10).await;
    assert!(found.iter().all(|number| *number >= 10));
    // One is acknowledged and does not come back.
    let Delivery::AtLeastOnce(first) = had[0].delivery else { panic!("{:?}", had[0]) };
    lazy.send(Packet::Puback(Acknowledgement::success(first))).await;
    lazy.send(Packet::Pingreq).await;
    while lazy.packet().await != Packet::Pingresp {}
    drop(lazy);
    found.extend(numbers(&mut busy, 29).await);
    let acknowledged: usize = std::str::from_utf8(&had[0].payload).expect("text").parse().expect("a number");
    found.sort_unstable();
    assert_eq!(found, (0..40).filter(|number| *number != acknowledged).collect::<Vec<_>>());
    busy.silence().await;
    broker.stop().await;
}

/// What is published while nobody is there waits, over a restart of gateway and core; not behind the last UNSUBSCRIBE.
#[tokio::test]
async fn a_share_outlives_its_members() {
    let broker = Broker::start().await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 0..3, QoS::AtLeastOnce).await;
    let only = member(&broker, "only", QoS::AtLeastOnce).await;
    drop(only);
    publish(&mut publisher, 3..6, QoS::AtLeastOnce).await;
    let broker = broker.restart(config()).await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 6..9, QoS::AtLeastOnce).await;
    let mut next = member(&broker, "next", QoS::AtLeastOnce).await;
    let mut found = numbers(&mut next, 6).await;
    found.sort_unstable();
    assert_eq!(found, [3, 4, 5, 6, 7, 8]);
    next.silence().await;
    unsubscribe(&mut next).await;
    publish(&mut publisher, 9..12, QoS::AtLeastOnce).await;
    let mut later = member(&broker, "later", QoS::AtLeastOnce).await;
    later.silence().await;
    publish(&mut publisher, 12..13, QoS::AtLeastOnce).await;
    assert_eq!(numbers(&mut later, 1).await, [12]);
    broker.stop().await;
}

/// A share without members goes when its time is over.
#[tokio::test]
async fn a_share_without_members_goes_in_time() {
    let mut config = config();
    config.share_expiry = Duration::ZERO;
    let broker = Broker::with(config).await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 0..1, QoS::AtLeastOnce).await;
    let first = member(&broker, "first", QoS::AtLeastOnce).await;
    drop(first);
    // Removing it is what is waited for: its lease maps are no more.
    let groups = async || broker.core.lease_groups("default".into()).await.expect("groups");
    within(async {
        while groups().await.iter().any(|group| group.contains("$share")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    publish(&mut publisher, 0..5, QoS::AtLeastOnce).await;
    let mut next = member(&broker, "next", QoS::AtLeastOnce).await;
    next.silence().await;
    broker.stop().await;
}

/// New topics join; a filter may match all of them.
#[tokio::test]
async fn topics_that_come_later_are_shared_too() {
    let broker = Broker::start().await;
    let mut one = broker.client(Version::Mqtt311, "one").await;
    one.subscribe("$share/all/#", QoS::AtLeastOnce).await;
    let mut publisher = broker.client(Version::Mqtt311, "publisher").await;
    let mut found = BTreeMap::new();
    for topic in ["x/1", "y", "z/1/2"] {
        publisher.publish_to(topic, topic, QoS::AtLeastOnce).await;
        let (topic, payload) = one.message().await;
        found.insert(topic, payload);
    }
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|(topic, payload)| topic == payload));
    broker.stop().await;
}

/// A member that is away gets nothing, and keeps its seat; a share goes over gateways.
#[tokio::test]
async fn members_are_anywhere_and_come_back() {
    let broker = Broker::start().await;
    let other = mqtt_gateway::start(broker.core.clone(), config()).await.expect("a gateway");
    let mut here = broker.client_with(persistent(Version::Mqtt5, "here")).await;
    here.subscribe(SHARED, QoS::AtLeastOnce).await;
    let mut there = Client::raw(other.address(), Version::Mqtt5).await;
    there.connect(connect(Version::Mqtt5, "there")).await;
    there.subscribe(SHARED, QoS::AtLeastOnce).await;
    here.disconnect().await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 0..20, QoS::AtLeastOnce).await;
    let mut found = numbers(&mut there, 20).await;
    found.sort_unstable();
    assert_eq!(found, (0..20).collect::<Vec<_>>());
    // The other gateway goes, when it has seen all acknowledgements; who was away is back.
    there.silence().await;
    other.stop().await;
    publish(&mut publisher, 20..30, QoS::AtLeastOnce).await;
    let mut here = broker.raw(Version::Mqtt5).await;
    assert!(here.connect(persistent(Version::Mqtt5, "here")).await.session_present);
    let mut found = numbers(&mut here, 10).await;
    found.sort_unstable();
    assert_eq!(found, (20..30).collect::<Vec<_>>());
    broker.stop().await;
}

/// A gateway that dies while it makes a share, or removes one, leaves nothing behind.
#[tokio::test]
async fn half_a_share_is_removed() {
    let broker = Broker::with(Config { share_expiry: Duration::ZERO, ..config() }).await;
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    publish(&mut publisher, 0..1, QoS::AtLeastOnce).await;
    let entry = broker.core.meta_get(Topic::key("default", "jobs")).await.expect("an answer").expect("a topic");
    let partition = PartitionId { topic: Topic::from_entry(&entry).expect("a topic").id, index: 0 };
    let session = broker.core.session_open(Duration::from_secs(60)).await.expect("a session");
    let of = |life: &str| GroupName { namespace: "default".into(), group: format!("mqtt/$share/left/jobs/+/{life}") };
    for (life, maps) in [(7, "go"), (8, "begin")] {
        let request = AcquireRequest {
            group: of(&life.to_string()),
            partitions: vec![partition],
            holder: "the dead".into(),
            lease: Lease::Session(session),
            mode: AcquireMode::Strict,
            credit_messages: 0,
            credit_bytes: 0,
            bytes_min: 0,
            window_messages: 0,
            acquisitions_max: None,
            start: SeekTo::At(OffsetAt::Latest),
            isolation: Isolation::Committed,
            wait: Duration::ZERO,
        };
        broker.core.acquire(request).await[0].as_ref().expect("a map");
        let has_maps = || async {
            let groups = broker.core.lease_groups("default".into()).await.expect("groups");
            groups.contains(&of(&life.to_string()).group)
        };
        assert!(has_maps().await);
        let key = "mqtt/share/made/left/jobs/+";
        let made = format!(r#"{{"group":"left","filter":"jobs/+","life":{life},"maps":"{maps}"}}"#);
        let put = MetaPut { key: key.into(), value: made.into(), condition: MetaCondition::Always, session: None };
        broker.core.meta_put(put).await.expect("an entry");
        within(async {
            while has_maps().await || broker.core.meta_get(key.into()).await.expect("an answer").is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    broker.stop().await;
}
