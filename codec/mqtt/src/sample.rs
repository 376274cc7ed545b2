//! Packets of every kind, for tests: what each version may send, by whom.

use std::collections::HashSet;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::prelude::*;

use crate::*;

fn text() -> impl Strategy<Value = Text> {
    prop_oneof!["[a-z]{0,8}", "\\PC{0,4}", Just("a".repeat(200))].prop_map(|text| Text::new(text).unwrap())
}

fn plain() -> impl Strategy<Value = Text> {
    text().prop_filter("names are plain", |text| text.clone().plain().is_ok())
}

pub fn topic_name() -> impl Strategy<Value = Text> {
    "[a-z/ $]{1,12}".prop_map(|name| Text::new(name).unwrap())
}

fn filter() -> impl Strategy<Value = Text> {
    "(\\$share/g/)?(([a-z]{0,3}|\\+)/){0,3}([a-z]{1,3}|\\+|#)".prop_map(|filter| Text::new(filter).unwrap())
}

fn binary() -> impl Strategy<Value = Binary> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Binary::new(bytes).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3u8).prop_map(|bits| QoS::of(bits).unwrap())
}

fn non_zero() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|value| NonZeroU16::new(value).unwrap())
}

pub fn subscription_id() -> impl Strategy<Value = SubscriptionId> {
    prop_oneof![1..200u32, 1..=268_435_455u32].prop_map(|id| SubscriptionId::new(id).unwrap())
}

fn property() -> impl Strategy<Value = Property> {
    use Property::*;
    let flags = (0..8usize, any::<bool>()).prop_map(|(which, flag)| match which {
        0 => PayloadFormatIndicator(flag),
        1 => RequestProblemInformation(flag),
        2 => RequestResponseInformation(flag),
        3 => RetainAvailable(flag),
        4 => WildcardSubscriptionAvailable(flag),
        5 => SubscriptionIdentifierAvailable(flag),
        6 => SharedSubscriptionAvailable(flag),
        _ => MaximumQoS(if flag { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
    });
    let texts = (0..6usize, text()).prop_map(|(which, text)| match which {
        0 => ContentType(text),
        1 => AssignedClientIdentifier(text),
        2 => AuthenticationMethod(text),
        3 => ResponseInformation(text),
        4 => ServerReference(text),
        _ => ReasonString(text),
    });
    let numbers = (0..5usize, any::<u32>()).prop_map(|(which, value)| match which {
        0 => MessageExpiryInterval(value),
        1 => SessionExpiryInterval(value),
        2 => ServerKeepAlive(value as u16),
        3 => WillDelayInterval(value),
        _ => TopicAliasMaximum(value as u16),
    });
    prop_oneof![
        flags,
        texts,
        numbers,
        topic_name().prop_map(ResponseTopic),
        binary().prop_map(CorrelationData),
        binary().prop_map(AuthenticationData),
        subscription_id().prop_map(SubscriptionIdentifier),
        non_zero().prop_map(ReceiveMaximum),
        non_zero().prop_map(|alias| TopicAlias(crate::TopicAlias(alias))),
        (1..=u32::MAX).prop_map(|bytes| MaximumPacketSize(NonZeroU32::new(bytes).unwrap())),
        (text(), text()).prop_map(|(name, value)| UserProperty(name, value)),
    ]
}

/// Those that may stand in `place` together; none before version 5.
pub fn properties(version: Version, place: Place) -> BoxedStrategy<Properties> {
    if version < Version::Mqtt5 {
        return Just(Properties::default()).boxed();
    }
    prop::collection::vec(property(), 0..30)
        .prop_map(move |all| {
            let mut seen = HashSet::new();
            let fits = |property: &Property| Properties::new([property.clone()]).unwrap().check_place(place).is_ok();
            let mut kept: Vec<Property> = all
                .into_iter()
                .filter(fits)
                .filter(|one| matches!(one, Property::UserProperty(..)) || seen.insert(one.id()))
                .collect();
            if place == Place::Auth || seen.contains(&0x16) && !seen.contains(&0x15) {
                kept.retain(|one| one.id() != 0x15);
                kept.push(Property::AuthenticationMethod(Text::new("SCRAM-SHA-256").unwrap()));
            }
            Properties::new(kept).unwrap()
        })
        .boxed()
}

fn reason(place: Place, sender: Sender) -> impl Strategy<Value = Reason> {
    let all: Vec<Reason> = Reason::ALL.iter().copied().filter(|one| one.may_stand_in(place, sender)).collect();
    prop::sample::select(all)
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let will = (qos(), any::<bool>(), properties(version, Place::Will), topic_name(), binary())
        .prop_map(|(qos, retain, properties, topic, payload)| Will { qos, retain, properties, topic, payload });
    let head = (any::<bool>(), any::<bool>(), any::<u16>(), properties(version, Place::Connect));
    let login = (prop::option::of(plain()), prop::option::of(binary()));
    (head, plain(), prop::option::of(will), login).prop_map(move |(head, client_id, will, (user_name, password))| {
        let (bridge, clean_start, keep_alive_s, properties) = head;
        let client_id = if client_id.is_empty() { Text::new("id").unwrap() } else { client_id };
        let password = password.filter(|_| version == Version::Mqtt5 || user_name.is_some());
        let bridge = bridge && version < Version::Mqtt5;
        let connect =
            Connect { version, bridge, clean_start, keep_alive_s, properties, client_id, will, user_name, password };
        Packet::Connect(Box::new(connect))
    })
}

fn connack(version: Version) -> impl Strategy<Value = Packet> {
    let reason = reason(Place::Connack, Sender::Server).prop_map(move |reason| match version {
        Version::Mqtt5 => reason,
        _ => reason.return_code().and_then(Reason::of_return_code).unwrap_or_default(),
    });
    (any::<bool>(), reason, properties(version, Place::Connack)).prop_map(move |(present, reason, properties)| {
        let session_present = present && reason == Reason::Success && version > Version::Mqtt31;
        Packet::Connack(Connack { session_present, reason, properties })
    })
}

pub fn delivery() -> impl Strategy<Value = Delivery> {
    (qos(), non_zero()).prop_map(|(qos, id)| match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    })
}

pub fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (flags, delivery(), topic_name(), properties(version, Place::Publish), payload()).prop_map(
        |((duplicate, retain, by_alias), delivery, topic, properties, payload)| {
            let duplicate = duplicate && delivery != Delivery::AtMostOnce;
            let by_alias = by_alias && properties.topic_alias().is_some();
            let topic = if by_alias { Text::default() } else { topic };
            Packet::Publish(Publish { duplicate, delivery, retain, topic, properties, payload })
        },
    )
}

