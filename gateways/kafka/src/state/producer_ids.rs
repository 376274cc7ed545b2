//! Producer ids: unique over all gateways of a core and for ever.
//!
//! A counter in the core's meta is raised by a block at a time, with a compare-and-set; ids are handed out of the
//! block from memory. A gateway that ends wastes the rest of its block.

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaError, MetaPut};
use parking_lot::Mutex;

/// Where the next free id is kept: 8 bytes, big-endian.
const KEY: &str = "kafka/producer-ids/next";

/// Ids taken from the core at once: as many as Kafka's controller gives a broker.
const BLOCK: i64 = 1000;

pub struct ProducerIds<C> {
    core: C,
    /// Next and end of the current block.
    block: Mutex<(i64, i64)>,
}

impl<C: Core> ProducerIds<C> {
    pub fn new(core: C) -> Self {
        ProducerIds { core, block: Mutex::new((0, 0)) }
    }

    /// An id that no producer had before.
    pub async fn next(&self) -> Result<i64, MetaError> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let start = self.reserve().await?;
            let mut block = self.block.lock();
            // Another request may have brought a block meanwhile; then its rest is given up, which costs nothing.
            *block = (start, start + BLOCK);
        }
    }

    fn take(&self) -> Option<i64> {
        let mut block = self.block.lock();
        let (next, end) = *block;
        (next < end).then(|| {
            block.0 += 1;
            next
        })
    }

    /// Takes a block from the core; returns its first id.
    async fn reserve(&self) -> Result<i64, MetaError> {
        let mut entry = self.core.meta_get(KEY.into()).await?;
        loop {
            let (start, condition) = match &entry {
                Some(entry) => (decode(&entry.value)?, MetaCondition::Version(entry.version)),
                None => (0, MetaCondition::Absent),
            };
            let end = start.checked_add(BLOCK).ok_or(MetaError::StorageFailed)?;
            let value = Bytes::copy_from_slice(&end.to_be_bytes());
            match self.core.meta_put(MetaPut { key: KEY.into(), value, condition, session: None }).await {
                Ok(_) => return Ok(start),
                // Another gateway was faster; its entry is the next start.
                Err(MetaError::Conflict(current)) => entry = current,
                Err(error) => return Err(error),
            }
        }
    }
}

/// A value that is none is not taken for zero: ids would be given twice.
fn decode(value: &[u8]) -> Result<i64, MetaError> {
    value.try_into().map(i64::from_be_bytes).map_err(|_| MetaError::StorageFailed)
}
