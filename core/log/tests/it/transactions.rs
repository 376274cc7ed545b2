//! Transactions over every disk: what committed readers see, what is refused, and what lasts.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec_record::{Batch, BatchFlags};
use core_log::Engine;
use core_log::disk::{FaultyDisk, MemoryDisk, Operation};
use core_rpc::*;

use crate::common::*;

on_every_disk!(
    a_commit_shows_what_was_held_back,
    an_abort_hides_it_for_ever,
    an_end_fences_everywhere_and_lasts,
    a_late_end_leaves_the_next_transaction,
    a_decision_is_carried_out_once_though_the_epoch_stays,
    what_does_not_fit_an_open_transaction_is_refused,
    pending_cursors_wait_for_the_end,
    committed_readers_are_woken,
    open_transactions_outlast_restarts_and_silence,
    trimmed_transactions_are_forgotten,
    ends_of_deleted_topics_are_no_error,
    many_partitions_end_at_once,
);

async fn payloads(engine: &Engine, partition: PartitionId) -> Vec<String> {
    let text = |batch: &Batch| String::from_utf8(batch.payload.to_vec()).unwrap();
    let small = read_committed(engine, partition, 1).await.iter().map(text).collect::<Vec<_>>();
    let large = read_committed(engine, partition, 1 << 20).await.iter().map(text).collect::<Vec<_>>();
    assert_eq!(small, large);
    small
}

async fn stable(engine: &Engine, partition: PartitionId) -> (u64, u64) {
    let bounds = fetch_bounds(engine, partition).await.unwrap();
    let queries = vec![(partition, OffsetAt::Stable)];
    let found = engine.offsets(OffsetsRequest { queries }).await.remove(0).unwrap();
    assert_eq!(found.offset, Some(bounds.stable_offset));
    (bounds.stable_offset, bounds.end_offset)
}

async fn a_commit_shows_what_was_held_back(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    append(&engine, partition(0), batch(1, "before")).await.unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "one")).await.unwrap();
    append(&engine, partition(0), batch(1, "between")).await.unwrap();
    append(&engine, partition(1), transactional(7, 0, 0, "other")).await.unwrap();
    append(&engine, partition(0), transactional(7, 0, 1, "two")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(stable(&engine, partition(0)).await, (1, 4));
        assert_eq!(payloads(&engine, partition(0)).await, ["before"]);
        assert_eq!(payloads(&engine, partition(1)).await, [""; 0]);
        assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len(), 4);
        let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
        assert_eq!(state.producers[0].transaction_start, Some(1));
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    let open = engine.transactions_open(Some(7));
    assert_eq!(open.iter().map(|open| open.first_offset).collect::<Vec<_>>(), [Some(1), Some(0)]);
    assert_eq!((open[0].epoch, open[0].partition, open[0].last_time_ms), (0, partition(0), 1_000_000));
    let ended = engine.transaction_end(end_of(7, 0, Outcome::Commit)).await.unwrap();
    assert_eq!(ended, [partition(0), partition(1)]);
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Commit)).await, Ok(vec![]));
    for _ in 0..2 {
        assert_eq!(stable(&engine, partition(0)).await, (5, 5));
        assert_eq!(payloads(&engine, partition(0)).await, ["before", "one", "between", "two"]);
        assert_eq!(payloads(&engine, partition(1)).await, ["other"]);
        assert_eq!(engine.transactions_open(None), []);
        let marker = read_all(&engine, partition(1), 5000).await.unwrap().pop().unwrap();
        assert!(marker.header.flags.contains(BatchFlags::CONTROL));
        assert_eq!((marker.payload, marker.header.producer.unwrap().epoch), ("Commit".into(), 1));
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
}

