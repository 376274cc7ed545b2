//! One PUBLISH for many subscribers: what they all get is serialized once, what differs is a head of its own.
//!
//! ```text
//! head        first byte │ remaining length │ topic │ packet identifier │ property length │ alias, expiry, subscription ids
//! properties  all others, as they came                                        (version 5)
//! payload     as it came
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::Delivery;
use super::publish::first;
use crate::error::EncodeError;
use crate::frame::{REMAINING_BYTES_MAX, put_variable_integer, variable_integer_bytes};
use crate::property::{Place, Properties, Property, SubscriptionId, TopicAlias};
use crate::text::Text;
use crate::{Error, Version};

/// What all subscribers get. A clone shares everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPublish {
    topic: Text,
    properties: Properties,
    payload: Bytes,
}

/// What only one subscriber gets.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub duplicate: bool,
    pub delivery: Delivery,
    pub retain: bool,
    /// Version 5 only, as what follows.
    pub topic_alias: TopicAliasUse,
    /// What is left of the message's expiry interval [MQTT-3.3.2-6].
    pub message_expiry_interval_s: Option<u32>,
    /// Of the subscriptions that matched [MQTT-3.3.4-3].
    pub subscription_ids: &'a [SubscriptionId],
}

/// Whether the topic is sent, or a number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopicAliasUse {
    /// The topic.
    #[default]
    None,
    /// The topic, and the alias that stands for it from now on.
    Sets(TopicAlias),
    /// The alias.
    Stands(TopicAlias),
}

impl SharedPublish {
    /// `properties` as the publisher sent them; those that are each subscriber's own (topic alias, subscription
    /// identifiers, message expiry interval) are left out. An error where one does not belong in a PUBLISH.
    pub fn new(topic: Text, properties: &Properties, payload: Bytes) -> Result<SharedPublish, Error> {
        let is_own = [0x02, 0x0b, 0x23].into_iter().any(|id| properties.has(id));
        let properties = match is_own {
            false => properties.clone(),
            true => Properties::new(properties.iter().filter(|property| {
                use Property::*;
                !matches!(property, TopicAlias(_) | SubscriptionIdentifier(_) | MessageExpiryInterval(_))
            }))?,
        };
        properties.check_place(Place::Publish)?;
        Ok(SharedPublish { topic, properties, payload })
    }

    pub fn topic(&self) -> &Text {
        &self.topic
    }

    /// Those that all subscribers of version 5 get.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Those of version 5, then the payload: what stands behind the head.
    pub fn tail(&self, version: Version) -> [Bytes; 2] {
        let properties = if version == Version::Mqtt5 { self.properties.as_bytes().clone() } else { Bytes::new() };
        [properties, self.payload.clone()]
    }

    /// How large the packet is, head and tail, to be held against the subscriber's maximum packet size.
    pub fn packet_bytes(&self, version: Version, head: &Head<'_>) -> usize {
        let (remaining_bytes, _) = self.lengths(version, head);
        1 + variable_integer_bytes(remaining_bytes) + remaining_bytes
    }

    /// Writes the head; the packet is whole when [`SharedPublish::tail`] is written behind it.
    pub fn put_head(&self, version: Version, head: &Head<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
        let (remaining_bytes, properties_bytes) = self.lengths(version, head);
        if remaining_bytes > REMAINING_BYTES_MAX {
            return Err(EncodeError::TooLarge);
        }
        out.put_u8(first(head.duplicate, head.delivery, head.retain));
        put_variable_integer(out, remaining_bytes);
        match head.topic_alias {
            TopicAliasUse::Stands(_) if version == Version::Mqtt5 => out.put_u16(0),
            _ => self.topic.put(out),
        }
        if let Some(id) = head.delivery.packet_id() {
            out.put_u16(id.get());
        }
        if version < Version::Mqtt5 {
            return Ok(());
        }
        put_variable_integer(out, properties_bytes);
        if let TopicAliasUse::Sets(alias) | TopicAliasUse::Stands(alias) = head.topic_alias {
            Property::TopicAlias(alias).put(out);
        }
        if let Some(interval_s) = head.message_expiry_interval_s {
            Property::MessageExpiryInterval(interval_s).put(out);
        }
        for &id in head.subscription_ids {
            Property::SubscriptionIdentifier(id).put(out);
        }
        Ok(())
    }

    /// The remaining length, and the property length.
    fn lengths(&self, version: Version, head: &Head<'_>) -> (usize, usize) {
        let is_5 = version == Version::Mqtt5;
        let topic_bytes = match head.topic_alias {
            TopicAliasUse::Stands(_) if is_5 => 2,
            _ => 2 + self.topic.len(),
        };
        let always_bytes = topic_bytes + head.delivery.packet_id().map_or(0, |_| 2) + self.payload.len();
        if !is_5 {
            return (always_bytes, 0);
        }
        let alias_bytes = if head.topic_alias == TopicAliasUse::None { 0 } else { 3 };
        let expiry_bytes = head.message_expiry_interval_s.map_or(0, |_| 5);
        let ids_bytes: usize = head.subscription_ids.iter().map(|id| id.property_bytes()).sum();
        let properties_bytes = alias_bytes + expiry_bytes + ids_bytes + self.properties.as_bytes().len();
        (always_bytes + variable_integer_bytes(properties_bytes) + properties_bytes, properties_bytes)
    }
}
