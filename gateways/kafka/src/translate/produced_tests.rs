//! What a producer may send, and what becomes of it.

use codec_record::kafka_batch::Record;

use super::*;
use codec_record::kafka_batch::BatchEncoder;
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn config() -> TopicConfig {
    TopicConfig {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: None,
        compacted: false,
    }
}

#[test]
fn a_compacted_topic_takes_no_records_without_keys() {
    let compacted = TopicConfig { compacted: true, ..config() };
    for codec in Codec::ALL {
        let with_key = |offset_delta, key: Option<&'static [u8]>| Record {
            offset_delta,
            key: key.map(Bytes::from_static),
            ..at(NOW)
        };
        let encode = |records: &[Record]| BatchEncoder { codec, ..Default::default() }.encode(records);
        let keyed = encode(&[with_key(0, Some(b"a")), with_key(1, Some(b""))]);
        assert_eq!(accept(Some(keyed.clone()), 9, &compacted, NOW).unwrap().batch.payload, keyed);
        let keyless = encode(&[with_key(0, Some(b"a")), with_key(1, None), with_key(2, None)]);
        let refused = accept(Some(keyless.clone()), 9, &compacted, NOW).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRecord);
        assert_eq!(refused.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        assert!(accept(Some(keyless), 9, &config(), NOW).is_ok());
    }
}

fn at(timestamp_ms: i64) -> Record {
    Record { timestamp_ms, value: Some(Bytes::from(vec![b'x'; 100])), ..Default::default() }
}

fn batch(codec: Codec, times: &[i64]) -> Bytes {
    let records: Vec<Record> =
        times.iter().enumerate().map(|(index, time)| Record { offset_delta: index as i32, ..at(*time) }).collect();
    BatchEncoder { codec, producer_id: 9, producer_epoch: 2, base_sequence: 7, ..Default::default() }.encode(&records)
}

