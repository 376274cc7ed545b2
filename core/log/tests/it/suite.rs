//! One suite over the memory and the real disk.

use std::time::{Duration, Instant};

use bytes::Bytes;
use codec_record::{Batch, BatchHeader, Format, FormatError, FormatId, Formats, HEADER_BYTES};
use core_log::disk::Disk;
use core_rpc::*;

use crate::common::*;

on_every_disk!(
    appends_are_read_back,
    limits_are_kept,
    a_fetch_waits_for_bytes,
    a_wait_ends_when_the_topic_goes,
    offsets_are_found,
    formats_refine_times,
    trims_last,
    retention_frees_packs,
    retention_by_size,
    sparse_packs_are_rewritten,
    producers_are_idempotent_over_restarts,
    cursors_are_fenced_and_kept,
    topics_change,
    many_packs_and_restarts,
    every_durability_is_read_back,
    large_batches_fit,
    a_stopped_engine_says_so,
);

async fn appends_are_read_back(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    let first = append(&engine, partition(0), batch(3, "abc")).await.unwrap();
    assert_eq!(first, Appended { base_offset: 0, append_time_ms: 1_000_000, start_offset: 0, duplicate: false });
    let appends = [(1, "x"), (0, "y"), (0, "z"), (3, "w")];
    let append_of = |(at, payload): (u32, &'static str)| Append { partition: partition(at), batch: batch(2, payload) };
    let mut request = AppendRequest { appends: appends.map(append_of).to_vec() };
    request.appends.push(Append { partition: partition(9), batch: batch(1, "none") });
    request.appends.push(Append { partition: partition(0), batch: batch(1, vec![0; (1 << 20) + 1]) });
    let answers = engine.append(request).await;
    let offsets: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|appended| appended.base_offset)).collect();
    let too_large = AppendError::TooLarge { bytes_max: 1 << 20 };
    assert_eq!(offsets, [Ok(0), Ok(3), Ok(5), Ok(0), Err(&AppendError::UnknownPartition), Err(&too_large)]);

    let fetched = fetch(&engine, partition(0), 4, 1 << 20).await.unwrap();
    assert_eq!(fetched.bounds, Bounds { start_offset: 0, stable_offset: 7, end_offset: 7 });
    let payloads: Vec<_> = fetched.batches.iter().map(|batch| &batch.payload[..]).collect();
    assert_eq!(payloads, [b"y", b"z"], "the batch that contains the offset comes first");
    assert_eq!(fetch(&engine, partition(0), 7, 100).await.unwrap().batches, []);
    let bounds = fetched.bounds;
    assert_eq!(fetch(&engine, partition(0), 8, 100).await, Err(FetchError::OutOfRange(bounds)));
    assert_eq!(fetch(&engine, partition(9), 0, 100).await, Err(FetchError::UnknownPartition));
    let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
    assert_eq!(state.size_bytes, 3 * HEADER_BYTES as u64 + 5);
}

async fn limits_are_kept(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    // Nothing stays in memory, then everything.
    for cache_bytes in [0, 1 << 20] {
        setup.config.cache_bytes = cache_bytes;
        let engine = setup.open(disk()).unwrap();
        let begin = fetch_bounds(&engine, partition(0)).await.unwrap().end_offset;
        for at in 0..3 {
            for _ in 0..10 {
                append(&engine, partition(at), batch(1, vec![at as u8; 936])).await.unwrap();
            }
        }
        let ask = |bytes: u32, partition_bytes: u32| {
            let mut request = fetch_request(&[0, 1, 2].map(|at| (partition(at), begin)), bytes);
            request.partitions.iter_mut().for_each(|slot| slot.bytes_max = partition_bytes);
            request
        };
        let count = |answer: FetchAnswer| -> Vec<usize> {
            answer.into_iter().map(|fetched| fetched.unwrap().batches.len()).collect()
        };
        assert_eq!(count(engine.fetch(ask(1 << 20, 5000)).await), [5, 5, 5]);
        assert_eq!(count(engine.fetch(ask(1 << 20, 5999)).await), [5, 5, 5]);
        let alone = count(engine.fetch(ask(10, 10)).await);
        assert_eq!(alone.iter().sum::<usize>(), 1, "one batch comes even if it is too large");
        // In three fetches each partition is the first once.
        let mut firsts = [0; 3];
        for _ in 0..3 {
            let counts = count(engine.fetch(ask(6000, 4000)).await);
            assert_eq!(counts.iter().sum::<usize>(), 6);
            firsts.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
        }
        assert_eq!(firsts, [6, 6, 6]);
    }
}

