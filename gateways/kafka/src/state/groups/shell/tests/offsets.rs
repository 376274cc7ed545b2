//! Offsets through the shell: who may commit and delete them, and how they age.

use core_rpc::{Core, CursorError, PartitionId, TopicCreate, TopicId, TopicSettings};

use super::*;

const DAY_MS: i64 = 24 * 3_600_000;

fn partition(topic: TopicId) -> PartitionId {
    PartitionId { topic, index: 0 }
}

fn commit_at(topic: TopicId, offset: i64) -> Vec<Commit> {
    vec![Commit { partition: partition(topic), offset, leader_epoch: 7, metadata: "words".into(), retention_ms: None }]
}

const TOOL: Committer = Committer { member_id: "", instance_id: None, generation: -1, transaction: None };

async fn topic(core: &CoreInMemory, name: &str) -> TopicId {
    let create = TopicCreate {
        namespace: "default".into(),
        name: name.into(),
        partitions: 1,
        settings: TopicSettings::default(),
        labels: Default::default(),
    };
    core.topic_create(create).await.unwrap().id
}

#[tokio::test]
async fn a_tool_commits_to_a_group_that_nobody_joined() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let topic = topic(&core, "a").await;
    assert_eq!(gateway.commit("g", TOOL, commit_at(topic, 5)).await, Ok(vec![Ok(())]));
    let cursor = gateway.committed("g", vec![partition(topic)]).await.unwrap().remove(0).cursor.unwrap();
    assert_eq!((cursor.offset, cursor.epoch, cursor.metadata.as_str()), (5, 7, "words"));
    let listed = gateway.list().await.unwrap();
    assert_eq!((listed[0].id.as_str(), listed[0].state, listed[0].protocol_type.as_str()), ("g", "Empty", ""));
    assert_eq!(gateway.describe("g").await.unwrap().state, GroupState::Empty);
    assert!(gateway.shared.slots.is_empty(), "only its offsets are kept");

    let member = Committer { member_id: "m", instance_id: None, generation: 3, transaction: None };
    assert_eq!(gateway.commit("g", member, commit_at(topic, 6)).await, Err(GroupError::UnknownMember));
    assert_eq!(gateway.commit("none", member, commit_at(topic, 6)).await, Err(GroupError::GroupNotFound));
    assert_eq!(gateway.describe("none").await, Err(GroupError::GroupNotFound));
}

#[tokio::test]
async fn a_generation_fences_those_before_it() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let topic = topic(&core, "a").await;
    let first = stable(&gateway, "g", 30_000).await;
    let committer = Committer { member_id: &first.member_id, instance_id: None, generation: 1, transaction: None };
    assert_eq!(gateway.commit("g", committer, commit_at(topic, 1)).await, Ok(vec![Ok(())]));
    assert_eq!(gateway.commit("g", TOOL, commit_at(topic, 9)).await, Err(GroupError::UnknownMember));
    let second = gateway.join("g", join(&first.member_id, 30_000)).await.unwrap();
    assert_eq!(gateway.commit("g", committer, commit_at(topic, 2)).await, Err(GroupError::IllegalGeneration));
    let committer = Committer { generation: second.generation, ..committer };
    assert_eq!(gateway.commit("g", committer, commit_at(topic, 2)).await, Err(GroupError::RebalanceInProgress));
    gateway.sync("g", sync(&second)).await.unwrap();
    assert_eq!(gateway.commit("g", committer, commit_at(topic, 2)).await, Ok(vec![Ok(())]));

    // What was under way in the first generation meets the core's fence.
    let late = core_rpc::CommitRequest {
        transaction: None,
        group: gateway.name("g"),
        generation: Some(1),
        cursors: vec![(partition(topic), gateway.all_committed("g").await.unwrap().remove(0).1)],
    };
    assert_eq!(core.commit(late).await, vec![Err(CursorError::Fenced)]);
}

#[tokio::test]
async fn offsets_of_topics_being_read_cannot_be_deleted() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let (read, unread) = (topic(&core, "a").await, topic(&core, "b").await);
    let joined = stable(&gateway, "g", 30_000).await;
    let committer = Committer { member_id: &joined.member_id, instance_id: None, generation: 1, transaction: None };
    for topic in [read, unread] {
        gateway.commit("g", committer, commit_at(topic, 1)).await.unwrap();
    }
    let topics = [("a".to_owned(), vec![partition(read)]), ("b".to_owned(), vec![partition(unread)])];
    let deleted = gateway.delete_offsets("g", &topics).await.unwrap();
    assert_eq!(deleted, [Err(GroupError::SubscribedToTopic), Ok(())]);
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 1);
    assert_eq!(gateway.delete_offsets("none", &topics).await, Err(GroupError::GroupNotFound));
}

