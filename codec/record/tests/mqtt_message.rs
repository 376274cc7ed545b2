//! Stored messages of MQTT: whatever goes in comes out, also through other protocols; damaged bytes break nothing.

use bytes::{Bytes, BytesMut};
use codec_record::amqp_message::{self, FieldTable, FieldValue, PropertyList, ShortStr};
use codec_record::kafka_batch::{self, BatchEncoder, Codec, Headers, Record};
use codec_record::mqtt_message::properties::{Property, properties, put};
use codec_record::mqtt_message::{MessageView, MqttFormat, Writer, messages, nth, walk};
use codec_record::translate::{amqp_messages, amqp_payload, kafka_batch, mqtt_messages, mqtt_messages_where};
use codec_record::{Batch, BatchFlags, Format, FormatId, Formats, Retained};
use proptest::prelude::*;

const TIME_MS: i64 = 1_700_000_000_123;

fn wire(list: &[Property<'_>]) -> Bytes {
    let mut out = BytesMut::new();
    list.iter().for_each(|property| put(&mut out, property));
    out.freeze()
}

fn message() -> impl Strategy<Value = MessageView> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
    let user = proptest::collection::vec(("[a-zä]{0,9}", ".{0,9}"), 0..4);
    let head = (0u8..3, any::<bool>(), any::<u64>(), proptest::option::of(0u32..u32::MAX));
    (head, "[a-c/ä]{1,20}", user, bytes()).prop_map(|((qos, retain, publisher, expiry_s), topic, user, payload)| {
        let user: Vec<_> = user.iter().map(|(name, value)| Property::User(name.as_bytes(), value.as_bytes())).collect();
        let (topic, properties) = (topic.into(), wire(&user));
        MessageView { position: 0, qos, retain, publisher, expiry_s, topic, properties, payload }
    })
}

fn batch_of(list: &[MessageView]) -> Batch {
    let mut writer = Writer::new();
    list.iter().for_each(|message| writer.append(&message.parts()));
    writer.take(TIME_MS).unwrap()
}