async fn an_abort_hides_it_for_ever(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    let mut expected = Vec::new();
    // Transactions of three producers, interleaved; every third is aborted. More than the cache and several packs hold.
    for round in 0..40i16 {
        for step in 0..3 {
            for id in 0..3 {
                let payload = format!("{round} {step} {id} {}", "x".repeat(300));
                append(&engine, partition(0), transactional(id, round, step, payload.clone())).await.unwrap();
                if i64::from(round) % 3 != id {
                    expected.push(payload);
                }
            }
        }
        for id in 0..3 {
            let outcome = if i64::from(round) % 3 == id { Outcome::Abort } else { Outcome::Commit };
            engine.transaction_end(end_of(id, round, outcome)).await.unwrap();
        }
    }
    for _ in 0..2 {
        assert_eq!(payloads(&engine, partition(0)).await, expected);
        let request = fetch_request(&[(partition(0), 0)], 1 << 20);
        let all = engine.fetch(request.clone()).await.remove(0).unwrap();
        assert_eq!(all.aborted, [], "only committed readers ask for it");
        let committed = FetchRequest { isolation: Isolation::Committed, ..request };
        let fetched = engine.fetch(committed).await.remove(0).unwrap();
        assert_eq!(fetched.aborted.len(), 40);
        assert_eq!(fetched.aborted[0], AbortedTransaction { producer_id: 0, first_offset: 0, last_offset: 9 });
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
}

async fn an_end_fences_everywhere_and_lasts(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    append(&engine, partition(0), transactional(7, 3, 0, "one")).await.unwrap();
    engine.transaction_end(end_of(7, 3, Outcome::Abort)).await.unwrap();
    for _ in 0..2 {
        for at in 0..4 {
            let late = append(&engine, partition(at), transactional(7, 3, 1, "late")).await;
            assert_eq!(late, Err(AppendError::ProducerFenced), "{at}");
            let late = append(&engine, partition(at), from_producer(7, 3, 1, 1)).await;
            assert_eq!(late, Err(AppendError::ProducerFenced), "{at}");
            let late = commit_pending(&engine, "g", (7, 3), partition(at), 1).await;
            assert_eq!(late, Err(CursorError::ProducerFenced), "{at}");
        }
        let late = engine.transaction_end(end_with(7, 3, 3, Outcome::Commit)).await;
        assert_eq!(late, Err(TransactionError::ProducerFenced));
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    let bad = TransactionEnd { epoch: 9, ..end_of(7, 3, Outcome::Abort) };
    assert_eq!(engine.transaction_end(bad).await, Err(TransactionError::Marker));
    // Without raising the epoch, transactions go on in it.
    for sequence in 0..3 {
        append(&engine, partition(1), transactional(7, 4, sequence, format!("{sequence}"))).await.unwrap();
        let outcome = if sequence == 1 { Outcome::Abort } else { Outcome::Commit };
        assert_eq!(engine.transaction_end(end_with(7, 4, 4, outcome)).await, Ok(vec![partition(1)]));
    }
    assert_eq!(payloads(&engine, partition(1)).await, ["0", "2"]);
    engine.clean(1_000_000 + setup.config.producer_expiry_ms).await;
    append(&engine, partition(2), transactional(7, 3, 9, "forgotten")).await.unwrap();
}

async fn a_decision_is_carried_out_once_though_the_epoch_stays(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    let decided = |decision| TransactionEnd { decision: Some(decision), ..end_with(7, 4, 4, Outcome::Commit) };
    append(&engine, partition(0), transactional(7, 4, 0, "first")).await.unwrap();
    assert_eq!(engine.transaction_end(decided(5)).await, Ok(vec![partition(0)]));
    // With nothing open it is remembered all the same.
    assert_eq!(engine.transaction_end(decided(8)).await, Ok(vec![]));
    for sequence in 0..3 {
        for at in 0..4 {
            let first = if at == 0 { sequence + 1 } else { sequence };
            append(&engine, partition(at), transactional(7, 4, first, format!("{sequence}"))).await.unwrap();
        }
        commit_pending(&engine, "g", (7, 4), partition(3), sequence as u64).await.unwrap();
        let next = 9 + sequence as u64;
        for _ in 0..2 {
            assert_eq!(engine.transaction_end(decided(next - 1)).await, Ok(vec![]));
            assert_eq!(engine.transaction_end(decided(next - 2)).await, Err(TransactionError::Outdated));
            assert_eq!(engine.transactions_open(Some(7)).len(), 4);
            engine.stop();
            drop(engine);
            engine = setup.open(disk()).unwrap();
        }
        assert_eq!(engine.transaction_end(decided(next)).await.unwrap().len(), 4);
        assert_eq!(engine.transaction_end(decided(next)).await, Ok(vec![]));
    }
    assert_eq!(payloads(&engine, partition(0)).await, ["first", "0", "1", "2"]);
    // Who has no number ends whatever is open.
    append(&engine, partition(1), transactional(7, 4, 3, "hangs")).await.unwrap();
    assert_eq!(engine.transaction_end(end_with(7, 4, 4, Outcome::Abort)).await, Ok(vec![partition(1)]));
}

async fn a_late_end_leaves_the_next_transaction(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "first")).await.unwrap();
    engine.transaction_end(end_of(7, 0, Outcome::Commit)).await.unwrap();
    append(&engine, partition(0), transactional(7, 1, 0, "second")).await.unwrap();
    commit_pending(&engine, "g", (7, 1), partition(0), 5).await.unwrap();
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Commit)).await, Ok(vec![]));
    assert_eq!(payloads(&engine, partition(0)).await, ["first"]);
    assert_eq!(engine.transactions_open(Some(7)).len(), 1);
    engine.transaction_end(end_of(7, 1, Outcome::Abort)).await.unwrap();
    assert_eq!(payloads(&engine, partition(0)).await, ["first"]);
    assert_eq!(engine.cursors(&group("g")), []);
}