async fn a_fetch_waits_for_bytes(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    append(&engine, partition(0), batch(1, vec![1; 100])).await.unwrap();
    let mut request = fetch_request(&[(partition(0), 0), (partition(1), 0), (partition(2), 0)], 1 << 20);
    (request.bytes_min, request.wait) = (400, Duration::from_secs(30));
    let waiting = tokio::spawn({
        let (engine, request) = (engine.clone(), request.clone());
        async move { engine.fetch(request).await }
    });
    append(&engine, partition(2), batch(1, vec![2; 100])).await.unwrap();
    append(&engine, partition(1), batch(1, vec![3; 100])).await.unwrap();
    let answer = waiting.await.unwrap();
    let counts: Vec<_> = answer.iter().map(|fetched| fetched.as_ref().unwrap().batches.len()).collect();
    assert_eq!(counts, [1, 1, 1], "164 bytes of each make 400");

    request.bytes_min = 4000;
    request.wait = Duration::from_millis(30);
    let begin = Instant::now();
    let answer = engine.fetch(request.clone()).await;
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(answer[2].as_ref().unwrap().batches.len(), 1, "when the wait is over, what is there is given");

    request.wait = Duration::from_secs(30);
    request.partitions[1].partition = partition(77);
    assert_eq!(engine.fetch(request).await[1], Err(FetchError::UnknownPartition), "an error is answered at once");
}

async fn a_wait_ends_when_the_topic_goes(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    let mut request = fetch_request(&[(partition(0), 0)], 1 << 20);
    (request.bytes_min, request.wait) = (1, Duration::from_secs(30));
    let waiting = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.fetch(request).await })
    };
    tokio::task::yield_now().await;
    engine.remove_topic(TOPIC);
    assert_eq!(waiting.await.unwrap(), [Err(FetchError::UnknownPartition)]);
}

async fn find(engine: &core_log::Engine, at: OffsetAt) -> (Option<u64>, i64) {
    let request = OffsetsRequest { queries: vec![(partition(0), at)] };
    let found = engine.offsets(request).await.remove(0).unwrap();
    (found.offset, found.time_ms)
}

async fn offsets_are_found(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    assert_eq!(find(&engine, OffsetAt::Latest).await, (Some(0), -1));
    assert_eq!(find(&engine, OffsetAt::Time(0)).await, (None, -1));
    assert_eq!(find(&engine, OffsetAt::MaxTime).await, (None, -1));
    // Times do not rise; the fifth batch has none but the append time.
    for time in [100, 300, 200, 400, -1, 50] {
        setup.clock.set(350);
        append(&engine, partition(0), timed(2, time)).await.unwrap();
    }
    for restarted in [false, true] {
        if restarted {
            engine.stop();
            drop(engine);
            engine = setup.open(disk()).unwrap();
        }
        assert_eq!(find(&engine, OffsetAt::Earliest).await, (Some(0), -1));
        assert_eq!(find(&engine, OffsetAt::Latest).await, (Some(12), -1));
        assert_eq!(find(&engine, OffsetAt::Stable).await, (Some(12), -1));
        assert_eq!(find(&engine, OffsetAt::Time(0)).await, (Some(0), 100));
        assert_eq!(find(&engine, OffsetAt::Time(101)).await, (Some(2), 300));
        assert_eq!(find(&engine, OffsetAt::Time(301)).await, (Some(6), 400));
        assert_eq!(find(&engine, OffsetAt::Time(401)).await, (None, -1));
        assert_eq!(find(&engine, OffsetAt::MaxTime).await, (Some(6), 400));
    }
    engine.trim(TrimRequest { trims: vec![(partition(0), Some(8))] }).await.remove(0).unwrap();
    assert_eq!(find(&engine, OffsetAt::Time(0)).await, (Some(8), 350));
    assert_eq!(find(&engine, OffsetAt::MaxTime).await, (Some(8), 350));
    // Over many packs.
    for time in 0..600 {
        append(&engine, partition(0), Batch::new(FormatId::RAW, 1, 1000 + time, Bytes::from(vec![0; 400])))
            .await
            .unwrap();
    }
    assert_eq!(find(&engine, OffsetAt::Time(1000)).await, (Some(12), 1000));
    assert_eq!(find(&engine, OffsetAt::Time(1432)).await, (Some(12 + 432), 1432));
    assert_eq!(find(&engine, OffsetAt::MaxTime).await, (Some(12 + 599), 1599));
}

