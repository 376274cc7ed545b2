//! Kafka record batches against another codec of the same format, both ways.

use bytes::{Bytes, BytesMut};
use codec_record::kafka_batch::{BatchEncoder, Codec, Headers, Record, TimestampType, produced, records};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;

/// The codecs that the oracle is built with.
const CODECS: [(Codec, oracle::Compression); 4] = [
    (Codec::None, oracle::Compression::None),
    (Codec::Gzip, oracle::Compression::Gzip),
    (Codec::Snappy, oracle::Compression::Snappy),
    (Codec::Zstd, oracle::Compression::Zstd),
];

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from),
        (any::<u8>(), 0..40_000usize).prop_map(|(byte, length)| Bytes::from(vec![byte; length])),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(String, Option<Bytes>)>> {
    proptest::collection::vec(("[a-z]{0,4}|€", proptest::option::of(bytes())), 0..4)
}

fn record_list() -> impl Strategy<Value = Vec<Record>> {
    let record = (0..2_000_000_000_000i64, proptest::option::of(bytes()), proptest::option::of(bytes()), headers());
    proptest::collection::vec(record, 1..8).prop_map(|records| {
        let numbered = records.into_iter().enumerate();
        numbered
            .map(|(index, (timestamp_ms, key, value, headers))| Record {
                offset_delta: index as i32,
                timestamp_ms,
                key,
                value,
                headers: Headers::from_iter(headers),
            })
            .collect()
    })
}

fn encoder() -> impl Strategy<Value = BatchEncoder> {
    let producer = prop_oneof![Just((-1, -1, -1)), (0..i64::MAX, 0..i16::MAX, 0..i32::MAX - 10)];
    (0..CODECS.len(), producer, any::<bool>(), 0..1_000_000i64, -1..100i32).prop_map(
        |(codec, (producer_id, producer_epoch, base_sequence), transactional, base_offset, partition_leader_epoch)| {
            BatchEncoder {
                base_offset,
                partition_leader_epoch,
                codec: CODECS[codec].0,
                transactional,
                producer_id,
                producer_epoch,
                base_sequence,
                ..BatchEncoder::default()
            }
        },
    )
}

/// What the other codec makes of our records: its headers are a map, so the last of several with one name stays.
fn theirs(encoder: &BatchEncoder, record: &Record) -> oracle::Record {
    let delta = record.offset_delta;
    let text = |bytes: Bytes| StrBytes::from_string(String::from_utf8(bytes.to_vec()).expect("keys here are text"));
    oracle::Record {
        transactional: encoder.transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: encoder.partition_leader_epoch,
        producer_id: encoder.producer_id,
        producer_epoch: encoder.producer_epoch,
        timestamp_type: oracle::TimestampType::Creation,
        offset: encoder.base_offset + i64::from(delta),
        sequence: if encoder.base_sequence < 0 { -1 } else { encoder.base_sequence + delta },
        timestamp: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|(key, value)| (text(key), value)).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_other_codec_reads_ours(encoder in encoder(), list in record_list()) {
        let batch = encoder.encode(&list);
        let set = oracle::RecordBatchDecoder::decode(&mut batch.clone()).expect("the oracle decodes");
        // It numbers the sequence of a batch without a producer upwards from -1.
        let set: Vec<_> = set.records.into_iter().map(|record| match encoder.base_sequence {
            -1 => oracle::Record { sequence: -1, ..record },
            _ => record,
        }).collect();
        let expected: Vec<_> = list.iter().map(|record| theirs(&encoder, record)).collect();
        prop_assert_eq!(set, expected);

        let ours: Result<Vec<_>, _> = records(&batch, 1 << 30).unwrap().collect();
        prop_assert_eq!(ours.unwrap(), list);
    }

    #[test]
    fn we_read_the_other_codecs(mut encoder in encoder(), list in record_list()) {
        // Without a sequence it makes one batch of each record.
        encoder.base_sequence = encoder.base_sequence.max(0);
        let (producer_id, producer_epoch) = (encoder.producer_id.max(0), encoder.producer_epoch.max(0));
        let encoder = BatchEncoder { base_offset: 0, producer_id, producer_epoch, ..encoder };
        // Its headers are a map.
        let unique = |record: &Record| theirs(&encoder, record).headers.into_iter()
            .map(|(key, value)| (key.to_string(), value)).collect::<Headers>();
        let list: Vec<_> =
            list.iter().map(|record| Record { headers: unique(record), ..record.clone() }).collect();
        let compression = CODECS.iter().find(|(codec, _)| *codec == encoder.codec).unwrap().1;
        let set: Vec<_> = list.iter().map(|record| theirs(&encoder, record)).collect();
        let mut buffer = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression };
        oracle::RecordBatchEncoder::encode(&mut buffer, &set, &options).expect("the oracle encodes");
        let batch = buffer.freeze();

        let found = produced(&batch, 1 << 30).expect("a valid batch");
        prop_assert_eq!(Some(found.max_timestamp), list.iter().map(|record| record.timestamp_ms).max());
        prop_assert_eq!(Some(found.min_timestamp), list.iter().map(|record| record.timestamp_ms).min());
        let keyless = list.iter().position(|record| record.key.is_none());
        prop_assert_eq!(found.first_without_key, keyless.map(|index| index as u32));
        prop_assert_eq!(found.header.producer_id, encoder.producer_id);
        prop_assert_eq!(found.header.producer_epoch, encoder.producer_epoch);
        prop_assert_eq!(found.header.base_sequence, encoder.base_sequence);
        prop_assert_eq!(found.header.attributes.is_transactional(), encoder.transactional);
        prop_assert_eq!(found.header.attributes.timestamp_type(), TimestampType::CreateTime);
        let ours: Result<Vec<_>, _> = records(&batch, 1 << 30).unwrap().collect();
        prop_assert_eq!(ours.unwrap(), list);
    }
}
