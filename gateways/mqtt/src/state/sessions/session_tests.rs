//! The rules of a session, without a gateway.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use codec_mqtt::{PacketId, Properties, QoS, SharedPublish, SubscriptionId, Text};
use core_rpc::{PartitionId, TopicId};

use super::*;

const CONNECTION: ConnectionId = ConnectionId(1);
const LIMITS: Limits = Limits { here_messages_max: 4, here_bytes_max: 1 << 20, there_messages_max: 6 };

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

fn partition() -> PartitionId {
    PartitionId { topic: TopicId(7), index: 0 }
}

fn session() -> Session {
    Session::new(SessionKey(1), text("client"), 9, Arc::default(), LIMITS)
}

fn message(offset: u64, qos: QoS) -> Arc<Message> {
    let publish = SharedPublish::new(text("a/b"), &Properties::default(), Bytes::from_static(b"payload")).unwrap();
    let place = Some(Place { partition: partition(), offset });
    Arc::new(Message { place, qos, retain: true, publisher: 5, expires_ms: None, publish })
}

fn wish(qos: QoS) -> Wish {
    Wish { qos, no_local: false, retain_as_published: false, subscription_id: None }
}

fn take(session: &Session) -> Taken {
    session.take(CONNECTION, Waker::noop(), 100, 0)
}

fn offsets(taken: &Taken) -> Vec<u64> {
    taken.deliveries.iter().map(|(_, delivery)| delivery.message.place.unwrap().offset).collect()
}