fn acknowledgement(
    version: Version,
    place: Place,
    packet: fn(Acknowledgement) -> Packet,
) -> impl Strategy<Value = Packet> {
    (non_zero(), reason(place, Sender::Server), properties(version, place)).prop_map(
        move |(packet_id, reason, properties)| {
            let reason = if version == Version::Mqtt5 { reason } else { Reason::Success };
            packet(Acknowledgement { packet_id, reason, properties })
        },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let options = (qos(), any::<bool>(), any::<bool>(), 0..3u8);
    let subscription = (filter(), options).prop_map(move |(filter, (qos, no_local, retain_as_published, handling))| {
        if version < Version::Mqtt5 {
            return Subscription::new(filter, qos);
        }
        let retain_handling = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never][handling as usize];
        let no_local = no_local && !filter.starts_with(topic::SHARE_PREFIX);
        Subscription { filter, qos, no_local, retain_as_published, retain_handling }
    });
    (non_zero(), properties(version, Place::Subscribe), prop::collection::vec(subscription, 1..5)).prop_map(
        |(packet_id, properties, all)| {
            Packet::Subscribe(Subscribe { packet_id, properties, subscriptions: all.into_iter().collect() })
        },
    )
}

fn suback(version: Version) -> impl Strategy<Value = Packet> {
    let reason = reason(Place::Suback, Sender::Server).prop_map(move |reason| match version {
        Version::Mqtt5 => reason,
        _ => Reason::of(reason.granted(version)).unwrap(),
    });
    (non_zero(), properties(version, Place::Suback), prop::collection::vec(reason, 1..5)).prop_map(
        |(packet_id, properties, all)| {
            Packet::Suback(Suback { packet_id, properties, reasons: all.into_iter().collect() })
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    (non_zero(), properties(version, Place::Unsubscribe), prop::collection::vec(filter(), 1..5)).prop_map(
        |(packet_id, properties, all)| {
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: all.into_iter().collect() })
        },
    )
}

fn unsuback(version: Version) -> impl Strategy<Value = Packet> {
    let reasons = prop::collection::vec(reason(Place::Unsuback, Sender::Server), 1..5);
    (non_zero(), properties(version, Place::Unsuback), reasons).prop_map(move |(packet_id, properties, all)| {
        let reasons = all.into_iter().filter(|_| version == Version::Mqtt5).collect();
        Packet::Unsuback(Unsuback { packet_id, properties, reasons })
    })
}

fn disconnect(version: Version) -> impl Strategy<Value = Packet> {
    (reason(Place::Disconnect, Sender::Client), properties(version, Place::Disconnect)).prop_map(
        move |(reason, properties)| match version {
            Version::Mqtt5 => Packet::Disconnect(Disconnect { reason, properties }),
            _ => Packet::Disconnect(Disconnect::default()),
        },
    )
}

fn auth() -> impl Strategy<Value = Packet> {
    (reason(Place::Auth, Sender::Client), properties(Version::Mqtt5, Place::Auth))
        .prop_map(|(reason, properties)| Packet::Auth(Auth { reason, properties }))
}

pub fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::Mqtt31, Version::Mqtt311, Version::Mqtt5])
}

/// A packet of any kind, as it may be sent on a connection of this version.
pub fn packet(version: Version) -> BoxedStrategy<Packet> {
    let always = prop_oneof![
        connect(version),
        connack(version),
        publish(version),
        acknowledgement(version, Place::Puback, Packet::Puback),
        acknowledgement(version, Place::Pubrec, Packet::Pubrec),
        acknowledgement(version, Place::Pubrel, Packet::Pubrel),
        acknowledgement(version, Place::Pubcomp, Packet::Pubcomp),
        subscribe(version),
        suback(version),
        unsubscribe(version),
        unsuback(version),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        disconnect(version),
    ];
    if version == Version::Mqtt5 { prop_oneof![13 => always, 1 => auth()].boxed() } else { always.boxed() }
}

/// A version and a packet of it.
pub fn versioned() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet)))
}

/// Who sends it; of those that both may, the side whose packets the samples are.
pub fn sender(packet: &Packet) -> Sender {
    match packet {
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => Sender::Client,
        Packet::Disconnect(_) | Packet::Auth(_) => Sender::Client,
        _ => Sender::Server,
    }
}
