//! PUBLISH (3.3): a message for the log. It joins the round of what was read with it.

use codec_mqtt::{Delivery, Publish, Reason, SharedPublish, Text, TopicAlias};
use core_rpc::PartitionId;

use crate::errors::{Lost, Refusal};
use crate::session::{Connection, Done, End, Kind, ROUND_BYTES_MAX, Step};
use crate::state::delayed;
use crate::state::publishing::PublishError;
use crate::state::sessions::Message;
use crate::translate::Storable;

pub(crate) fn handle(connection: &mut Connection, publish: Publish) -> Result<(), End> {
    connection.tally.publishes_received += 1;
    connection.tally.payload_bytes_received += publish.payload.len() as u64;
    let topic = topic(connection, &publish)?;
    if let Delivery::AtLeastOnce(_) = publish.delivery {
        check_window(connection, connection.inbound.unanswered() + 1)?;
    }
    if !connection.gateway.access.may_publish(&connection.client.who, &topic) {
        refuse(connection, &publish, Reason::NotAuthorized);
        return Ok(());
    }
    let topic = rewritten(connection, topic);
    if topic.starts_with('$') {
        return server_name(connection, &publish, topic);
    }
    match connection.gateway.topics.partition_known(&topic) {
        Some(partition) => keep(connection, &publish, topic, partition),
        None => {
            // It has to be made first; nothing overtakes this message meanwhile.
            let topics = connection.gateway.topics.clone();
            let finding = async move {
                let found = topics.partition(&topic).await;
                Done::Found(Box::new(publish), topic, found)
            };
            connection.step = Some(Step::Runs(Box::pin(finding)));
            Ok(())
        }
    }
}

/// The topic of a message is there now, or cannot be made.
pub(crate) fn found(
    connection: &mut Connection,
    publish: &Publish,
    topic: Text,
    found: Result<PartitionId, PublishError>,
) -> Result<(), End> {
    match found.map_err(|error| (error, Lost::from(error))) {
        Ok(partition) => keep(connection, publish, topic, partition),
        Err((error, lost)) => {
            tracing::warn!(%topic, %error, "a message has no topic to go to");
            match lost {
                Lost::Told(reason) => {
                    refuse(connection, publish, reason);
                    Ok(())
                }
                // Of QoS 0 nobody is told.
                Lost::Again(_) if publish.delivery == Delivery::AtMostOnce => Ok(()),
                Lost::Again(refusal) => Err(refusal.into()),
            }
        }
    }
}

fn keep(connection: &mut Connection, publish: &Publish, topic: Text, partition: PartitionId) -> Result<(), End> {
    let retained = publish.retain.then(|| connection.gateway.publishing.retained_partition(&topic));
    if publish.payload.len() >= ROUND_BYTES_MAX {
        // Alone in its batch, it is as large as a batch may be, and not larger.
        connection.send_round();
    }
    let Some(message) = begin(connection, publish, topic)? else { return Ok(()) };
    match publish.delivery {
        Delivery::ExactlyOnce(packet_id)
            if connection.session.is_persistent() && !connection.gateway.topics.is_together(partition) =>
        {
            let attempt = connection.session.attempt(packet_id, partition);
            connection.inbound.add_apart(&message, packet_id, attempt, retained);
        }
        _ => connection.inbound.add(&message, partition, retained),
    }
    promise(connection, publish);
    Ok(())
}

/// Names that begin with `$` are the server's [MQTT-4.7.2-1], and mean something to it or nothing.
fn server_name(connection: &mut Connection, publish: &Publish, topic: Text) -> Result<(), End> {
    match delayed::parse(&topic, crate::now_ms()) {
        Some(Ok(delay)) => {
            let (name, due_ms) = (Text::new(delay.name).unwrap_or_default(), delay.due_ms);
            if let Some(message) = begin(connection, publish, name)? {
                let held = delayed::hold_back(&connection.gateway.topics, &message.parts(), due_ms);
                connection.inbound.hold(held);
                promise(connection, publish);
            }
        }
        Some(Err(error)) => {
            tracing::debug!(%topic, %error, "a message cannot be delayed");
            refuse(connection, publish, Reason::TopicNameInvalid);
        }
        // What bridges say of themselves.
        None if connection.gateway.sys.keep_state(&topic, &publish.payload) => tell_state(connection, publish, topic),
        None => refuse(connection, publish, Reason::NotAuthorized),
    }
    Ok(())
}