async fn what_does_not_fit_an_open_transaction_is_refused(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    append(&engine, partition(0), transactional(7, 1, 0, "one")).await.unwrap();
    let newer = append(&engine, partition(0), transactional(7, 2, 0, "newer")).await;
    assert_eq!(newer, Err(AppendError::TransactionOpen));
    let plain = append(&engine, partition(0), from_producer(7, 1, 1, 1)).await;
    assert_eq!(plain, Err(AppendError::TransactionOpen));
    let older = append(&engine, partition(0), transactional(7, 0, 1, "older")).await;
    assert_eq!(older, Err(AppendError::ProducerFenced));
    assert_eq!(commit_pending(&engine, "g", (7, 2), partition(0), 1).await, Err(CursorError::TransactionOpen));
    assert_eq!(commit_pending(&engine, "g", (7, 0), partition(0), 1).await, Err(CursorError::ProducerFenced));
    let again = append(&engine, partition(0), transactional(7, 1, 0, "one")).await.unwrap();
    assert!(again.duplicate);
    engine.transaction_end(end_of(7, 1, Outcome::Commit)).await.unwrap();
    append(&engine, partition(0), from_producer(7, 2, 0, 1)).await.unwrap();
    assert_eq!(stable(&engine, partition(0)).await, (3, 3));
}

