//! Kafka record batches: checking what a producer sent, and reading records, with the checksum made right first (no
//! fuzzer guesses one).
#![no_main]

use bytes::{Bytes, BytesMut};
use codec_record::kafka_batch::{BatchHeader, produced, rebased, records, renumbered};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1024 * 1024;

fuzz_target!(|input: &[u8]| {
    let mut batch = BytesMut::from(input);
    // Half of the inputs keep their own checksum, which is then wrong.
    if let Ok(header) = BatchHeader::parse(&batch)
        && header.batch_bytes() <= batch.len()
        && header.crc & 1 == 0
    {
        let crc = crc32c::crc32c(&batch[21..header.batch_bytes()]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let batch: Bytes = batch.freeze();
    let checked = produced(&batch, BYTES_MAX);
    let read = records(&batch, BYTES_MAX).and_then(|records| {
        let mut count = 0;
        for record in records {
            let record = record?;
            assert_eq!(record.headers.iter().count(), record.headers.len());
            count += 1;
        }
        Ok(count)
    });
    if let Ok(found) = checked {
        assert_eq!(read, Ok(found.header.records_count));
        rebased(&batch, 1, 1).expect("a valid batch");
        let again = renumbered(&batch, BYTES_MAX).expect("a valid batch");
        assert!(produced(&again, 2 * BYTES_MAX).is_ok_and(|found| found.offsets_are_consecutive));
    }
});
