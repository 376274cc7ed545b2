//! A gateway as it is registered.
//!
//! ```text
//! value of `<prefix><node id>`:   version u8 = 1 │ Member in postcard
//! ```

use bytes::Bytes;
use core_rpc::MetaEntry;
use serde::{Deserialize, Serialize};

const RECORD_VERSION: u8 = 1;

/// One live gateway of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node_id: i32,
    /// Where clients connect to.
    pub host: String,
    pub port: u16,
    /// Where clients connect to with TLS, if they can.
    pub tls: Option<(String, u16)>,
    pub rack: Option<String>,
    /// When it was started, ms since the Unix epoch.
    pub started_ms: i64,
    /// Random: tells a gateway from its own restart.
    pub incarnation: [u8; 16],
}

impl Member {
    pub fn encode(&self) -> Result<Bytes, postcard::Error> {
        postcard::to_extend(self, vec![RECORD_VERSION]).map(Bytes::from)
    }

    /// None if the entry is of a version that is not known here.
    pub fn decode(entry: &MetaEntry) -> Option<Self> {
        let member = match entry.value.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        };
        if member.is_none() {
            tracing::error!(key = entry.key, "the entry of a gateway cannot be read");
        }
        member
    }

    /// Whether clients cannot tell the two apart: a gateway and its restart.
    pub fn has_address_of(&self, other: &Member) -> bool {
        self.host == other.host && self.port == other.port
    }
}
