//! Exclusive subscriptions, as EMQX has them: `$exclusive/FILTER` has one subscriber at most, over all gateways.
//!
//! Whoever subscribes first has a key of meta until it unsubscribes or its session ends. The key stands under this gateway's
//! session at the core: when the gateway dies, its keys are free.

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaError, MetaPut, SessionId};

use crate::state::EXCLUSIVE_PREFIX;

/// Attempts to take a key over that changes meanwhile.
const ATTEMPTS: usize = 8;

/// The filter behind the prefix. `None`: the subscription is not exclusive.
pub fn filter(filter: &str) -> Option<&str> {
    filter.strip_prefix(EXCLUSIVE_PREFIX).filter(|behind| !behind.is_empty())
}

fn key(filter: &str) -> String {
    format!("mqtt/exclusive/{filter}")
}

/// Makes a client the one subscriber of `filter` (without the prefix). False: another is; SUBACK says Quota exceeded. A client
/// that has it already keeps it, also when it comes to another gateway.
pub async fn take<C: Core>(core: &C, session: SessionId, filter: &str, client_id: &str) -> Result<bool, MetaError> {
    let value = Bytes::copy_from_slice(client_id.as_bytes());
    let mut condition = MetaCondition::Absent;
    let mut conflict = MetaError::Unavailable;
    for _ in 0..ATTEMPTS {
        let put = MetaPut { key: key(filter), value: value.clone(), condition, session: Some(session) };
        match core.meta_put(put).await {
            Ok(_) => return Ok(true),
            Err(MetaError::Conflict(Some(entry))) if entry.value != value => return Ok(false),
            Err(MetaError::Conflict(Some(entry))) if entry.session == Some(session) => return Ok(true),
            // Its own, from a gateway that it was at before.
            Err(MetaError::Conflict(Some(entry))) => condition = MetaCondition::Version(entry.version),
            Err(MetaError::Conflict(None)) => condition = MetaCondition::Absent,
            Err(error) => return Err(error),
        }
        conflict = MetaError::Conflict(None);
    }
    Err(conflict)
}

/// Frees `filter`, if it is this client's.
pub async fn free<C: Core>(core: &C, filter: &str, client_id: &str) -> Result<(), MetaError> {
    let Some(entry) = core.meta_get(key(filter)).await? else { return Ok(()) };
    if entry.value != client_id.as_bytes() {
        return Ok(());
    }
    match core.meta_delete(key(filter), MetaCondition::Version(entry.version)).await {
        // Somebody else's by now.
        Err(MetaError::Conflict(_)) => Ok(()),
        freed => freed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use core_log::LocalCore;

    use super::*;

    #[tokio::test]
    async fn a_filter_has_one_subscriber() {
        let directory = tempfile::tempdir().unwrap();
        let core =
            LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()).unwrap();
        let ttl = Duration::from_secs(60);
        let (here, there) = (core.session_open(ttl).await.unwrap(), core.session_open(ttl).await.unwrap());

        assert_eq!(take(&core, here, "a/+", "one").await, Ok(true));
        assert_eq!(take(&core, here, "a/+", "one").await, Ok(true));
        assert_eq!(take(&core, here, "a/+", "two").await, Ok(false));
        assert_eq!(take(&core, there, "a/+", "two").await, Ok(false));
        assert_eq!(take(&core, there, "b", "two").await, Ok(true));

        // Only its own subscriber frees it.
        free(&core, "a/+", "two").await.unwrap();
        assert_eq!(take(&core, there, "a/+", "two").await, Ok(false));
        free(&core, "a/+", "one").await.unwrap();
        free(&core, "a/+", "one").await.unwrap();
        assert_eq!(take(&core, there, "a/+", "two").await, Ok(true));

        // The client goes to another gateway; the end of the first does not take it away.
        assert_eq!(take(&core, here, "a/+", "two").await, Ok(true));
        core.session_close(there).await.unwrap();
        assert_eq!(take(&core, here, "a/+", "one").await, Ok(false));
        // The gateway's end frees what it held.
        core.session_close(here).await.unwrap();
        let next = core.session_open(ttl).await.unwrap();
        assert_eq!(take(&core, next, "a/+", "one").await, Ok(true));
    }

    #[test]
    fn the_prefix_tells() {
        assert_eq!(filter("$exclusive/a/#"), Some("a/#"));
        assert_eq!(filter("$exclusive/"), None);
        assert_eq!(filter("$exclusive"), None);
        assert_eq!(filter("a"), None);
    }
}