async fn pending_cursors_wait_for_the_end(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    let seen = |engine: &Engine| engine.committed(&group("g"), &[partition(0), partition(1)]).unwrap();
    let pending = |offset: Option<u64>| Committed { cursor: offset.map(cursor), pending: true };
    commit(&engine, "g", Some(2), partition(0), 5).await.unwrap();
    commit_pending(&engine, "g", (7, 0), partition(0), 10).await.unwrap();
    commit_pending(&engine, "g", (7, 0), partition(1), 11).await.unwrap();
    for _ in 0..2 {
        assert_eq!(seen(&engine), [pending(Some(5)), pending(None)]);
        assert_eq!(engine.cursors(&group("g")).len(), 2);
        assert_eq!(engine.transactions_open(None)[1].first_offset, None);
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    let request = CommitRequest {
        group: group("g"),
        generation: Some(1),
        transaction: Some(TransactionProducer { id: 7, epoch: 0 }),
        cursors: vec![(partition(0), cursor(99)), (partition(9), cursor(1))],
    };
    assert_eq!(engine.commit(request).await, [Err(CursorError::Fenced), Err(CursorError::UnknownPartition)]);
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Commit)).await, Ok(vec![partition(0), partition(1)]));
    for _ in 0..2 {
        assert_eq!(seen(&engine), [at(10), at(11)]);
        assert_eq!(fetch_bounds(&engine, partition(0)).await.unwrap().end_offset, 0, "no marker without batches");
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    commit_pending(&engine, "g", (7, 1), partition(0), 20).await.unwrap();
    commit_pending(&engine, "h", (7, 1), partition(0), 20).await.unwrap();
    engine.transaction_end(end_of(7, 1, Outcome::Abort)).await.unwrap();
    assert_eq!(seen(&engine), [at(10), at(11)]);
    assert_eq!(engine.groups("default"), ["g"]);
    commit_pending(&engine, "g", (7, 2), partition(0), 30).await.unwrap();
    engine.forget(group("g"), None).await.unwrap();
    engine.transaction_end(end_of(7, 2, Outcome::Commit)).await.unwrap();
    assert_eq!(engine.cursors(&group("g")), []);
}

async fn committed_readers_are_woken(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "one")).await.unwrap();
    let fetch = |bytes_min, wait_ms| {
        let request = FetchRequest {
            isolation: Isolation::Committed,
            bytes_min,
            wait: Duration::from_millis(wait_ms),
            ..fetch_request(&[(partition(0), 0)], 1 << 20)
        };
        let engine = engine.clone();
        tokio::spawn(async move { engine.fetch(request).await.remove(0).unwrap() })
    };
    // Nothing stable comes: it waits for all its time.
    let begun = Instant::now();
    let waiting = fetch(1, 100);
    append(&engine, partition(0), batch(1, "behind")).await.unwrap();
    assert!(waiting.await.unwrap().batches.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let waiting = [fetch(1, 60_000), fetch(300, 60_000)];
    tokio::task::yield_now().await;
    engine.transaction_end(end_of(7, 0, Outcome::Abort)).await.unwrap();
    let [first, second] = waiting;
    let fetched = tokio::time::timeout(Duration::from_secs(30), first).await.expect("it is woken").unwrap();
    assert_eq!((fetched.batches.len(), fetched.bounds.stable_offset), (3, 3));
    assert_eq!(fetched.aborted, [AbortedTransaction { producer_id: 7, first_offset: 0, last_offset: 2 }]);
    // 64 bytes of header for each, and some more: 300 are there only with another.
    append(&engine, partition(0), batch(1, vec![0; 100])).await.unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(30), second).await.expect("it is woken").unwrap();
    assert_eq!(fetched.batches.len(), 4);
}

async fn open_transactions_outlast_restarts_and_silence(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "one")).await.unwrap();
    append(&engine, partition(0), transactional(8, 0, 0, "two")).await.unwrap();
    engine.transaction_end(end_of(8, 0, Outcome::Abort)).await.unwrap();
    for round in 0..3 {
        // Packs come and go.
        for _ in 0..40 {
            append(&engine, partition(2), batch(1, vec![0; 3000])).await.unwrap();
        }
        setup.clock.set(1_000_000 + round * 2 * setup.config.producer_expiry_ms);
        engine.clean(setup.clock.0.load(std::sync::atomic::Ordering::SeqCst)).await;
        assert_eq!(stable(&engine, partition(0)).await, (0, 3));
        let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
        assert_eq!(state.producers[0].transaction_start, Some(0));
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    let gap = append(&engine, partition(0), transactional(7, 0, 5, "gap")).await;
    assert_eq!(gap, Err(AppendError::SequenceGap), "who has a transaction open is not forgotten");
    engine.transaction_end(end_of(7, 0, Outcome::Commit)).await.unwrap();
    assert_eq!(payloads(&engine, partition(0)).await, ["one"]);
}

