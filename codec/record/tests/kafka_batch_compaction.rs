//! Compaction of Kafka record batches: what is asked to stay stays as it was, what is not is gone, under every codec.

use bytes::Bytes;
use codec_record::kafka_batch::*;
use codec_record::{Batch, Format, FormatId, Retained};
use proptest::prelude::*;

fn a_record(offset_delta: i32) -> impl Strategy<Value = Record> {
    let key = proptest::option::of(proptest::collection::vec(0u8..4, 0..3));
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let headers = proptest::collection::vec(("[a-c]{0,3}", proptest::option::of(any::<[u8; 2]>())), 0..3);
    (key, value, 0i64..1 << 40, headers).prop_map(move |(key, value, timestamp_ms, headers)| Record {
        offset_delta,
        timestamp_ms,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: (headers.iter())
            .map(|(name, value)| (name.as_bytes(), value.as_ref().map(|value| &value[..])))
            .collect(),
    })
}

fn records_of(count: i32) -> impl Strategy<Value = Vec<Record>> {
    (0..count).map(a_record).collect::<Vec<_>>()
}

proptest! {
    #[test]
    fn what_is_kept_is_as_it_was(
        list in (1i32..12).prop_flat_map(records_of),
        keep in any::<u16>(),
        codec in proptest::sample::select(&Codec::ALL[..]),
        by_broker: bool,
        transactional: bool,
    ) {
        let encoder = BatchEncoder {
            codec,
            transactional,
            producer_id: 9,
            producer_epoch: 3,
            base_sequence: 70,
            timestamp_type: if by_broker { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
            ..BatchEncoder::default()
        };
        let payload = encoder.encode(&list);
        let before = BatchHeader::parse(&payload).unwrap();
        let stored = Batch::new(FormatId::KAFKA_BATCH_V2, list.len() as u32, before.max_timestamp, payload.clone());
        let kept = |position: i32| keep & 1 << position != 0;

        let mut seen = Vec::new();
        KafkaBatchFormat.keys(&stored.header, &payload, &mut |record| {
            seen.push((record.position as i32, record.key.map(Bytes::copy_from_slice), record.tombstone));
        }).unwrap();
        let told = list.iter().map(|record| (record.offset_delta, record.key.clone(), record.value.is_none()));
        prop_assert_eq!(seen, told.collect::<Vec<_>>());

        let retained =
            KafkaBatchFormat.retain(&stored.header, &payload, &mut |record| kept(record.position as i32)).unwrap();
        let wanted: Vec<Record> = records(&payload, 1 << 20).unwrap().map(Result::unwrap).collect();
        let wanted: Vec<Record> = wanted.into_iter().filter(|record| kept(record.offset_delta)).collect();
        let left = match retained {
            Retained::All => {
                prop_assert_eq!(wanted.len(), list.len());
                return Ok(());
            }
            Retained::None { payload } => {
                prop_assert!(wanted.is_empty());
                prop_assert_eq!(payload.len(), HEADER_BYTES);
                let again = KafkaBatchFormat.retain(&stored.header, &payload, &mut |_| true).unwrap();
                prop_assert_eq!(again, Retained::None { payload: payload.clone() });
                payload
            }
            Retained::Some { payload, max_time_ms } => {
                let latest = wanted.iter().map(|record| record.timestamp_ms).max();
                prop_assert_eq!(Some(max_time_ms), latest);
                prop_assert_eq!(KafkaBatchFormat.max_time(&stored.header, &payload).unwrap().1, max_time_ms);
                payload
            }
        };
        let header = BatchHeader::parse(&left).unwrap();
        prop_assert_eq!(header.check_crc(&left), Ok(()));
        prop_assert_eq!(header.batch_bytes(), left.len());
        prop_assert_eq!(header.records_count as usize, wanted.len());
        prop_assert_eq!(header.last_offset_delta, before.last_offset_delta);
        prop_assert_eq!(header.base_timestamp, before.base_timestamp);
        let producer = |header: &BatchHeader| (header.producer_id, header.producer_epoch, header.base_sequence);
        prop_assert_eq!(producer(&header), producer(&before));
        prop_assert_eq!(header.attributes.is_transactional(), transactional);
        prop_assert_eq!(header.attributes.timestamp_type(), before.attributes.timestamp_type());
        if !wanted.is_empty() {
            prop_assert_eq!(header.attributes, before.attributes);
        }
        let after: Vec<Record> = records(&left, 1 << 20).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(after, wanted);
    }
}

#[test]
fn broken_records_are_refused() {
    let list = [Record { key: Some(Bytes::from_static(b"k")), ..Record::default() }];
    let payload = BatchEncoder::default().encode(&list);
    let cut = payload.slice(..payload.len() - 1);
    let stored = Batch::new(FormatId::KAFKA_BATCH_V2, 1, 0, cut.clone());
    assert!(KafkaBatchFormat.keys(&stored.header, &cut, &mut |_| {}).is_err());
    assert!(KafkaBatchFormat.retain(&stored.header, &cut, &mut |_| false).is_err());
}
