//! The neutral message: what one protocol's record becomes when another protocol reads it.
//!
//! It is never stored. docs/ has the table of how each field maps in each protocol.

use bytes::Bytes;

/// One message, between two native forms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub key: Option<Bytes>,
    /// None is a tombstone where the reader's protocol knows them, an empty body where not.
    pub body: Option<Bytes>,
    /// In order; a name may occur more than once.
    pub headers: Vec<(String, HeaderValue)>,
    /// Milliseconds since the Unix epoch.
    pub time_ms: Option<i64>,
    /// Milliseconds from `time_ms` after which nobody may see it.
    pub expiry_ms: Option<u64>,
    pub content_type: Option<String>,
    pub correlation_id: Option<Bytes>,
    pub reply_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Bytes),
}