/// Payloads are times, 8 bytes each.
struct Times;

impl Times {
    fn of(payload: &[u8]) -> impl Iterator<Item = i64> {
        payload.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
    }
}

impl Format for Times {
    fn first_at_or_after(&self, _: &BatchHeader, payload: &[u8], time: i64) -> Result<Option<(u32, i64)>, FormatError> {
        Ok((0..).zip(Times::of(payload)).find(|(_, at)| *at >= time))
    }

    fn max_time(&self, _: &BatchHeader, payload: &[u8]) -> Result<(u32, i64), FormatError> {
        let max = Times::of(payload).max().ok_or(FormatError)?;
        Ok((0..).zip(Times::of(payload)).find(|(_, at)| *at == max).unwrap())
    }
}

async fn formats_refine_times(disk: Reopen<'_>) {
    static TIMES: Times = Times;
    let setup = Setup { formats: Formats::default().with(FormatId(7), &TIMES), ..Setup::default() };
    let engine = setup.open(disk()).unwrap();
    for times in [[10i64, 30, 20], [5, 40, 40]] {
        let payload: Vec<u8> = times.iter().flat_map(|time| time.to_le_bytes()).collect();
        let batch = Batch::new(FormatId(7), 3, *times.iter().max().unwrap(), payload.into());
        append(&engine, partition(0), batch).await.unwrap();
    }
    assert_eq!(find(&engine, OffsetAt::Time(11)).await, (Some(1), 30));
    assert_eq!(find(&engine, OffsetAt::Time(31)).await, (Some(4), 40));
    assert_eq!(find(&engine, OffsetAt::MaxTime).await, (Some(4), 40));
}

async fn trims_last(disk: Reopen<'_>) {
    let setup = Setup::default();
    let engine = setup.open(disk()).unwrap();
    for _ in 0..5 {
        append(&engine, partition(0), batch(2, "ab")).await.unwrap();
    }
    let trim = |before| TrimRequest { trims: vec![(partition(0), before)] };
    assert_eq!(engine.trim(trim(Some(3))).await, [Ok(3)]);
    assert_eq!(engine.trim(trim(Some(1))).await, [Ok(3)], "before the start is no error");
    let bounds = Bounds { start_offset: 3, stable_offset: 10, end_offset: 10 };
    assert_eq!(engine.trim(trim(Some(11))).await, [Err(FetchError::OutOfRange(bounds))]);
    assert_eq!(fetch(&engine, partition(0), 2, 100).await, Err(FetchError::OutOfRange(bounds)));
    let fetched = fetch(&engine, partition(0), 3, 1000).await.unwrap();
    assert_eq!(fetched.batches[0].header.base_offset, 2, "a batch is given whole");
    engine.stop();
    drop(engine);
    let engine = setup.open(disk()).unwrap();
    assert_eq!(fetch_bounds(&engine, partition(0)).await, Ok(bounds));
    assert_eq!(engine.trim(trim(None)).await, [Ok(10)]);
    engine.stop();
    drop(engine);
    let engine = setup.open(disk()).unwrap();
    assert_eq!(append(&engine, partition(0), batch(1, "c")).await.unwrap().base_offset, 10);
    assert_eq!(read_all(&engine, partition(0), 1000).await.unwrap().len(), 1);
}

fn packs(disk: &dyn Disk) -> usize {
    let names = (0..2).flat_map(|shard| disk.list(&format!("shard-{shard:04}")).unwrap());
    names.filter(|name| name.starts_with("pack-") && name.ends_with(".log")).count()
}

