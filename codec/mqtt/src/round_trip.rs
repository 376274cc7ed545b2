//! Properties of the codec: packets come back as they were, bytes never panic, what is cut is never taken.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::sample::{self, delivery, payload, sender, subscription_id, topic_name, versioned};
use crate::*;

pub fn encode(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    out
}

pub fn decode(bytes: &[u8], version: Version, sender: Sender) -> Result<Option<Packet>, Error> {
    let mut buffer = BytesMut::from(bytes);
    let Some(frame) = split(&mut buffer, PACKET_BYTES_MAX)? else { return Ok(None) };
    Packet::decode(frame, version, sender).map(Some)
}

fn alias_use() -> impl Strategy<Value = TopicAliasUse> {
    (0..3usize, 1..=u16::MAX).prop_map(|(which, alias)| {
        let alias = TopicAlias(alias.try_into().unwrap());
        [TopicAliasUse::None, TopicAliasUse::Sets(alias), TopicAliasUse::Stands(alias)][which]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_come_back((version, packet) in versioned()) {
        let bytes = encode(&packet, version);
        prop_assert_eq!(decode(&bytes, version, sender(&packet)), Ok(Some(packet.clone())));
        // The packet's length is told, so that one byte less makes it too large.
        let error = split(&mut bytes.clone(), bytes.len() - 1).unwrap_err();
        prop_assert_eq!(error.reason, Reason::PacketTooLarge);
        if let Packet::Connect(_) = packet {
            let frame = split(&mut bytes.clone(), PACKET_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(packet::connect::version(&frame), Ok(version));
        }
    }

    #[test]
    fn what_is_cut_is_never_taken((version, packet) in versioned(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&packet, version);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(decode(&bytes[..cut], version, sender(&packet)), Ok(None));
        // Nor where the remaining length is made to fit, but for fields that may be left out: a payload's end,
        // filters and codes at the end, reasons and properties of version 5, login of version 3.1.
        let frame = split(&mut bytes.clone(), PACKET_BYTES_MAX).unwrap().unwrap();
        let body = frame.body.slice(..cut.min(frame.body.len()));
        if body.len() < frame.body.len()
            && let Ok(taken) = Packet::decode(Frame { first: frame.first, body: body.clone() }, version, sender(&packet))
        {
            let again = encode(&taken, version);
            let again = split(&mut again.clone(), PACKET_BYTES_MAX).unwrap().unwrap().body;
            use Packet::*;
            match taken {
                Publish(_) | Subscribe(_) | Unsubscribe(_) | Suback(_) | Unsuback(_) => prop_assert_eq!(again, body),
                Puback(_) | Pubrec(_) | Pubrel(_) | Pubcomp(_) | Disconnect(_) | Auth(_) => {
                    prop_assert!(version == Version::Mqtt5 && body.starts_with(&again))
                }
                Connect(_) => prop_assert_eq!(version, Version::Mqtt31),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..64),
        version in sample::version(),
        by_server in any::<bool>(),
    ) {
        let sender = if by_server { Sender::Server } else { Sender::Client };
        let _ = split(&mut BytesMut::from(&body[..]), 1000);
        if let Ok(packet) = Packet::decode(Frame { first, body: body.into() }, version, sender) {
            let _ = format!("{packet:?}");
        }
    }

    #[test]
    fn a_changed_byte_never_panics(
        (version, packet) in versioned(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = encode(&packet, version);
        let at = at.index(bytes.len());
        bytes[at] = value;
        // Who sent the sample sent what became of it.
        let sender = sender(&packet);
        if let Ok(Some(packet)) = decode(&bytes, version, sender) {
            let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
            let again = encode(&packet, version);
            prop_assert_eq!(decode(&again, version, sender), Ok(Some(packet)));
        }
    }

    #[test]
    fn head_and_tail_are_a_publish(
        (version, properties) in sample::version().prop_flat_map(
            |version| (Just(version), sample::properties(version, Place::Publish))
        ),
        topic in topic_name(),
        payload in payload(),
        delivery in delivery(),
        topic_alias in alias_use(),
        message_expiry_interval_s in prop::option::of(any::<u32>()),
        subscription_ids in prop::collection::vec(subscription_id(), 0..4),
    ) {
        let shared = SharedPublish::new(topic.clone(), &properties, payload.clone()).unwrap();
        let subscription_ids = &subscription_ids[..];
        let head = Head {
            duplicate: false, delivery, retain: true, topic_alias, message_expiry_interval_s, subscription_ids,
        };
        let mut bytes = BytesMut::new();
        shared.put_head(version, &head, &mut bytes).unwrap();
        let [middle, end] = shared.tail(version);
        prop_assert!(payload.is_empty() || end.as_ptr() == payload.as_ptr(), "not copied");
        bytes.extend_from_slice(&middle);
        bytes.extend_from_slice(&end);
        prop_assert_eq!(shared.packet_bytes(version, &head), bytes.len());
        let Ok(Some(Packet::Publish(publish))) = decode(&bytes, version, Sender::Server) else {
            return Err(TestCaseError::fail("no publish"));
        };
        prop_assert_eq!(&publish.payload, &payload);
        prop_assert_eq!(publish.delivery, delivery);
        prop_assert!(publish.retain);
        if version < Version::Mqtt5 {
            prop_assert_eq!(publish.topic, topic);
            return Ok(());
        }
        let alias = match topic_alias {
            TopicAliasUse::None => None,
            TopicAliasUse::Sets(alias) | TopicAliasUse::Stands(alias) => Some(alias),
        };
        prop_assert_eq!(publish.topic.is_empty(), matches!(topic_alias, TopicAliasUse::Stands(_)));
        prop_assert_eq!(publish.properties.topic_alias(), alias);
        prop_assert_eq!(publish.properties.message_expiry_interval_s(), message_expiry_interval_s);
        prop_assert_eq!(publish.properties.subscription_ids().collect::<Vec<_>>(), subscription_ids);
        let own = [0x02, 0x0b, 0x23];
        let others = |all: &Properties| all.iter().filter(|one| !own.contains(&one.id())).collect::<Vec<_>>();
        prop_assert_eq!(others(&publish.properties), others(&properties));
    }
}

#[test]
fn payloads_and_strings_are_slices_of_the_packet() {
    let mut buffer = BytesMut::from(&b"\x30\x0a\0\x05topicabc"[..]);
    let frame = split(&mut buffer, 100).unwrap().unwrap();
    let within = frame.body.as_ptr() as usize..frame.body.as_ptr() as usize + frame.body.len();
    let Ok(Packet::Publish(publish)) = Packet::decode(frame, Version::Mqtt311, Sender::Client) else { panic!() };
    assert_eq!(publish.payload, Bytes::from_static(b"abc"));
    assert!(within.contains(&(publish.payload.as_ptr() as usize)));
    assert!(within.contains(&(publish.topic.as_ptr() as usize)));
}

#[test]
fn nothing_is_left_of_what_cannot_be_written() {
    let mut out = BytesMut::from(&b"before"[..]);
    let retain = Properties::new([Property::RetainAvailable(true)]).unwrap();
    let publish = |payload, properties| {
        let topic = Text::new("t").unwrap();
        let delivery = Delivery::AtMostOnce;
        Packet::Publish(Publish { duplicate: false, delivery, retain: false, topic, properties, payload })
    };
    let large = Bytes::from(vec![0; 268_435_456]);
    let banned = Connack { reason: Reason::BadAuthenticationMethod, ..Connack::default() };
    let misplaced = Disconnect { reason: Reason::Success, properties: retain.clone() };
    for (packet, version, error) in [
        (publish(large, Properties::default()), Version::Mqtt5, EncodeError::TooLarge),
        (publish(Bytes::new(), retain), Version::Mqtt5, EncodeError::Property),
        (Packet::Connack(banned), Version::Mqtt311, EncodeError::NotInVersion),
        (Packet::Auth(Auth::default()), Version::Mqtt311, EncodeError::NotInVersion),
        (Packet::Disconnect(misplaced), Version::Mqtt5, EncodeError::Property),
    ] {
        assert_eq!(packet.encode(version, &mut out), Err(error));
        assert_eq!(out, b"before"[..]);
    }
}
