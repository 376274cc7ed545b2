//! Lease maps, asked of every core.

use std::time::Duration;

use core_rpc::*;

use crate::every_core::for_every_core;
use crate::support::*;

for_every_core! {
    what_is_accepted_does_not_come_again
    holders_share_a_batch
    an_acquire_waits_for_messages_and_for_others
    leases_run_out_and_are_renewed
    leases_end_with_their_session
    what_comes_too_often_is_rejected
    floors_are_moved_and_maps_forgotten
    a_window_is_kept
    a_dropped_acquire_gives_back
}

fn group() -> GroupName {
    GroupName { namespace: "default".into(), group: "g".into() }
}

fn request(partition: PartitionId, holder: &str, credit_messages: u32) -> AcquireRequest {
    AcquireRequest {
        group: group(),
        partitions: vec![partition],
        holder: holder.into(),
        lease: Lease::Timed(MINUTE),
        mode: AcquireMode::Strict,
        credit_messages,
        credit_bytes: 1 << 20,
        bytes_min: 1,
        window_messages: 1000,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::All,
        wait: Duration::ZERO,
    }
}

/// (first, last, acquisitions) of what was acquired.
async fn acquire(core: &impl Core, request: AcquireRequest) -> Vec<(u64, u64, u32)> {
    let acquired = core.acquire(request).await.remove(0).expect("acquires");
    for range in &acquired.ranges {
        let has = |offset: u64| {
            acquired
                .batches
                .iter()
                .any(|batch| batch.header.base_offset <= offset && offset < batch.header.next_offset())
        };
        assert!((range.first..=range.last).all(has), "{acquired:?}");
    }
    acquired.ranges.iter().map(|range| (range.first, range.last, range.acquisitions)).collect()
}

async fn settle(
    core: &impl Core,
    partition: PartitionId,
    holder: &str,
    ranges: &[(u64, u64, Settlement)],
) -> Vec<Result<(), LeaseError>> {
    let range = |(first, last, settlement): &(u64, u64, Settlement)| SettleRange::new(*first, *last, *settlement);
    let partitions = vec![(partition, ranges.iter().map(range).collect())];
    core.settle(SettleRequest { group: group(), holder: holder.into(), partitions, durable: true }).await.remove(0)
}

async fn view(core: &impl Core, partition: PartitionId) -> Option<LeaseView> {
    let request = PeekRequest { group: group(), partitions: Some(vec![partition]), ranges_max: 100 };
    core.peek(request).await.expect("peeks").remove(0).1
}

async fn log_of(core: &impl Core, counts: &[u32]) -> PartitionId {
    let partition = part(&topic(core, "t", 1).await, 0);
    for count in counts {
        append_one(core, partition, batch(*count, 0, b"content")).await.expect("appends");
    }
    partition
}

async fn what_is_accepted_does_not_come_again(core: impl Core) {
    let partition = log_of(&core, &[3, 2]).await;
    assert_eq!(acquire(&core, request(partition, "a", 100)).await, [(0, 2, 1), (3, 4, 1)]);
    assert_eq!(acquire(&core, request(partition, "b", 100)).await, []);
    let not_held = settle(&core, partition, "b", &[(0, 0, Settlement::Accept)]).await;
    assert_eq!(not_held, [Err(LeaseError::NotHeld)]);
    let ranges =
        [(0, 1, Settlement::Accept), (2, 2, Settlement::Release), (3, 3, Settlement::Fail), (3, 3, Settlement::Accept)];
    let answers = settle(&core, partition, "a", &ranges).await;
    assert_eq!(answers, [Ok(()), Ok(()), Ok(()), Err(LeaseError::NotHeld)]);
    assert_eq!(settle(&core, partition, "a", &[(0, 1, Settlement::Accept)]).await, [Err(LeaseError::Passed)]);
    let again = core.acquire(request(partition, "b", 100)).await.remove(0).unwrap().ranges;
    assert_eq!((again[0].first, again[0].acquisitions, again[0].failures), (2, 2, 0));
    assert_eq!((again[1].first, again[1].acquisitions, again[1].failures), (3, 2, 1));
    assert_eq!(settle(&core, partition, "a", &[(4, 4, Settlement::Reject)]).await, [Ok(())]);
    assert_eq!(settle(&core, partition, "b", &[(2, 3, Settlement::Accept)]).await, [Ok(())]);
    let view = view(&core, partition).await.unwrap();
    assert_eq!((view.floor, view.next, view.accepted_total, view.rejected_total), (5, 5, 4, 1));
    assert_eq!(core.lease_groups("default".into()).await.unwrap(), ["g"]);
}