proptest! {
    #[test]
    fn messages_go_in_and_come_out(list in proptest::collection::vec(message(), 1..12)) {
        let batch = batch_of(&list);
        let expected: Vec<_> = (0..).zip(&list).map(|(position, m)| MessageView { position, ..m.clone() }).collect();
        let found: Vec<_> = messages(&batch.payload).map(Result::unwrap).collect();
        prop_assert_eq!(&found, &expected);
        for (stored, message) in walk(&batch.payload).map(Result::unwrap).zip(&expected) {
            prop_assert_eq!((stored.position, stored.parts), (message.position, message.parts()));
            let found = nth(&batch.payload, message.position).unwrap();
            prop_assert_eq!(found.as_ref(), Some(message));
        }
        let seen: Vec<_> = mqtt_messages(&batch, "t").unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn compaction_keeps_positions(list in proptest::collection::vec(message(), 1..12), kept: u16, again: u16) {
        let batch = batch_of(&list);
        let format = Formats::all().get(FormatId::MQTT);
        prop_assert!(format.has_keys());
        // Twice, for a compacted batch is compacted again.
        let mut payload = batch.payload.clone();
        let mut left: Vec<u32> = (0..list.len() as u32).collect();
        for mask in [kept, again] {
            let mut asked = Vec::new();
            let retained = format.retain(&batch.header, &payload, &mut |record| {
                asked.push((record.position, record.key.unwrap().to_vec(), record.tombstone));
                mask >> record.position & 1 == 1
            }).unwrap();
            let keys = left.iter().map(|at| (*at, &list[*at as usize]));
            let keys = keys.map(|(at, message)| (at, message.topic.to_vec(), message.payload.is_empty()));
            prop_assert_eq!(asked, keys.collect::<Vec<_>>());
            let all = left.len();
            left.retain(|at| mask >> at & 1 == 1);
            payload = match retained {
                Retained::All => { prop_assert_eq!(left.len(), all); payload }
                Retained::Some { payload, max_time_ms } => { prop_assert_eq!(max_time_ms, TIME_MS); payload }
                Retained::None { payload } => { prop_assert!(left.is_empty() && !payload.is_empty()); payload }
            };
            let found: Vec<_> = messages(&payload).map(Result::unwrap).collect();
            let expected = left.iter().map(|at| MessageView { position: *at, ..list[*at as usize].clone() });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
        // Others' readers see the same offsets, and where the batch ends.
        let compacted = batch.header.with_payload(payload);
        let converted = kafka_batch(&compacted, 0).unwrap();
        let header = kafka_batch::BatchHeader::parse(&converted).unwrap();
        prop_assert_eq!(header.check_crc(&converted), Ok(()));
        prop_assert_eq!(header.last_offset_delta, list.len() as i32 - 1);
        let records: Vec<_> = kafka_batch::records(&converted, 0).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records.iter().map(|record| record.offset_delta as u32).collect::<Vec<_>>(), left.clone());
        let payload = amqp_payload(&compacted, &ShortStr::from_static("q")).unwrap();
        let found: Vec<_> = amqp_message::messages(&payload).map(|message| message.unwrap().position).collect();
        prop_assert_eq!(found, left);
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
        let _ = nth(&batch.payload, 2);
        let _ = MqttFormat.keys(&batch.header, &batch.payload, &mut |_| ());
        let _ = MqttFormat.retain(&batch.header, &batch.payload, &mut |record| record.position % 2 == 0);
        let _ = kafka_batch(&batch, 0);
        let _ = amqp_payload(&batch, &ShortStr::from_static("q"));
    }

    #[test]
    fn no_bytes_are_overrun(bytes: Vec<u8>, position in 0u32..9) {
        let payload = Bytes::from(bytes);
        prop_assert_eq!(messages(&payload).count(), walk(&payload).count());
        let _ = nth(&payload, position);
    }

    #[test]
    fn what_kafka_wrote_is_a_message(
        key in proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..10), "t/[a-c+$]{0,3}".prop_map(String::into_bytes),
        ]),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10)),
        headers in proptest::collection::vec((".{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10))), 0..6),
    ) {
        let record = Record {
            offset_delta: 3,
            timestamp_ms: TIME_MS,
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers.iter().map(|(name, value)| (name, value.as_ref())).collect(),
        };
        let batch = Batch::new(FormatId::KAFKA_BATCH_V2, 4, 0, BatchEncoder::default().encode(&[record]));
        let found: Vec<_> = mqtt_messages(&batch, "t").unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), 1);
        let is_name = |key: &Vec<u8>| key.starts_with(b"t/") && !key.contains(&b'+');
        let name = key.filter(is_name).unwrap_or(b"t".to_vec());
        prop_assert_eq!(&found[0].topic[..], &name[..]);
        prop_assert_eq!(&found[0].payload[..], value.as_deref().unwrap_or_default());
        for property in properties(&found[0].properties) {
            if let Property::User(name, value) = property {
                prop_assert!(std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok());
            }
        }
    }
}

fn sample() -> MessageView {
    let properties = wire(&[
        Property::PayloadFormat(1),
        Property::ContentType(b"text/plain"),
        Property::ResponseTopic(b"answers/1"),
        Property::CorrelationData(&[0, 255]),
        Property::User(b"unit", b"C"),
        Property::User(b"unit", b"K"),
    ]);
    MessageView {
        position: 0,
        qos: 2,
        retain: true,
        publisher: 7,
        expiry_s: Some(60),
        topic: "sensors/1/temp".into(),
        properties,
        payload: "21.5".into(),
    }
}

fn headers(record: &Record) -> Vec<(String, Vec<u8>)> {
    let text = |name: Bytes| String::from_utf8(name.to_vec()).unwrap();
    record.headers.iter().map(|(name, value)| (text(name), value.unwrap_or_default().to_vec())).collect()
}

