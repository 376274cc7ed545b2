//! Groups of the consumer protocol in the shell: stored before they are answered, taken over as they are, and moving
//! between both protocols.

use codec_kafka::consumer_protocol::{ConsumerAssignment, TopicPartitions};
use core_rpc::{PartitionId, TopicId};

use super::core_in_memory::PutFate;
use super::*;
use crate::state::consumer_groups::{
    Beaten, ConsumerGroupState, ConsumerTimes, Departure, HeartbeatRequest, Partitions, TopicImage, TopicSize,
};
use crate::state::groups::shell::Reader;

/// Topic "a" with four partitions.
pub struct OneTopic;

/// Nothing is set for the group.
const TIMES: ConsumerTimes = ConsumerTimes { session_timeout_ms: None, heartbeat_interval_ms: None };

const A: TopicId = TopicId(0xa);

impl TopicImage for OneTopic {
    fn revision(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<TopicSize> {
        (name == "a").then_some(TopicSize { id: A, partitions: 4 })
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        (id == A).then(|| "a".into())
    }

    fn names(&self) -> Vec<String> {
        vec!["a".into()]
    }
}

fn partitions(indexes: std::ops::Range<u32>) -> Partitions {
    indexes.map(|index| PartitionId { topic: A, index }).collect()
}

fn joins(member_id: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        member_id: member_id.into(),
        epoch: 0,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: Some(30_000),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        topics: Some(vec!["a".into()]),
        regex: None,
        assignor: None,
        owned: Some(Partitions::default()),
    }
}

fn beats(told: &Beaten, owned: Option<Partitions>) -> HeartbeatRequest {
    HeartbeatRequest { epoch: told.epoch, rebalance_timeout_ms: None, topics: None, owned, ..joins(&told.member_id) }
}

#[tokio::test]
async fn a_restarted_gateway_keeps_epochs_and_assignments() {
    let core = CoreInMemory::new();
    let first = gateway(&core).await;
    let one = first.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    assert_eq!((one.epoch, one.assignment.clone()), (1, Some(partitions(0..4))));
    let two = first.consumer_heartbeat("g", TIMES, joins("m2")).await.unwrap();
    assert_eq!((two.epoch, two.assignment.clone()), (2, Some(Partitions::default())));
    drop(first);

    let second = gateway(&core).await;
    let two = second.consumer_heartbeat("g", TIMES, beats(&two, None)).await.unwrap();
    assert_eq!((two.epoch, two.assignment.clone()), (2, None));
    let one = second.consumer_heartbeat("g", TIMES, beats(&one, None)).await.unwrap();
    assert_eq!((one.epoch, one.assignment.clone()), (1, Some(partitions(0..2))));
    let one = second.consumer_heartbeat("g", TIMES, beats(&one, Some(partitions(0..2)))).await.unwrap();
    assert_eq!((one.epoch, one.assignment), (2, None));
    let two = second.consumer_heartbeat("g", TIMES, beats(&two, None)).await.unwrap();
    assert_eq!((two.epoch, two.assignment), (2, Some(partitions(2..4))));
    let described = second.describe_consumer_group("g").await.unwrap();
    assert_eq!((described.state, described.epoch), (ConsumerGroupState::Stable, 2));
    let listed = second.list().await.unwrap();
    assert_eq!((listed[0].state, listed[0].group_type, listed.len()), ("Stable", "consumer", 1));
    assert_eq!(second.describe("g").await, Err(GroupError::NotAClassicGroup));
}

#[tokio::test]
async fn what_could_not_be_stored_did_not_happen() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    for fate in [PutFate::Fails, PutFate::AnswerLost] {
        core.next_put(fate);
        let refused = gateway.consumer_heartbeat("g", TIMES, joins("m1")).await;
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
        assert!(gateway.describe_consumer_group("g").await.is_err());
    }
    let one = gateway.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    core.next_put(PutFate::Fails);
    assert_eq!(gateway.consumer_heartbeat("g", TIMES, joins("m2")).await, Err(GroupError::CoordinatorNotAvailable));
    // The one that is in has noticed nothing.
    let again = gateway.consumer_heartbeat("g", TIMES, beats(&one, None)).await.unwrap();
    assert_eq!((again.epoch, again.assignment), (1, None));
}

#[tokio::test]
async fn who_joins_while_a_record_is_stored_shares_the_next() {
    const MEMBERS: usize = 50;
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    gateway.consumer_heartbeat("g", TIMES, joins("m")).await.unwrap();
    // Room for two records: that of whoever comes first, and that of all who come meanwhile.
    core.puts.forget_permits(usize::MAX);
    core.puts.add_permits(2);
    let join = |number: usize| {
        let groups = gateway.groups.clone();
        tokio::spawn(async move { groups.consumer_heartbeat("g", TIMES, joins(&format!("m{number}"))).await })
    };
    let joining: Vec<_> = (0..MEMBERS).map(join).collect();
    for joined in joining {
        let joined = tokio::time::timeout(Duration::from_secs(10), joined).await.expect("no third record is stored");
        assert!(joined.unwrap().unwrap().epoch <= 3);
    }
    let described = gateway.describe_consumer_group("g").await.unwrap();
    assert_eq!(described.members.len(), 1 + MEMBERS);
    assert!(described.epoch <= 3, "{}", described.epoch);
}