async fn holders_share_a_batch(core: impl Core) {
    let partition = log_of(&core, &[6]).await;
    assert_eq!(acquire(&core, request(partition, "a", 2)).await, [(0, 1, 1)]);
    assert_eq!(acquire(&core, request(partition, "b", 2)).await, [(2, 3, 1)]);
    // Redelivery is in order, and before what is new.
    assert_eq!(settle(&core, partition, "a", &[(1, 1, Settlement::Release)]).await, [Ok(())]);
    assert_eq!(acquire(&core, request(partition, "b", 2)).await, [(1, 1, 2), (4, 4, 1)]);
    // Whole batches are not cut by the credit.
    append_one(&core, partition, batch(4, 0, b"more")).await.unwrap();
    let whole = AcquireRequest { mode: AcquireMode::Batch, ..request(partition, "c", 1) };
    assert_eq!(acquire(&core, whole.clone()).await, [(5, 5, 1)]);
    assert_eq!(acquire(&core, whole).await, [(6, 9, 1)]);
}

async fn an_acquire_waits_for_messages_and_for_others(core: impl Core) {
    let partition = log_of(&core, &[]).await;
    let waiting = AcquireRequest { wait: MINUTE, ..request(partition, "a", 10) };
    let (first, _) = tokio::join!(acquire(&core, waiting.clone()), append_one(&core, partition, batch(2, 0, b"x")));
    assert_eq!(first, [(0, 1, 1)]);
    let other = AcquireRequest { holder: "b".into(), ..waiting };
    let (second, _) = tokio::join!(
        acquire(&core, other),
        core.release(ReleaseRequest { group: group(), holder: "a".into(), partitions: None })
    );
    assert_eq!(second, [(0, 1, 2)]);
    let short = AcquireRequest { wait: Duration::from_millis(20), ..request(partition, "a", 10) };
    assert_eq!(acquire(&core, short).await, []);
}

async fn leases_run_out_and_are_renewed(core: impl Core) {
    let partition = log_of(&core, &[2]).await;
    let short = Lease::Timed(Duration::from_millis(50));
    assert_eq!(acquire(&core, AcquireRequest { lease: short, ..request(partition, "a", 10) }).await, [(0, 1, 1)]);
    let renew = RenewRequest {
        group: group(),
        holder: "a".into(),
        partitions: vec![(partition, vec![(0, 0), (5, 6)])],
        lease: Lease::Timed(MINUTE),
    };
    assert_eq!(core.renew(renew).await, [[Ok(()), Err(LeaseError::NotHeld)]]);
    let waiting = AcquireRequest { wait: MINUTE, ..request(partition, "b", 10) };
    assert_eq!(acquire(&core, waiting).await, [(1, 1, 2)]);
    assert_eq!(settle(&core, partition, "a", &[(0, 0, Settlement::Accept)]).await, [Ok(())]);
    assert_eq!(settle(&core, partition, "a", &[(1, 1, Settlement::Accept)]).await, [Err(LeaseError::NotHeld)]);
}

async fn leases_end_with_their_session(core: impl Core) {
    let partition = log_of(&core, &[2]).await;
    let session = core.session_open(MINUTE).await.unwrap();
    let lease = Lease::Session(session);
    assert_eq!(acquire(&core, AcquireRequest { lease, ..request(partition, "a", 10) }).await, [(0, 1, 1)]);
    let waiting = AcquireRequest { wait: MINUTE, ..request(partition, "b", 10) };
    let (acquired, closed) = tokio::join!(acquire(&core, waiting), core.session_close(session));
    assert_eq!((acquired, closed), (vec![(0, 1, 2)], Ok(())));
    let ended = core.acquire(AcquireRequest { lease, ..request(partition, "a", 10) }).await;
    assert_eq!(ended, [Err(LeaseError::UnknownSession)]);
}

