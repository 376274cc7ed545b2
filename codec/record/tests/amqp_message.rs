//! Stored messages of AMQP: whatever goes in comes out, also through other protocols; damaged bytes break nothing.

use bytes::{Bytes, BytesMut};
use codec_record::amqp_message::{
    AmqpFormat, FieldTable, FieldValue, MessageView, Properties, PropertyList, ShortStr, Writer, messages, nth,
};
use codec_record::kafka_batch::{self, BatchEncoder, Codec, Headers, Record};
use codec_record::translate::{amqp_messages, kafka_batch};
use codec_record::{Batch, BatchFlags, Format, FormatId, Formats, Retained};
use proptest::prelude::*;

fn short() -> impl Strategy<Value = ShortStr> {
    "[a-z.#*ä]{0,40}".prop_map(|text| ShortStr::try_from(text).unwrap())
}

fn field() -> impl Strategy<Value = FieldValue> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let leaf = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i32>().prop_map(FieldValue::I32),
        any::<i64>().prop_map(FieldValue::I64),
        any::<u64>().prop_map(FieldValue::Timestamp),
        "[a-z ]{0,10}".prop_map(FieldValue::text),
        bytes.clone().prop_map(FieldValue::LongString),
        bytes.prop_map(FieldValue::Binary),
        Just(FieldValue::Void),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(FieldValue::Array),
            proptest::collection::vec((short(), inner), 0..4).prop_map(|fields| FieldTable(fields).into()),
        ]
    })
}

fn property_list() -> impl Strategy<Value = PropertyList> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from));
    let headers = proptest::option::of(proptest::collection::vec((short(), field()), 0..5).prop_map(FieldTable));
    let expiration = proptest::option::of((0u64..100_000).prop_map(|after| Bytes::from(after.to_string())));
    let numbers = (any::<Option<u8>>(), any::<Option<u8>>(), any::<Option<u64>>());
    (headers, (bytes(), bytes(), bytes(), bytes()), expiration, numbers).prop_map(
        |(headers, (content_type, correlation_id, kind, user_id), expiration, (delivery_mode, priority, timestamp))| {
            PropertyList {
                content_type,
                headers,
                delivery_mode,
                priority,
                correlation_id,
                expiration,
                timestamp,
                kind,
                user_id,
                ..Default::default()
            }
        },
    )
}

fn message() -> impl Strategy<Value = MessageView> {
    let body = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    (0i64..1 << 42, short(), short(), property_list(), body).prop_map(|(time_ms, exchange, key, list, body)| {
        MessageView::arrived(time_ms, exchange, key, list.encode(), body).unwrap()
    })
}

fn batch_of(list: &[MessageView]) -> Batch {
    let mut writer = Writer::new();
    list.iter().for_each(|message| writer.append(message));
    writer.take().unwrap()
}