#[tokio::test]
async fn all_that_share_a_record_hear_that_it_could_not_be_stored() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let one = gateway.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    core.next_put(PutFate::Fails);
    let (late, new, other) = tokio::join!(
        gateway.consumer_heartbeat("g", TIMES, HeartbeatRequest { epoch: 7, ..joins("m1") }),
        gateway.consumer_heartbeat("g", TIMES, joins("m2")),
        gateway.consumer_heartbeat("g", TIMES, joins("m3")),
    );
    for refused in [late, new, other] {
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
    }
    let again = gateway.consumer_heartbeat("g", TIMES, beats(&one, None)).await.unwrap();
    assert_eq!((again.epoch, again.assignment), (1, None));
    assert_eq!(gateway.describe_consumer_group("g").await.unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_heartbeat_whose_client_is_gone_is_not_heard() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    core.puts.forget_permits(usize::MAX);
    let first = gateway.groups.clone();
    let first = tokio::spawn(async move { first.consumer_heartbeat("g", TIMES, joins("m1")).await });
    let mut gone = Box::pin(gateway.consumer_heartbeat("g", TIMES, joins("m2")));
    // Both are under way: one is being stored, the other waits for that.
    tokio::task::yield_now().await;
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(gone.as_mut().poll(context).is_pending())).await);
    drop(gone);
    core.puts.add_permits(100);
    first.await.unwrap().unwrap();
    gateway.consumer_heartbeat("g", TIMES, joins("m3")).await.unwrap();
    let described = gateway.describe_consumer_group("g").await.unwrap();
    assert_eq!(described.members.iter().map(|member| &*member.id).collect::<Vec<_>>(), ["m1", "m3"]);
}

#[tokio::test]
async fn of_two_gateways_the_one_that_was_overtaken_gives_the_group_up() {
    let core = CoreInMemory::new();
    let (one, other) = (gateway(&core).await, gateway(&core).await);
    let member = one.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    other.consumer_heartbeat("g", TIMES, joins("m2")).await.unwrap();
    assert_eq!(one.consumer_heartbeat("g", TIMES, joins("m3")).await, Err(GroupError::NotCoordinator));
    // Asked again, it knows what the other wrote.
    one.consumer_heartbeat("g", TIMES, beats(&member, None)).await.unwrap();
    assert_eq!(one.describe_consumer_group("g").await.unwrap().members.len(), 2);
}

#[tokio::test]
async fn a_group_moves_to_the_consumer_protocol_and_back() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let joined = gateway.join("g", join("", 30_000)).await.unwrap();
    let all = ConsumerAssignment {
        assigned_partitions: vec![TopicPartitions { topic: "a".into(), partitions: vec![0, 1, 2, 3] }],
        user_data: None,
    };
    let all = vec![(joined.member_id.clone(), all.encode(0).unwrap())];
    gateway.sync("g", SyncRequest { assignments: all, ..sync(&joined) }).await.unwrap();
    let new = gateway.consumer_heartbeat("g", TIMES, joins("new")).await.unwrap();
    assert_eq!(new.epoch, joined.generation + 1);
    assert_eq!(gateway.describe("g").await, Err(GroupError::NotAClassicGroup));
    let beaten = gateway.heartbeat("g", &joined.member_id, None, joined.generation).await;
    assert_eq!(beaten, Err(GroupError::RebalanceInProgress));
    let joined = gateway.join("g", join(&joined.member_id, 30_000)).await.unwrap();
    assert_eq!(joined.generation, new.epoch);
    gateway.sync("g", SyncRequest { assignments: Vec::new(), ..sync(&joined) }).await.unwrap();
    assert_eq!(gateway.heartbeat("g", &joined.member_id, None, joined.generation).await, Ok(()));

    let departure = Departure { member_id: "new".into(), instance_id: None, comes_back: false };
    gateway.consumer_leave("g", &departure).await.unwrap();
    let described = gateway.describe("g").await.unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::PreparingRebalance, 1));
    let joined = gateway.join("g", join(&joined.member_id, 30_000)).await.unwrap();
    assert_eq!(gateway.sync("g", sync(&joined)).await.unwrap().assignment, "all");
}

#[tokio::test]
async fn members_that_fall_silent_are_removed() {
    let core = CoreInMemory::new();
    let stop = CancellationToken::new();
    let config = GroupConfig { consumer_session_timeout_ms: 20, ..config() };
    let image = std::sync::Arc::new(OneTopic);
    let brokers = brokers(1, &[1]).0;
    let groups =
        Groups::start(core.clone(), "default".into(), config, brokers, image, Journal::default(), stop.clone())
            .await
            .unwrap();
    let gateway = Gateway { groups, _stop: stop.drop_guard() };
    gateway.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    let waiting = async {
        while gateway.describe_consumer_group("g").await.unwrap().state != ConsumerGroupState::Empty {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the member is removed");
    gateway.delete("g").await.unwrap();
    assert_eq!(core.value("group/default/g"), None);
}

#[tokio::test]
async fn readers_and_committers_need_their_epoch() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    gateway.consumer_heartbeat("g", TIMES, joins("m1")).await.unwrap();
    let commit = |member_id, generation| {
        let committer = Committer { member_id, instance_id: None, generation, transaction: None };
        let gateway = &gateway;
        async move { gateway.commit("g", committer, Vec::new()).await.map(drop) }
    };
    assert_eq!(commit("m1", 1).await, Ok(()));
    assert_eq!(commit("m1", 0).await, Err(GroupError::StaleEpoch));
    assert_eq!(commit("m2", 1).await, Err(GroupError::UnknownMember));
    assert_eq!(commit("", -1).await, Err(GroupError::UnknownMember));
    let read = |member_id, epoch| gateway.check_read("g", Reader { member_id, epoch });
    assert_eq!(read(Some("m1"), 1).await, Ok(()));
    assert_eq!(read(Some("m1"), 2).await, Err(GroupError::StaleEpoch));
    assert_eq!(read(None, -1).await, Ok(()));
}
