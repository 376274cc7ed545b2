//! Who this cluster and this gateway are.

use std::fs::File;
use std::io::{self, Read};

use anyhow::Context;
use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaError, MetaPut};

/// Where the core's meta keeps the cluster's id.
const CLUSTER_ID_KEY: &str = "cluster/id";

/// The cluster's and this gateway's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The same for all gateways of a core, for ever: 22 characters of URL-safe base64, from 16 random bytes.
    pub cluster_id: String,
    /// This gateway's number among the gateways of its protocol.
    pub node_id: i32,
}

impl Identity {
    /// Reads the cluster's id, or makes it if this is the first gateway that ever asks.
    pub async fn establish(core: &impl Core, node_id: i32) -> anyhow::Result<Self> {
        if let Some(entry) = core.meta_get(CLUSTER_ID_KEY.into()).await? {
            return Self::of(&entry.value, node_id);
        }
        let made = base64_url(random_16_bytes().context("no source of randomness")?);
        let put = MetaPut {
            key: CLUSTER_ID_KEY.into(),
            value: Bytes::from(made.clone()),
            condition: MetaCondition::Absent,
            session: None,
        };
        match core.meta_put(put).await {
            Ok(_) => Ok(Identity { cluster_id: made, node_id }),
            // Another gateway was first; its id is everybody's.
            Err(MetaError::Conflict(Some(entry))) => Self::of(&entry.value, node_id),
            Err(error) => Err(error.into()),
        }
    }

    fn of(value: &[u8], node_id: i32) -> anyhow::Result<Self> {
        let cluster_id = std::str::from_utf8(value).context("the stored cluster id is no text")?.to_owned();
        Ok(Identity { cluster_id, node_id })
    }
}

/// 16 bytes from the operating system.
pub fn random_16_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// URL-safe base64 without padding.
fn base64_url(bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(bytes);
    // 21 characters of 6 bits, and one of the last 2 bits.
    let sextet = |index: u32| if index == 21 { bits << 4 } else { bits >> (122 - 6 * index) };
    (0..22).map(|index| ALPHABET[(sextet(index) & 0x3f) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_url_safe_base64() {
        assert_eq!(base64_url([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64_url([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]), "AAECAwQFBgcICQoLDA0ODw");
    }
}