fn with_header(batch: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(batch).unwrap();
    change(&mut header);
    let mut copy = BytesMut::from(&batch[..]);
    copy[..HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = crc32c::crc32c(&copy[CRC_FROM..]);
    copy[..HEADER_BYTES].copy_from_slice(&header.encode());
    copy.freeze()
}

fn refused(records: Bytes) -> ErrorCode {
    accept(Some(records), 9, &config(), NOW).unwrap_err().code
}

#[test]
fn a_batch_is_stored_as_it_was_sent() {
    for codec in Codec::ALL {
        let sent = batch(codec, &[NOW, NOW + 5, NOW + 3]);
        let accepted = accept(Some(sent.clone()), 9, &config(), NOW).unwrap();
        assert_eq!(accepted.batch.payload.as_ptr(), sent.as_ptr());
        assert!(accepted.batch.payload_is_intact());
        let header = accepted.batch.header;
        assert_eq!((header.count, header.max_time_ms), (3, NOW + 5));
        assert_eq!(header.producer, Some(Producer { id: 9, epoch: 2, sequence: 7 }));
    }
}

#[test]
fn a_batch_of_a_transaction_is_marked_for_the_core() {
    let good = batch(Codec::None, &[NOW]);
    let transactional = |header: &mut BatchHeader| header.attributes = header.attributes.with_transactional(true);
    let accepted = accept(Some(with_header(&good, transactional)), 9, &config(), NOW).unwrap();
    assert_eq!(accepted.batch.header.flags, BatchFlags::TRANSACTIONAL);
    assert_eq!(accept(Some(good), 9, &config(), NOW).unwrap().batch.header.flags, BatchFlags::default());
}

#[test]
fn a_large_batch_has_the_right_checksum_too() {
    let value = Bytes::from(vec![b'y'; COMBINE_BYTES_MIN]);
    let sent = BatchEncoder::default().encode(&[Record { value: Some(value), ..at(NOW) }]);
    assert!(accept(Some(sent), 9, &config(), NOW).unwrap().batch.payload_is_intact());
}

#[test]
fn bad_headers_are_refused() {
    let good = batch(Codec::None, &[NOW]);
    assert_eq!(refused(with_header(&good, |header| header.base_offset = 1)), ErrorCode::InvalidRecord);
    assert_eq!(refused(with_header(&good, |header| header.records_count = 2)), ErrorCode::InvalidRecord);
    assert_eq!(refused(with_header(&good, |header| header.last_offset_delta = -1)), ErrorCode::InvalidRecord);
    assert_eq!(refused(with_header(&good, |header| header.base_sequence = -1)), ErrorCode::InvalidRecord);
    let control = |header: &mut BatchHeader| header.attributes = header.attributes.with_control(true);
    assert_eq!(refused(with_header(&good, control)), ErrorCode::InvalidRecord);
    let nobody_s = |header: &mut BatchHeader| {
        header.attributes = header.attributes.with_transactional(true);
        header.producer_id = -1;
    };
    assert_eq!(refused(with_header(&good, nobody_s)), ErrorCode::InvalidRecord);
    let zstd = batch(Codec::Zstd, &[NOW]);
    let old = accept(Some(zstd), 6, &config(), NOW).unwrap_err();
    assert_eq!(old.code, ErrorCode::UnsupportedCompressionType);
    assert_eq!(accept(None, 9, &config(), NOW).unwrap_err().code, ErrorCode::InvalidRecord);
}

#[test]
fn a_wrong_greatest_time_is_put_right() {
    let sent = with_header(&batch(Codec::None, &[NOW, NOW - 5]), |header| header.max_timestamp = NOW - 1);
    let accepted = accept(Some(sent), 9, &config(), NOW).unwrap();
    assert_eq!(accepted.batch.header.max_time_ms, NOW);
    let header = BatchHeader::parse(&accepted.batch.payload).unwrap();
    header.check_crc(&accepted.batch.payload).unwrap();
    assert!(accepted.batch.payload_is_intact());
}

#[test]
fn times_out_of_range_are_named_one_by_one() {
    let mut config = config();
    let late = batch(Codec::Gzip, &[NOW, NOW + 3_600_001, NOW]);
    let refused = accept(Some(late), 9, &config, NOW).unwrap_err();
    assert_eq!((refused.code, refused.records[0].0), (ErrorCode::InvalidTimestamp, 1));
    config.timestamp_before_max_ms = 10;
    let old = batch(Codec::None, &[NOW - 11, NOW - 10, NOW - 12]);
    let refused = accept(Some(old), 9, &config, NOW).unwrap_err();
    assert_eq!(refused.records.iter().map(|record| record.0).collect::<Vec<_>>(), [0, 2]);
    // Without a time there is nothing to check.
    accept(Some(batch(Codec::None, &[NO_TIMESTAMP])), 9, &config, NOW).unwrap();
}

#[test]
fn the_topic_s_compression_and_clock_are_applied() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let config =
                TopicConfig { compression: Some(to), timestamp_type: TimestampType::LogAppendTime, ..config() };
            let accepted = accept(Some(batch(from, &[1, 2])), 9, &config, NOW).unwrap();
            let payload = &accepted.batch.payload;
            let header = BatchHeader::parse(payload).unwrap();
            header.check_crc(payload).unwrap();
            assert_eq!((header.attributes.codec(), header.batch_bytes()), (Ok(to), payload.len()));
            assert_eq!((header.max_timestamp, accepted.append_time_ms), (NOW, Some(NOW)));
            let data = decompress(payload, 1 << 20).unwrap();
            let times: Vec<_> = record_views(&header, &data).map(|view| view.unwrap().timestamp_ms).collect();
            assert_eq!(times, [NOW, NOW]);
            assert!(accepted.batch.payload_is_intact());
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, magic: bool) {
        if magic && bytes.len() > 16 {
            bytes[16] = 2;
        }
        let _ = accept(Some(bytes.into()), 9, &config(), NOW);
    }

    #[test]
    fn no_records_behind_a_right_checksum_panic(body: Vec<u8>, count in 1i32..9, codec in 0i16..8) {
        let good = batch(Codec::None, &[NOW]);
        let bytes = Bytes::from([&good[..HEADER_BYTES], &body].concat());
        let bytes = with_header(&bytes, |header| {
            header.batch_length = (HEADER_BYTES - 12 + body.len()) as i32;
            header.attributes.0 = codec;
            header.records_count = count;
            header.last_offset_delta = count - 1;
        });
        let recompress = TopicConfig { compression: Some(Codec::Lz4), timestamp_before_max_ms: 5, ..config() };
        let _ = accept(Some(bytes), 9, &recompress, NOW);
    }
}
