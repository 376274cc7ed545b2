//! Record batches that leave in pieces, so that stored bytes need not be copied.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// The content of a `records` field as a list of chunks, in order. A fetch answer holds for each stored batch a fresh
/// 16-byte prefix and the untouched rest; the writer sends large chunks as they are and copies only small ones.
///
/// Two values are equal if their bytes are, however they are cut.
#[derive(Clone, Default)]
pub struct RecordChunks(pub Vec<Bytes>);

impl RecordChunks {
    /// The length of all chunks in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        self.0.push(chunk);
    }

    /// All bytes in one piece: without a copy if there is one chunk, otherwise copied.
    pub fn to_bytes(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [chunk] => chunk.clone(),
            chunks => {
                let mut joined = BytesMut::with_capacity(self.len());
                chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
                joined.freeze()
            }
        }
    }
}

impl From<Bytes> for RecordChunks {
    fn from(bytes: Bytes) -> Self {
        RecordChunks(vec![bytes])
    }
}

impl FromIterator<Bytes> for RecordChunks {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        RecordChunks(chunks.into_iter().collect())
    }
}

impl PartialEq for RecordChunks {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl fmt::Debug for RecordChunks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordChunks({} bytes in {} chunks)", self.len(), self.0.len())
    }
}
