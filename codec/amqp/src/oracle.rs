//! What is encoded here, another codec reads, and writes it again byte for byte: every method, every type of field, every
//! property. And of random bytes nothing panics.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use codec_record::amqp_message::Properties;
use proptest::prelude::*;

use crate::sample::Random;
use crate::{
    BodyPieces, ContentHeader, ContentMethod, FrameKind, Method, Outgoing, access, basic, frame,
    frame::FRAME_OVERHEAD_BYTES,
};

fn read(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).expect("a frame that the oracle reads");
    assert!(rest.is_empty());
    frame
}

fn written(frame: &AMQPFrame) -> Vec<u8> {
    let context = WriteContext::from(Vec::new());
    gen_frame(frame)(context).expect("a frame that the oracle writes").into_inner().0
}

/// The names of a method's arguments, as its debug form has them.
fn names(text: &str) -> Vec<String> {
    let inner = text.split_once('{').map_or("", |(_, inner)| inner);
    let fields = inner.split(',').filter_map(|field| field.split_once(':'));
    fields.map(|(name, _)| name.trim().replace("nowait", "no_wait")).filter(|name| !name.contains(['(', '['])).collect()
}

#[test]
fn every_method_is_the_oracles() {
    let mut random = Random::new(2);
    for method in (0..300).flat_map(|_| Method::one_of_each(&mut random)) {
        // The oracle does not keep what is reserved, or means nothing.
        let method = match method {
            Method::BasicQos(qos) => basic::Qos { prefetch_size: 0, ..qos }.into(),
            Method::AccessRequestOk(_) => access::RequestOk { ticket: 1 }.into(),
            method => method,
        };
        let mut out = BytesMut::new();
        method.encode(5, &mut out);
        let frame = read(&out);
        assert_eq!(written(&frame), out, "{method:?}");
    }
}

#[test]
fn the_arguments_are_where_the_oracle_has_them() {
    let mut random = Random::new(3);
    for method in Method::one_of_each(&mut random) {
        // Without values: then the debug form is easily read.
        let (class, number) = method.id();
        let mut zeros = BytesMut::new();
        zeros.put_u16(class);
        zeros.put_u16(number);
        let method = loop {
            if let Ok(method) = Method::decode(&zeros.clone().freeze()) {
                break method;
            }
            zeros.put_u8(0);
        };
        let mut out = BytesMut::new();
        method.encode(5, &mut out);
        let ours = names(format!("{method:?}").split_once('(').unwrap().1);
        let theirs = match read(&out) {
            AMQPFrame::Method(5, class) => names(format!("{class:?}").splitn(3, '(').nth(2).unwrap()),
            other => panic!("{other:?}"),
        };
        let dropped = ["prefetch_size", "ticket"];
        let ours: Vec<_> = ours.into_iter().filter(|name| !dropped.contains(&name.as_str())).collect();
        assert_eq!(ours, theirs, "{}", method.name());
    }
}

#[test]
fn properties_are_the_oracles() {
    let mut random = Random::new(4);
    for _ in 0..5_000 {
        let list = random.properties();
        let properties = Properties::parse(list.encode().raw().clone()).unwrap();
        assert_eq!(properties.list(), Ok(list));
        let header = ContentHeader { class_id: 60, body_bytes: random.next(), properties };
        let mut out = BytesMut::new();
        header.encode(1, &mut out);
        assert_eq!(written(&read(&out)), out);
    }
}

/// Reads what was written, as a client does.
fn delivered(outgoing: &mut Outgoing, frame_bytes_max: usize) -> (Method, ContentHeader, Bytes) {
    let length = outgoing.len();
    let mut bytes = BytesMut::new();
    // In small steps, as a slow socket takes it.
    while outgoing.has_remaining() {
        let chunk = outgoing.chunk();
        let step = chunk.len().min(1000);
        bytes.put_slice(&chunk[..step]);
        outgoing.advance(step);
    }
    assert_eq!(bytes.len(), length);
    let mut next = |kind| {
        let frame = frame::split(&mut bytes, frame_bytes_max).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel), (kind, 9));
        frame.payload
    };
    let method = Method::decode(&next(FrameKind::Method)).unwrap();
    assert!(method.has_content());
    let header = ContentHeader::decode(&next(FrameKind::Header)).unwrap();
    let mut body = BodyPieces::new(header.body_bytes);
    while body.missing_bytes() > 0 {
        body.push(next(FrameKind::Body)).unwrap();
    }
    assert!(bytes.is_empty());
    (method, header, body.finish())
}

