//! Control batches: what a broker writes into a partition that is no client's data (KIP-98).
//!
//! ```text
//!  key    i16 version, 0 │ i16 type: 0 abort, 1 commit
//!  value  i16 version, 0 │ i32 epoch of the coordinator that decided
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::{BatchEncoder, Record};

/// Version of the key and of the value.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// The batch that ends a producer's transaction on a partition.
pub fn end_marker(
    producer_id: i64,
    producer_epoch: i16,
    is_commit: bool,
    coordinator_epoch: i32,
    time_ms: i64,
) -> Bytes {
    let mut key = BytesMut::with_capacity(4);
    key.put_i16(VERSION);
    key.put_i16(if is_commit { COMMIT } else { ABORT });
    let mut value = BytesMut::with_capacity(6);
    value.put_i16(VERSION);
    value.put_i32(coordinator_epoch);
    let record =
        Record { timestamp_ms: time_ms, key: Some(key.freeze()), value: Some(value.freeze()), ..Default::default() };
    let encoder =
        BatchEncoder { transactional: true, control: true, producer_id, producer_epoch, ..Default::default() };
    encoder.encode(&[record])
}
