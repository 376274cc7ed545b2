//! CONNECT (3.1).

use bytes::{BufMut, BytesMut};

use super::{CONNECT, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::{Frame, put_packet};
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::text::{Binary, Text};
use crate::{QoS, Version, topic};

/// What a connection begins with.
///
/// A client identifier may be longer than the 23 bytes to which version 3.1 limits it: no server holds its clients to
/// that. An empty one, and those that version 5 allows to be refused, are refused with [`Reason::ClientIdNotValid`]
/// only where the specification says that they must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    /// Whether the client says that it is a bridge: the highest bit of the level, in versions 3.1 and 3.1.1. No
    /// specification has it; mosquitto and RSMB do, and their servers then send back retain flags as they came.
    pub bridge: bool,
    /// Clean session, before version 5.
    pub clean_start: bool,
    /// 0 is none.
    pub keep_alive_s: u16,
    pub properties: Properties,
    pub client_id: Text,
    pub will: Option<Will>,
    pub user_name: Option<Text>,
    pub password: Option<Binary>,
}

/// What is published when a client is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties,
    pub topic: Text,
    /// UTF-8 in version 3.1.
    pub payload: Binary,
}

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// The bit that bridges set in the level.
const BRIDGE: u8 = 0x80;

/// The version that a CONNECT says, which whoever refuses the rest of it must answer in. One that is unknown is
/// [`Reason::UnsupportedProtocolVersion`]; so is another name (statement MQTT-3.1.2-1), which need not be answered.
pub fn version(frame: &Frame) -> Result<Version, Error> {
    read_version(&mut Reader::new(frame.body.clone())).map(|(version, _)| version)
}

fn read_version(reader: &mut Reader) -> Result<(Version, bool), Error> {
    let name = reader.text()?;
    let unsupported = |statement, what| Err(Error::new(Reason::UnsupportedProtocolVersion, statement, what));
    if name.as_str() != "MQTT" && name.as_str() != "MQIsdp" {
        return unsupported("MQTT-3.1.2-1", "a protocol name that is not MQTT's");
    }
    let level = reader.u8()?;
    Ok(match (name.as_str(), level & !BRIDGE, level & BRIDGE != 0) {
        ("MQIsdp", 3, bridge) => (Version::Mqtt31, bridge),
        ("MQTT", 4, bridge) => (Version::Mqtt311, bridge),
        ("MQTT", 5, false) => (Version::Mqtt5, false),
        _ => return unsupported("MQTT-3.1.2-2", "an unsupported protocol version"),
    })
}

impl Connect {
    pub fn decode(frame: Frame) -> Result<Connect, Error> {
        if frame.first >> 4 != CONNECT {
            return Err(Error::protocol("MQTT-3.1.0-1", "a connection that does not begin with CONNECT"));
        }
        let mut reader = Reader::new(frame.body);
        let (version, bridge) = read_version(&mut reader)?;
        super::check_flags(frame.first, version)?;
        let flags = reader.u8()?;
        check_connect_flags(flags, version)?;
        let keep_alive_s = reader.u16()?;
        let properties = read_properties(&mut reader, version, Place::Connect)?;
        properties.check_authentication()?;
        let clean_start = flags & CLEAN_START != 0;
        let client_id = read_client_id(&mut reader, version, clean_start)?;
        let will = if flags & WILL != 0 { Some(Will::read(&mut reader, flags, version)?) } else { None };
        // 3.1 lets both flags be set and nothing stand there: its predecessor had the flags and not the fields.
        let absent = |reader: &Reader| version == Version::Mqtt31 && reader.is_empty();
        let user_name = match flags & USER_NAME != 0 && !absent(&reader) {
            true => Some(reader.text()?.plain()?),
            false => None,
        };
        let password = match flags & PASSWORD != 0 && !absent(&reader) {
            true => Some(reader.binary()?),
            false => None,
        };
        reader.end()?;
        Ok(Connect { version, bridge, clean_start, keep_alive_s, properties, client_id, will, user_name, password })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let version = self.version;
        if version < Version::Mqtt5 && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::NotInVersion);
        }
        if version == Version::Mqtt5 && self.bridge {
            return Err(EncodeError::NotInVersion);
        }
        put_packet(out, CONNECT << 4, |out| {
            out.put_slice(if version == Version::Mqtt31 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" });
            out.put_u8(version as u8 | if self.bridge { BRIDGE } else { 0 });
            out.put_u8(self.flags());
            out.put_u16(self.keep_alive_s);
            put_properties(&self.properties, version, Place::Connect, out)?;
            self.client_id.put(out);
            if let Some(will) = &self.will {
                put_properties(&will.properties, version, Place::Will, out)?;
                will.topic.put(out);
                will.payload.put(out);
            }
            if let Some(user_name) = &self.user_name {
                user_name.put(out);
            }
            if let Some(password) = &self.password {
                password.put(out);
            }
            Ok(())
        })
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let will = match &self.will {
            Some(will) => WILL | (will.qos as u8) << WILL_QOS_SHIFT | flag(will.retain, WILL_RETAIN),
            None => 0,
        };
        will | flag(self.clean_start, CLEAN_START)
            | flag(self.user_name.is_some(), USER_NAME)
            | flag(self.password.is_some(), PASSWORD)
    }
}

/// Version 3.1 says of the bits that later ones forbid only that they are not used.
fn check_connect_flags(flags: u8, version: Version) -> Result<(), Error> {
    if flags & RESERVED != 0 && version > Version::Mqtt31 {
        return Err(Error::malformed("MQTT-3.1.2-3", "the reserved flag of CONNECT is set"));
    }
    if flags & WILL == 0 && version > Version::Mqtt31 {
        if flags >> WILL_QOS_SHIFT & 3 != 0 {
            return Err(Error::malformed("MQTT-3.1.2-11", "a will QoS without a will"));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Error::malformed("MQTT-3.1.2-13", "will retain without a will"));
        }
    }
    if flags & PASSWORD != 0 && flags & USER_NAME == 0 && version < Version::Mqtt5 {
        return Err(Error::malformed("3.1.1: MQTT-3.1.2-22", "a password without a user name"));
    }
    Ok(())
}

fn read_client_id(reader: &mut Reader, version: Version, clean_start: bool) -> Result<Text, Error> {
    let not_valid = |statement, what| Error::new(Reason::ClientIdNotValid, statement, what);
    let bytes = reader.binary()?.into_bytes();
    let client_id = Text::of_the_wire(bytes)
        .and_then(Text::plain)
        .map_err(|_| not_valid("MQTT-3.1.3-4", "a client identifier that is no string of printable characters"))?;
    match version {
        Version::Mqtt31 if client_id.is_empty() => Err(not_valid("3.1: 3.1", "an empty client identifier")),
        Version::Mqtt311 if client_id.is_empty() && !clean_start => {
            Err(not_valid("3.1.1: MQTT-3.1.3-8", "an empty client identifier of a session that is to stay"))
        }
        _ => Ok(client_id),
    }
}

impl Will {
    fn read(reader: &mut Reader, flags: u8, version: Version) -> Result<Will, Error> {
        let qos = QoS::of(flags >> WILL_QOS_SHIFT & 3).ok_or(Error::malformed("MQTT-3.1.2-12", "a will of QoS 3"))?;
        let properties = read_properties(reader, version, Place::Will)?;
        let topic = topic::name(reader.text()?)?;
        let payload = reader.binary()?;
        Ok(Will { qos, retain: flags & WILL_RETAIN != 0, properties, topic, payload })
    }
}