#[test]
fn kafka_sees_the_name_and_the_properties() {
    let mut batch = batch_of(&[sample(), MessageView { payload: Bytes::new(), ..sample() }]);
    batch.header.base_offset = 40;
    let converted = kafka_batch(&batch, 0).unwrap();
    assert_eq!(kafka_batch::BatchHeader::parse(&converted).unwrap().last_offset(), 41);
    let records: Vec<_> = kafka_batch::records(&converted, 0).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        (records[0].key.as_deref(), records[0].value.as_deref()),
        (Some(&b"sensors/1/temp"[..]), Some(&b"21.5"[..]))
    );
    assert_eq!((records[1].timestamp_ms, records[1].offset_delta), (TIME_MS, 1));
    assert_eq!(records[1].value.as_deref(), Some(&b""[..]), "an empty payload is no tombstone");
    let expected: [(&str, &[u8]); 9] = [
        ("content-type", b"text/plain"),
        ("correlation-id", &[0, 255]),
        ("reply-to", b"answers/1"),
        ("expiration", b"60000"),
        ("mqtt.qos", b"2"),
        ("mqtt.retain", b"true"),
        ("mqtt.payload-format-indicator", b"1"),
        ("unit", b"C"),
        ("unit", b"K"),
    ];
    assert_eq!(headers(&records[0]), expected.map(|(name, value)| (name.to_owned(), value.to_vec())));

    // What a Kafka client copies elsewhere is the same to MQTT's subscribers there, but for who published it and the flag that
    // says it is retained, which it is not there.
    let mut copy = Batch::new(FormatId::KAFKA_BATCH_V2, 2, 0, converted);
    copy.header.append_time_ms = TIME_MS + 10_000;
    let copies: Vec<_> = mqtt_messages(&copy, "sensors").unwrap().map(Result::unwrap).collect();
    let first = &copies[0];
    assert_eq!((first.qos, first.retain, first.publisher, first.expiry_s), (2, false, 0, Some(50)));
    assert_eq!((first.topic_str(), &first.payload[..]), (Ok("sensors/1/temp"), &b"21.5"[..]));
    let mut found: Vec<_> = properties(&first.properties).collect();
    found.retain(|property| *property != Property::User(b"mqtt.retain", b"true"));
    let sample = sample();
    let mut expected: Vec<_> = properties(&sample.properties).collect();
    found.sort_by_key(|property| format!("{property:?}"));
    expected.sort_by_key(|property| format!("{property:?}"));
    assert_eq!(found, expected);
    assert_eq!((copies[1].position, copies[1].payload.len()), (1, 0));
}

#[test]
fn amqp_sees_the_same() {
    let batch = batch_of(&[sample(), MessageView { qos: 0, properties: Bytes::new(), expiry_s: None, ..sample() }]);
    let topic = ShortStr::from_static("sensors");
    let found: Vec<_> = amqp_messages(&batch, &topic).unwrap().map(Result::unwrap).collect();
    let [first, second] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&first.exchange[..], &first.routing_key[..], &first.body[..]), ("", "sensors", &b"21.5"[..]));
    assert_eq!((first.time_ms, first.expires_ms), (TIME_MS, Some(TIME_MS + 60_000)));
    let list = first.properties.list().unwrap();
    assert_eq!(list.content_type.as_deref(), Some(&b"text/plain"[..]));
    assert_eq!(list.reply_to.as_deref(), Some(&b"answers/1"[..]));
    assert_eq!(list.correlation_id.as_deref(), Some(&[0, 255][..]));
    assert_eq!(list.delivery_mode, Some(2));
    let table = list.headers.unwrap();
    assert_eq!(table.get_text("polymq.key"), Some("sensors/1/temp"));
    assert_eq!(table.get_integer("mqtt.qos"), Some(2));
    assert_eq!(table.get_array("unit"), Some(&[FieldValue::text("C"), FieldValue::text("K")][..]));
    assert_eq!((second.position, second.delivery_mode), (1, 1), "at most once need not survive");
}

