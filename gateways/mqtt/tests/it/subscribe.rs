//! SUBSCRIBE and UNSUBSCRIBE.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codec_mqtt::{Packet, Property, QoS, Reason, Subscribe, Subscription, SubscriptionId, Unsubscribe, Version};
use core_rpc::{AnyCore, Core, META_VALUE_BYTES_MAX, MetaCondition, MetaPut};

use crate::common::faulty_core::FaultyCore;
use crate::common::{Broker, Client, config, connect, delivery, id, message, open_core, properties, text};

async fn unsubscribe<const N: usize>(client: &mut Client, filters: [&str; N]) -> Vec<Reason> {
    let packet_id = id(client.id());
    let filters = filters.map(text).into();
    client.send(Packet::Unsubscribe(Unsubscribe { packet_id, properties: Default::default(), filters })).await;
    match client.packet().await {
        Packet::Unsuback(unsuback) => {
            assert_eq!(unsuback.packet_id, packet_id);
            unsuback.reasons.iter().collect()
        }
        other => panic!("{other:?} instead of UNSUBACK"),
    }
}

/// [MQTT-3.8.4-5], [MQTT-3.10.4-4], [MQTT-3.11.3-1].
#[tokio::test]
async fn each_filter_has_its_answer() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "filters").await;
    let filters = [("a/+", QoS::AtMostOnce), ("b/#", QoS::AtLeastOnce), ("c", QoS::ExactlyOnce)];
    let subscriptions = filters.map(|(filter, qos)| Subscription::new(text(filter), qos));
    let suback = client.subscribe_with(subscriptions, Default::default()).await;
    let granted = [Reason::Success, Reason::GrantedQoS1, Reason::GrantedQoS2];
    assert_eq!(suback.reasons.iter().collect::<Vec<_>>(), granted);
    client.publish_to("b/x", "1", QoS::AtMostOnce).await;
    assert_eq!(client.message().await.1, "1");
    let gone = unsubscribe(&mut client, ["b/#", "d"]).await;
    assert_eq!(gone, [Reason::Success, Reason::NoSubscriptionExisted]);
    client.publish_to("b/x", "2", QoS::AtLeastOnce).await;
    client.publish_to("c", "3", QoS::AtMostOnce).await;
    assert_eq!(client.message().await.1, "3");
    let mut client = broker.client(Version::Mqtt311, "older").await;
    client.subscribe("e", QoS::AtMostOnce).await;
    assert_eq!(unsubscribe(&mut client, ["e", "f"]).await, []);
    // Half a shared subscription is a filter to the codec of older versions, and to nobody else.
    let suback = client.subscribe("$share/half", QoS::AtMostOnce).await;
    assert_eq!(suback.reasons.iter().collect::<Vec<_>>(), [Reason::Unspecified]);
    broker.stop().await;
}

/// The core is not asked for each of many filters: a bridge that is back has thousands.
#[tokio::test]
async fn many_filters_cost_the_core_no_more_than_one() {
    let directory = tempfile::tempdir().unwrap();
    let core = FaultyCore::new(open_core(&directory));
    let gateway = mqtt_gateway::start(AnyCore::new(core.clone()), config()).await.unwrap();
    let mut client = Client::raw(gateway.address(), Version::Mqtt5).await;
    client.connect(connect(Version::Mqtt5, "bridge")).await;
    for first in ["plant", "farm"] {
        client.publish_to(&format!("{first}/7"), "0", QoS::AtLeastOnce).await;
    }
    let before = core.calls();
    let filters = |at: usize| Subscription::new(text(&format!("{}/{at}", ["plant", "farm"][at % 2])), QoS::AtLeastOnce);
    let suback = client.subscribe_with(std::array::from_fn::<_, 500, _>(filters), Default::default()).await;
    assert_eq!(suback.reasons.iter().filter(|reason| *reason == Reason::GrantedQoS1).count(), 500);
    let calls = core.calls() - before;
    assert!(calls < 50, "{calls} calls");
    for (name, payload) in [("plant/10", "1"), ("farm/499", "2")] {
        client.publish_to(name, payload, QoS::AtLeastOnce).await;
        assert_eq!(client.message().await, (name.to_owned(), payload.to_owned()));
    }
    gateway.stop().await;
    core.here().await.stop();
}

