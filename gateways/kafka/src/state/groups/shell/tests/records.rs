//! Records: written before members hear of it, read at the start, fenced by their version.

use super::core_in_memory::PutFate;
use super::*;

const KEY: &str = "group/default/g";

fn record(core: &CoreInMemory) -> Option<GroupRecord> {
    core.value(KEY).map(|value| GroupRecord::decode(&value).expect("a record"))
}

#[tokio::test]
async fn assignments_are_stored_before_they_are_answered() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let joined = gateway.join("g", join("", 30_000)).await.unwrap();
    assert_eq!(record(&core), None);

    // While the put waits, so does the answer; heartbeats of the same group wait behind it.
    core.puts.forget_permits(usize::MAX);
    let (groups, request) = (gateway.groups.clone(), sync(&joined));
    let syncing = tokio::spawn(async move { groups.sync("g", request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!syncing.is_finished());
    core.puts.add_permits(10);
    assert_eq!(syncing.await.unwrap().unwrap().assignment, "all");
    let stored = record(&core).unwrap();
    assert_eq!((stored.generation, stored.members[0].assignment.as_ref()), (1, b"all".as_ref()));
}

#[tokio::test]
async fn a_connection_that_ends_while_storing_leaves_the_group_whole() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let joined = gateway.join("g", join("", 30_000)).await.unwrap();
    core.puts.forget_permits(usize::MAX);
    let (groups, request) = (gateway.groups.clone(), sync(&joined));
    let syncing = tokio::spawn(async move { groups.sync("g", request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    syncing.abort();
    assert!(syncing.await.unwrap_err().is_cancelled());
    core.puts.add_permits(10);
    gateway.heartbeat("g", &joined.member_id, None, 1).await.unwrap();
    assert_eq!(gateway.describe("g").await.unwrap().state, GroupState::Stable);
}

#[tokio::test]
async fn a_restarted_gateway_keeps_stable_groups() {
    let core = CoreInMemory::new();
    let first = gateway(&core).await;
    let joined = stable(&first, "g", 30_000).await;
    drop(first);
    let second = gateway(&core).await;
    second.heartbeat("g", &joined.member_id, None, joined.generation).await.unwrap();
    let described = second.describe("g").await.unwrap();
    assert_eq!((described.state, described.members[0].assignment.as_ref()), (GroupState::Stable, b"all".as_ref()));
    assert_eq!(second.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn members_that_do_not_come_back_after_a_restart_are_removed() {
    let core = CoreInMemory::new();
    let first = gateway(&core).await;
    stable(&first, "g", 50).await;
    drop(first);
    let second = gateway(&core).await;
    until_state(&second, "g", GroupState::Empty).await;
    assert_eq!(record(&core).unwrap().members, []);
    assert_eq!(record(&core).unwrap().generation, 2);
}

#[tokio::test]
async fn a_failed_store_makes_members_start_over() {
    for fate in [PutFate::Fails, PutFate::AnswerLost] {
        let core = CoreInMemory::new();
        let gateway = gateway(&core).await;
        let joined = gateway.join("g", join("", 30_000)).await.unwrap();
        core.next_put(fate);
        assert_eq!(gateway.sync("g", sync(&joined)).await, Err(GroupError::CoordinatorNotAvailable));
        let again = gateway.join("g", join(&joined.member_id, 30_000)).await.unwrap();
        assert_eq!(again.generation, 2);
        gateway.sync("g", sync(&again)).await.unwrap();
        assert_eq!(record(&core).unwrap().generation, 2);
    }
}

#[tokio::test]
async fn a_gateway_that_was_overtaken_gives_the_group_up() {
    let core = CoreInMemory::new();
    let (one, other) = (gateway(&core).await, gateway(&core).await);
    let joined = one.join("g", join("", 30_000)).await.unwrap();
    let elsewhere = stable(&other, "g", 30_000).await;
    assert_eq!(one.sync("g", sync(&joined)).await, Err(GroupError::NotCoordinator));
    // Asked again, it knows what the other wrote.
    one.heartbeat("g", &elsewhere.member_id, None, elsewhere.generation).await.unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_not_overwritten() {
    let core = CoreInMemory::new();
    core.overwrite(KEY, Bytes::from_static(b"\x09new"));
    let gateway = gateway(&core).await;
    let refused = gateway.join("g", join("", 30_000)).await.unwrap_err();
    assert_eq!(refused.error, GroupError::CoordinatorNotAvailable);
    assert_eq!(core.value(KEY).unwrap(), "\x09new");
}

#[tokio::test]
async fn one_timer_ends_a_thousand_sessions_and_strangers_leave_no_trace() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    for index in 0..1_000 {
        let request = JoinRequest { member_id_required: true, ..join("", 300) };
        let refused = gateway.join(&format!("group {index}"), request).await.unwrap_err();
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        let stranger = gateway.heartbeat(&format!("unknown {index}"), "member", None, 1).await;
        assert_eq!(stranger, Err(GroupError::UnknownMember));
    }
    let waiting = async {
        while !gateway.shared.slots.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("all pending ids lapse");
}
