//! A session as the log keeps it, and what else stands beside it: pure, bytes ↔ values.
//!
//! ```text
//! record       version u8 = 2 │ number │ Head │ Body             all in postcard; version 1 has no number
//! delta        see [`delta`]
//! positions    version u8 = 1 │ partitions and offsets
//! references   how 1 │ [partition] │ [identifiers] │ [offset] │ [more]
//!              how: bits 0-1 QoS, 2 retain, 3 another partition than the last, 4 other identifiers, 5-7 offset: 1 to 7 behind the
//!                   last of that partition; 0: said in full, as a signed difference
//!              more: bits 0-1 are 3; bits 2-7: so many follow that lie each behind the last and are wanted alike; 0: said in full
//! ```
//! So a message takes a byte or two, and all of a partition, one behind the other, a few. The head stands first, because most
//! readers want nothing else.

pub mod delta;

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use codec_mqtt::{
    Delivery, PACKET_BYTES_MAX, Packet, PacketId, Properties, Property, Publish, QoS, Sender, SubscriptionId, Text,
    Version, Will,
};
use core_rpc::{PartitionId, TopicId};
use serde::{Deserialize, Serialize};

use crate::state::sessions::delivery::{Place, SubscriptionIds, Wish};
use crate::state::sessions::session::{Run, Snapshot, Subscribed, Waiting};

pub use self::delta::Delta;

const RECORD_VERSION: u8 = 2;

/// Positions have not changed since.
const VERSION_1: u8 = 1;

/// Which life of which gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

/// What must be known of a session without reading all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The gateway that looks after it. None: it was given up, and is whoever's claims it.
    pub keeper: Option<Incarnation>,
    /// There was a connection when this was written.
    pub is_connected: bool,
    /// What it missed is still being read: how far its keeper's router is says nothing of it.
    pub is_catching_up: bool,
    /// Tells a session from those before it of the same client: whatever belongs to another life is void.
    pub life: u64,
    /// Rises with each change of its keeper.
    pub epoch: u32,
    /// After how many seconds without a connection it ends; 0: with its connection; `u32::MAX`: never.
    pub expiry_s: u32,
    /// When its last connection ended, ms since the Unix epoch; 0: there is one.
    pub disconnected_ms: i64,
    /// As codec_mqtt's `Version`.
    version: u8,
}

/// A session in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub head: Head,
    pub will: Option<StoredWill>,
    /// Without what was received: that has records of its own ([`store`](crate::state::sessions::store)).
    pub snapshot: Snapshot,
}

/// A will as it waits: a PUBLISH of version 5, whole, so that it holds no more memory than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    /// PUBLISH, and behind it who has logged in: 1 and the name, or 0.
    packet: Bytes,
    pub delay_s: u32,
}

/// Who has set a will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The record is of a time when that was not told.
    Unknown,
    /// None: somebody who has not logged in.
    User(Option<String>),
}

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record of a session cannot be read")]
pub struct Unreadable;

impl From<postcard::Error> for Unreadable {
    fn from(_: postcard::Error) -> Self {
        Unreadable
    }
}

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    will: Option<(u32, &'a [u8])>,
    /// Filter, how (bits 0-1 QoS, 2 no-local, 3 retain-as-published), identifier or 0.
    #[serde(borrow)]
    subscriptions: Vec<(&'a str, u8, u32)>,
    last_packet_id: u16,
    tables: Tables,
    /// Identifier, and whether PUBREC came; what they are stands first among the references.
    flights: Vec<(u16, bool)>,
    references: &'a [u8],
    /// Index of a partition, offset.
    routed: Vec<(u32, u64)>,
}

/// What references name by a number.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tables {
    topics: Vec<u128>,
    /// Index of its topic, its own.
    partitions: Vec<(u32, u32)>,
    /// From 1; 0 is none.
    identifiers: Vec<Vec<u32>>,
}

impl Head {
    pub fn new(keeper: Incarnation, life: u64, version: Version) -> Head {
        Head {
            keeper: Some(keeper),
            is_connected: false,
            is_catching_up: false,
            life,
            epoch: 0,
            expiry_s: 0,
            disconnected_ms: 0,
            version: version as u8,
        }
    }

