//! The properties of version 5 (2.2.2): what each is, and where it may stand.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{EncodeError, Error};
use crate::frame::{REMAINING_BYTES_MAX, put_variable_integer, variable_integer_bytes};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::text::{Binary, Text};
use crate::{QoS, topic};

/// Where properties and reason codes stand: a packet, or CONNECT's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Place {
    Will = 1,
    Connect = 1 << 1,
    Connack = 1 << 2,
    Publish = 1 << 3,
    Puback = 1 << 4,
    Pubrec = 1 << 5,
    Pubrel = 1 << 6,
    Pubcomp = 1 << 7,
    Subscribe = 1 << 8,
    Suback = 1 << 9,
    Unsubscribe = 1 << 10,
    Unsuback = 1 << 11,
    Disconnect = 1 << 14,
    Auth = 1 << 15,
}

/// A topic alias, which is never 0 [MQTT-3.3.2-8].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicAlias(pub NonZeroU16);

/// A subscription identifier: 1 to 268,435,455 (3.8.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// `None` where it is out of its range.
    pub fn new(id: u32) -> Option<SubscriptionId> {
        NonZeroU32::new(id).filter(|id| id.get() as usize <= REMAINING_BYTES_MAX).map(SubscriptionId)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// How many bytes its property takes.
    pub(crate) fn property_bytes(self) -> usize {
        1 + variable_integer_bytes(self.get() as usize)
    }
}

