//! What a message costs here: a publish decoded, a delivery encoded for one of many subscribers. Run with `cargo bench -p codec-mqtt`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use codec_mqtt::{
    Delivery, Head, Packet, Properties, Publish, Sender, SharedPublish, Text, TopicAliasUse, Version, split,
};

const MESSAGES: u32 = 2_000_000;
/// As a busy connection has it: a write takes many messages.
const MESSAGES_A_WRITE: u32 = 64;
const PACKET_BYTES_MAX: usize = 1 << 20;

fn main() {
    for version in [Version::Mqtt311, Version::Mqtt5] {
        for payload_bytes in [64, 1024, 10 * 1024] {
            let publish = Publish {
                duplicate: false,
                delivery: Delivery::AtLeastOnce(7.try_into().expect("it is not 0")),
                retain: false,
                topic: Text::new("building-7/floor-3/room-12/temperature").expect("a name"),
                properties: Properties::default(),
                payload: Bytes::from(vec![7; payload_bytes]),
            };
            let (decoding, encoding) = (decode(&publish, version), encode(&publish, version));
            println!(
                "{version:?}, payload of {payload_bytes:5} B: publish decoded in {decoding:?}, delivery encoded in {encoding:?}"
            );
        }
    }
}

fn decode(publish: &Publish, version: Version) -> Duration {
    let mut one = BytesMut::new();
    Packet::Publish(publish.clone()).encode(version, &mut one).expect("a packet");
    let many = one.repeat(MESSAGES_A_WRITE as usize);
    let (mut wire, mut decoding) = (BytesMut::new(), Duration::ZERO);
    for _ in 0..MESSAGES / MESSAGES_A_WRITE {
        wire.extend_from_slice(&many);
        let began = Instant::now();
        while let Some(frame) = split(&mut wire, PACKET_BYTES_MAX).expect("a frame") {
            black_box(Packet::decode(frame, version, Sender::Client).expect("a packet"));
        }
        decoding += began.elapsed();
    }
    decoding / MESSAGES
}

/// With the payload copied behind its head, as small ones are.
fn encode(publish: &Publish, version: Version) -> Duration {
    let shared = SharedPublish::new(publish.topic.clone(), &publish.properties, publish.payload.clone());
    let shared = shared.expect("a publish");
    let head = Head {
        duplicate: false,
        delivery: publish.delivery,
        retain: false,
        topic_alias: TopicAliasUse::None,
        message_expiry_interval_s: None,
        subscription_ids: &[],
    };
    let mut out = BytesMut::new();
    let began = Instant::now();
    for _ in 0..MESSAGES / MESSAGES_A_WRITE {
        for _ in 0..MESSAGES_A_WRITE {
            shared.put_head(version, &head, &mut out).expect("a head");
            shared.tail(version).iter().for_each(|tail| out.extend_from_slice(tail));
        }
        black_box(&out);
        out.clear();
    }
    began.elapsed() / MESSAGES
}
