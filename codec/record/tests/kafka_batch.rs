//! Kafka record batches: what a broker refuses, what it rewrites, lookups by time, and hostile bytes.

#[path = "support/peak.rs"]
mod peak;

use bytes::{Bytes, BytesMut};
use codec_record::kafka_batch::*;
use codec_record::{Format, FormatId};
use peak::with_peak;

fn record(offset_delta: i32, timestamp_ms: i64, value: &'static str) -> Record {
    let value = Some(Bytes::from_static(value.as_bytes()));
    Record { offset_delta, timestamp_ms, key: Some(Bytes::from_static(b"key")), value, headers: Headers::default() }
}

fn three_records(codec: Codec) -> Bytes {
    let list = [record(0, 1_000, "a"), record(1, 3_000, "b"), record(2, 3_000, "c")];
    BatchEncoder { codec, ..BatchEncoder::default() }.encode(&list)
}

/// The batch with `change` made to it and a CRC to match.
fn changed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut copy = BytesMut::from(&batch[..]);
    change(&mut copy);
    if copy.len() > 21 {
        let crc = crc32c::crc32c(&copy[21..]);
        copy[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    copy.freeze()
}

#[test]
fn a_produced_batch_is_checked() {
    let batch = three_records(Codec::None);
    let found = produced(&batch, 0).unwrap();
    assert_eq!((found.min_timestamp, found.max_timestamp, found.first_without_key), (1_000, 3_000, None));
    assert_eq!(found.header, BatchHeader::parse(&batch).unwrap());
    assert_eq!(found.header.batch_bytes(), batch.len());
    assert_eq!(found.header.encode(), batch[..HEADER_BYTES]);

    let refused = |batch: &Bytes| produced(batch, 1_000).unwrap_err();
    let with = |change: fn(&mut [u8])| refused(&changed(&batch, change));
    assert_eq!(refused(&Bytes::new()), BatchError::Truncated);
    assert_eq!(refused(&batch.slice(..batch.len() - 1)), BatchError::Truncated);
    assert_eq!(refused(&Bytes::from([&batch[..], &batch[..]].concat())), BatchError::MoreThanOneBatch);
    assert_eq!(with(|bytes| bytes[16] = 1), BatchError::BadMagic(1));
    assert_eq!(with(|bytes| bytes[11] = 48), BatchError::BadLength(48));
    assert_eq!(with(|bytes| bytes[8..12].fill(0xff)), BatchError::BadLength(-1));
    assert_eq!(with(|bytes| bytes[7] = 5), BatchError::BadBaseOffset(5));
    assert_eq!(with(|bytes| bytes[60] = 4), BatchError::BadCount { count: 4, last_offset_delta: 2 });
    assert_eq!(with(|bytes| bytes[57] = 0x80), BatchError::BadCount { count: i32::MIN + 3, last_offset_delta: 2 });
    assert_eq!(with(|bytes| bytes[22] |= 0x20), BatchError::ControlBatch);
    assert_eq!(with(|bytes| bytes[22] |= 0x08), BatchError::BadTimestampType);
    assert_eq!(with(|bytes| bytes[22] |= 0x05), BatchError::UnknownCodec(5));
    assert_eq!(with(|bytes| bytes[43..51].fill(0)), BatchError::BadSequence(-1));
    assert_eq!(with(|bytes| bytes[61] += 2), BatchError::BadRecord { index: 0 });
    let mut flipped = BytesMut::from(&batch[..]);
    flipped[64] ^= 1;
    assert!(matches!(refused(&flipped.freeze()), BatchError::BadCrc { .. }));
    let fewer = changed(&batch, |bytes| {
        bytes[60] = 2;
        bytes[26] = 1;
    });
    assert_eq!(refused(&fewer), BatchError::BadRecord { index: 2 });
    let more = changed(&batch, |bytes| {
        bytes[60] = 4;
        bytes[26] = 3;
    });
    assert_eq!(refused(&more), BatchError::BadRecord { index: 3 });
}

#[test]
fn wrong_offsets_are_repaired() {
    for codec in Codec::ALL {
        let list = [record(0, 1_000, "a"), record(0, 3_000, "b"), record(2, 3_000, "c")];
        let batch = BatchEncoder { codec, ..BatchEncoder::default() }.encode(&list);
        assert!(!produced(&batch, 1_000).unwrap().offsets_are_consecutive);
        assert_eq!(renumbered(&batch, 1_000).unwrap(), three_records(codec));
    }
}

#[test]
fn a_fetched_batch_gets_a_fresh_prefix_and_keeps_the_rest() {
    let batch = three_records(Codec::Zstd);
    let [prefix, rest] = rebased(&batch, 77, 5).unwrap();
    assert_eq!(rest.as_ptr(), batch[PREFIX_BYTES..].as_ptr());
    let sent = Bytes::from([&prefix[..], &rest[..]].concat());
    let header = BatchHeader::parse(&sent).unwrap();
    assert_eq!((header.base_offset, header.last_offset(), header.partition_leader_epoch), (77, 79, 5));
    assert_eq!(header.check_crc(&sent), Ok(()));
}

#[test]
fn append_time_is_every_records_time() {
    for codec in Codec::ALL {
        let batch = with_append_time(&three_records(codec), 9_000).unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.check_crc(&batch), Ok(()));
        assert_eq!((header.max_timestamp, header.base_timestamp), (9_000, 1_000));
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.attributes.codec(), Ok(codec));
        let times: Vec<_> = records(&batch, 1_000).unwrap().map(|record| record.unwrap().timestamp_ms).collect();
        assert_eq!(times, [9_000; 3]);
    }
}