async fn retention_frees_packs(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    setup.config.background = false;
    setup.topics[0].settings.retention_ms = Some(1000);
    let shared = disk();
    let engine = setup.open(shared.clone()).unwrap();
    for round in 0..5 {
        setup.clock.set(10_000 * (round + 1));
        for at in 0..4 {
            for _ in 0..100 {
                append(&engine, partition(at), batch(1, vec![7; 1000])).await.unwrap();
            }
        }
        let before = packs(&*shared);
        assert!(before > 6, "{before} packs");
        engine.clean(10_000 * (round + 1) + 1000).await;
        assert_eq!(fetch_bounds(&engine, partition(0)).await.unwrap().start_offset, round as u64 * 100);
        engine.clean(10_000 * (round + 1) + 1001).await;
        let bounds = fetch_bounds(&engine, partition(0)).await.unwrap();
        assert_eq!((bounds.start_offset, bounds.end_offset), (round as u64 * 100 + 100, round as u64 * 100 + 100));
        assert!(packs(&*shared) <= 6, "{} packs are left", packs(&*shared));
    }
    engine.stop();
    drop((engine, shared));
    let engine = setup.open(disk()).unwrap();
    assert_eq!(append(&engine, partition(3), batch(1, "next")).await.unwrap().base_offset, 500);
}

async fn retention_by_size(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    setup.topics[0].settings.retention_bytes = Some(50_000);
    let engine = setup.open(disk()).unwrap();
    for _ in 0..200 {
        append(&engine, partition(0), batch(1, vec![7; 936])).await.unwrap();
    }
    engine.clean(0).await;
    let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
    assert_eq!(state.size_bytes, 50_000);
    assert_eq!(state.bounds.start_offset, 150);
    assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len(), 50);
    append(&engine, partition(0), batch(1, vec![7; 100_000])).await.unwrap();
    engine.clean(0).await;
    assert_eq!(read_all(&engine, partition(0), 5000).await.unwrap().len(), 1, "the newest stays");
}

async fn sparse_packs_are_rewritten(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    setup.config.background = false;
    setup.config.cache_bytes = 0;
    let shared = disk();
    let mut engine = setup.open(shared.clone()).unwrap();
    // One slow partition beside one that is trimmed: on the same shard, as there are two.
    for number in 0..600u32 {
        append(&engine, partition(0), batch(1, vec![1; 1000])).await.unwrap();
        if number % 10 == 0 {
            append(&engine, partition(2), batch(1, format!("slow {number}"))).await.unwrap();
        }
    }
    let before = packs(&*shared);
    assert!(before > 8, "{before}");
    engine.trim(TrimRequest { trims: vec![(partition(0), None)] }).await.remove(0).unwrap();
    engine.clean(0).await;
    let after = packs(&*shared);
    assert!(after <= 4, "{after} of {before} packs are left");
    engine.trim(TrimRequest { trims: vec![(partition(2), Some(7))] }).await.remove(0).unwrap();
    drop(shared);
    for _ in 0..2 {
        let read = read_all(&engine, partition(2), 300).await.unwrap();
        let payloads: Vec<_> = read.iter().map(|batch| batch.payload.clone()).collect();
        let expected: Vec<_> = (7..60).map(|number| format!("slow {}", number * 10)).collect();
        assert_eq!(payloads, expected);
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    // When nothing of it is left, the kept pack goes too.
    engine.trim(TrimRequest { trims: vec![(partition(2), None)] }).await.remove(0).unwrap();
    engine.clean(0).await;
    engine.stop();
    drop(engine);
    let shared = disk();
    let names = (0..2).flat_map(|shard| shared.list(&format!("shard-{shard:04}")).unwrap());
    assert_eq!(names.filter(|name| name.starts_with("kept-")).count(), 0);
}

async fn producers_are_idempotent_over_restarts(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    for sequence in 0..40 {
        if sequence % 10 == 5 {
            engine.stop();
            drop(engine);
            engine = setup.open(disk()).unwrap();
        }
        let appended = append(&engine, partition(0), from_producer(9, 1, sequence, 1)).await.unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (sequence as u64, false));
        for back in 0..=sequence.min(4) {
            let again = append(&engine, partition(0), from_producer(9, 1, sequence - back, 1)).await.unwrap();
            assert_eq!((again.base_offset, again.duplicate), ((sequence - back) as u64, true));
        }
        // Others fill packs in between.
        append(&engine, partition(2), batch(1, vec![0; 3000])).await.unwrap();
    }
    let fenced = append(&engine, partition(0), from_producer(9, 0, 40, 1)).await;
    assert_eq!(fenced, Err(AppendError::ProducerFenced));
    let gap = append(&engine, partition(0), from_producer(9, 1, 41, 1)).await;
    assert_eq!(gap, Err(AppendError::SequenceGap));
    let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
    let producer =
        ProducerState { id: 9, epoch: 1, last_sequence: 39, last_time_ms: 1_000_000, transaction_start: None };
    assert_eq!(state.producers, [producer]);
    // Two of the same in one request: one is kept.
    let twice = || Append { partition: partition(1), batch: from_producer(5, 0, 0, 2) };
    let answers = engine.append(AppendRequest { appends: vec![twice(), twice()] }).await;
    let duplicates: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().duplicate).collect();
    assert_eq!(duplicates, [false, true]);
    engine.clean(1_000_000 + setup.config.producer_expiry_ms).await;
    let state = engine.inspect(vec![partition(0)]).await.remove(0).unwrap();
    assert_eq!(state.producers, []);
}