async fn trimmed_transactions_are_forgotten(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    for epoch in 0..4 {
        append(&engine, partition(0), transactional(7, epoch, 0, format!("{epoch}"))).await.unwrap();
        engine.transaction_end(end_of(7, epoch, Outcome::Abort)).await.unwrap();
    }
    append(&engine, partition(0), transactional(7, 4, 0, "open")).await.unwrap();
    append(&engine, partition(0), batch(1, "behind")).await.unwrap();
    let trim = |before| TrimRequest { trims: vec![(partition(0), Some(before))] };
    engine.trim(trim(4)).await.remove(0).unwrap();
    for _ in 0..2 {
        let request = FetchRequest { isolation: Isolation::Committed, ..fetch_request(&[(partition(0), 4)], 1 << 20) };
        let fetched = engine.fetch(request).await.remove(0).unwrap();
        assert_eq!(fetched.aborted.iter().map(|aborted| aborted.last_offset).collect::<Vec<_>>(), [5, 7]);
        assert_eq!((fetched.batches.len(), fetched.bounds.stable_offset), (4, 8));
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    engine.trim(trim(9)).await.remove(0).unwrap();
    assert_eq!(stable(&engine, partition(0)).await, (9, 10), "what is trimmed holds nothing back but what is behind");
    engine.transaction_end(end_of(7, 4, Outcome::Abort)).await.unwrap();
    assert_eq!(stable(&engine, partition(0)).await, (11, 11));
    assert_eq!(payloads(&engine, partition(0)).await, ["behind"]);
}

async fn ends_of_deleted_topics_are_no_error(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    setup.topics.push(topic(TopicId(5), 1, settings(Durability::Fsync)));
    let mut engine = setup.open(disk()).unwrap();
    let other = PartitionId { topic: TopicId(5), index: 0 };
    append(&engine, other, transactional(7, 0, 0, "gone")).await.unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "stays")).await.unwrap();
    commit_pending(&engine, "g", (7, 0), other, 1).await.unwrap();
    engine.remove_topic(TopicId(5));
    setup.topics.pop();
    for _ in 0..2 {
        assert_eq!(engine.transactions_open(None).len(), 1);
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Commit)).await, Ok(vec![partition(0)]));
    assert_eq!(payloads(&engine, partition(0)).await, ["stays"]);
}