#[test]
fn offsets_by_time() {
    for codec in Codec::ALL {
        let payload = three_records(codec);
        let stored = codec_record::Batch::new(FormatId::KAFKA_BATCH_V2, 3, 3_000, payload.clone()).header;
        let look = |time_ms| KafkaBatchFormat.first_at_or_after(&stored, &payload, time_ms).unwrap();
        assert_eq!(look(0), Some((0, 1_000)));
        assert_eq!(look(1_001), Some((1, 3_000)));
        assert_eq!(look(3_001), None);
        assert_eq!(KafkaBatchFormat.max_time(&stored, &payload).unwrap(), (1, 3_000));
    }
}

#[test]
fn hostile_batches_neither_panic_nor_exhaust_memory() {
    const BYTES_MAX: usize = 64 * 1024;
    // Twice the output while it grows, and what the decompressors need: lz4's and zstd's largest blocks and windows.
    const ALLOWED_BYTES: usize = 2 * BYTES_MAX + 16 * 1024 * 1024;
    let headers: Headers = [("a", Some("1")), ("b", None)].into_iter().collect();
    let list: Vec<_> = (0..20)
        .map(|index| Record {
            headers: headers.clone(),
            ..record(index, 1_000 + i64::from(index), "value value value")
        })
        .collect();
    let mut state = 1u64;
    let mut random = move |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let batches = Codec::ALL.map(|codec| BatchEncoder { codec, ..BatchEncoder::default() }.encode(&list));
    let mut accepted = 0;
    for case in 0..10_000 {
        let mutated = changed(&batches[case % 5], |bytes| {
            for _ in 0..=random(3) {
                // Mostly behind the header, where decompressors and records are.
                let from = if random(3) == 0 { 21 } else { 61 };
                let at = from + random(bytes.len() - from);
                bytes[at] = [0, 0x7f, 0x80, 0xff, random(256) as u8][random(5)];
            }
        });
        let mutated = mutated.slice(..if random(8) == 0 { random(mutated.len()) } else { mutated.len() });
        let (_, peak) = with_peak(|| {
            accepted += usize::from(produced(&mutated, BYTES_MAX).is_ok());
            if let Ok(records) = records(&mutated, BYTES_MAX) {
                for record in records.flatten() {
                    assert_eq!(record.headers.iter().count(), record.headers.len());
                }
            }
        });
        assert!(peak <= ALLOWED_BYTES, "{peak} bytes in case {case}");
    }
    // Some mutations hit values only: the test would show nothing if all were refused.
    assert!(accepted > 300, "{accepted}");
}

#[test]
fn bombs_are_cut_off() {
    const BYTES_MAX: usize = 1024 * 1024;
    let zeros = Bytes::from(vec![0u8; 64 * BYTES_MAX]);
    let bomb = Record { value: Some(zeros), ..Record::default() };
    for codec in &Codec::ALL[1..] {
        let batch = BatchEncoder { codec: *codec, ..BatchEncoder::default() }.encode(std::slice::from_ref(&bomb));
        let (_, peak) = with_peak(|| {
            assert_eq!(produced(&batch, BYTES_MAX), Err(BatchError::TooLarge { bytes_max: BYTES_MAX }), "{codec:?}");
        });
        assert!(peak <= 16 * BYTES_MAX, "{codec:?}: {peak} bytes");
    }
}