/// The state of a bridge goes to who is there now, and is kept in this gateway for who comes later.
fn tell_state(connection: &mut Connection, publish: &Publish, topic: Text) {
    if let Ok(shared) = SharedPublish::new(topic, &publish.properties, publish.payload.clone()) {
        let (qos, publisher) = (publish.delivery.qos(), connection.session.publisher);
        let message = Message { place: None, qos, retain: false, publisher, expires_ms: None, publish: shared };
        connection.gateway.router.push_local(message);
    }
    match publish.delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce(packet_id) => connection.inbound.reply(Kind::PubackAlone, packet_id, Reason::Success),
        Delivery::ExactlyOnce(packet_id) => {
            connection.session.begin_receive(packet_id);
            connection.inbound.reply(Kind::PubrecAlone, packet_id, Reason::Success);
        }
    }
}

/// The name that a rule makes of a name.
fn rewritten(connection: &Connection, topic: Text) -> Text {
    if connection.gateway.rewrite.is_empty() {
        return topic;
    }
    let made = connection.gateway.rewrite.published(&connection.client.who, &topic);
    made.and_then(Text::new).unwrap_or(topic)
}

/// What is to be kept. None: it was, before.
fn begin(connection: &mut Connection, publish: &Publish, topic: Text) -> Result<Option<Storable>, End> {
    let message = Storable::new(publish, topic, connection.session.publisher);
    let message = message.ok_or(Refusal::protocol("a property that does not belong in a PUBLISH"))?;
    if let Delivery::ExactlyOnce(packet_id) = publish.delivery {
        if !connection.session.begin_receive(packet_id) {
            // Only the answer was lost [MQTT-4.3.3-10].
            connection.inbound.reply(Kind::PubrecAlone, packet_id, Reason::Success);
            return Ok(None);
        }
        let count = connection.session.receiving() + connection.inbound.unanswered();
        if let Err(end) = check_window(connection, count) {
            // It was not taken, so it is new when it is sent again.
            connection.session.end_receive(packet_id);
            return Err(end);
        }
    }
    Ok(Some(message))
}

/// The answer, when the round is kept.
fn promise(connection: &mut Connection, publish: &Publish) {
    match publish.delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce(packet_id) => connection.inbound.reply(Kind::Puback, packet_id, Reason::Success),
        Delivery::ExactlyOnce(packet_id) => {
            connection.inbound.needs_received();
            connection.inbound.reply(Kind::Pubrec, packet_id, Reason::Success);
        }
    }
}

/// What the packet names, or what its alias stands for (3.3.2.3.4).
fn topic(connection: &mut Connection, publish: &Publish) -> Result<Text, End> {
    let Some(TopicAlias(alias)) = publish.properties.topic_alias() else { return Ok(publish.topic.clone()) };
    if alias.get() > connection.gateway.config.topic_alias_maximum {
        return Err(Refusal::new(Reason::TopicAliasInvalid, "a topic alias above the maximum").into());
    }
    if publish.topic.is_empty() {
        let known = connection.inbound.aliases.get(&alias.get()).cloned();
        return Ok(known.ok_or(Refusal::protocol("a topic alias that stands for nothing"))?);
    }
    // A copy: the packet's memory must not stay for it.
    let topic = crate::session::copy(&publish.topic);
    connection.inbound.aliases.insert(alias.get(), topic.clone());
    Ok(topic)
}

/// Only version 5 knows of a window; older ones are left waiting instead [MQTT-3.3.4-7].
fn check_window(connection: &Connection, count: usize) -> Result<(), End> {
    let is_told = connection.client.version == codec_mqtt::Version::Mqtt5;
    if is_told && count > usize::from(connection.gateway.config.receive_maximum) {
        return Err(
            Refusal::new(Reason::ReceiveMaximumExceeded, "more than the receive maximum is unacknowledged").into()
        );
    }
    Ok(())
}

/// A message that is not kept. Version 5 is told why; to older ones it looks as if it had been (4.3, and 3.3.5 of 3.1.1:
/// "either make a positive acknowledgement, or close").
fn refuse(connection: &mut Connection, publish: &Publish, reason: Reason) {
    tracing::debug!(client = %connection.session.client_id, topic = %publish.topic, ?reason, "a message is refused");
    match publish.delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce(packet_id) => connection.inbound.reply(Kind::PubackAlone, packet_id, reason),
        Delivery::ExactlyOnce(packet_id) => connection.inbound.reply(Kind::PubrecAlone, packet_id, reason),
    }
}