#[tokio::test]
async fn only_a_group_without_members_can_be_deleted() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let topic = topic(&core, "a").await;
    let joined = stable(&gateway, "g", 30_000).await;
    let committer = Committer { member_id: &joined.member_id, instance_id: None, generation: 1, transaction: None };
    gateway.commit("g", committer, commit_at(topic, 1)).await.unwrap();
    assert_eq!(gateway.delete("g").await, Err(GroupError::GroupNotEmpty));
    let leaver = Leaver { member_id: joined.member_id, instance_id: None, reason: None };
    gateway.leave("g", &[leaver]).await.unwrap();
    assert_eq!(gateway.delete("g").await, Ok(()));
    assert_eq!(gateway.delete("g").await, Err(GroupError::GroupNotFound));
    assert_eq!(gateway.all_committed("g").await, Ok(vec![]));
    assert_eq!(core.value("group/default/g"), None);
    assert!(gateway.shared.slots.is_empty());
}

#[tokio::test]
async fn a_commit_may_say_how_long_it_is_kept() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let (read, unread) = (topic(&core, "a").await, topic(&core, "b").await);
    let joined = stable(&gateway, "g", 30_000).await;
    let committer = Committer { member_id: &joined.member_id, instance_id: None, generation: 1, transaction: None };
    let kept_for =
        |topic, retention_ms| vec![Commit { retention_ms: Some(retention_ms), ..commit_at(topic, 1).remove(0) }];
    gateway.commit("g", committer, kept_for(read, DAY_MS)).await.unwrap();
    gateway.commit("g", committer, kept_for(unread, DAY_MS)).await.unwrap();
    gateway.commit("long", TOOL, kept_for(read, 20 * DAY_MS)).await.unwrap();
    let cursor = gateway.committed("g", vec![partition(read)]).await.unwrap().remove(0).cursor.unwrap();
    assert_eq!((cursor.offset, cursor.metadata.as_str()), (1, "words"));
    assert_eq!(gateway.all_committed("g").await.unwrap()[0].1.metadata, "words");

    let now_ms = crate::now_ms();
    gateway.sweep(now_ms + DAY_MS / 2).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 2);
    gateway.sweep(now_ms + 2 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 1, "what is being read stays");
    gateway.sweep(now_ms + 19 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("long").await.unwrap().len(), 1, "longer than others");
    gateway.sweep(now_ms + 21 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("long").await.unwrap(), []);
}

#[tokio::test]
async fn offsets_age_while_nobody_uses_them() {
    let core = CoreInMemory::new();
    let gateway = gateway(&core).await;
    let (read, unread) = (topic(&core, "a").await, topic(&core, "b").await);
    let joined = stable(&gateway, "g", 30_000).await;
    let committer = Committer { member_id: &joined.member_id, instance_id: None, generation: 1, transaction: None };
    for topic in [read, unread] {
        gateway.commit("g", committer, commit_at(topic, 1)).await.unwrap();
    }
    gateway.commit("simple", TOOL, commit_at(read, 1)).await.unwrap();
    let now_ms = crate::now_ms();

    gateway.sweep(now_ms + 6 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 2);
    assert_eq!(gateway.all_committed("simple").await.unwrap().len(), 1);

    // A group that reads one of the topics keeps its offsets there; the others are too old.
    gateway.sweep(now_ms + 8 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap()[0].0.topic, read);
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 1);
    assert_eq!(gateway.all_committed("simple").await.unwrap(), []);

    // Without members everything goes, and the group with it.
    let leaver = Leaver { member_id: joined.member_id, instance_id: None, reason: None };
    gateway.leave("g", &[leaver]).await.unwrap();
    gateway.sweep(now_ms + 6 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap().len(), 1);
    gateway.sweep(now_ms + 8 * DAY_MS).await.unwrap();
    assert_eq!(gateway.all_committed("g").await.unwrap(), []);
    assert_eq!(core.value("group/default/g"), None);
    assert!(gateway.shared.slots.is_empty());
}
