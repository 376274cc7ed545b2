//! SUBSCRIBE (3.8).

use bytes::{BufMut, BytesMut};

use super::{PacketId, SUBSCRIBE, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::list::{Entry, List};
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::text::Text;
use crate::{QoS, Version, topic};

/// Before version 5 without properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: PacketId,
    pub properties: Properties,
    /// At least one.
    pub subscriptions: List<Subscription>,
}

/// A topic filter and how messages that match it are sent. Before version 5 only the QoS is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// With the `$share/{group}/` of a shared subscription; see [`topic::shared`].
    pub filter: Text,
    pub qos: QoS,
    /// Not to send what this client published.
    pub no_local: bool,
    /// To keep the retain flag as it was published.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RetainHandling {
    #[default]
    Always = 0,
    /// If the subscription is new.
    IfNew = 1,
    Never = 2,
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0xc0;

impl Subscription {
    /// With the options that every version has.
    pub fn new(filter: Text, qos: QoS) -> Subscription {
        let retain_handling = RetainHandling::Always;
        Subscription { filter, qos, no_local: false, retain_as_published: false, retain_handling }
    }

    fn options(&self) -> u8 {
        self.qos as u8
            | if self.no_local { NO_LOCAL } else { 0 }
            | if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }

    fn check(&self, version: Version) -> Result<(), Error> {
        if version < Version::Mqtt5 {
            // Shared subscriptions are not this version's, so what looks like half of one is a filter like others.
            return match self.options() <= 2 {
                true => Ok(()),
                false => Err(Error::malformed("3.1.1: MQTT-3.8.3-4", "reserved bits of a requested QoS are set")),
            };
        }
        if topic::shared(&self.filter)?.is_some() && self.no_local {
            return Err(Error::protocol("MQTT-3.8.3-4", "no-local on a shared subscription"));
        }
        Ok(())
    }
}

impl Entry for Subscription {
    fn read(reader: &mut Reader) -> Result<Subscription, Error> {
        let filter = topic::filter(reader.text()?)?;
        let options = reader.u8()?;
        if options & RESERVED != 0 {
            return Err(Error::malformed("MQTT-3.8.3-5", "reserved bits of subscription options are set"));
        }
        let retain_handling = match options >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Error::protocol("3.8.3.1", "retain handling 3")),
        };
        Ok(Subscription {
            filter,
            qos: QoS::of(options & 3).ok_or(Error::protocol("3.8.3.1", "a subscription of QoS 3"))?,
            no_local: options & NO_LOCAL != 0,
            retain_as_published: options & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    fn put(&self, out: &mut BytesMut) {
        self.filter.put(out);
        out.put_u8(self.options());
    }
}

impl Subscribe {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Subscribe, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, Place::Subscribe)?;
        let subscriptions = List::read(reader, |subscription: &Subscription| subscription.check(version))?;
        if subscriptions.is_empty() {
            return Err(Error::protocol("MQTT-3.8.3-2", "a SUBSCRIBE without a topic filter"));
        }
        Ok(Subscribe { packet_id, properties, subscriptions })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_packet(out, SUBSCRIBE << 4 | 2, |out| {
            out.put_u16(self.packet_id.get());
            put_properties(&self.properties, version, Place::Subscribe, out)?;
            if version == Version::Mqtt5 {
                out.put_slice(self.subscriptions.as_bytes());
            } else {
                self.subscriptions.iter().for_each(|one| Subscription::new(one.filter, one.qos).put(out));
            }
            Ok(())
        })
    }
}