async fn what_comes_too_often_is_rejected(core: impl Core) {
    let partition = log_of(&core, &[1, 1]).await;
    for times in 1..=2 {
        let limited = AcquireRequest { acquisitions_max: Some(2), ..request(partition, "a", 1) };
        assert_eq!(acquire(&core, limited).await, [(0, 0, times)]);
        assert_eq!(settle(&core, partition, "a", &[(0, 0, Settlement::Release)]).await, [Ok(())]);
    }
    let view = view(&core, partition).await.unwrap();
    assert_eq!((view.floor, view.rejected_total), (1, 1));
}

async fn floors_are_moved_and_maps_forgotten(core: impl Core) {
    let partition = log_of(&core, &[1, 1, 1]).await;
    let latest = AcquireRequest { start: SeekTo::At(OffsetAt::Latest), ..request(partition, "a", 10) };
    assert_eq!(acquire(&core, latest).await, []);
    let seek = |to| SeekRequest { group: group(), seeks: vec![(partition, to)] };
    assert_eq!(core.lease_seek(seek(SeekTo::Offset(1))).await, [Ok(1)]);
    assert_eq!(acquire(&core, request(partition, "a", 10)).await, [(1, 1, 1), (2, 2, 1)]);
    assert_eq!(core.lease_seek(seek(SeekTo::At(OffsetAt::Earliest))).await, [Ok(0)]);
    assert_eq!(settle(&core, partition, "a", &[(1, 1, Settlement::Accept)]).await, [Err(LeaseError::NotHeld)]);
    // The log's start takes the floor with it.
    assert_eq!(core.trim(TrimRequest { trims: vec![(partition, Some(2))] }).await, [Ok(2)]);
    assert_eq!(acquire(&core, request(partition, "a", 10)).await, [(2, 2, 1)]);
    core.lease_forget(group(), None).await.unwrap();
    assert_eq!(view(&core, partition).await, None);
    assert_eq!(core.lease_groups("default".into()).await.unwrap(), Vec::<String>::new());
    assert_eq!(core.topic_delete("default".into(), "t".into()).await, Ok(()));
    assert_eq!(core.acquire(request(partition, "a", 1)).await, [Err(LeaseError::UnknownPartition)]);
}

async fn a_window_is_kept(core: impl Core) {
    let partition = log_of(&core, &[10]).await;
    let narrow = AcquireRequest { window_messages: 4, wait: MINUTE, ..request(partition, "a", 100) };
    assert_eq!(acquire(&core, narrow.clone()).await, [(0, 3, 1)]);
    assert_eq!(settle(&core, partition, "a", &[(1, 2, Settlement::Accept)]).await, [Ok(())]);
    assert_eq!(acquire(&core, AcquireRequest { wait: Duration::ZERO, ..narrow.clone() }).await, []);
    // The floor moves over what was settled before: three find room.
    let (acquired, _) =
        tokio::join!(acquire(&core, narrow), settle(&core, partition, "a", &[(0, 0, Settlement::Accept)]));
    assert_eq!(acquired, [(4, 6, 1)]);
}

async fn a_dropped_acquire_gives_back(core: impl Core) {
    let partition = log_of(&core, &[2]).await;
    let hungry = AcquireRequest { wait: MINUTE, bytes_min: 1 << 20, ..request(partition, "a", 100) };
    let waited = tokio::time::timeout(Duration::from_millis(100), core.acquire(hungry)).await;
    assert!(waited.is_err(), "it waits for more bytes than there are");
    let waiting = AcquireRequest { wait: MINUTE, ..request(partition, "b", 100) };
    assert_eq!(acquire(&core, waiting).await, [(0, 1, 1)], "nobody has seen them");
}

/// The answer is on its way, or has come and was not taken, when nobody waits for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acquire_that_is_dropped_after_it_leased_gives_back() {
    let world = remote_tcp().await;
    let core = world.core.clone();
    let partition = log_of(&core, &[3]).await;
    for wait in [Duration::ZERO, MINUTE] {
        let request = AcquireRequest { wait, ..request(partition, "gone", 10) };
        let mut asking = Box::pin(core.acquire(request));
        let asked = std::future::poll_fn(|context| std::task::Poll::Ready(asking.as_mut().poll(context).is_ready()));
        assert!(!asked.await, "the RPC takes a moment");
        let leased = async |count| {
            while view(&core, partition).await.is_none_or(|view| view.leased != count) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within("it is leased", leased(3)).await;
        drop(asking);
        within("it is given back", leased(0)).await;
    }
    world.stop().await;
}
