//! Packets ↔ what is stored of them.

use bytes::Bytes;
use codec_mqtt::{Properties, Publish, QoS, SharedPublish, Text, Version};
use codec_record::BatchHeader;
use codec_record::mqtt_message::{MessageParts, MessageView};
use core_rpc::PartitionId;
use gateway_runtime::hash::fnv1a;

use crate::state::sessions::{Message, Place};

/// A client's mark in the messages that it publishes: FNV-1a of its identifier, 64 bits, never 0. It tells subscriptions that do
/// not want their own messages which those are.
pub fn publisher(client_id: &str) -> u64 {
    fnv1a(client_id.bytes()).max(1)
}

/// What is stored of a publish. The properties are those that all subscribers get, in wire form.
#[derive(Debug)]
pub struct Storable {
    qos: QoS,
    retain: bool,
    publisher: u64,
    expiry_s: Option<u32>,
    shared: SharedPublish,
    properties: Bytes,
}

impl Storable {
    /// `topic`: what an alias in the packet stands for. None: its properties do not belong in a publish, which the codec has
    /// refused before.
    pub fn new(publish: &Publish, topic: Text, publisher: u64) -> Option<Storable> {
        let shared = SharedPublish::new(topic, &publish.properties, publish.payload.clone()).ok()?;
        let [properties, _] = shared.tail(Version::Mqtt5);
        Some(Storable {
            qos: publish.delivery.qos(),
            retain: publish.retain,
            publisher,
            expiry_s: publish.properties.message_expiry_interval_s(),
            shared,
            properties,
        })
    }

    pub fn parts(&self) -> MessageParts<'_> {
        MessageParts {
            qos: self.qos as u8,
            retain: self.retain,
            publisher: self.publisher,
            expiry_s: self.expiry_s,
            topic: self.shared.topic().as_bytes(),
            properties: &self.properties,
            payload: self.shared.payload(),
        }
    }
}

/// A stored message as subscribers get it; None, if it is not one that can be sent.
pub fn message(header: &BatchHeader, view: MessageView, partition: PartitionId) -> Option<Message> {
    let place = Place { partition, offset: header.base_offset + u64::from(view.position) };
    message_at(place, expires_ms(header, view.expiry_s), view)
}

/// From when on nobody may get a message of a batch, ms since the Unix epoch.
pub fn expires_ms(header: &BatchHeader, expiry_s: Option<u32>) -> Option<i64> {
    expiry_s.map(|expiry_s| header.append_time_ms.saturating_add(i64::from(expiry_s) * 1000))
}

/// The same without its batch: of the view only what it says of itself counts.
pub fn message_at(place: Place, expires_ms: Option<i64>, view: MessageView) -> Option<Message> {
    let topic = Text::from_bytes(view.topic)?;
    let properties = Properties::from_bytes(view.properties).ok()?;
    Some(Message {
        place: Some(place),
        qos: QoS::of(view.qos).unwrap_or_default(),
        retain: view.retain,
        publisher: view.publisher,
        expires_ms,
        publish: SharedPublish::new(topic, &properties, view.payload).ok()?,
    })
}