fn ids(taken: &Taken) -> Vec<u16> {
    taken.deliveries.iter().filter_map(|(id, _)| id.map(PacketId::get)).collect()
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

#[test]
fn the_lower_quality_is_delivered_and_all_identifiers() {
    let own = message(1, QoS::ExactlyOnce);
    let one = Wish { subscription_id: SubscriptionId::new(3), ..wish(QoS::AtMostOnce) };
    let two = Wish { subscription_id: SubscriptionId::new(4), retain_as_published: true, ..wish(QoS::AtLeastOnce) };
    let delivery = Delivery::merge(&own, &[one, two], false).unwrap();
    assert_eq!((delivery.qos, delivery.retain), (QoS::AtLeastOnce, true));
    assert_eq!(delivery.subscription_ids.as_slice().iter().map(|id| id.get()).collect::<Vec<_>>(), [3, 4]);
    let not_own = Wish { no_local: true, ..two };
    let delivery = Delivery::merge(&own, &[one, not_own], true).unwrap();
    assert_eq!((delivery.qos, delivery.retain), (QoS::AtMostOnce, false));
    assert!(Delivery::merge(&own, &[not_own], true).is_none());
}

#[test]
fn a_window_holds_back_what_is_to_be_acknowledged() {
    let session = session();
    session.attach(CONNECTION, 2, false);
    for offset in 0..4 {
        session.push(&message(offset, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]);
    }
    let taken = take(&session);
    assert_eq!((offsets(&taken), ids(&taken)), (vec![0, 1], vec![1, 2]));
    assert!(take(&session).deliveries.is_empty());
    assert_eq!(session.acknowledged(id(3), QoS::AtLeastOnce), Err(Unfit::Unknown));
    assert_eq!(session.acknowledged(id(2), QoS::ExactlyOnce), Err(Unfit::Another));
    assert_eq!(session.acknowledged(id(2), QoS::AtLeastOnce), Ok(None));
    let taken = take(&session);
    assert_eq!((offsets(&taken), ids(&taken)), (vec![2], vec![3]));
}

/// [MQTT-3.3.4-10]; among themselves, and where there is room, they come in turn.
#[test]
fn a_full_window_holds_back_nothing_of_quality_0() {
    let session = session();
    session.attach(CONNECTION, 2, true);
    let qualities = [QoS::AtLeastOnce, QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce];
    for (offset, qos) in qualities.into_iter().enumerate() {
        session.push(&message(offset as u64, qos), &[wish(QoS::AtLeastOnce)]);
    }
    assert_eq!(offsets(&take(&session)), [0, 1, 2]);
    session.push(&message(4, QoS::AtMostOnce), &[wish(QoS::AtLeastOnce)]);
    assert_eq!(offsets(&take(&session)), [4]);
    // What is to be sent again first is not held back either.
    for (offset, qos) in [(5, QoS::AtMostOnce), (6, QoS::AtLeastOnce), (7, QoS::AtMostOnce)] {
        session.push(&message(offset, qos), &[wish(QoS::AtLeastOnce)]);
    }
    assert_eq!(offsets(&session.take_free(CONNECTION, Waker::noop(), 1, 0)), [5]);
    assert_eq!(session.acknowledged(id(1), QoS::AtLeastOnce), Ok(None));
    assert_eq!(offsets(&take(&session)), [3, 7]);
    assert_eq!(session.acknowledged(id(2), QoS::AtLeastOnce), Ok(None));
    assert_eq!(offsets(&take(&session)), [6]);
}

/// What was published while nobody was there is not for who comes then, though it is read only now.
#[test]
fn of_quality_0_only_what_is_new_is_for_who_is_back() {
    let session = session();
    session.attach(CONNECTION, 9, true);
    session.detach(CONNECTION);
    session.begin_anew([(partition(), 3)]);
    session.attach(ConnectionId(2), 9, true);
    for offset in 1..5 {
        session.push(&message(offset, QoS::ExactlyOnce), &[wish(QoS::AtMostOnce)]);
    }
    let taken = session.take(ConnectionId(2), Waker::noop(), 10, 0);
    assert_eq!(offsets(&taken), [3, 4]);
}

#[test]
fn exactly_once_ends_with_pubcomp() {
    let session = session();
    session.attach(CONNECTION, 10, true);
    session.push(&message(0, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    assert!(take(&session).must_record);
    assert_eq!(session.completed(id(1)), Err(Unfit::Another));
    assert_eq!(session.received(id(1)), Ok(()));
    // Repeated by a client that has not seen our PUBREL.
    assert_eq!(session.received(id(1)), Ok(()));
    assert_eq!(session.acknowledged(id(1), QoS::ExactlyOnce), Err(Unfit::Another));
    assert_eq!(session.completed(id(1)), Ok(None));
    assert_eq!(session.completed(id(1)), Err(Unfit::Unknown));
}

#[test]
fn what_is_too_much_waits_as_references_and_of_quality_0_is_dropped() {
    let session = session();
    session.attach(CONNECTION, 100, false);
    for offset in 0..12 {
        session.push(&message(offset, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]);
    }
    session.push(&message(12, QoS::AtMostOnce), &[wish(QoS::AtLeastOnce)]);
    // Four here, six there.
    let tally = session.tally();
    assert_eq!((tally.messages, tally.dropped, tally.shared_subscriptions), (10, 3, 0));
    assert!(tally.bytes >= 6 * 16);
    for filter in ["$share", "$share/g/a", "$share/g/b", "$sharf/x", "a"] {
        session.subscribe(Text::new(filter).unwrap(), Subscribed { wish: wish(QoS::AtMostOnce) });
    }
    let again = session.tally();
    assert_eq!((again.dropped, again.shared_subscriptions), (0, 2), "what was dropped is told once");
    assert_eq!(offsets(&take(&session)), [0, 1, 2, 3]);
    let taken = take(&session);
    assert_eq!(taken.load.iter().map(|one| one.place.offset).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
    // Until they are loaded nothing else comes.
    session.push(&message(13, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]);
    assert!(take(&session).load.is_empty());
    let loaded = (4..10).map(|offset| {
        let message = message(offset, QoS::AtLeastOnce);
        (offset != 5).then(|| Delivery::merge(&message, &[wish(QoS::AtLeastOnce)], false).unwrap())
    });
    session.loaded(CONNECTION, loaded.collect());
    assert_eq!(offsets(&take(&session)), [4, 6, 7, 8, 9]);
}

#[test]
fn a_client_that_is_back_gets_first_what_it_has_not_acknowledged() {
    let session = session();
    session.attach(CONNECTION, 2, true);
    for offset in 0..3 {
        session.push(&message(offset, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    }
    session.push(&message(3, QoS::AtMostOnce), &[wish(QoS::AtMostOnce)]);
    assert_eq!(ids(&take(&session)), [1, 2]);
    session.received(id(1)).unwrap();
    session.detach(CONNECTION);
    // For who is away there is nothing of quality 0.
    session.push(&message(4, QoS::AtMostOnce), &[wish(QoS::AtMostOnce)]);
    session.push(&message(5, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]);
    let resends = session.attach(ConnectionId(2), 10, true);
    assert!(matches!(resends[0], Resend::Release { packet_id } if packet_id == id(1)));
    assert!(matches!(&resends[1], Resend::Publish { packet_id, what: Held::There(waiting) }
        if *packet_id == id(2) && waiting.place.offset == 1));
    assert_eq!(resends.len(), 2);
    // The older connection is nobody's any more.
    assert!(session.take(CONNECTION, Waker::noop(), 10, 0).load.is_empty());
    let taken = session.take(ConnectionId(2), Waker::noop(), 10, 0);
    assert_eq!(taken.load.iter().map(|one| one.place.offset).collect::<Vec<_>>(), [2, 5]);
}

#[test]
fn what_was_kept_goes_on() {
    let before = session();
    before.attach(CONNECTION, 2, true);
    before.subscribe(text("a/#"), Subscribed { wish: wish(QoS::ExactlyOnce) });
    for offset in 0..4 {
        before.push(&message(offset, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    }
    take(&before);
    before.received(id(1)).unwrap();
    assert!(before.begin_receive(id(77)));
    let snapshot = before.snapshot(&[(partition(), 2)]);
    assert_eq!(snapshot.routed, [(partition(), 4)]);
    let after = session().restore(snapshot.clone(), vec![partition().topic]);
    assert_eq!(after.subscriptions(), before.subscriptions());
    assert!(!after.begin_receive(id(77)));
    // Nothing of a topic that is held, and nothing twice.
    assert!(!after.push(&message(4, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]));
    after.push_missed(&message(3, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    after.push_missed(&message(4, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    after.unhold(partition().topic);
    after.push(&message(4, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    after.push(&message(5, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)]);
    let resends = after.attach(CONNECTION, 10, true);
    assert!(matches!(resends[..], [Resend::Release { .. }, Resend::Publish { .. }]));
    let waiting: Vec<u64> = take(&after).load.iter().map(|one| one.place.offset).collect();
    assert_eq!(waiting, [2, 3, 4, 5]);
}

#[test]
fn whoever_pushes_much_wakes_once() {
    let session = session();
    session.attach(CONNECTION, 2, false);
    let push = |offset| session.push(&message(offset, QoS::AtMostOnce), &[wish(QoS::AtMostOnce)]);
    assert!(!push(0));
    take(&session);
    assert!(push(1));
    assert!(!push(2));
    session.wake();
    assert!(!push(3));
    take(&session);
    assert!(push(4));
}

#[test]
fn expired_messages_are_not_sent() {
    let session = session();
    session.attach(CONNECTION, 2, false);
    let mut old = Arc::into_inner(message(0, QoS::AtLeastOnce)).unwrap();
    old.expires_ms = Some(10);
    assert_eq!(old.expires_in_s(9), Some(1));
    session.push(&Arc::new(old), &[wish(QoS::AtLeastOnce)]);
    session.push(&message(1, QoS::AtLeastOnce), &[wish(QoS::AtLeastOnce)]);
    let taken = session.take(CONNECTION, Waker::noop(), 10, 10);
    assert_eq!((offsets(&taken), ids(&taken)), (vec![1], vec![1]));
}

/// What is routed while a client is away is one reference where it takes all of a partition, however much it is; what is left out is
/// left out, and the bound counts messages.
#[test]
fn a_whole_topic_waits_as_a_position_and_a_length() {
    let limits = Limits { there_messages_max: 1_000, ..LIMITS };
    let before = Session::new(SessionKey(1), text("client"), 9, Arc::default(), limits);
    before.attach(CONNECTION, 2, true);
    before.detach(CONNECTION);
    for offset in 0..1_200 {
        let qos = if offset == 500 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        before.push(&message(offset, qos), &[wish(QoS::ExactlyOnce)]);
    }
    let tally = before.tally();
    assert_eq!((tally.messages, tally.dropped, tally.bytes), (1_000, 199, 2 * 16));
    let snapshot = before.snapshot(&[]);
    let runs: Vec<_> = snapshot.waiting.iter().map(|run| (run.first.place.offset, run.count)).collect();
    assert_eq!(runs, [(0, 500), (501, 500)]);
    let after = session().restore(snapshot, Vec::new());
    after.attach(CONNECTION, 1_000, true);
    let mut got = Vec::new();
    while got.len() < 1_000 {
        let load = take(&after).load;
        got.extend(load.iter().map(|one| one.place.offset));
        after.loaded(CONNECTION, vec![None; load.len()]);
    }
    assert_eq!(got, (0..500).chain(501..1_001).collect::<Vec<u64>>());
    assert!(take(&after).load.is_empty());
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5]: what is its own stays in flight and is recorded; what was only taken is others'.
#[test]
fn a_shared_message_of_quality_2_is_its_own_or_somebody_elses() {
    let session = session();
    session.attach(CONNECTION, 10, true);
    let shared = |offset: u64, share: u64| {
        let mut delivery =
            Delivery::merge(&message(offset, QoS::ExactlyOnce), &[wish(QoS::ExactlyOnce)], false).unwrap();
        let place = Place { partition: partition(), offset };
        delivery.share = Some(ShareLease { share, place, turn: offset });
        session.push_shared(delivery).unwrap();
    };
    (0..2).for_each(|offset| shared(offset, 1));
    shared(2, 2);
    let first = take(&session);
    assert_eq!((offsets(&first), first.must_record), (vec![0, 1], true), "of one share at a time");
    let second = take(&session);
    assert_eq!(offsets(&second), [2]);
    assert!(session.snapshot(&[]).flights.is_empty() && session.shares_in_flight().is_empty());
    assert!(session.own(&[id(1), id(2)]) && !session.own(&[id(9)]));
    assert_eq!(session.snapshot(&[]).flights.len(), 2);
    let turns = |leases: Vec<ShareLease>| leases.iter().map(|lease| lease.turn).collect::<Vec<_>>();
    assert_eq!(turns(session.disown(&[id(2)])), [1]);
    assert_eq!(turns(session.detach(CONNECTION)), [2]);
    assert_eq!(turns(session.shares_in_flight()), [0]);
    assert!(matches!(session.attach(CONNECTION, 10, true)[..], [Resend::Publish { .. }]));
}