    /// Of a record's bytes, with the record's number.
    pub fn decode(record: &[u8]) -> Result<(u32, Head), Unreadable> {
        let (number, head, _) = begin(record)?;
        Ok((number, head))
    }

    pub fn version(&self) -> Version {
        match self.version {
            3 => Version::Mqtt31,
            4 => Version::Mqtt311,
            _ => Version::Mqtt5,
        }
    }
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

/// What a record says of itself, and its body.
fn begin(record: &[u8]) -> Result<(u32, Head, &[u8]), Unreadable> {
    let (number, rest) = match record.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::take_from_bytes(rest)?,
        Some((&VERSION_1, rest)) => (0, rest),
        _ => return Err(Unreadable),
    };
    let (head, rest) = postcard::take_from_bytes(rest)?;
    Ok((number, head, rest))
}

impl Record {
    pub fn encode(&self) -> Result<Bytes, Unreadable> {
        let begin = postcard::to_extend(&(self.snapshot.number, &self.head), vec![RECORD_VERSION])?;
        put_body(begin, self.will.as_ref(), &self.snapshot)
    }

    pub fn decode(record: &[u8]) -> Result<Record, Unreadable> {
        let (number, head, rest) = begin(record)?;
        let (will, snapshot) = take_body(rest)?;
        Ok(Record { head, will, snapshot: Snapshot { number, ..snapshot } })
    }
}

fn put_body(begin: Vec<u8>, will: Option<&StoredWill>, snapshot: &Snapshot) -> Result<Bytes, Unreadable> {
    let Snapshot { subscriptions, flights, waiting, routed, .. } = snapshot;
    let mut packer = Packer::default();
    let routed = routed.iter().map(|(partition, offset)| (packer.partition(*partition), *offset)).collect();
    for (_, waiting, _) in flights {
        packer.put(waiting);
    }
    for run in waiting {
        packer.put_run(run);
    }
    let how = |wish: &Wish| {
        wish.qos as u8
            | if wish.no_local { NO_LOCAL } else { 0 }
            | if wish.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
    };
    let id = |wish: &Wish| wish.subscription_id.map_or(0, SubscriptionId::get);
    let body = Body {
        will: will.map(|will| (will.delay_s, &*will.packet)),
        subscriptions: subscriptions.iter().map(|(f, one)| (f.as_str(), how(&one.wish), id(&one.wish))).collect(),
        last_packet_id: snapshot.last_packet_id,
        tables: packer.tables,
        flights: flights.iter().map(|(id, _, is_released)| (id.get(), *is_released)).collect(),
        references: &packer.out,
        routed,
    };
    Ok(postcard::to_extend(&body, begin)?.into())
}

fn take_body(body: &[u8]) -> Result<(Option<StoredWill>, Snapshot), Unreadable> {
    let body: Body<'_> = postcard::from_bytes(body)?;
    let mut subscriptions = Vec::with_capacity(body.subscriptions.len());
    for (filter, how, id) in body.subscriptions {
        let wish = Wish {
            qos: QoS::of(how & 3).ok_or(Unreadable)?,
            no_local: how & NO_LOCAL != 0,
            retain_as_published: how & RETAIN_AS_PUBLISHED != 0,
            subscription_id: SubscriptionId::new(id),
        };
        subscriptions.push((Text::new(filter).ok_or(Unreadable)?, Subscribed { wish }));
    }
    let partition = |index: u32| body.tables.partition(index);
    let routed = body.routed.iter().map(|(index, offset)| Ok((partition(*index)?, *offset)));
    let routed = routed.collect::<Result<_, Unreadable>>()?;
    let mut references = Unpacker::new(&body.tables, body.references)?;
    let mut flights = Vec::with_capacity(body.flights.len());
    for (id, is_released) in body.flights {
        let run = references.next().ok_or(Unreadable)??;
        flights.push((PacketId::new(id).ok_or(Unreadable)?, run.first, is_released));
    }
    let snapshot = Snapshot {
        subscriptions,
        flights,
        waiting: references.collect::<Result<_, _>>()?,
        last_packet_id: body.last_packet_id,
        routed,
        ..Snapshot::default()
    };
    let will = body.will.map(|(delay_s, packet)| StoredWill { packet: Bytes::copy_from_slice(packet), delay_s });
    Ok((will, snapshot))
}

