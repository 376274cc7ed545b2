//! Who this cluster and this gateway are.

use std::fs::File;
use std::io::{self, Read};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
        let made = URL_SAFE_NO_PAD.encode(random_16_bytes().context("no source of randomness")?);
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
