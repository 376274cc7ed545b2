//! What a connection receives: the first byte of the input picks the version, the side and how the bytes come in pieces; the rest
//! is split into packets, and those are decoded. What is accepted has to survive being encoded and decoded again.
#![no_main]

use bytes::{Bytes, BytesMut};
use codec_mqtt::{
    Delivery, Frame, Head, PACKET_BYTES_MAX, Packet, Publish, Sender, SharedPublish, TopicAliasUse, Version, packet,
    split, topic,
};
use libfuzzer_sys::fuzz_target;

/// Packets larger than this are refused.
const BYTES_MAX: usize = 64 * 1024;

fn encode(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).expect("what was decoded can be encoded");
    out.freeze()
}

fn decode(bytes: Bytes, version: Version, sender: Sender) -> Packet {
    let mut buffer = BytesMut::from(bytes);
    let frame = split(&mut buffer, PACKET_BYTES_MAX).expect("our own header is valid").expect("it is whole");
    assert!(buffer.is_empty());
    Packet::decode(frame, version, sender).expect("our own encoding is valid")
}

/// One publish for many subscribers is the same packet.
fn share(publish: &Publish, version: Version) {
    let Ok(shared) = SharedPublish::new(publish.topic.clone(), &publish.properties, publish.payload.clone()) else {
        return;
    };
    let head = Head {
        duplicate: publish.duplicate,
        delivery: publish.delivery,
        retain: publish.retain,
        topic_alias: TopicAliasUse::None,
        message_expiry_interval_s: publish.properties.message_expiry_interval_s(),
        subscription_ids: &[],
    };
    let mut out = BytesMut::new();
    shared.put_head(version, &head, &mut out).expect("it is no larger than what came");
    shared.tail(version).iter().for_each(|tail| out.extend_from_slice(tail));
    assert_eq!(out.len(), shared.packet_bytes(version, &head));
    let Packet::Publish(again) = decode(out.freeze(), version, Sender::Server) else { panic!("another packet") };
    assert_eq!((&again.topic, &again.payload), (&publish.topic, &publish.payload));
    assert_eq!(again.delivery.packet_id(), publish.delivery.packet_id());
    assert_eq!(again.delivery == Delivery::AtMostOnce, publish.delivery == Delivery::AtMostOnce);
}

fn check(frame: Frame, version: Version, sender: Sender) {
    let is_connect = frame.first >> 4 == 1;
    let told = packet::connect::version(&frame);
    let Ok(packet) = Packet::decode(frame, version, sender) else { return };
    let _ = format!("{packet:?}");
    let version = match &packet {
        Packet::Connect(connect) => {
            assert!(is_connect);
            assert_eq!(told, Ok(connect.version));
            connect.version
        }
        _ => version,
    };
    assert_eq!(decode(encode(&packet, version), version, sender), packet);
    match &packet {
        // A topic alias may stand for the name.
        Packet::Publish(publish) if !publish.topic.is_empty() => share(publish, version),
        Packet::Subscribe(subscribe) => {
            for one in subscribe.subscriptions.iter() {
                let _ = topic::shared(&one.filter);
            }
        }
        _ => {}
    }
}

fuzz_target!(|input: &[u8]| {
    let [how, bytes @ ..] = input else { return };
    let version = [Version::Mqtt31, Version::Mqtt311, Version::Mqtt5][usize::from(how & 3) % 3];
    let sender = if how & 4 == 0 { Sender::Client } else { Sender::Server };
    let piece = [1, 3, 64, usize::MAX][usize::from(how >> 3 & 3)];
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match split(&mut buffer, BYTES_MAX) {
                Ok(Some(frame)) => check(frame, version, sender),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        // A length is a claim: it must not make us reserve what has not come.
        assert!(buffer.capacity() <= bytes.len() + (1 << 20));
    }
});
