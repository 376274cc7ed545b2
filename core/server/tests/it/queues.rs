//! Transfers, discards and delays, asked of every core.

use std::time::{Duration, Instant};

use core_rpc::*;

use crate::every_core::for_every_core;
use crate::support::*;

for_every_core! {
    a_transfer_settles_and_appends_at_once
    a_transfer_is_done_whole_or_not_at_all
    a_repeated_transfer_is_done_once
    a_transfer_for_a_session_is_done_while_that_lives
    a_discard_settles_what_nobody_holds
    what_is_released_with_a_delay_comes_later_in_its_place
    a_delayed_batch_is_handed_out_when_it_is_due
    only_what_lies_together_is_transferred
}

fn group() -> GroupName {
    GroupName { namespace: "default".into(), group: "queue".into() }
}

async fn queue(core: &impl Core, name: &str) -> PartitionId {
    let settings = TopicSettings { together: true, consumed_by: Some("queue".into()), ..TopicSettings::default() };
    part(&core.topic_create(TopicCreate { settings, ..create(name, 1) }).await.expect("it is made"), 0)
}

pub fn request(partition: PartitionId, credit_messages: u32, wait: Duration) -> AcquireRequest {
    AcquireRequest {
        group: group(),
        partitions: vec![partition],
        holder: "h".into(),
        lease: Lease::Timed(MINUTE),
        mode: AcquireMode::Strict,
        credit_messages,
        credit_bytes: 1 << 20,
        bytes_min: 1,
        window_messages: u64::MAX,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::All,
        wait,
    }
}

async fn acquire(core: &impl Core, partition: PartitionId, credit: u32, wait: Duration) -> Vec<(u64, u64)> {
    let acquired = core.acquire(request(partition, credit, wait)).await.remove(0).expect("acquires");
    acquired.ranges.iter().map(|range| (range.first, range.last)).collect()
}

async fn view(core: &impl Core, partition: PartitionId) -> LeaseView {
    let request = PeekRequest { group: group(), partitions: Some(vec![partition]), ranges_max: 0 };
    core.peek(request).await.expect("peeks").remove(0).1.expect("there is a map")
}

fn accept(first: u64, last: u64) -> SettleRange {
    SettleRange::new(first, last, Settlement::Accept)
}

fn transfer(settles: Vec<(PartitionId, Vec<SettleRange>)>, to: &[(PartitionId, &str)]) -> TransferRequest {
    let append = |(partition, payload): &(PartitionId, &str)| Append {
        partition: *partition,
        batch: batch(1, 0, payload.as_bytes()),
    };
    let appends = to.iter().map(append).collect();
    TransferRequest { group: group(), holder: "h".into(), session: None, settles, appends }
}

async fn payloads(core: &impl Core, partition: PartitionId) -> Vec<String> {
    let batches = read_all(core, partition, 0).await;
    batches.iter().map(|batch| String::from_utf8_lossy(&batch.payload).into_owned()).collect()
}

