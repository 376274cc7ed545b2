//! The wire protocol MQTT 3.1, 3.1.1 and 5.0: bytes ↔ packets, both directions. Pure: no I/O, no clock, no state between
//! packets.
//!
//! ```text
//! socket bytes ─ frame::split ─► Frame ─ Packet::decode ─► Connect, Publish, Subscribe …
//! socket bytes ◄─────────────────────── Packet::encode ◄─ a gateway or a client
//! vectored write ◄─ head, properties, payload ◄─ SharedPublish (one publish for many subscribers)
//! ```
//!
//! - [`frame`]: the fixed header.
//! - [`packet`]: [`Packet`], one packet one file, and [`SharedPublish`], which serializes once what all subscribers get.
//! - [`property`]: the 27 properties of version 5, and where each may stand.
//! - [`reason`]: reason codes, and which packet may bear which.
//! - [`topic`]: names and filters. [`text`]: strings and binary data.
//!
//! What a packet holds shares the memory that it arrived in: strings and payloads are slices, and lists ([`List`],
//! [`Properties`]) stay in wire form, checked when they are decoded and read when they are asked for. So no packet makes
//! its receiver allocate more than its own length.
//!
//! An [`Error`] names the reason code that version 5 answers it with, and the statement that the peer violated. Statements
//! are those of version 5, where one of an older version is meant it says so. What depends on the connection (which packet
//! comes when, aliases in use, what CONNACK allowed) is the gateway's to check.

mod error;
pub mod frame;
mod list;
pub mod packet;
pub mod property;
mod reader;
pub mod reason;
pub mod text;
pub mod topic;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod transcripts;

pub use error::{EncodeError, Error};
pub use frame::{Frame, PACKET_BYTES_MAX, split};
pub use list::{Entry, Iter, List};
pub use packet::{
    Acknowledgement, Auth, Connack, Connect, Delivery, Disconnect, Head, Packet, PacketId, Publish, RetainHandling,
    SharedPublish, Suback, Subscribe, Subscription, TopicAliasUse, Unsuback, Unsubscribe, Will,
};
pub use property::{Place, Properties, Property, SubscriptionId, TopicAlias};
pub use reader::Reader;
pub use reason::Reason;
pub use text::{Binary, Text};

/// Which of the three protocols a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `MQIsdp`, level 3.
    Mqtt31 = 3,
    /// `MQTT`, level 4.
    Mqtt311 = 4,
    /// `MQTT`, level 5.
    Mqtt5 = 5,
}

/// Who sent a packet: some packets, reason codes and properties are only one side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    Client,
    Server,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    /// Of its two bits; `None` is the 3 that must not be used.
    pub fn of(bits: u8) -> Option<QoS> {
        Some(match bits {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return None,
        })
    }
}
