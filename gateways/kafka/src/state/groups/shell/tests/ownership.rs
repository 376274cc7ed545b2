//! Groups move when gateways come and go.

use super::*;
use crate::state::brokers::tests::members;

/// A group's name that gateway `id` of the two coordinates.
fn name_of(id: i32) -> String {
    let (two, _live) = brokers(id, &[1, 2]);
    let mut names = (0..1000).map(|index| format!("g{index}"));
    names.find(|name| two.coordinates(crate::state::CoordinatorKey::Group(name))).expect("half of them")
}

#[tokio::test]
async fn a_group_is_refused_by_all_but_one() {
    let core = CoreInMemory::new();
    let gateway = gateway_among(&core, brokers(1, &[1, 2]).0).await;
    stable(&gateway, &name_of(1), 30_000).await;
    let other = name_of(2);
    let refused = gateway.join(&other, join("", 30_000)).await.unwrap_err();
    assert_eq!(refused.error, GroupError::NotCoordinator);
    assert_eq!(gateway.heartbeat(&other, "m", None, 1).await, Err(GroupError::NotCoordinator));
    assert_eq!(gateway.describe(&other).await, Err(GroupError::NotCoordinator));
    assert_eq!(gateway.delete(&other).await, Err(GroupError::NotCoordinator));
    let committer = Committer { member_id: "", instance_id: None, generation: -1, transaction: None };
    assert_eq!(gateway.commit(&other, committer, Vec::new()).await, Err(GroupError::NotCoordinator));
    assert_eq!(gateway.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_group_moves_with_its_members_and_back() {
    let core = CoreInMemory::new();
    let (brokers_of_one, live_of_one) = brokers(1, &[1]);
    let one = gateway_among(&core, brokers_of_one).await;
    let group = name_of(2);
    let joined = stable(&one, &group, 30_000).await;
    let generation = joined.generation;

    // Somebody waits in the group when the second gateway comes.
    let (groups, id, mut request) = (one.groups.clone(), group.clone(), join("", 30_000));
    request.fresh = "2".into();
    let waiting = tokio::spawn(async move { groups.join(&id, request).await });
    until_state(&one, &group, GroupState::PreparingRebalance).await;
    let (brokers_of_two, live_of_two) = brokers(2, &[1, 2]);
    let two = gateway_among(&core, brokers_of_two).await;
    live_of_one.send(members(&[1, 2])).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(one.heartbeat(&group, &joined.member_id, None, generation).await, Err(GroupError::NotCoordinator));
    // The last stable generation is what moved.
    two.heartbeat(&group, &joined.member_id, None, generation).await.unwrap();
    assert_eq!(one.list().await.unwrap().len() + two.list().await.unwrap().len(), 1);

    // The second dies.
    live_of_two.send(members(&[])).unwrap();
    live_of_one.send(members(&[1])).unwrap();
    let back = async {
        while one.heartbeat(&group, &joined.member_id, None, generation).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("the group is back");
}

#[tokio::test]
async fn who_takes_over_ends_the_sessions_of_members_that_died_with_the_gateway() {
    let core = CoreInMemory::new();
    let (brokers_of_one, live) = brokers(1, &[1, 2]);
    let one = gateway_among(&core, brokers_of_one).await;
    let group = name_of(2);
    stable(&gateway_among(&core, brokers(2, &[1, 2]).0).await, &group, 50).await;
    live.send(members(&[1])).unwrap();
    let waiting = async {
        while one.describe(&group).await.map(|described| described.state) != Ok(GroupState::Empty) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the member is removed");
}