/// A client that does not wait for SUBACK gets what it publishes behind SUBSCRIBE, and nothing behind UNSUBSCRIBE.
#[tokio::test]
async fn nothing_overtakes_a_subscription() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt311, "hasty").await;
    let subscriptions = [Subscription::new(text("hasty/+"), QoS::AtLeastOnce)].into();
    let properties = Default::default();
    let subscribe = Packet::Subscribe(Subscribe { packet_id: id(1), properties, subscriptions });
    let filters = [text("hasty/+")].into();
    let unsubscribe = Packet::Unsubscribe(Unsubscribe { packet_id: id(2), properties: Default::default(), filters });
    let publish = |payload| Packet::Publish(message("hasty/a", payload, delivery(QoS::AtMostOnce, 0)));
    client.send_all([publish("before"), subscribe, publish("between"), publish("too")]).await;
    assert!(matches!(client.packet().await, Packet::Suback(_)));
    assert_eq!(client.message().await.1, "between");
    assert_eq!(client.message().await.1, "too");
    client.send_all([unsubscribe, publish("behind")]).await;
    assert!(matches!(client.packet().await, Packet::Unsuback(_)));
    client.silence().await;
    broker.stop().await;
}

/// [MQTT-3.3.4-3], [MQTT-3.3.4-4], and 3.3.4: a message comes once, as the best of them wants it.
#[tokio::test]
async fn identifiers_of_all_subscriptions_that_match_come() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "ids").await;
    for (filter, subscription_id, qos) in [("a/+", 1, QoS::AtMostOnce), ("a/#", 300, QoS::AtLeastOnce)] {
        let properties = properties(SubscriptionId::new(subscription_id).map(Property::SubscriptionIdentifier));
        client.subscribe_with([Subscription::new(text(filter), qos)], properties).await;
    }
    client.publish_to("a/b", "x", QoS::AtMostOnce).await;
    let publish = client.publish().await;
    let mut ids: Vec<u32> = publish.properties.subscription_ids().map(SubscriptionId::get).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 300]);
    client.silence().await;
    broker.stop().await;
}

/// Whoever subscribes next to a topic that was just made must not take its first messages from who waited for them.
#[tokio::test]
async fn the_first_messages_of_a_topic_reach_who_waited_for_it() {
    let broker = Broker::start().await;
    for round in 0..20 {
        let mut waiting = broker.client(Version::Mqtt5, &format!("waiting{round}")).await;
        waiting.subscribe(&format!("new{round}/#"), QoS::AtLeastOnce).await;
        let mut publisher = broker.client(Version::Mqtt5, &format!("from{round}")).await;
        let first = message(&format!("new{round}/a"), "first", delivery(QoS::AtLeastOnce, 1));
        publisher.publish_all(first).await;
        let mut late = broker.client(Version::Mqtt5, &format!("late{round}")).await;
        late.subscribe(&format!("new{round}/+"), QoS::AtLeastOnce).await;
        late.silence().await;
        assert_eq!(&*waiting.publish().await.payload, b"first");
    }
    broker.stop().await;
}

/// What was acknowledged before is not new to whoever subscribes, though the other gateway, which made its topic a moment ago, has
/// acknowledged it.
#[tokio::test]
async fn what_another_gateway_has_acknowledged_is_not_new() {
    let broker = Broker::start().await;
    let other = mqtt_gateway::start(broker.core.clone(), config()).await.expect("a gateway");
    let mut publisher = broker.client(Version::Mqtt5, "publisher").await;
    for round in 0..100 {
        let mut subscriber = Client::raw(other.address(), Version::Mqtt5).await;
        subscriber.connect(connect(Version::Mqtt5, "subscriber")).await;
        let (topic, shared) = (format!("round{round}/a"), format!("$share/group/round{round}/#"));
        let filter = if round % 2 == 0 { &topic } else { &shared };
        for payload in ["old", "older"] {
            publisher.publish_to(&topic, payload, QoS::AtLeastOnce).await;
        }
        subscriber.subscribe(filter, QoS::AtLeastOnce).await;
        publisher.publish_to(&topic, "new", QoS::AtLeastOnce).await;
        assert_eq!(subscriber.message().await.1, "new", "round {round}");
        subscriber.disconnect().await;
    }
    other.stop().await;
    broker.stop().await;
}

/// A subscription asks which topics there are. The core remembers so many changes only, and a watch that stands does not see that
/// others than those of topics have filled its memory: nobody waits for it to come back.
#[tokio::test]
async fn many_changes_of_others_hold_nobody_up() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "client").await;
    let value = Bytes::from(vec![0; META_VALUE_BYTES_MAX]);
    for number in 0..20 {
        let (key, condition) = (format!("others/{number}"), MetaCondition::Always);
        broker.core.meta_put(MetaPut { key, value: value.clone(), condition, session: None }).await.expect("stored");
    }
    let begun = Instant::now();
    client.subscribe("$share/group/a", QoS::AtLeastOnce).await;
    client.subscribe("b", QoS::AtLeastOnce).await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    broker.stop().await;
}