/// The table of properties: identifier, name, how [`Properties`] is asked for it, type, places.
macro_rules! properties {
    ($($(#[$doc:meta])* $id:literal $name:ident $ask:ident: $type:ty, $($place:ident)|+;)*) => {
        /// One property of Table 2-4.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Property {
            $($(#[$doc])* $name($type),)*
            /// A name and a value; may stand any number of times, in order.
            UserProperty(Text, Text),
        }

        impl Property {
            /// Its identifier.
            pub fn id(&self) -> u8 {
                match self {
                    $(Property::$name(_) => $id,)*
                    Property::UserProperty(..) => USER_PROPERTY,
                }
            }

            fn read(reader: &mut Reader) -> Result<Property, Error> {
                Ok(match reader.variable_integer()? {
                    $($id => Property::$name(<$type as Value>::read(reader)?),)*
                    id if id == u32::from(USER_PROPERTY) => Property::UserProperty(reader.text()?, reader.text()?),
                    _ => return Err(Error::malformed("2.2.2.2", "an unknown property")),
                })
            }

            pub(crate) fn put(&self, out: &mut BytesMut) {
                out.put_u8(self.id());
                match self {
                    $(Property::$name(value) => value.put(out),)*
                    Property::UserProperty(name, value) => {
                        name.put(out);
                        value.put(out);
                    }
                }
            }
        }

        /// The places of a property.
        fn places(id: u8) -> u16 {
            match id {
                $($id => $(Place::$place as u16)|+,)*
                USER_PROPERTY => u16::MAX,
                _ => 0,
            }
        }

        /// The first of its kind, for each property.
        impl Properties {
            $($(#[$doc])* pub fn $ask(&self) -> Option<$type> {
                self.find($id, |property| match property {
                    Property::$name(value) => Some(value),
                    _ => None,
                })
            })*
        }
    };
}

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_ID: u8 = 0x0b;

properties! {
    /// Whether the payload is UTF-8.
    0x01 PayloadFormatIndicator payload_format_indicator: bool, Publish | Will;
    /// In seconds.
    0x02 MessageExpiryInterval message_expiry_interval_s: u32, Publish | Will;
    0x03 ContentType content_type: Text, Publish | Will;
    0x08 ResponseTopic response_topic: Text, Publish | Will;
    0x09 CorrelationData correlation_data: Binary, Publish | Will;
    /// May stand more than once in PUBLISH; see [`Properties::subscription_ids`].
    0x0b SubscriptionIdentifier subscription_id: SubscriptionId, Publish | Subscribe;
    /// In seconds; `u32::MAX` is for ever.
    0x11 SessionExpiryInterval session_expiry_interval_s: u32, Connect | Connack | Disconnect;
    0x12 AssignedClientIdentifier assigned_client_id: Text, Connack;
    /// In seconds.
    0x13 ServerKeepAlive server_keep_alive_s: u16, Connack;
    0x15 AuthenticationMethod authentication_method: Text, Connect | Connack | Auth;
    0x16 AuthenticationData authentication_data: Binary, Connect | Connack | Auth;
    0x17 RequestProblemInformation request_problem_information: bool, Connect;
    /// In seconds.
    0x18 WillDelayInterval will_delay_interval_s: u32, Will;
    0x19 RequestResponseInformation request_response_information: bool, Connect;
    0x1a ResponseInformation response_information: Text, Connack;
    0x1c ServerReference server_reference: Text, Connack | Disconnect;
    0x1f ReasonString reason_string: Text,
        Connack | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback | Disconnect | Auth;
    0x21 ReceiveMaximum receive_maximum: NonZeroU16, Connect | Connack;
    0x22 TopicAliasMaximum topic_alias_maximum: u16, Connect | Connack;
    0x23 TopicAlias topic_alias: TopicAlias, Publish;
    /// Never [`QoS::ExactlyOnce`], which is what its absence says.
    0x24 MaximumQoS maximum_qos: QoS, Connack;
    0x25 RetainAvailable retain_available: bool, Connack;
    /// In bytes, the fixed header included.
    0x27 MaximumPacketSize maximum_packet_size_bytes: NonZeroU32, Connect | Connack;
    0x28 WildcardSubscriptionAvailable wildcard_subscription_available: bool, Connack;
    0x29 SubscriptionIdentifierAvailable subscription_identifier_available: bool, Connack;
    0x2a SharedSubscriptionAvailable shared_subscription_available: bool, Connack;
}

/// The properties of a packet, in wire form and in the order they came in; checked when they were decoded. Where
/// there are none, nothing is allocated; to read many, iterate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    bytes: Bytes,
    /// Bit n: there is one with identifier n.
    present: u64,
}

impl Properties {
    /// Of these, in this order. An error where a value is not allowed (a response topic with wildcards) or one stands
    /// twice that may not.
    pub fn new(properties: impl IntoIterator<Item = Property>) -> Result<Properties, Error> {
        let mut bytes = BytesMut::new();
        for property in properties {
            property.put(&mut bytes);
        }
        Properties::check(bytes.freeze(), u16::MAX)
    }

    /// Of wire form without a length, sharing the memory; for those that were taken from a packet once ([`Properties::as_bytes`]).
    pub fn from_bytes(bytes: Bytes) -> Result<Properties, Error> {
        if bytes.is_empty() { Ok(Properties::default()) } else { Properties::check(bytes, u16::MAX) }
    }

    /// A property length and as many bytes.
    pub(crate) fn read(reader: &mut Reader, place: Place) -> Result<Properties, Error> {
        let bytes = reader.variable_integer()? as usize;
        if bytes == 0 {
            return Ok(Properties::default());
        }
        Properties::check(reader.take(bytes)?, place as u16)
    }

    fn check(bytes: Bytes, allowed: u16) -> Result<Properties, Error> {
        let mut reader = Reader::new(bytes.clone());
        let mut present = 0;
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            let id = property.id();
            if places(id) & allowed == 0 {
                return Err(MISPLACED);
            }
            let repeats = id == USER_PROPERTY || id == SUBSCRIPTION_ID && allowed & Place::Publish as u16 != 0;
            if present & 1 << id != 0 && !repeats {
                return Err(Error::protocol("2.2.2.2", "a property that stands twice"));
            }
            if let Property::ResponseTopic(response_topic) = property {
                topic::name(response_topic).map_err(|error| Error { statement: "MQTT-3.3.2-14", ..error })?;
            }
            present |= 1 << id;
        }
        Ok(Properties { bytes, present })
    }

    pub(crate) fn put(&self, place: Place, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.check_place(place).map_err(|_| EncodeError::Property)?;
        if self.bytes.len() > REMAINING_BYTES_MAX {
            return Err(EncodeError::TooLarge);
        }
        put_variable_integer(out, self.bytes.len());
        out.put_slice(&self.bytes);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// In wire form, without their length.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = Property> + use<> {
        let mut reader = Reader::new(self.bytes.clone());
        // All have been read before.
        std::iter::from_fn(move || if reader.is_empty() { None } else { Property::read(&mut reader).ok() })
    }

    pub fn user_properties(&self) -> impl Iterator<Item = (Text, Text)> + use<> {
        let all = if self.has(USER_PROPERTY) { self.iter() } else { Properties::default().iter() };
        all.filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    pub fn subscription_ids(&self) -> impl Iterator<Item = SubscriptionId> + use<> {
        let all = if self.has(SUBSCRIPTION_ID) { self.iter() } else { Properties::default().iter() };
        all.filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    pub(crate) fn check_place(&self, place: Place) -> Result<(), Error> {
        let misplaced = |id: u8| self.has(id) && places(id) & place as u16 == 0;
        if self.present != 0 && (0..64).any(misplaced) { Err(MISPLACED) } else { Ok(()) }
    }

    pub(crate) fn has(&self, id: u8) -> bool {
        self.present & 1 << id != 0
    }

    fn find<T>(&self, id: u8, value: impl FnMut(Property) -> Option<T>) -> Option<T> {
        if self.has(id) { self.iter().find_map(value) } else { None }
    }

    /// Authentication data without a method is a protocol error (3.1.2.11.10).
    pub(crate) fn check_authentication(&self) -> Result<(), Error> {
        if self.has(0x16) && !self.has(0x15) {
            return Err(Error::protocol("3.1.2.11.10", "authentication data without a method"));
        }
        Ok(())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// A type that a property can have.
trait Value: Sized {
    fn read(reader: &mut Reader) -> Result<Self, Error>;
    fn put(&self, out: &mut BytesMut);
}

macro_rules! value {
    ($type:ty, $reader:ident => $read:expr, $value:ident, $out:ident => $put:expr) => {
        impl Value for $type {
            fn read($reader: &mut Reader) -> Result<Self, Error> {
                $read
            }

            fn put(&self, $out: &mut BytesMut) {
                let $value = self;
                $put
            }
        }
    };
}

const MISPLACED: Error = Error::malformed("2.2.2.2", "a property that does not belong in this packet");
const NOT_A_FLAG: Error = Error::protocol("2.2.2", "a property that must be 0 or 1");
const ZERO: Error = Error::protocol("2.2.2", "a property that must not be 0");
const ALIAS_ZERO: Error = Error::new(Reason::TopicAliasInvalid, "MQTT-3.3.2-8", "topic alias 0");

value!(u16, reader => reader.u16(), value, out => out.put_u16(*value));
value!(u32, reader => reader.u32(), value, out => out.put_u32(*value));
value!(Text, reader => reader.text(), value, out => Text::put(value, out));
value!(Binary, reader => reader.binary(), value, out => Binary::put(value, out));
value!(NonZeroU16, reader => NonZeroU16::new(reader.u16()?).ok_or(ZERO), value, out => out.put_u16(value.get()));
value!(NonZeroU32, reader => NonZeroU32::new(reader.u32()?).ok_or(ZERO), value, out => out.put_u32(value.get()));
value!(TopicAlias, reader => NonZeroU16::new(reader.u16()?).map(TopicAlias).ok_or(ALIAS_ZERO),
    value, out => out.put_u16(value.0.get()));
value!(SubscriptionId, reader => SubscriptionId::new(reader.variable_integer()?).ok_or(ZERO),
    value, out => put_variable_integer(out, value.get() as usize));
value!(bool, reader => match reader.u8()? { 0 => Ok(false), 1 => Ok(true), _ => Err(NOT_A_FLAG) },
    value, out => out.put_u8((*value).into()));
value!(QoS, reader => match reader.u8()? { 0 => Ok(QoS::AtMostOnce), 1 => Ok(QoS::AtLeastOnce), _ => Err(NOT_A_FLAG) },
    value, out => out.put_u8(*value as u8));

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8], place: Place) -> Result<Properties, Error> {
        let mut reader = Reader::new(Bytes::from_static(bytes));
        let properties = Properties::read(&mut reader, place)?;
        reader.end()?;
        Ok(properties)
    }

    #[test]
    fn values_are_found() {
        let properties = read(b"\x11\x23\0\x02\x26\0\x01a\0\x01b\x0b\x01\x0b\x80\x01\x01\x01", Place::Publish).unwrap();
        assert_eq!(properties.topic_alias(), Some(TopicAlias(NonZeroU16::new(2).unwrap())));
        assert_eq!(properties.payload_format_indicator(), Some(true));
        assert_eq!(properties.content_type(), None);
        let ids: Vec<u32> = properties.subscription_ids().map(SubscriptionId::get).collect();
        assert_eq!(ids, [1, 128]);
        let text = |text: &str| Text::new(text).unwrap();
        assert_eq!(properties.user_properties().collect::<Vec<_>>(), [(text("a"), text("b"))]);
        assert_eq!(Properties::new(properties.iter()), Ok(properties));
    }

    #[test]
    fn each_stands_where_the_table_says() {
        let count = |place| (0..=255u8).filter(|&id| places(id) & place as u16 != 0).count();
        assert_eq!((0..=255u8).filter(|&id| places(id) != 0).count(), 27);
        assert_eq!(count(Place::Connect), 9);
        assert_eq!(count(Place::Connack), 17);
        assert_eq!(count(Place::Publish), 8);
        assert_eq!(count(Place::Will), 7);
        assert_eq!(count(Place::Puback), 2);
        assert_eq!(count(Place::Subscribe), 2);
        assert_eq!(count(Place::Suback), 2);
        assert_eq!(count(Place::Unsubscribe), 1);
        assert_eq!(count(Place::Disconnect), 4);
        assert_eq!(count(Place::Auth), 4);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let reason = |bytes, place| read(bytes, place).unwrap_err().reason;
        assert_eq!(reason(b"\x02\x01\x02", Place::Publish), Reason::ProtocolError, "neither 0 nor 1");
        assert_eq!(reason(b"\x03\x23\0\0", Place::Publish), Reason::TopicAliasInvalid);
        assert_eq!(reason(b"\x03\x21\0\0", Place::Connect), Reason::ProtocolError, "receive maximum 0");
        assert_eq!(reason(b"\x05\x27\0\0\0\0", Place::Connect), Reason::ProtocolError, "maximum packet size 0");
        assert_eq!(reason(b"\x02\x0b\0", Place::Subscribe), Reason::ProtocolError, "subscription identifier 0");
        assert_eq!(reason(b"\x04\x0b\x01\x0b\x01", Place::Subscribe), Reason::ProtocolError, "twice");
        assert_eq!(reason(b"\x02\x24\x02", Place::Connack), Reason::ProtocolError, "maximum QoS 2");
        assert_eq!(reason(b"\x02\x25\x01", Place::Connect), Reason::MalformedPacket, "elsewhere");
        assert_eq!(reason(b"\x01\0", Place::Connect), Reason::MalformedPacket, "unknown");
        assert_eq!(reason(b"\x02\x11\0", Place::Connect), Reason::MalformedPacket, "ends within a value");
        assert_eq!(reason(b"\x04\x08\0\x01#", Place::Publish), Reason::MalformedPacket, "response topic");
        assert_eq!(reason(b"\x05\x01\x01", Place::Publish), Reason::MalformedPacket, "length beyond the packet");
        assert_eq!(reason(b"\x01\x01\x01", Place::Publish), Reason::MalformedPacket, "length within a value");
        // A property's identifier is a variable byte integer, though one byte holds them all.
        assert_eq!(reason(b"\x03\x81\0\x01", Place::Publish), Reason::MalformedPacket);
    }
}