#[test]
fn contents_are_delivered_whole() {
    let mut random = Random::new(5);
    for body_bytes in [0, 1, 1024, 4088, 4096, 4097, 8176, 100_000, 1 << 20] {
        for frame_bytes_max in [4096, 131_072, 0] {
            let body: Bytes = (0..body_bytes).map(|_| random.next() as u8).collect();
            let list = random.properties();
            let [first, second, third] = std::array::from_fn(|_| random.short_str());
            let number = random.next();
            let methods: [(ContentMethod<'_>, Method); 4] = [
                (
                    ContentMethod::Publish {
                        exchange: &first,
                        routing_key: &second,
                        mandatory: true,
                        immediate: false,
                    },
                    basic::Publish {
                        exchange: first.clone(),
                        routing_key: second.clone(),
                        mandatory: true,
                        immediate: false,
                    }
                    .into(),
                ),
                (
                    ContentMethod::Return {
                        reply_code: number as u16,
                        reply_text: &third,
                        exchange: &first,
                        routing_key: &second,
                    },
                    basic::Return {
                        reply_code: number as u16,
                        reply_text: third.clone(),
                        exchange: first.clone(),
                        routing_key: second.clone(),
                    }
                    .into(),
                ),
                (
                    ContentMethod::Deliver {
                        consumer_tag: &third,
                        delivery_tag: number,
                        redelivered: true,
                        exchange: &first,
                        routing_key: &second,
                    },
                    basic::Deliver {
                        consumer_tag: third.clone(),
                        delivery_tag: number,
                        redelivered: true,
                        exchange: first.clone(),
                        routing_key: second.clone(),
                    }
                    .into(),
                ),
                (
                    ContentMethod::GetOk {
                        delivery_tag: number,
                        redelivered: false,
                        exchange: &first,
                        routing_key: &second,
                        message_count: 7,
                    },
                    basic::GetOk {
                        delivery_tag: number,
                        redelivered: false,
                        exchange: first.clone(),
                        routing_key: second.clone(),
                        message_count: 7,
                    }
                    .into(),
                ),
            ];
            for (borrowed, owned) in methods {
                let mut outgoing = Outgoing::new();
                outgoing.put_content(9, borrowed, list.encode().raw(), &body, frame_bytes_max);
                // Properties may be larger than the least frame; only bodies are split.
                let read_bytes_max = if frame_bytes_max == 0 { 0 } else { frame_bytes_max.max(16_384) };
                let (method, header, received) = delivered(&mut outgoing, read_bytes_max);
                assert_eq!((method, header.properties.list().unwrap(), &received), (owned, list.clone(), &body));
            }
        }
    }
}

#[test]
fn body_frames_honour_the_limit_and_large_ones_are_not_copied() {
    let body = Bytes::from(vec![7; 300_000]);
    let mut outgoing = Outgoing::new();
    let method = ContentMethod::Deliver {
        consumer_tag: "c",
        delivery_tag: 1,
        redelivered: false,
        exchange: "",
        routing_key: "q",
    };
    outgoing.put_content(1, method, &[0, 0], &body, 131_072);
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let filled = outgoing.chunks_vectored(&mut slices);
    // Two of 131,064 bytes, one of the rest, and what stands around them.
    assert_eq!(filled, 7);
    let piece_bytes = 131_072 - FRAME_OVERHEAD_BYTES;
    assert_eq!(
        (slices[1].len(), slices[3].len(), slices[5].len()),
        (piece_bytes, piece_bytes, 300_000 - 2 * piece_bytes)
    );
    assert_eq!(slices[3].as_ptr(), body[piece_bytes..].as_ptr());
}

proptest! {
    #[test]
    fn random_bytes_break_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300), class in 0u16..100, method in 0u16..130) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = frame::split(&mut buffer, 100) {}
        let bytes = Bytes::from(bytes);
        let _ = ContentHeader::decode(&bytes);
        let mut payload = BytesMut::new();
        payload.put_u16(class / 10 * 10 + class % 2 * 5);
        payload.put_u16(method);
        payload.put_slice(&bytes);
        let _ = Method::decode(&payload.freeze());
        let properties = Properties::from_stored(bytes);
        let _ = (properties.list(), properties.headers(), properties.header("a"), properties.expiration_ms());
        let _ = (properties.with_headers(&[("a", 1.into())]), properties.without_expiration(), properties.timestamp());
    }

    #[test]
    fn damaged_methods_break_nothing(seed: u64, at: usize, value: u8, cut: usize) {
        for method in Method::one_of_each(&mut Random::new(seed)) {
            let mut out = BytesMut::new();
            method.encode(1, &mut out);
            let mut payload = out.split_off(7);
            let index = at % payload.len();
            payload[index] = value;
            payload.truncate(cut % (payload.len() + 1));
            let _ = Method::decode(&payload.freeze());
        }
    }

    #[test]
    fn damaged_properties_break_nothing(seed: u64, at: usize, value: u8) {
        let list = Random::new(seed).properties();
        let mut raw = BytesMut::from(&list.encode().raw()[..]);
        let index = at % raw.len();
        raw[index] = value;
        let raw = raw.freeze();
        // What the check lets through can be taken apart, and the other way round.
        prop_assert_eq!(Properties::parse(raw.clone()).is_ok(), Properties::from_stored(raw.clone()).list().is_ok());
        let properties = Properties::from_stored(raw);
        let changed = properties.with_headers(&[("a", 1.into())]);
        if Properties::parse(properties.raw().clone()).is_ok() {
            prop_assert!(Properties::parse(changed.unwrap().raw().clone()).is_ok());
        }
    }
}
