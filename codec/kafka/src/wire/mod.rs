//! The primitive types of the protocol, and the reader and writer of them.
//!
//! Two encodings exist: the *classic* one with fixed-size lengths, and the *flexible* one (KIP-482) with varint lengths
//! stored plus one (zero means null) and a list of tagged fields at the end of every structure.
//!
//! | type | classic | flexible |
//! |---|---|---|
//! | string | i16 length (-1 null), UTF-8 | uvarint length + 1 (0 null), UTF-8 |
//! | bytes, records | i32 length (-1 null) | uvarint length + 1 (0 null) |
//! | array | i32 count (-1 null) | uvarint count + 1 (0 null) |
//! | nullable structure | i8: -1 null, 1 present | the same |
//! | integers, bool, f64, uuid | big-endian, fixed size | the same |

mod error;
mod field;
mod reader;
mod records;
mod uuid;
mod writer;

pub use error::{DecodeError, EncodeError};
pub use field::{Field, Format, Nullable};
pub use reader::Reader;
pub use records::RecordChunks;
pub use uuid::Uuid;
pub use writer::{CHUNK_BYTES_MIN, Frame, TaggedFields, Writer};