#[test]
fn subscribers_see_what_amqp_wrote() {
    let list = PropertyList {
        content_type: Some("application/json".into()),
        headers: Some(FieldTable::from([("number", FieldValue::U16(7)), ("yes", true.into())])),
        delivery_mode: Some(2),
        correlation_id: Some("c".into()),
        reply_to: Some("amq.reply".into()),
        expiration: Some("1500".into()),
        ..Default::default()
    };
    let (exchange, key) = (ShortStr::from_static("x"), ShortStr::from_static("sensors/1/temp"));
    let message = amqp_message::MessageView::arrived(TIME_MS, exchange, key, list.encode(), "21.5".into()).unwrap();
    let plain = amqp_message::MessageView { routing_key: ShortStr::from_static("other"), ..message.clone() };
    let mut writer = amqp_message::Writer::new();
    [message, plain].iter().for_each(|message| writer.append(message));
    let mut batch = writer.take().unwrap();
    batch.header.append_time_ms = TIME_MS;
    let found: Vec<_> = mqtt_messages(&batch, "sensors").unwrap().map(Result::unwrap).collect();
    let names: Vec<_> = found.iter().map(|message| message.topic_str().unwrap()).collect();
    assert_eq!(names, ["sensors/1/temp", "sensors"]);
    assert_eq!((found[0].qos, found[0].expiry_s, &found[0].payload[..]), (1, Some(2), &b"21.5"[..]));
    let expected = [
        Property::ContentType(b"application/json"),
        Property::ResponseTopic(b"amq.reply"),
        Property::CorrelationData(b"c"),
        Property::User(b"amqp.exchange", b"x"),
        Property::User(b"amqp.delivery-mode", b"2"),
        Property::User(b"number", b"7"),
        Property::User(b"yes", b"true"),
    ];
    assert_eq!(properties(&found[0].properties).collect::<Vec<_>>(), expected);
    // A rule may say that another name is this topic's.
    let belongs = |name: &str| name == "other";
    let found = mqtt_messages_where(&batch, "sensors", &belongs).unwrap();
    let names: Vec<_> = found.map(|message| message.unwrap().topic).collect();
    assert_eq!(names, ["sensors", "other"]);
}

#[test]
fn subscribers_see_records_of_every_compression() {
    let headers: Headers = [("a", Some(&b"1"[..])), ("n", None)].into_iter().collect();
    let records = [
        Record { offset_delta: 0, timestamp_ms: 5, key: Some("t/1".into()), value: Some("v".into()), headers },
        Record { offset_delta: 2, timestamp_ms: 5, key: None, value: None, headers: Headers::default() },
    ];
    for codec in Codec::ALL {
        let payload = BatchEncoder { codec, ..Default::default() }.encode(&records);
        let mut batch = Batch::new(FormatId::KAFKA_BATCH_V2, 3, -1, payload);
        let found: Vec<_> = mqtt_messages(&batch, "t").unwrap().map(Result::unwrap).collect();
        let names: Vec<_> = found.iter().map(|view| (view.position, view.topic_str().unwrap())).collect();
        assert_eq!(names, [(0, "t/1"), (2, "t")]);
        let users: Vec<_> = properties(&found[0].properties).collect();
        assert_eq!(users, [Property::User(b"a", b"1"), Property::User(b"n", b"")]);
        assert_eq!((found[1].payload.len(), found[1].qos), (0, 1));
        // A batch that says that it has fewer places than it has is not believed.
        batch.header.count = 2;
        assert!(mqtt_messages(&batch, "t").unwrap().any(|message| message.is_err()));
        batch.header.flags = BatchFlags::CONTROL;
        assert_eq!(mqtt_messages(&batch, "t").unwrap().count(), 0);
    }
}

#[test]
fn opaque_batches_are_nobodys_messages() {
    assert!(mqtt_messages(&Batch::new(FormatId::RAW, 1, 0, "x".into()), "t").is_err());
}

#[test]
fn times_are_the_batchs() {
    let batch = batch_of(&[sample(), sample()]);
    assert_eq!(MqttFormat.max_time(&batch.header, &batch.payload), Ok((0, TIME_MS)));
    assert_eq!(MqttFormat.first_at_or_after(&batch.header, &batch.payload, TIME_MS), Ok(Some((0, TIME_MS))));
    assert_eq!(MqttFormat.first_at_or_after(&batch.header, &batch.payload, TIME_MS + 1), Ok(None));
}