impl StoredWill {
    /// A will as CONNECT has it, and of whom it is. None: it is larger than any packet.
    pub fn of(will: &Will, user: Option<&str>) -> Option<StoredWill> {
        let delay_s = will.properties.will_delay_interval_s().unwrap_or(0);
        let stays = |property: &Property| !matches!(property, Property::WillDelayInterval(_));
        let packet_id = PacketId::MIN;
        let publish = Publish {
            duplicate: false,
            delivery: match will.qos {
                QoS::AtMostOnce => Delivery::AtMostOnce,
                QoS::AtLeastOnce => Delivery::AtLeastOnce(packet_id),
                QoS::ExactlyOnce => Delivery::ExactlyOnce(packet_id),
            },
            retain: will.retain,
            topic: will.topic.clone(),
            properties: Properties::new(will.properties.iter().filter(stays)).ok()?,
            payload: will.payload.clone().into_bytes(),
        };
        let mut packet = BytesMut::new();
        Packet::Publish(publish).encode(Version::Mqtt5, &mut packet).ok()?;
        packet.put_u8(user.is_some().into());
        packet.put_slice(user.unwrap_or_default().as_bytes());
        // Its own memory, and no more than it takes.
        Some(StoredWill { packet: Bytes::copy_from_slice(&packet), delay_s })
    }

    /// What is published, and whose it is. None: it was damaged.
    pub fn publish(&self) -> Option<(Publish, Whose)> {
        let mut packet = BytesMut::from(&*self.packet);
        let frame = codec_mqtt::split(&mut packet, PACKET_BYTES_MAX).ok()??;
        let user = match packet.split_first() {
            None => Whose::Unknown,
            Some((0, _)) => Whose::User(None),
            Some((_, name)) => Whose::User(Some(std::str::from_utf8(name).ok()?.to_owned())),
        };
        match Packet::decode(frame, Version::Mqtt5, Sender::Client).ok()? {
            Packet::Publish(publish) => Some((publish, user)),
            _ => None,
        }
    }
}

/// How far a gateway's router is, as it is kept.
pub fn encode_positions(positions: &[(PartitionId, u64)]) -> Result<Bytes, Unreadable> {
    let mut packer = Packer::default();
    let offsets: Vec<(u32, u64)> =
        positions.iter().map(|(partition, offset)| (packer.partition(*partition), *offset)).collect();
    Ok(postcard::to_extend(&(&packer.tables, offsets), vec![VERSION_1])?.into())
}

pub fn decode_positions(bytes: &[u8]) -> Result<Vec<(PartitionId, u64)>, Unreadable> {
    let Some((&VERSION_1, rest)) = bytes.split_first() else { return Err(Unreadable) };
    let (tables, offsets): (Tables, Vec<(u32, u64)>) = postcard::from_bytes(rest)?;
    offsets.into_iter().map(|(index, offset)| Ok((tables.partition(index)?, offset))).collect()
}

impl Tables {
    fn partition(&self, index: u32) -> Result<PartitionId, Unreadable> {
        let (topic, index) = *self.partitions.get(index as usize).ok_or(Unreadable)?;
        let topic = *self.topics.get(topic as usize).ok_or(Unreadable)?;
        Ok(PartitionId { topic: TopicId(topic), index })
    }

    fn lists(&self) -> Result<Vec<SubscriptionIds>, Unreadable> {
        let list = |ids: &Vec<u32>| {
            let ids = ids.iter().map(|id| SubscriptionId::new(*id).ok_or(Unreadable));
            let ids: Vec<SubscriptionId> = ids.collect::<Result<_, _>>()?;
            Ok(match ids[..] {
                [] => SubscriptionIds::None,
                [id] => SubscriptionIds::One(id),
                _ => SubscriptionIds::Many(ids.into()),
            })
        };
        std::iter::once(Ok(SubscriptionIds::None)).chain(self.identifiers.iter().map(list)).collect()
    }
}

const RETAIN: u8 = 1 << 2;
const OTHER_PARTITION: u8 = 1 << 3;
const OTHER_IDENTIFIERS: u8 = 1 << 4;
const STEP_SHIFT: u8 = 5;
const STEP_MAX: u64 = 7;

