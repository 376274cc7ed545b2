//! Tests of the shell on a core in memory: what is stored and when, restarts, failures, the timer, retention.

mod consumer;
mod core_in_memory;
mod offsets;
mod ownership;
mod records;

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::core_in_memory::CoreInMemory;
use super::Groups;
use crate::state::brokers::Brokers;
use crate::state::brokers::tests::brokers;
use crate::state::groups::*;
use crate::state::internal_topics::Journal;

/// A gateway's groups, until it is dropped.
struct Gateway {
    groups: Groups<CoreInMemory>,
    _stop: DropGuard,
}

impl std::ops::Deref for Gateway {
    type Target = Groups<CoreInMemory>;

    fn deref(&self) -> &Self::Target {
        &self.groups
    }
}

/// Short times, so that what waits for a timer is tested in a moment.
fn config() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 5, session_timeout_ms_min: 10, ..GroupConfig::default() }
}

async fn gateway(core: &CoreInMemory) -> Gateway {
    gateway_among(core, brokers(1, &[1]).0).await
}

async fn gateway_among(core: &CoreInMemory, brokers: Brokers) -> Gateway {
    let stop = CancellationToken::new();
    let image = std::sync::Arc::new(consumer::OneTopic);
    let groups =
        Groups::start(core.clone(), "default".into(), config(), brokers, image, Journal::default(), stop.clone()).await;
    let groups = groups.expect("starts");
    Gateway { groups, _stop: stop.drop_guard() }
}

fn join(member_id: &str, session_timeout_ms: i32) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        // A subscription to topic "a".
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\xff\xff\xff\xff"),
        }],
        session_timeout_ms,
        rebalance_timeout_ms: 1_000,
        member_id_required: false,
        skip_assignment_known: true,
        fresh: "1".into(),
        reason: None,
    }
}

fn sync(joined: &Joined) -> SyncRequest {
    SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"all"))],
    }
}

/// Makes a group Stable with one member.
async fn stable(gateway: &Gateway, group: &str, session_timeout_ms: i32) -> Joined {
    let joined = gateway.join(group, join("", session_timeout_ms)).await.expect("joins");
    gateway.sync(group, sync(&joined)).await.expect("syncs");
    joined
}

/// Waits until a group is in a state; fails after ten seconds.
async fn until_state(gateway: &Gateway, group: &str, state: GroupState) {
    let waiting = async {
        while gateway.describe(group).await.map(|described| described.state) != Ok(state) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the state is reached");
}