proptest! {
    #[test]
    fn messages_go_in_and_come_out(list in proptest::collection::vec(message(), 1..12)) {
        let batch = batch_of(&list);
        let expected: Vec<_> = (0..).zip(&list).map(|(position, m)| MessageView { position, ..m.clone() }).collect();
        let found: Vec<_> = messages(&batch.payload).map(Result::unwrap).collect();
        prop_assert_eq!(&found, &expected);
        for message in &expected {
            let found = nth(&batch.payload, message.position).unwrap();
            prop_assert_eq!(found.as_ref(), Some(message));
        }
        prop_assert_eq!(batch.header.max_time_ms, list.iter().map(|message| message.time_ms).max().unwrap());
        for message in &found {
            prop_assert!(Properties::parse(message.properties.raw().clone()).is_ok());
        }
    }

    #[test]
    fn the_core_finds_times_and_keeps_positions(
        list in proptest::collection::vec(message(), 1..12), kept: u16, again: u16, time_ms in 0i64..1 << 42,
    ) {
        let batch = batch_of(&list);
        let format = Formats::all().get(FormatId::AMQP_091).max_time(&batch.header, &batch.payload);
        let max = list.iter().map(|message| message.time_ms).max().unwrap();
        let at = list.iter().position(|message| message.time_ms == max).unwrap();
        prop_assert_eq!(format, Ok((at as u32, max)));
        let first = list.iter().position(|message| message.time_ms >= time_ms);
        let expected = first.map(|at| (at as u32, list[at].time_ms));
        prop_assert_eq!(AmqpFormat.first_at_or_after(&batch.header, &batch.payload, time_ms), Ok(expected));
        // Twice, for a compacted batch is compacted again.
        let mut payload = batch.payload.clone();
        let mut left: Vec<u32> = (0..list.len() as u32).collect();
        for mask in [kept, again] {
            let mut asked = Vec::new();
            let retained = AmqpFormat.retain(&batch.header, &payload, &mut |record| {
                asked.push((record.position, record.key.unwrap().to_vec()));
                mask >> record.position & 1 == 1
            }).unwrap();
            let keys = left.iter().map(|at| (*at, list[*at as usize].routing_key.as_bytes().to_vec()));
            prop_assert_eq!(asked, keys.collect::<Vec<_>>());
            let before = left.len();
            left.retain(|at| mask >> at & 1 == 1);
            payload = match retained {
                Retained::All => { prop_assert!(before == left.len() && before > 0); payload }
                Retained::Some { payload, max_time_ms } => {
                    prop_assert_eq!(Some(max_time_ms), left.iter().map(|at| list[*at as usize].time_ms).max());
                    payload
                }
                Retained::None { payload } => { prop_assert!(left.is_empty() && !payload.is_empty()); payload }
            };
            let found: Vec<_> = messages(&payload).map(Result::unwrap).collect();
            let expected = left.iter().map(|at| MessageView { position: *at, ..list[*at as usize].clone() });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
        // Kafka's readers see the same offsets, and where the batch ends.
        let converted = kafka_batch(&batch.header.with_payload(payload), 0).unwrap();
        let header = kafka_batch::BatchHeader::parse(&converted).unwrap();
        prop_assert_eq!(header.check_crc(&converted), Ok(()));
        prop_assert_eq!(header.last_offset_delta, list.len() as i32 - 1);
        let records: Vec<_> = kafka_batch::records(&converted, 0).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records.iter().map(|record| record.offset_delta as u32).collect::<Vec<_>>(), left);
    }

    #[test]
    fn damaged_bytes_break_nothing(
        list in proptest::collection::vec(message(), 1..4), at: usize, value: u8, cut: usize,
    ) {
        let mut batch = batch_of(&list);
        let mut payload = BytesMut::from(&batch.payload[..]);
        let index = at % payload.len();
        payload[index] = value;
        payload.truncate(cut % (payload.len() + 1));
        batch.payload = payload.freeze();
        let _ = messages(&batch.payload).count();
        let _ = AmqpFormat.max_time(&batch.header, &batch.payload);
        let _ = AmqpFormat.keys(&batch.header, &batch.payload, &mut |_| ());
        let _ = AmqpFormat.retain(&batch.header, &batch.payload, &mut |record| record.position % 2 == 0);
        let _ = kafka_batch(&batch, 0);
        let _ = nth(&batch.payload, 2);
    }

    #[test]
    fn what_kafka_wrote_is_a_message(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10)),
        headers in proptest::collection::vec((".{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10))), 0..6),
    ) {
        let record = Record {
            offset_delta: 3,
            timestamp_ms: 1_700_000_000_123,
            key: key.map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers.iter().map(|(name, value)| (name, value.as_ref())).collect(),
        };
        let batch = Batch::new(FormatId::KAFKA_BATCH_V2, 4, 0, BatchEncoder::default().encode(&[record]));
        let found: Vec<_> = amqp_messages(&batch, &ShortStr::from_static("q")).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), 1);
        prop_assert!(Properties::parse(found[0].properties.raw().clone()).is_ok());
        prop_assert_eq!(&found[0].body[..], value.as_deref().unwrap_or_default());
    }
}

fn text(record: &Record, name: &str) -> Option<String> {
    let mut found = record.headers.iter().filter(|(known, _)| known == name.as_bytes());
    found.next().map(|(_, value)| value.map_or("null".into(), |value| String::from_utf8(value.to_vec()).unwrap()))
}