/// Where a QoS stands, there is none: more follow of the last.
const MORE: u8 = 3;
const MORE_SHIFT: u8 = 2;
const MORE_MAX: u32 = 63;

/// Writes references.
#[derive(Default)]
struct Packer {
    out: Vec<u8>,
    tables: Tables,
    topics: HashMap<TopicId, u32>,
    partitions: HashMap<PartitionId, u32>,
    lists: HashMap<SubscriptionIds, u32>,
    /// The last offset of each partition.
    last: Vec<u64>,
    partition: u32,
    identifiers: u32,
}

impl Packer {
    fn partition(&mut self, partition: PartitionId) -> u32 {
        if let Some(&index) = self.partitions.get(&partition) {
            return index;
        }
        let topics = &mut self.tables.topics;
        let topic = *self.topics.entry(partition.topic).or_insert_with(|| {
            topics.push(partition.topic.0);
            topics.len() as u32 - 1
        });
        let index = self.tables.partitions.len() as u32;
        self.tables.partitions.push((topic, partition.index));
        self.partitions.insert(partition, index);
        self.last.push(0);
        index
    }

    fn identifiers(&mut self, ids: &SubscriptionIds) -> u32 {
        if *ids == SubscriptionIds::None {
            return 0;
        }
        if let Some(&index) = self.lists.get(ids) {
            return index;
        }
        self.tables.identifiers.push(ids.as_slice().iter().map(|id| id.get()).collect());
        let index = self.tables.identifiers.len() as u32;
        self.lists.insert(ids.clone(), index);
        index
    }

    fn put_run(&mut self, run: &Run) {
        self.put(&run.first);
        let more = run.count.saturating_sub(1);
        match more {
            0 => return,
            1..=MORE_MAX => self.out.push(MORE | (more as u8) << MORE_SHIFT),
            _ => {
                self.out.push(MORE);
                put_varint(&mut self.out, more.into());
            }
        }
        let last = &mut self.last[self.partition as usize];
        *last = last.wrapping_add(more.into());
    }

    fn put(&mut self, waiting: &Waiting) {
        let partition = self.partition(waiting.place.partition);
        let identifiers = self.identifiers(&waiting.subscription_ids);
        let mut how = waiting.qos as u8 | if waiting.retain { RETAIN } else { 0 };
        if partition != self.partition {
            how |= OTHER_PARTITION;
        }
        if identifiers != self.identifiers {
            how |= OTHER_IDENTIFIERS;
        }
        let last = &mut self.last[partition as usize];
        let step = waiting.place.offset.wrapping_sub(*last);
        let difference = step as i64;
        *last = waiting.place.offset;
        let is_small = (1..=STEP_MAX).contains(&step);
        self.out.push(if is_small { how | (step as u8) << STEP_SHIFT } else { how });
        if partition != self.partition {
            put_varint(&mut self.out, partition.into());
        }
        if identifiers != self.identifiers {
            put_varint(&mut self.out, identifiers.into());
        }
        if !is_small {
            put_varint(&mut self.out, ((difference << 1) ^ (difference >> 63)) as u64);
        }
        (self.partition, self.identifiers) = (partition, identifiers);
    }
}

/// Reads references. After an error there are no more.
struct Unpacker<'a> {
    tables: &'a Tables,
    lists: Vec<SubscriptionIds>,
    rest: &'a [u8],
    last: Vec<u64>,
    partition: u32,
    identifiers: u32,
}

impl<'a> Unpacker<'a> {
    fn new(tables: &'a Tables, rest: &'a [u8]) -> Result<Self, Unreadable> {
        let last = vec![0; tables.partitions.len()];
        Ok(Unpacker { tables, lists: tables.lists()?, rest, last, partition: 0, identifiers: 0 })
    }

    fn read_run(&mut self, how: u8) -> Option<Run> {
        let first = self.read(how)?;
        let Some((&how, rest)) = self.rest.split_first().filter(|(how, _)| **how & 3 == MORE) else {
            return Some(Run { first, count: 1 });
        };
        self.rest = rest;
        let more = match u32::from(how >> MORE_SHIFT) {
            0 => u32::try_from(take_varint(&mut self.rest)?).ok()?,
            more => more,
        };
        let last = self.last.get_mut(self.partition as usize)?;
        *last = last.checked_add(more.into())?;
        Some(Run { first, count: more.checked_add(1)? })
    }

