//! A large group: its record fits, and what comes back is what was stored.

use core_rpc::META_VALUE_BYTES_MAX;

use super::script::Image;
use crate::state::consumer_groups::*;

const MEMBERS: usize = 1_000;

fn request(member: usize, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        // As long as those that clients make.
        member_id: format!("{member:022}"),
        epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: (epoch == 0).then_some(300_000),
        client_id: format!("consumer-some-application-{member}"),
        client_host: "/10.123.123.123".into(),
        topics: (epoch == 0).then(|| vec!["orders".into(), "payments".into()]),
        regex: None,
        assignor: None,
        owned: Some(Partitions::default()),
    }
}

#[test]
fn a_thousand_members_with_a_thousand_partitions_fit_into_one_record() {
    let settings = ConsumerSettings { session_timeout_ms: 45_000, heartbeat_interval_ms: 5_000, members_max: MEMBERS };
    let mut image = Image::default();
    let mut group = ConsumerGroup::new("g".into(), 0);
    let mut epochs: Vec<i32> = Vec::new();
    for member in 0..MEMBERS {
        epochs.push(group.heartbeat(request(member, 0), &image, &settings, 0).unwrap().epoch);
    }
    image.set("orders", 1_000);
    for (member, epoch) in epochs.iter().enumerate() {
        let told = group.heartbeat(request(member, *epoch), &image, &settings, 0).unwrap();
        assert_eq!(told.assignment.unwrap().len(), 1);
    }
    group.check();
    assert_eq!(group.state(), ConsumerGroupState::Stable);
    let record = group.take_changed().unwrap().encode().unwrap();
    assert!(record.len() < META_VALUE_BYTES_MAX / 4, "{} bytes", record.len());
    let record = ConsumerGroupRecord::decode(&record).unwrap();
    assert_eq!(ConsumerGroup::restore("g".into(), record, &settings, 0).describe(), group.describe());
}

/// The work of those that come together is that of one target, not one for each.
#[test]
fn a_thousand_members_that_join_at_once_are_one_epoch() {
    let settings = ConsumerSettings { session_timeout_ms: 45_000, heartbeat_interval_ms: 5_000, members_max: MEMBERS };
    let mut image = Image::default();
    image.set("orders", 1_000);
    let mut group = ConsumerGroup::new("g".into(), 0);
    let joining = (0..MEMBERS).chain([0, MEMBERS]).map(|member| request(member, 0)).collect();
    let mut told = group.heartbeats(joining, &image, &settings, 0);
    assert_eq!(told.len(), MEMBERS + 2);
    assert!(matches!(told.pop(), Some(Err(_))), "there is no room for one more");
    // The same member once more is answered after the first, which was told that it is in.
    let again = told.pop().unwrap().unwrap();
    assert_eq!(Ok(&again), told[0].as_ref());
    for told in told {
        let told = told.unwrap();
        assert_eq!((told.epoch, told.assignment.map(|assignment| assignment.len())), (1, Some(1)));
    }
    assert_eq!(group.epoch(), 1);
    group.check();
}