#[test]
fn kafka_sees_properties_and_headers() {
    let list = PropertyList {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        headers: Some(FieldTable::from([
            ("number", FieldValue::U16(7)),
            ("yes", true.into()),
            ("nothing", FieldValue::Void),
            ("half", FieldValue::F64(0.5)),
            ("x-death", FieldValue::Array(vec![FieldTable::from([("queue", "q".into())]).into()])),
        ])),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        expiration: Some("60000".into()),
        message_id: Some("m".into()),
        timestamp: Some(9),
        kind: Some("t".into()),
        user_id: Some("guest".into()),
        app_id: Some("a".into()),
        cluster_id: None,
    };
    let (exchange, key) = (ShortStr::from_static("orders"), ShortStr::from_static("eu.new"));
    let message = MessageView::arrived(1_700_000_000_123, exchange, key, list.encode(), "body".into()).unwrap();
    let mut batch = batch_of(&[message.clone(), message]);
    batch.header.base_offset = 40;
    let converted = kafka_batch(&batch, 0).unwrap();
    assert_eq!(kafka_batch::BatchHeader::parse(&converted).unwrap().last_offset(), 41);
    let records: Vec<_> = kafka_batch::records(&converted, 0).unwrap().map(Result::unwrap).collect();
    let record = &records[1];
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"eu.new"[..]), Some(&b"body"[..])));
    assert_eq!((record.timestamp_ms, record.offset_delta), (1_700_000_000_123, 1));
    for (name, value) in [
        ("content-type", "application/json"),
        ("correlation-id", "c"),
        ("reply-to", "r"),
        ("expiration", "60000"),
        ("amqp.exchange", "orders"),
        ("amqp.content-encoding", "gzip"),
        ("amqp.delivery-mode", "2"),
        ("amqp.priority", "3"),
        ("amqp.message-id", "m"),
        ("amqp.timestamp", "9"),
        ("amqp.type", "t"),
        ("amqp.user-id", "guest"),
        ("amqp.app-id", "a"),
        ("number", "7"),
        ("yes", "true"),
        ("nothing", "null"),
        ("half", "0.5"),
        ("x-death", r#"[{"queue":"q"}]"#),
    ] {
        assert_eq!(text(record, name).as_deref(), Some(value), "{name}");
    }
    // What a Kafka client copies elsewhere is the same to AMQP's consumers there, but for who is said to have sent it.
    let copy = Batch::new(FormatId::KAFKA_BATCH_V2, 2, 0, converted);
    let copies: Vec<_> = amqp_messages(&copy, &ShortStr::from_static("q")).unwrap().map(Result::unwrap).collect();
    let copied = copies[1].properties.list().unwrap();
    let expected = PropertyList { user_id: None, headers: copied.headers.clone(), ..list };
    assert_eq!(copied, expected);
    assert_eq!(copied.headers.unwrap().get_text("amqp.user-id"), Some("guest"));
    assert_eq!(copies[1].expires_ms, Some(1_700_000_060_123));
}

#[test]
fn amqp_sees_records_of_every_compression() {
    let headers: Headers =
        [("content-type", Some(&b"text/plain"[..])), ("a", Some(b"1")), ("a", Some(&[0xff])), ("n", None)]
            .into_iter()
            .collect();
    let records = [
        Record {
            offset_delta: 0,
            timestamp_ms: 1_700_000_000_123,
            key: Some("k".into()),
            value: Some("v".into()),
            headers,
        },
        Record { offset_delta: 2, timestamp_ms: 5, key: Some("k".into()), value: None, headers: Headers::default() },
    ];
    for codec in Codec::ALL {
        let payload = BatchEncoder { codec, ..Default::default() }.encode(&records);
        let mut batch = Batch::new(FormatId::KAFKA_BATCH_V2, 3, -1, payload);
        let topic = ShortStr::from_static("orders");
        let found: Vec<_> = amqp_messages(&batch, &topic).unwrap().map(Result::unwrap).collect();
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.position, &first.exchange[..], &first.routing_key[..]), (0, "", "orders"));
        assert_eq!((&first.body[..], first.time_ms, first.delivery_mode), (&b"v"[..], 1_700_000_000_123, 2));
        let list = first.properties.list().unwrap();
        assert_eq!((list.content_type.as_deref(), list.timestamp), (Some(&b"text/plain"[..]), Some(1_700_000_000)));
        let headers = list.headers.unwrap();
        let values = [FieldValue::text("1"), FieldValue::Binary(Bytes::from_static(&[0xff]))];
        assert_eq!(headers.get_array("a"), Some(&values[..]));
        assert_eq!(headers.get("n"), Some(&FieldValue::Void));
        assert_eq!(
            (headers.get_text("polymq.key"), headers.get_integer("timestamp_in_ms")),
            (Some("k"), Some(1_700_000_000_123))
        );
        assert_eq!((second.position, second.body.len()), (2, 0));
        assert_eq!(second.properties.header("polymq.tombstone"), Some(true.into()));
        batch.header.flags = BatchFlags::CONTROL;
        assert_eq!(amqp_messages(&batch, &topic).unwrap().count(), 0);
    }
}

#[test]
fn opaque_batches_are_nobodys_messages() {
    let batch = Batch::new(FormatId::RAW, 1, 0, "x".into());
    assert!(kafka_batch(&batch, 0).is_err());
    assert!(amqp_messages(&batch, &ShortStr::default()).is_err());
}