    fn read(&mut self, how: u8) -> Option<Waiting> {
        if how & OTHER_PARTITION != 0 {
            self.partition = u32::try_from(take_varint(&mut self.rest)?).ok()?;
        }
        if how & OTHER_IDENTIFIERS != 0 {
            self.identifiers = u32::try_from(take_varint(&mut self.rest)?).ok()?;
        }
        let step = match u64::from(how >> STEP_SHIFT) {
            0 => {
                let zigzag = take_varint(&mut self.rest)?;
                (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
            }
            step => step,
        };
        let last = self.last.get_mut(self.partition as usize)?;
        *last = last.wrapping_add(step);
        Some(Waiting {
            place: Place { partition: self.tables.partition(self.partition).ok()?, offset: *last },
            qos: QoS::of(how & 3)?,
            retain: how & RETAIN != 0,
            subscription_ids: self.lists.get(self.identifiers as usize)?.clone(),
        })
    }
}

impl Iterator for Unpacker<'_> {
    type Item = Result<Run, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&how, rest) = self.rest.split_first()?;
        self.rest = rest;
        let read = self.read_run(how).ok_or(Unreadable);
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use codec_mqtt::Binary;
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = SubscriptionIds> {
        let id = || (1u32..1000).prop_map(|id| SubscriptionId::new(id).unwrap());
        prop_oneof![
            Just(SubscriptionIds::None),
            id().prop_map(SubscriptionIds::One),
            proptest::collection::vec(id(), 2..4).prop_map(|ids| SubscriptionIds::Many(ids.into())),
        ]
    }

    fn partition() -> impl Strategy<Value = PartitionId> {
        (0u128..3, 0u32..3).prop_map(|(topic, index)| PartitionId { topic: TopicId(topic << 99), index })
    }

    fn qos() -> impl Strategy<Value = QoS> {
        (0u8..3).prop_map(|bits| QoS::of(bits).unwrap())
    }

    fn waiting() -> impl Strategy<Value = Waiting> {
        let offset = prop_oneof![0u64..20, any::<u64>()];
        (partition(), offset, qos(), any::<bool>(), ids()).prop_map(|(partition, offset, qos, retain, ids)| Waiting {
            place: Place { partition, offset },
            qos,
            retain,
            subscription_ids: ids,
        })
    }

    pub(super) fn snapshot() -> impl Strategy<Value = Snapshot> {
        let wish = (qos(), any::<bool>(), any::<bool>(), proptest::option::of(1u32..9)).prop_map(
            |(qos, no_local, retain_as_published, id)| Subscribed {
                wish: Wish { qos, no_local, retain_as_published, subscription_id: id.and_then(SubscriptionId::new) },
            },
        );
        let run = (waiting(), prop_oneof![1u32..3, 1u32..200_000]).prop_map(|(first, count)| {
            let is_room = first.place.offset.checked_add(count.into()).is_some();
            Run { first, count: if is_room { count } else { 1 } }
        });
        let filter = "[a-z/+#]{1,9}".prop_map(|filter| Text::new(filter).unwrap());
        let flight = (1u16.., waiting(), any::<bool>()).prop_map(|(id, w, r)| (PacketId::new(id).unwrap(), w, r));
        (
            proptest::collection::vec((filter, wish), 0..5),
            proptest::collection::vec(flight, 0..5),
            proptest::collection::vec(run, 0..40),
            any::<u16>(),
            proptest::collection::vec((partition(), any::<u64>()), 0..5),
        )
            .prop_map(|(subscriptions, flights, waiting, last_packet_id, routed)| Snapshot {
                subscriptions,
                received: Vec::new(),
                flights,
                waiting,
                last_packet_id,
                routed,
                changes: 0,
                number: 7,
            })
    }

    pub(super) fn head() -> Head {
        let mut head = Head::new(Incarnation([7; 16]), 0x1234_5678_9abc, Version::Mqtt311);
        (head.expiry_s, head.disconnected_ms, head.epoch, head.is_connected) = (u32::MAX, 99, 3, true);
        head
    }

    fn will(delay_s: Option<u32>) -> Will {
        let delay = delay_s.map(Property::WillDelayInterval);
        let properties = [Property::ContentType(Text::new("x").unwrap()), Property::MessageExpiryInterval(9)];
        Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: Properties::new(properties.into_iter().chain(delay)).unwrap(),
            topic: Text::new("a/b").unwrap(),
            payload: Binary::new("gone").unwrap(),
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(snapshot in snapshot(), keeper: bool, will_delay_s: Option<u32>) {
            let mut head = head();
            head.keeper = head.keeper.filter(|_| keeper);
            let record = Record { head, will: StoredWill::of(&will(will_delay_s), Some("ann")), snapshot };
            let bytes = record.encode().unwrap();
            prop_assert_eq!(Head::decode(&bytes).unwrap(), (7, record.head.clone()));
            prop_assert_eq!(Record::decode(&bytes).unwrap(), record);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, snapshot in snapshot(), at: usize, byte: u8) {
            let _ = (Record::decode(&bytes), Head::decode(&bytes), decode_positions(&bytes));
            bytes.insert(0, RECORD_VERSION);
            let _ = (Record::decode(&bytes), Head::decode(&bytes), decode_positions(&bytes));
            let mut damaged = Record { head: head(), will: None, snapshot }.encode().unwrap().to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = Record::decode(&damaged);
        }

        #[test]
        fn positions_are_read_as_they_were_written(positions in proptest::collection::vec((partition(), any::<u64>()), 0..9)) {
            prop_assert_eq!(decode_positions(&encode_positions(&positions).unwrap()).unwrap(), positions);
        }
    }

    pub(super) fn at(offset: u64) -> Waiting {
        Waiting {
            place: Place { partition: PartitionId { topic: TopicId(5), index: 1 }, offset },
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: SubscriptionIds::None,
        }
    }

    #[test]
    fn what_waits_takes_a_byte_each_and_a_whole_partition_a_few() {
        let record =
            |waiting| Record { head: head(), will: None, snapshot: Snapshot { waiting, ..Snapshot::default() } };
        let every_third = (0..100_000).map(|index| Run { first: at(1_000_000 + 3 * index), count: 1 });
        let sparse = record(every_third.collect());
        let bytes = sparse.encode().unwrap();
        assert!(bytes.len() < 100_200, "{}", bytes.len());
        assert_eq!(Record::decode(&bytes).unwrap(), sparse);
        let whole = record(vec![Run { first: at(1_000_000), count: 4_000_000_000 }]);
        let bytes = whole.encode().unwrap();
        assert!(bytes.len() < 100, "{}", bytes.len());
        assert_eq!(Record::decode(&bytes).unwrap(), whole);
    }

    /// As they were written before they had numbers.
    #[test]
    fn records_of_version_1_are_read() {
        let will = StoredWill::of(&will(Some(3)), None);
        let record = Record { head: head(), will, snapshot: Snapshot::default() };
        let mut bytes = record.encode().unwrap().to_vec();
        assert_eq!(bytes.remove(1), 0);
        bytes[0] = VERSION_1;
        assert_eq!(Record::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn a_will_is_what_connect_says_without_its_delay() {
        let stored = StoredWill::of(&will(Some(30)), Some("ann")).unwrap();
        assert_eq!(stored.delay_s, 30);
        let (publish, user) = stored.publish().unwrap();
        assert_eq!(user, Whose::User(Some("ann".into())));
        assert_eq!((&*publish.topic, &*publish.payload, publish.retain), ("a/b", &b"gone"[..], true));
        assert_eq!(publish.delivery.qos(), QoS::ExactlyOnce);
        assert_eq!(publish.properties.message_expiry_interval_s(), Some(9));
        assert_eq!(publish.properties.will_delay_interval_s(), None);
        let stored = StoredWill::of(&will(None), None).unwrap();
        assert_eq!((stored.delay_s, stored.publish().unwrap().1), (0, Whose::User(None)));
        // As it was written when nobody asked.
        let packet = stored.packet.slice(..stored.packet.len() - 1);
        assert_eq!(StoredWill { packet, delay_s: 0 }.publish().unwrap().1, Whose::Unknown);
    }
}
