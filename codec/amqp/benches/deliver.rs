//! What a message costs here: a delivery encoded, a publish decoded. Run with `cargo bench -p codec-amqp`.

use std::hint::black_box;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use codec_amqp::{ContentHeader, ContentMethod, Method, Outgoing, PropertyList, frame};

const MESSAGES: u32 = 2_000_000;
/// As a busy connection has it: a write takes many messages.
const MESSAGES_A_WRITE: u32 = 64;

fn main() {
    let list = PropertyList {
        content_type: Some(Bytes::from_static(b"application/octet-stream")),
        delivery_mode: Some(2),
        ..Default::default()
    };
    let properties = list.encode();
    for body_bytes in [16, 1024, 4096, 10 * 1024] {
        let body = Bytes::from(vec![7; body_bytes]);
        let deliver = ContentMethod::Deliver {
            consumer_tag: "amq.ctag-0123456789abcdef",
            delivery_tag: 12345,
            redelivered: false,
            exchange: "exchange",
            routing_key: "routing.key",
        };
        let mut outgoing = Outgoing::new();
        let begin = Instant::now();
        for _ in 0..MESSAGES / MESSAGES_A_WRITE {
            for _ in 0..MESSAGES_A_WRITE {
                outgoing.put_content(1, deliver, properties.raw(), &body, 131_072);
            }
            black_box(outgoing.chunk());
            outgoing.advance(outgoing.len());
        }
        let encoded = begin.elapsed() / MESSAGES;
        let mut wire = BytesMut::new();
        let publish = ContentMethod::Publish {
            exchange: "exchange",
            routing_key: "routing.key",
            mandatory: false,
            immediate: false,
        };
        outgoing.put_content(1, publish, properties.raw(), &body, 131_072);
        let one = outgoing.copy_to_bytes(outgoing.len());
        let many = one.repeat(MESSAGES_A_WRITE as usize);
        let mut decoding = std::time::Duration::ZERO;
        for _ in 0..MESSAGES / MESSAGES_A_WRITE {
            wire.extend_from_slice(&many);
            let begin = Instant::now();
            for _ in 0..MESSAGES_A_WRITE {
                let method = frame::split(&mut wire, 131_072).expect("a frame").expect("a whole one");
                black_box(Method::decode(&method.payload).expect("a method"));
                let header = frame::split(&mut wire, 131_072).expect("a frame").expect("a whole one");
                black_box(ContentHeader::decode(&header.payload).expect("a header"));
                black_box(frame::split(&mut wire, 131_072).expect("a frame"));
            }
            decoding += begin.elapsed();
        }
        println!(
            "body of {body_bytes:5} B: deliver encoded in {encoded:?}, publish decoded in {:?}",
            decoding / MESSAGES
        );
    }
}
