//! Tests of share groups' members, their assignment, and sessions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use core_rpc::{PartitionId, TopicId};
use proptest::prelude::*;

use super::assignor::assign;
use super::group::{Heartbeat, HeartbeatError, ShareGroup};
use super::sessions::{SessionKey, ShareSessionError, ShareSessions};

const TIMEOUT: Duration = Duration::from_secs(45);

fn beat(member: &str, epoch: i32, subscription: Option<&[&str]>) -> Heartbeat {
    Heartbeat {
        member_id: member.into(),
        epoch,
        rack: None,
        subscription: subscription.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: TIMEOUT,
    }
}

fn two_topics(name: &str) -> Option<(TopicId, u32)> {
    match name {
        "a" => Some((TopicId(1), 2)),
        "b" => Some((TopicId(2), 1)),
        _ => None,
    }
}

#[test]
fn members_come_go_and_are_fenced() {
    let (mut group, now) = (ShareGroup::default(), Instant::now());
    let first = group.heartbeat(beat("m1", 0, Some(&["a", "none"])), now, &two_topics).unwrap();
    assert_eq!((first.epoch, first.assignment.unwrap().len()), (1, 2));
    // Nothing new, nothing told.
    let again = group.heartbeat(beat("m1", 1, None), now, &two_topics).unwrap();
    assert_eq!((again.epoch, again.assignment), (1, None));
    let second = group.heartbeat(beat("m2", 0, Some(&["a"])), now, &two_topics).unwrap();
    assert_eq!((second.epoch, second.assignment.unwrap().len()), (2, 1));
    let told = group.heartbeat(beat("m1", 1, None), now, &two_topics).unwrap();
    assert_eq!((told.epoch, told.assignment.unwrap().len()), (2, 1));
    // The answer was lost: the epoch before is known, and it is told again.
    let lost = group.heartbeat(beat("m1", 1, None), now, &two_topics).unwrap();
    assert_eq!((lost.epoch, lost.assignment.unwrap().len()), (2, 1));
    assert_eq!(group.heartbeat(beat("m1", 7, None), now, &two_topics), Err(HeartbeatError::FencedEpoch));
    assert_eq!(group.heartbeat(beat("m3", 2, None), now, &two_topics), Err(HeartbeatError::UnknownMember));
    // A subscription that grows.
    let more = group.heartbeat(beat("m2", 2, Some(&["a", "b"])), now, &two_topics).unwrap();
    assert_eq!((more.epoch, more.assignment.unwrap().len()), (3, 2));
    assert_eq!(group.heartbeat(beat("m2", -1, None), now, &two_topics).unwrap().epoch, -1);
    let alone = group.heartbeat(beat("m1", 2, None), now, &two_topics).unwrap();
    assert_eq!((alone.epoch, alone.assignment.unwrap().len()), (4, 2));
    // More partitions.
    let grown = group.heartbeat(beat("m1", 4, None), now, &|_| Some((TopicId(1), 5))).unwrap();
    assert_eq!(grown.assignment.unwrap().len(), 5);
    group.expire(now + TIMEOUT);
    assert!(group.is_empty());
    assert_eq!(group.next_deadline(), None);
}

#[test]
fn sessions_go_on_by_epochs() {
    let sessions = ShareSessions::default();
    let key = SessionKey { group: "g".into(), member: "m".into() };
    let connection: SocketAddr = ([127, 0, 0, 1], 5).into();
    let [a, b] = [0, 1].map(|index| PartitionId { topic: TopicId(1), index });
    assert_eq!(sessions.fetch(&key, 1, connection, &[], &[]), Err(ShareSessionError::NotFound));
    assert_eq!(sessions.fetch(&key, 0, connection, &[a, b], &[]), Ok(vec![a, b]));
    assert_eq!(sessions.fetch(&key, 2, connection, &[], &[]), Err(ShareSessionError::InvalidEpoch));
    assert_eq!(sessions.fetch(&key, 1, connection, &[a], &[b]), Ok(vec![a]));
    assert_eq!(sessions.acknowledge(&key, 2), Ok(()));
    assert_eq!(sessions.acknowledge(&key, 0), Err(ShareSessionError::InvalidEpoch));
    assert_eq!(sessions.disconnected(([127, 0, 0, 1], 6).into()), []);
    assert_eq!(sessions.disconnected(connection), std::slice::from_ref(&key));
    assert_eq!(sessions.end(&key), Err(ShareSessionError::NotFound));
}

proptest! {
    #[test]
    fn assignments_cover_and_are_even(subscribed in prop::collection::vec(prop::collection::btree_set(0..3u128, 1..3), 1..8), partitions in prop::collection::vec(0..6u32, 3)) {
        let topics = |names: &std::collections::BTreeSet<u128>| -> Vec<(TopicId, u32)> {
            names.iter().map(|topic| (TopicId(*topic), partitions[*topic as usize])).collect()
        };
        let mut subscriptions: BTreeMap<String, Vec<(TopicId, u32)>> =
            subscribed.iter().enumerate().map(|(at, names)| (format!("m{at}"), topics(names))).collect();
        let target = assign(&subscriptions, &BTreeMap::new());
        for _ in 0..2 {
            for (member, topics) in &subscriptions {
                let may = |partition: &PartitionId| topics.iter().any(|(topic, count)| *topic == partition.topic && partition.index < *count);
                prop_assert!(target[member].iter().all(may));
                prop_assert!(!target[member].is_empty() || topics.iter().all(|(_, count)| *count == 0));
                for (topic, count) in topics {
                    for index in 0..*count {
                        let partition = PartitionId { topic: *topic, index };
                        prop_assert!(target.values().any(|has| has.contains(&partition)));
                    }
                }
            }
        }
        // As long as nothing changes, nothing moves.
        prop_assert_eq!(&assign(&subscriptions, &target), &target);
        // Where all read the same, nobody has two more than another.
        let all = topics(&(0..3).collect());
        subscriptions.values_mut().for_each(|topics| topics.clone_from(&all));
        let even = assign(&subscriptions, &BTreeMap::new());
        let sizes: Vec<usize> = even.values().map(|has| has.len()).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
    }
}