async fn a_transfer_settles_and_appends_at_once(core: impl Core) {
    let (from, to, other) = (queue(&core, "from").await, queue(&core, "to").await, queue(&core, "other").await);
    append_one(&core, from, batch(3, 0, b"three")).await.unwrap();
    assert_eq!(acquire(&core, from, 10, Duration::ZERO).await, [(0, 2)]);
    let request = transfer(vec![(from, vec![accept(0, 0), accept(2, 2)])], &[(to, "a"), (other, "b"), (to, "c")]);
    let appended = core.transfer(request).await.unwrap();
    assert_eq!(appended.iter().map(|appended| appended.base_offset).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(
        (payloads(&core, to).await, payloads(&core, other).await),
        (vec!["a".into(), "c".into()], vec!["b".into()])
    );
    let view = view(&core, from).await;
    assert_eq!((view.floor, view.next, view.end, view.leased, view.settled), (1, 3, 3, 1, 1));
    // Either half alone is a transfer too, and so is nothing.
    assert_eq!(core.transfer(transfer(vec![(from, vec![accept(1, 1)])], &[])).await, Ok(vec![]));
    assert_eq!(core.transfer(transfer(vec![], &[(to, "d")])).await.unwrap()[0].base_offset, 2);
    assert_eq!(core.transfer(transfer(vec![], &[])).await, Ok(vec![]));
}

async fn a_transfer_is_done_whole_or_not_at_all(core: impl Core) {
    let (from, to) = (queue(&core, "from").await, queue(&core, "to").await);
    append_one(&core, from, batch(3, 0, b"three")).await.unwrap();
    assert_eq!(acquire(&core, from, 2, Duration::ZERO).await, [(0, 1)]);
    let not_held = core.transfer(transfer(vec![(from, vec![accept(0, 0), accept(2, 2)])], &[(to, "a")])).await;
    assert_eq!(not_held, Err(TransferError::Settle { at: 0, error: LeaseError::NotHeld }));
    let mut gap = transfer(vec![(from, vec![accept(0, 1)])], &[(to, "a")]);
    append_one(&core, to, sequenced(b"first", 5, 0, 0)).await.unwrap();
    gap.appends.push(Append { partition: to, batch: sequenced(b"third", 5, 0, 2) });
    let refused = core.transfer(gap).await;
    assert_eq!(refused, Err(TransferError::Append { at: 1, error: AppendError::SequenceGap }));
    assert_eq!((view(&core, from).await.leased, payloads(&core, to).await), (2, vec!["first".to_owned()]));
    let after = append_one(&core, to, sequenced(b"second", 5, 0, 1)).await.unwrap();
    assert_eq!(after.base_offset, 1);
    assert!(core.transfer(transfer(vec![(from, vec![accept(0, 1)])], &[(to, "a")])).await.is_ok());
}

async fn a_repeated_transfer_is_done_once(core: impl Core) {
    let (from, to) = (queue(&core, "from").await, queue(&core, "to").await);
    append_one(&core, from, batch(2, 0, b"two")).await.unwrap();
    assert_eq!(acquire(&core, from, 2, Duration::ZERO).await, [(0, 1)]);
    let mut request = transfer(vec![(from, vec![accept(0, 0)])], &[]);
    request.appends.push(Append { partition: to, batch: sequenced(b"once", 9, 0, 0) });
    for duplicate in [false, true] {
        let appended = core.transfer(request.clone()).await.unwrap();
        assert_eq!((appended[0].base_offset, appended[0].duplicate), (0, duplicate));
    }
    assert_eq!((payloads(&core, to).await, view(&core, from).await.leased), (vec!["once".to_owned()], 1));
    // Part of it is known, part is not: it is not the same call.
    request.appends.push(Append { partition: to, batch: sequenced(b"new", 9, 0, 1) });
    request.settles = vec![(from, vec![accept(1, 1)])];
    let error = AppendError::SequenceForgotten;
    assert_eq!(core.transfer(request).await, Err(TransferError::Append { at: 1, error }));
    assert_eq!(view(&core, from).await.leased, 1);
}

async fn a_transfer_for_a_session_is_done_while_that_lives(core: impl Core) {
    let (from, to) = (queue(&core, "from").await, queue(&core, "to").await);
    append_one(&core, from, batch(2, 0, b"two")).await.unwrap();
    assert_eq!(acquire(&core, from, 2, Duration::ZERO).await, [(0, 1)]);
    let session = core.session_open(MINUTE).await.unwrap();
    let request = |at, appends: &[(PartitionId, &str)]| TransferRequest {
        session: Some(session),
        ..transfer(vec![(from, vec![accept(at, at)])], appends)
    };
    let mut first = request(0, &[]);
    first.appends.push(Append { partition: to, batch: sequenced(b"while it lives", 9, 0, 0) });
    assert!(core.transfer(first.clone()).await.is_ok());
    core.session_close(session).await.unwrap();
    assert_eq!(core.transfer(request(1, &[(to, "too late")])).await, Err(TransferError::UnknownSession));
    assert_eq!((view(&core, from).await.leased, payloads(&core, to).await), (1, vec!["while it lives".to_owned()]));
    // What was done was done.
    assert!(core.transfer(first).await.unwrap()[0].duplicate);
    let unknown = TransferRequest { session: Some(SessionId(u64::MAX)), ..transfer(vec![], &[(to, "nobody's")]) };
    assert_eq!(core.transfer(unknown).await, Err(TransferError::UnknownSession));
}

async fn a_discard_settles_what_nobody_holds(core: impl Core) {
    let queue = queue(&core, "q").await;
    append_one(&core, queue, batch(10, 0, b"ten")).await.unwrap();
    let discard = |messages_max| {
        let start = SeekTo::At(OffsetAt::Earliest);
        core.discard(DiscardRequest { group: group(), partition: queue, start, messages_max })
    };
    assert_eq!(discard(2).await, Ok(2));
    assert_eq!(acquire(&core, queue, 3, Duration::ZERO).await, [(2, 4)]);
    assert_eq!(discard(1).await, Ok(1));
    assert_eq!(discard(u64::MAX).await, Ok(4));
    assert_eq!(discard(u64::MAX).await, Ok(0));
    let before = view(&core, queue).await;
    assert_eq!((before.leased, before.available, before.next, before.end), (3, 0, 10, 10));
    let settles = vec![(queue, vec![SettleRange::new(2, 4, Settlement::Release)])];
    let settle = SettleRequest { group: group(), holder: "h".into(), partitions: settles, durable: true };
    assert_eq!(core.settle(settle).await, [[Ok(())]]);
    assert_eq!(acquire(&core, queue, 10, Duration::ZERO).await, [(2, 4)]);
    assert_eq!(view(&core, queue).await.accepted_total, 7);
}

async fn what_is_released_with_a_delay_comes_later_in_its_place(core: impl Core) {
    const DELAY: Duration = Duration::from_millis(300);
    let queue = queue(&core, "q").await;
    append_one(&core, queue, batch(4, 0, b"four")).await.unwrap();
    assert_eq!(acquire(&core, queue, 2, Duration::ZERO).await, [(0, 1)]);
    let range = SettleRange { delay: DELAY, ..SettleRange::new(0, 0, Settlement::Fail) };
    let settle =
        SettleRequest { group: group(), holder: "h".into(), partitions: vec![(queue, vec![range])], durable: true };
    let released = Instant::now();
    assert_eq!(core.settle(settle).await, [[Ok(())]]);
    let waiting = view(&core, queue).await;
    assert_eq!((waiting.available, waiting.delayed, waiting.leased), (0, 1, 1));
    assert_eq!(acquire(&core, queue, 1, Duration::ZERO).await, [(2, 2)], "it is passed over");
    assert_eq!(acquire(&core, queue, 2, Duration::ZERO).await, [(3, 3)]);
    let again = core.acquire(request(queue, 1, MINUTE)).await.remove(0).unwrap();
    let waited = released.elapsed();
    assert_eq!((again.ranges[0].first, again.ranges[0].acquisitions, again.ranges[0].failures), (0, 2, 1));
    assert!(waited >= DELAY && waited < DELAY + Duration::from_millis(1000), "{waited:?}");
}

async fn a_delayed_batch_is_handed_out_when_it_is_due(core: impl Core) {
    let queue = queue(&core, "q").await;
    let mut delayed = batch(2, 0, b"later");
    delayed.header.not_before_ms = Some(now_ms() + 400);
    append_one(&core, queue, delayed).await.unwrap();
    append_one(&core, queue, batch(1, 0, b"now")).await.unwrap();
    assert_eq!(payloads(&core, queue).await, ["later", "now"], "who fetches sees it");
    assert_eq!(acquire(&core, queue, 10, Duration::ZERO).await, [(2, 2)]);
    let waiting = view(&core, queue).await;
    assert_eq!((waiting.available, waiting.delayed), (0, 2));
    assert_eq!(acquire(&core, queue, 10, MINUTE).await, [(0, 1)]);
    let mut past = batch(1, 0, b"past");
    past.header.not_before_ms = Some(now_ms() - 1);
    append_one(&core, queue, past).await.unwrap();
    assert_eq!(acquire(&core, queue, 10, Duration::ZERO).await, [(3, 3)]);
}

async fn only_what_lies_together_is_transferred(core: impl Core) {
    let (near, far) = (queue(&core, "near").await, part(&topic(&core, "far", 1).await, 0));
    assert_eq!(core.transfer(transfer(vec![], &[(near, "a"), (far, "b")])).await, Err(TransferError::NotTogether));
    let nowhere = PartitionId { topic: TopicId(1), index: 0 };
    let error = AppendError::UnknownPartition;
    assert_eq!(core.transfer(transfer(vec![], &[(nowhere, "a")])).await, Err(TransferError::Append { at: 0, error }));
    // It stays where it is, whatever an alter says.
    let alter = TopicAlter { settings: Some(TopicSettings::default()), ..TopicAlter::default() };
    let altered = core.topic_alter("default".into(), "near".into(), alter).await.unwrap();
    assert!(altered.settings.together && altered.settings.consumed_by.is_none());
    assert!(core.transfer(transfer(vec![], &[(near, "a")])).await.is_ok());
}