async fn many_partitions_end_at_once(disk: Reopen<'_>) {
    // More markers than a pack has room for, and topics of every durability.
    const PARTITIONS: u32 = 400;
    let durabilities = [Durability::Fsync, Durability::Relaxed, Durability::Memory];
    let ids = [TopicId(61), TopicId(62), TopicId(63)];
    let topics = ids.iter().zip(durabilities).map(|(id, durability)| topic(*id, PARTITIONS, settings(durability)));
    let setup = Setup { topics: topics.collect(), ..Setup::default() };
    let mut engine = setup.open(disk()).unwrap();
    let all: Vec<_> =
        ids.into_iter().flat_map(|topic| (0..PARTITIONS).map(move |index| PartitionId { topic, index })).collect();
    for (epoch, outcome) in [(0, Outcome::Commit), (1, Outcome::Abort)] {
        let append = |partition: &PartitionId| Append {
            partition: *partition,
            batch: transactional(7, epoch, 0, format!("{outcome:?}")),
        };
        let appended = engine.append(AppendRequest { appends: all.iter().map(append).collect() }).await;
        assert!(appended.iter().all(Result::is_ok));
        assert_eq!(engine.transaction_end(end_of(7, epoch, outcome)).await.unwrap(), all);
    }
    for _ in 0..2 {
        for partition in all.iter().step_by(37) {
            assert_eq!(stable(&engine, *partition).await, (4, 4));
            assert_eq!(payloads(&engine, *partition).await, ["Commit"]);
        }
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
}

fn one_shard() -> Setup {
    let mut setup = Setup::default();
    setup.config.shards = Some(1);
    setup.config.background = false;
    setup
}

#[tokio::test]
async fn an_end_without_room_changes_nothing() {
    let disk = FaultyDisk::default();
    let setup = one_shard();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "one")).await.unwrap();
    commit_pending(&engine, "g", (7, 0), partition(1), 5).await.unwrap();
    disk.fail(Operation::Write, 1, ErrorKind::StorageFull);
    let refused = append(&engine, partition(1), transactional(7, 0, 0, "refused")).await;
    assert_eq!(refused, Err(AppendError::DiskFull));
    disk.fail(Operation::Write, 1, ErrorKind::StorageFull);
    let refused = commit_pending(&engine, "g", (7, 0), partition(2), 5).await;
    assert_eq!(refused, Err(CursorError::DiskFull));
    for _ in 0..2 {
        disk.fail(Operation::Write, 1, ErrorKind::StorageFull);
        let refused = engine.transaction_end(end_of(7, 0, Outcome::Commit)).await;
        assert_eq!(refused, Err(TransactionError::DiskFull));
        let open: Vec<_> =
            engine.transactions_open(None).iter().map(|open| (open.partition.index, open.first_offset)).collect();
        assert_eq!(open, [(0, Some(0)), (1, None)]);
        assert_eq!(stable(&engine, partition(0)).await, (0, 1));
        assert!(engine.committed(&group("g"), &[partition(1)]).unwrap()[0].pending);
    }
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Commit)).await, Ok(vec![partition(0), partition(1)]));
    engine.stop();
    drop(engine);
    let engine = setup.open(Arc::new(disk)).unwrap();
    assert_eq!(payloads(&engine, partition(0)).await, ["one"]);
    assert_eq!(engine.committed(&group("g"), &[partition(1), partition(2)]).unwrap(), [at(5), Committed::default()]);
}

#[tokio::test]
async fn an_end_that_may_be_lost_is_never_said_to_be_done() {
    let disk = FaultyDisk::default();
    let setup = one_shard();
    let engine = setup.open(Arc::new(disk.clone())).unwrap();
    append(&engine, partition(0), transactional(7, 0, 0, "one")).await.unwrap();
    disk.fail(Operation::Sync, 1, ErrorKind::Other);
    for _ in 0..2 {
        let failed = engine.transaction_end(end_of(7, 0, Outcome::Abort)).await;
        assert_eq!(failed, Err(TransactionError::StorageFailed));
    }
    assert_eq!(payloads(&engine, partition(0)).await, [""; 0]);
    engine.stop();
    assert_eq!(engine.transaction_end(end_of(7, 0, Outcome::Abort)).await, Err(TransactionError::Unavailable));
    drop(engine);
    let engine = setup.open(Arc::new(disk)).unwrap();
    engine.transaction_end(end_of(7, 0, Outcome::Abort)).await.unwrap();
    assert_eq!(stable(&engine, partition(0)).await.0, stable(&engine, partition(0)).await.1);
    assert_eq!(payloads(&engine, partition(0)).await, [""; 0]);
}

#[tokio::test]
async fn an_end_asked_for_twice_at_once_is_answered_when_it_lasts() {
    let disk = MemoryDisk::new();
    let setup = one_shard();
    for round in 0..20 {
        let engine = setup.open(Arc::new(disk.clone())).unwrap();
        append(&engine, partition(0), transactional(7, round, 0, "x")).await.unwrap();
        let first = engine.transaction_end(end_of(7, round, Outcome::Commit));
        let second = engine.transaction_end(end_of(7, round, Outcome::Commit));
        let second = second.await;
        // Whatever the second says, the first is on the disk.
        assert!(second.is_ok());
        let crashed = setup.open(Arc::new(disk.crash(round as u64))).unwrap();
        assert_eq!(crashed.transactions_open(None), []);
        assert_eq!(first.await, Ok(vec![partition(0)]));
        engine.stop();
    }
}