async fn cursors_are_fenced_and_kept(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    setup.topics.push(topic(TopicId(5), 1, settings(Durability::Fsync)));
    let mut engine = setup.open(disk()).unwrap();
    let other = PartitionId { topic: TopicId(5), index: 0 };
    commit(&engine, "a", Some(3), partition(0), 10).await.unwrap();
    commit(&engine, "a", Some(4), partition(1), 11).await.unwrap();
    commit(&engine, "b", None, other, 12).await.unwrap();
    commit(&engine, "c", None, partition(0), 13).await.unwrap();
    for _ in 0..3 {
        assert_eq!(commit(&engine, "a", Some(2), partition(0), 99).await, Err(CursorError::Fenced));
        commit(&engine, "a", Some(3), partition(0), 20).await.unwrap();
        commit(&engine, "a", None, partition(0), 21).await.unwrap();
        assert_eq!(commit(&engine, "a", None, partition(9), 1).await, Err(CursorError::UnknownPartition));
        let committed = engine.committed(&group("a"), &[partition(0), partition(1), partition(2)]).unwrap();
        assert_eq!(committed, [at(21), at(11), Committed::default()]);
        assert_eq!(engine.cursors(&group("a")), [(partition(0), at(21)), (partition(1), at(11))]);
        assert_eq!(engine.groups("default"), ["a", "b", "c"]);
        assert_eq!(engine.groups("other"), [""; 0]);
        for _ in 0..40 {
            append(&engine, partition(0), batch(1, vec![0; 3000])).await.unwrap();
        }
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
    // Two generations in one group of commits.
    let older = engine.commit(CommitRequest {
        group: group("a"),
        generation: Some(8),
        transaction: None,
        cursors: vec![(partition(2), cursor(1))],
    });
    let newer = engine.commit(CommitRequest {
        group: group("a"),
        generation: Some(7),
        transaction: None,
        cursors: vec![(partition(2), cursor(2))],
    });
    assert_eq!((older.await, newer.await), (vec![Ok(())], vec![Err(CursorError::Fenced)]));
    engine.forget(group("a"), Some(vec![partition(0)])).await.unwrap();
    engine.forget(group("c"), None).await.unwrap();
    engine.remove_topic(TopicId(5));
    setup.topics.pop();
    for _ in 0..2 {
        assert_eq!(engine.groups("default"), ["a"]);
        assert_eq!(engine.cursors(&group("a")), [(partition(1), at(11)), (partition(2), at(1))]);
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
}

async fn topics_change(disk: Reopen<'_>) {
    let mut setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    append(&engine, partition(0), batch(1, "first life")).await.unwrap();
    let mut grown = setup.topics[0].clone();
    grown.partitions = 6;
    grown.settings.batch_bytes_max = 4;
    engine.update_topic(&grown);
    engine.add_topic(&grown);
    append(&engine, partition(5), batch(1, "new")).await.unwrap();
    let too_large = append(&engine, partition(0), batch(1, "large")).await;
    assert_eq!(too_large, Err(AppendError::TooLarge { bytes_max: 4 }));
    let second = topic(TopicId(77), 1, settings(Durability::Fsync));
    engine.add_topic(&second);
    let of_second = PartitionId { topic: second.id, index: 0 };
    append(&engine, of_second, batch(1, "second")).await.unwrap();
    engine.remove_topic(TOPIC);
    engine.remove_topic(TOPIC);
    assert_eq!(append(&engine, partition(0), batch(1, "x")).await, Err(AppendError::UnknownPartition));
    assert_eq!(fetch(&engine, partition(0), 0, 100).await, Err(FetchError::UnknownPartition));
    engine.stop();
    drop(engine);
    setup.topics = vec![second];
    engine = setup.open(disk()).unwrap();
    assert_eq!(read_all(&engine, of_second, 100).await.unwrap()[0].payload, "second");
    assert_eq!(fetch(&engine, partition(0), 0, 100).await, Err(FetchError::UnknownPartition));
}

async fn many_packs_and_restarts(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut written: [Vec<Vec<u8>>; 4] = Default::default();
    for round in 0..4u32 {
        let engine = setup.open(disk()).unwrap();
        for number in 0..400u32 {
            let at = number % 4;
            let payload = format!("{round} {number} ").repeat(1 + number as usize % 70).into_bytes();
            let appended = append(&engine, partition(at), batch(1, payload.clone())).await.unwrap();
            assert_eq!(appended.base_offset, written[at as usize].len() as u64);
            written[at as usize].push(payload);
        }
        for at in 0..4 {
            for bytes_max in [1, 3000, 1 << 20] {
                let read = read_all(&engine, partition(at), bytes_max).await.unwrap();
                let payloads: Vec<_> = read.iter().map(|batch| batch.payload.to_vec()).collect();
                assert_eq!(payloads, written[at as usize]);
            }
        }
        engine.stop();
    }
}

async fn every_durability_is_read_back(disk: Reopen<'_>) {
    let durabilities = [Durability::Fsync, Durability::Relaxed, Durability::Memory];
    let setup = Setup {
        topics: (1..).zip(durabilities).map(|(id, durability)| topic(TopicId(id), 1, settings(durability))).collect(),
        ..Setup::default()
    };
    for round in 0..3u64 {
        let engine = setup.open(disk()).unwrap();
        for topic in &setup.topics {
            let at = PartitionId { topic: topic.id, index: 0 };
            for number in 0..50 {
                let appended = append(&engine, at, batch(1, vec![number; 2000])).await.unwrap();
                assert_eq!(appended.base_offset, round * 50 + u64::from(number));
                let fetched = fetch(&engine, at, appended.base_offset, 100).await.unwrap();
                assert_eq!(fetched.batches[0].payload, vec![number; 2000], "what is answered is visible");
            }
        }
        engine.stop();
    }
}

async fn large_batches_fit(disk: Reopen<'_>) {
    let setup = Setup::default();
    let mut engine = setup.open(disk()).unwrap();
    for (offset, bytes) in [10, 1 << 20, 20_000, 64 << 10, 300_000].into_iter().enumerate() {
        let payload: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let appended = append(&engine, partition(0), batch(1, payload)).await.unwrap();
        assert_eq!(appended.base_offset, offset as u64);
    }
    for _ in 0..2 {
        let read = read_all(&engine, partition(0), 1000).await.unwrap();
        assert_eq!(
            read.iter().map(|batch| batch.payload.len()).collect::<Vec<_>>(),
            [10, 1 << 20, 20_000, 64 << 10, 300_000]
        );
        engine.stop();
        drop(engine);
        engine = setup.open(disk()).unwrap();
    }
}

async fn a_stopped_engine_says_so(disk: Reopen<'_>) {
    let engine = Setup::default().open(disk()).unwrap();
    append(&engine, partition(0), batch(1, "kept")).await.unwrap();
    engine.stop();
    engine.stop();
    assert_eq!(append(&engine, partition(0), batch(1, "late")).await, Err(AppendError::Unavailable));
    assert_eq!(commit(&engine, "a", None, partition(0), 1).await, Err(CursorError::Unavailable));
    assert_eq!(engine.trim(TrimRequest { trims: vec![(partition(0), None)] }).await, [Err(FetchError::Unavailable)]);
    assert_eq!(read_all(&engine, partition(0), 100).await.unwrap().len(), 1, "reads go on");
}
