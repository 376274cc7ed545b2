//! The cases that version 5 alone has.

use rumqttc::v5::mqttbytes::v5::{Filter, PublishProperties, RetainForwardRule};

use crate::client::Options;
use crate::kit::{Kit, numbers, same};
use crate::seen::Fault;
use crate::v5::qos;

pub async fn properties(kit: Kit) -> Result<(), Fault> {
    let (taker, giver) = (kit.client("taker").await?, kit.client("giver").await?);
    taker.subscribe(&kit.topic, 1).await?;
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(100),
        response_topic: Some("r".into()),
        correlation_data: Some(vec![0, 255].into()),
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    giver.publish_with(&kit.topic, "x", sent.clone()).await?;
    let mut got = taker.wait(1).await?[0].properties.clone().unwrap_or_default();
    let left = got.message_expiry_interval.take();
    same(true, left.is_some_and(|seconds| (99..=100).contains(&seconds)), "what is left of its expiry")?;
    same(PublishProperties { message_expiry_interval: None, ..sent }, got, "the properties")
}

/// From the client: its own names for topics. (Of the broker's aliases rumqttc's events do not say the topics.)
pub async fn topic_aliases(kit: Kit) -> Result<(), Fault> {
    let (taker, giver) = (kit.client("taker").await?, kit.client("giver").await?);
    taker.subscribe(&kit.below("#"), 1).await?;
    for number in 0..50_u16 {
        let alias = number % 5 + 1;
        let name = if number < 5 { kit.below(alias) } else { String::new() };
        let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
        giver.publish_with(&name, &alias.to_string(), properties).await?;
    }
    let got = taker.wait(50).await?;
    same(true, got.iter().all(|message| message.topic == kit.below(message.text())), "their topics")
}

pub async fn identifiers_and_no_local(kit: Kit) -> Result<(), Fault> {
    let (client, other) = (kit.client("client").await?, kit.client("other").await?);
    let filter = Filter { nolocal: true, ..Filter::new(kit.below("mine"), qos(1)) };
    client.subscribe_with(filter, Some(7)).await?;
    client.subscribe_with(Filter::new(kit.below("+"), qos(1)), Some(300)).await?;
    client.unsubscribe(&kit.below("+")).await?;
    client.subscribe_with(Filter::new(kit.below("all"), qos(1)), Some(200_000)).await?;
    client.publish(&kit.below("mine"), "mine", 1, false).await?;
    client.publish(&kit.below("all"), "all", 1, false).await?;
    client.acknowledged(2).await?;
    other.publish(&kit.below("mine"), "another's", 1, false).await?;
    let got = client.wait(2).await?;
    let identifiers = |text: &str| {
        let found = got.iter().find(|message| message.text() == text).and_then(|message| message.properties.clone());
        found.map(|properties| properties.subscription_identifiers).unwrap_or_default()
    };
    same((vec![200_000], vec![7]), (identifiers("all"), identifiers("another's")), "subscription identifiers")?;
    same(2, got.len(), "messages, without its own")
}

pub async fn retain_options(kit: Kit) -> Result<(), Fault> {
    let (taker, giver) = (kit.client("taker").await?, kit.client("giver").await?);
    giver.publish(&kit.topic, "kept", 1, true).await?;
    giver.acknowledged(1).await?;
    let never = Filter { retain_forward_rule: RetainForwardRule::Never, ..Filter::new(&kit.topic, qos(1)) };
    taker.subscribe_with(Filter { preserve_retain: true, ..never.clone() }, None).await?;
    giver.publish(&kit.topic, "live", 1, true).await?;
    taker.wait(1).await?;
    let new = Filter { retain_forward_rule: RetainForwardRule::OnNewSubscribe, ..never };
    taker.subscribe_with(new, None).await?;
    giver.publish(&kit.topic, "", 1, true).await?;
    let got = taker.wait(2).await?;
    let told: Vec<_> = got.iter().map(|message| (message.text(), message.retain)).collect();
    same(vec![("live".to_owned(), true), (String::new(), false)], told, "what came, and as retained")
}

pub async fn receive_maximum(kit: Kit) -> Result<(), Fault> {
    let taker = kit.open(Options { manual: true, receive_maximum: Some(5), ..kit.options("taker") }).await?;
    taker.subscribe(&kit.topic, 1).await?;
    let giver = kit.client("giver").await?;
    for text in numbers(12) {
        giver.publish(&kit.topic, text, 1, false).await?;
    }
    giver.acknowledged(12).await?;
    taker.wait(5).await?;
    taker.seen.never("a sixth, with five unacknowledged", |state| state.messages.len() > 5).await?;
    for number in 0..12 {
        let message = taker.wait(number + 1).await?[number].clone();
        taker.acknowledge(&message).await?;
    }
    same(numbers(12), taker.texts(12).await?, "what came")
}

pub async fn properties_of_a_will(kit: Kit) -> Result<(), Fault> {
    let watcher = kit.client("watcher").await?;
    watcher.subscribe(&kit.topic, 1).await?;
    drop(kit.open(Options { will: Some((kit.topic.clone(), "gone".into())), ..kit.options("doomed") }).await?);
    let got = watcher.wait(1).await?[0].properties.clone().unwrap_or_default();
    let wanted = (Some(1), Some("text/plain".to_owned()), vec![("of".to_owned(), "a will".to_owned())]);
    same(wanted, (got.payload_format_indicator, got.content_type, got.user_properties), "its properties")
}
