//! What every core does, asked of each of them in the same words.

use std::time::Duration;

use bytes::Bytes;
use codec_record::BatchFlags;
use core_rpc::*;

use crate::every_core::for_every_core;
use crate::support::*;

for_every_core! {
    what_is_appended_is_fetched
    a_call_spans_partitions_and_each_answers_for_itself
    a_fetch_waits_for_an_append
    a_fetch_waits_no_longer_than_asked
    a_fetch_keeps_to_its_bytes
    many_appenders_keep_their_own_order
    a_producers_repeats_are_kept_once
    a_transaction_is_seen_whole_or_not_at_all
    offsets_are_found
    trimmed_offsets_are_out_of_range
    cursors_are_kept_and_fenced
    topics_live_and_die
    meta_keeps_to_its_conditions
    a_watch_hears_of_changes
    keys_vanish_with_their_session
    a_large_batch_passes
}

async fn what_is_appended_is_fetched(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    let (before, partition) = (now_ms(), part(&topic, 0));
    for (at, count) in [3u32, 1, 5].into_iter().enumerate() {
        let appended = append_one(&core, partition, batch(count, 1000 + at as i64, &[at as u8; 100])).await.unwrap();
        assert_eq!(appended.base_offset, [0, 3, 4][at]);
        assert_eq!((appended.start_offset, appended.duplicate), (0, false));
        assert!((before..=now_ms()).contains(&appended.append_time_ms));
    }
    let fetched = core.fetch(fetch_request(partition, 0, Duration::ZERO)).await.remove(0).unwrap();
    assert_eq!(fetched.bounds, Bounds { start_offset: 0, stable_offset: 9, end_offset: 9 });
    assert_eq!(fetched.batches.iter().map(|batch| batch.header.base_offset).collect::<Vec<_>>(), [0, 3, 4]);
    assert!(fetched.batches.iter().all(|batch| batch.payload_is_intact()));
    assert_eq!(fetched.batches[2].payload, [2u8; 100][..]);
    // An offset inside a batch gets the whole batch.
    let inside = core.fetch(fetch_request(partition, 6, Duration::ZERO)).await.remove(0).unwrap();
    assert_eq!(inside.batches, fetched.batches[2..]);
    let at_end = core.fetch(fetch_request(partition, 9, Duration::ZERO)).await.remove(0).unwrap();
    assert!(at_end.batches.is_empty());
    let beyond = core.fetch(fetch_request(partition, 10, MINUTE)).await.remove(0);
    assert_eq!(beyond, Err(FetchError::OutOfRange(fetched.bounds)));

    let state = core.inspect(vec![partition, part(&topic, 1)]).await;
    assert_eq!(state[0].as_ref().unwrap().bounds, fetched.bounds);
    assert_eq!(state[0].as_ref().unwrap().size_bytes, 3 * 164);
    assert_eq!(state[1], Err(FetchError::UnknownPartition));
}

async fn a_call_spans_partitions_and_each_answers_for_itself(core: impl Core) {
    let mut small = create("small", 2);
    small.settings.batch_bytes_max = 10;
    let small = core.topic_create(small).await.unwrap();
    let unknown = PartitionId { topic: TopicId(77), index: 0 };
    let append = |partition, payload: &[u8]| Append { partition, batch: batch(1, 0, payload) };
    let answers = core
        .append(AppendRequest {
            appends: vec![
                append(part(&small, 0), b"a"),
                append(unknown, b"b"),
                append(part(&small, 1), b"c"),
                append(part(&small, 0), b"much too large"),
                append(part(&small, 0), b"d"),
            ],
        })
        .await;
    let offsets: Vec<_> = answers.into_iter().map(|answer| answer.map(|appended| appended.base_offset)).collect();
    assert_eq!(
        offsets,
        [Ok(0), Err(AppendError::UnknownPartition), Ok(0), Err(AppendError::TooLarge { bytes_max: 10 }), Ok(1)]
    );
    let partition = |partition| FetchPartition { partition, offset: 0, bytes_max: 1000 };
    let fetched = core
        .fetch(FetchRequest {
            partitions: vec![partition(part(&small, 1)), partition(unknown), partition(part(&small, 0))],
            ..fetch_request(unknown, 0, MINUTE)
        })
        .await;
    assert_eq!(fetched[0].as_ref().unwrap().batches[0].payload, "c");
    assert_eq!(fetched[1], Err(FetchError::UnknownPartition));
    assert_eq!(fetched[2].as_ref().unwrap().batches[1].payload, "d");
}

async fn a_fetch_waits_for_an_append(core: impl Core) {
    let topic = topic(&core, "t", 2).await;
    let waiting = {
        let (core, partition) = (core.clone(), part(&topic, 1));
        tokio::spawn(async move { core.fetch(fetch_request(partition, 0, MINUTE)).await })
    };
    // Another partition's append is none of its business.
    append_one(&core, part(&topic, 0), batch(1, 0, b"other")).await.unwrap();
    append_one(&core, part(&topic, 1), batch(1, 0, b"awaited")).await.unwrap();
    let fetched = waiting.await.unwrap().remove(0).unwrap();
    assert_eq!(fetched.batches[0].payload, "awaited");
}

async fn a_fetch_waits_no_longer_than_asked(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    append_one(&core, part(&topic, 0), batch(1, 0, b"little")).await.unwrap();
    let mut request = fetch_request(part(&topic, 0), 0, Duration::from_millis(50));
    request.bytes_min = 10_000;
    let fetched = core.fetch(request).await.remove(0).unwrap();
    assert_eq!(fetched.batches.len(), 1, "what there is, when the wait is over");
    let nothing = core.fetch(fetch_request(part(&topic, 0), 1, Duration::from_millis(50))).await.remove(0).unwrap();
    assert!(nothing.batches.is_empty());
}

async fn a_fetch_keeps_to_its_bytes(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    for _ in 0..10 {
        append_one(&core, part(&topic, 0), batch(1, 0, &[1; 1000])).await.unwrap();
    }
    let mut request = fetch_request(part(&topic, 0), 0, Duration::ZERO);
    request.bytes_max = 3500;
    assert_eq!(core.fetch(request.clone()).await.remove(0).unwrap().batches.len(), 3);
    // The first comes whatever its size.
    request.bytes_max = 10;
    assert_eq!(core.fetch(request).await.remove(0).unwrap().batches.len(), 1);
}

async fn many_appenders_keep_their_own_order(core: impl Core) {
    const APPENDERS: u8 = 8;
    const EACH: u8 = 50;
    let topic = topic(&core, "t", 3).await;
    let mut tasks = Vec::new();
    for appender in 0..APPENDERS {
        let (core, partition) = (core.clone(), part(&topic, u32::from(appender) % 3));
        tasks.push(tokio::spawn(async move {
            for at in 0..EACH {
                append_one(&core, partition, batch(1, 0, &[appender, at])).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut next = [0; APPENDERS as usize];
    for index in 0..3 {
        for (offset, batch) in read_all(&core, part(&topic, index), 0).await.iter().enumerate() {
            assert_eq!(batch.header.base_offset, offset as u64);
            let [appender, at] = batch.payload[..] else { panic!("not what was appended") };
            assert_eq!(at, next[usize::from(appender)]);
            next[usize::from(appender)] += 1;
        }
    }
    assert_eq!(next, [EACH; APPENDERS as usize]);
}

async fn a_producers_repeats_are_kept_once(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    let partition = part(&topic, 0);
    for sequence in 0..3 {
        let appended = append_one(&core, partition, sequenced(b"x", 5, 1, sequence)).await.unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (sequence as u64, false));
    }
    let again = append_one(&core, partition, sequenced(b"x", 5, 1, 1)).await.unwrap();
    assert_eq!((again.base_offset, again.duplicate), (1, true));
    assert_eq!(append_one(&core, partition, sequenced(b"x", 5, 1, 7)).await, Err(AppendError::SequenceGap));
    assert_eq!(append_one(&core, partition, sequenced(b"x", 5, 2, 0)).await.unwrap().base_offset, 3);
    assert_eq!(append_one(&core, partition, sequenced(b"x", 5, 1, 3)).await, Err(AppendError::ProducerFenced));
    let state = core.inspect(vec![partition]).await.remove(0).unwrap();
    let producer = state.producers[0];
    assert_eq!((producer.id, producer.epoch, producer.last_sequence), (5, 2, 0));
}

async fn a_transaction_is_seen_whole_or_not_at_all(core: impl Core) {
    let topic = topic(&core, "t", 8).await;
    let group = GroupName { namespace: "default".into(), group: "g".into() };
    let marker = |epoch| {
        let mut marker = sequenced(b"marker", 5, epoch, -1);
        marker.header.flags = BatchFlags(BatchFlags::CONTROL.0 | BatchFlags::TRANSACTIONAL.0);
        marker
    };
    for (epoch, outcome) in [(0, Outcome::Abort), (1, Outcome::Commit)] {
        for index in 0..8 {
            let mut batch = sequenced(b"x", 5, epoch, 0);
            batch.header.flags = BatchFlags::TRANSACTIONAL;
            append_one(&core, part(&topic, index), batch).await.unwrap();
        }
        let cursor = Cursor { offset: 3, epoch: -1, metadata: String::new(), time_ms: 5 };
        let transaction = Some(TransactionProducer { id: 5, epoch });
        let cursors = vec![(part(&topic, 0), cursor)];
        let commit = CommitRequest { group: group.clone(), generation: None, transaction, cursors };
        assert_eq!(core.commit(commit).await, [Ok(())]);
        assert!(core.committed(group.clone(), vec![part(&topic, 0)]).await.unwrap()[0].pending);
        assert_eq!(core.transactions_open(Some(5)).await.unwrap().len(), 8);
        assert_eq!(core.transactions_open(None).await.unwrap()[0].epoch, epoch);

        // One waits at the stable offset and is woken by the end.
        let stable = 2 * epoch as u64;
        let request = FetchRequest { bytes_min: 1, ..fetch_request(part(&topic, 3), stable, MINUTE) };
        let waiting = core.fetch(FetchRequest { isolation: Isolation::Committed, ..request });
        let end = TransactionEnd {
            producer_id: 5,
            epoch: epoch + 1,
            ended_epoch_max: epoch,
            decision: None,
            outcome,
            marker: marker(epoch + 1),
        };
        let (fetched, ended) = tokio::join!(waiting, core.transaction_end(end.clone()));
        assert_eq!(ended.unwrap().len(), 8);
        assert_eq!(core.transaction_end(end).await, Ok(vec![]));
        let fetched = fetched.into_iter().next().unwrap().unwrap();
        assert_eq!(fetched.bounds.stable_offset, stable + 2);
        let aborted = AbortedTransaction { producer_id: 5, first_offset: 0, last_offset: 1 };
        assert_eq!(fetched.aborted, if outcome == Outcome::Abort { vec![aborted] } else { vec![] });
    }
    let committed = core.committed(group, vec![part(&topic, 0)]).await.unwrap().remove(0);
    assert_eq!((committed.cursor.map(|cursor| cursor.offset), committed.pending), (Some(3), false));
    let late = append_one(&core, part(&topic, 2), sequenced(b"x", 5, 1, 1)).await;
    assert_eq!(late, Err(AppendError::ProducerFenced));
}

async fn offsets_are_found(core: impl Core) {
    let topic = topic(&core, "t", 2).await;
    for time_ms in [100, 300, 200] {
        append_one(&core, part(&topic, 0), batch(2, time_ms, b"x")).await.unwrap();
    }
    let ask = |at| (part(&topic, 0), at);
    let queries = vec![
        ask(OffsetAt::Earliest),
        ask(OffsetAt::Latest),
        ask(OffsetAt::Stable),
        ask(OffsetAt::Time(150)),
        ask(OffsetAt::Time(301)),
        ask(OffsetAt::MaxTime),
        (part(&topic, 1), OffsetAt::MaxTime),
        (part(&topic, 9), OffsetAt::Latest),
    ];
    let answers = core.offsets(OffsetsRequest { queries }).await;
    let found = |offset, time_ms| Ok(FoundOffset { offset, time_ms });
    assert_eq!(answers[0], found(Some(0), -1));
    assert_eq!(answers[1], found(Some(6), -1));
    assert_eq!(answers[2], found(Some(6), -1));
    assert_eq!(answers[3], found(Some(2), 300));
    assert_eq!(answers[4], found(None, -1));
    assert_eq!(answers[5], found(Some(2), 300));
    assert_eq!(answers[6], found(None, -1));
    assert_eq!(answers[7], Err(FetchError::UnknownPartition));
}

async fn trimmed_offsets_are_out_of_range(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    let partition = part(&topic, 0);
    for _ in 0..4 {
        append_one(&core, partition, batch(1, 0, b"x")).await.unwrap();
    }
    let trim = |before| TrimRequest { trims: vec![(partition, before)] };
    assert_eq!(core.trim(trim(Some(2))).await, [Ok(2)]);
    assert_eq!(core.trim(trim(Some(1))).await, [Ok(2)], "never back");
    let bounds = Bounds { start_offset: 2, stable_offset: 4, end_offset: 4 };
    assert_eq!(core.trim(trim(Some(5))).await, [Err(FetchError::OutOfRange(bounds))]);
    let gone = core.fetch(fetch_request(partition, 1, MINUTE)).await.remove(0);
    assert_eq!(gone, Err(FetchError::OutOfRange(bounds)));
    assert_eq!(read_all(&core, partition, 2).await.len(), 2);
    assert_eq!(core.trim(trim(None)).await, [Ok(4)]);
    assert!(read_all(&core, partition, 4).await.is_empty());
    assert_eq!(append_one(&core, partition, batch(1, 0, b"x")).await.unwrap().base_offset, 4);
}

async fn cursors_are_kept_and_fenced(core: impl Core) {
    let topic = topic(&core, "t", 3).await;
    let group = |name: &str| GroupName { namespace: "default".into(), group: name.into() };
    let cursor = |offset| Cursor { offset, epoch: 3, metadata: "note".into(), time_ms: 5 };
    let commit = |generation, cursors| CommitRequest { group: group("g"), generation, transaction: None, cursors };
    let at = |index| part(&topic, index);

    let both = vec![(at(0), cursor(10)), (PartitionId { topic: TopicId(9), index: 0 }, cursor(1)), (at(1), cursor(20))];
    assert_eq!(core.commit(commit(Some(5), both)).await, [Ok(()), Err(CursorError::UnknownPartition), Ok(())]);
    assert_eq!(core.commit(commit(Some(4), vec![(at(0), cursor(11))])).await, [Err(CursorError::Fenced)]);
    assert_eq!(core.commit(commit(None, vec![(at(0), cursor(12))])).await, [Ok(())]);
    let committed_at = |offset| Committed { cursor: Some(cursor(offset)), pending: false };
    let committed = core.committed(group("g"), vec![at(1), at(2), at(0)]).await.unwrap();
    assert_eq!(committed, [committed_at(20), Committed::default(), committed_at(12)]);

    let mut all = core.cursors(group("g")).await.unwrap();
    all.sort_unstable_by_key(|(partition, _)| *partition);
    assert_eq!(all, [(at(0), committed_at(12)), (at(1), committed_at(20))]);
    assert_eq!(core.groups("default".into()).await.unwrap(), ["g"]);
    assert!(core.groups("other".into()).await.unwrap().is_empty());

    core.forget(group("g"), Some(vec![at(0)])).await.unwrap();
    assert_eq!(core.cursors(group("g")).await.unwrap().len(), 1);
    core.forget(group("g"), None).await.unwrap();
    assert!(core.groups("default".into()).await.unwrap().is_empty());
}

async fn topics_live_and_die(core: impl Core) {
    let made = topic(&core, "t", 1).await;
    assert_eq!(core.topic_create(create("t", 2)).await, Err(TopicError::Exists));
    assert_eq!(append_one(&core, part(&made, 1), batch(1, 0, b"x")).await, Err(AppendError::UnknownPartition));
    let alter = |alter| core.topic_alter("default".into(), "t".into(), alter);
    let grown = alter(TopicAlter { partitions: Some(2), ..TopicAlter::default() }).await.unwrap();
    assert_eq!((grown.id, grown.partitions, &grown.labels), (made.id, 2, &made.labels));
    append_one(&core, part(&made, 1), batch(1, 0, b"x")).await.expect("a new partition can be used at once");

    let settings = TopicSettings { batch_bytes_max: 3, ..grown.settings.clone() };
    let alteration = TopicAlter { settings: Some(settings), if_version: Some(grown.version), ..TopicAlter::default() };
    let altered = alter(alteration.clone()).await.unwrap();
    assert_eq!(alter(alteration).await, Err(TopicError::Conflict));
    let refused = append_one(&core, part(&made, 0), batch(1, 0, b"1234")).await;
    assert_eq!(refused, Err(AppendError::TooLarge { bytes_max: 3 }));
    let entry = core.meta_get(Topic::key("default", "t")).await.unwrap().unwrap();
    assert_eq!(Topic::from_entry(&entry), Some(altered));

    // Its readers learn that it is gone, those that wait too.
    let waiting = {
        let (core, partition) = (core.clone(), part(&made, 0));
        tokio::spawn(async move { core.fetch(fetch_request(partition, 0, MINUTE)).await })
    };
    core.topic_delete("default".into(), "t".into()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), [Err(FetchError::UnknownPartition)]);
    assert_eq!(append_one(&core, part(&made, 0), batch(1, 0, b"x")).await, Err(AppendError::UnknownPartition));
    let again = topic(&core, "t", 1).await;
    assert_ne!(again.id, made.id);
    assert!(read_all(&core, part(&again, 0), 0).await.is_empty());
}

async fn meta_keeps_to_its_conditions(core: impl Core) {
    let put = |key: &str, value: &'static str, condition| {
        core.meta_put(MetaPut {
            key: key.into(),
            value: Bytes::from_static(value.as_bytes()),
            condition,
            session: None,
        })
    };
    let first = put("a/1", "one", MetaCondition::Absent).await.unwrap();
    let entry = MetaEntry { key: "a/1".into(), value: "one".into(), version: first, session: None };
    assert_eq!(put("a/1", "x", MetaCondition::Absent).await, Err(MetaError::Conflict(Some(entry.clone()))));
    assert_eq!(put("a/2", "x", MetaCondition::Version(1)).await, Err(MetaError::Conflict(None)));
    let second = put("a/1", "two", MetaCondition::Version(first)).await.unwrap();
    assert!(second > first);
    put("b/1", "", MetaCondition::Always).await.unwrap();
    let list = core.meta_list("a/".into()).await.unwrap();
    let two = MetaEntry { value: "two".into(), version: second, ..entry };
    assert_eq!(list.entries, std::slice::from_ref(&two));
    assert!(list.revision > second);
    assert_eq!(put("topic/x/y", "", MetaCondition::Always).await, Err(MetaError::InvalidKey));
    let stale = core.meta_delete("a/1".into(), MetaCondition::Version(first)).await;
    assert_eq!(stale, Err(MetaError::Conflict(Some(two))));
    core.meta_delete("a/1".into(), MetaCondition::Version(second)).await.unwrap();
    core.meta_delete("a/1".into(), MetaCondition::Always).await.unwrap();
    assert_eq!(core.meta_get("a/1".into()).await, Ok(None));
}

async fn a_watch_hears_of_changes(core: impl Core) {
    let revision = core.meta_list("w/".into()).await.unwrap().revision;
    let watch = |after_revision, wait| {
        let core = core.clone();
        async move { core.meta_watch(MetaWatch { prefix: "w/".into(), after_revision, wait }).await.unwrap() }
    };
    let waiting = tokio::spawn(watch(revision, MINUTE));
    let put =
        |key: &str| MetaPut { key: key.into(), value: Bytes::new(), condition: MetaCondition::Always, session: None };
    core.meta_put(put("other")).await.unwrap();
    let version = core.meta_put(put("w/1")).await.unwrap();
    let entry = MetaEntry { key: "w/1".into(), value: Bytes::new(), version, session: None };
    let expected = MetaChanges::Events { events: vec![MetaEvent::Put(entry.clone())], revision: version };
    assert_eq!(waiting.await.unwrap(), expected);
    core.meta_delete("w/1".into(), MetaCondition::Always).await.unwrap();
    let deleted = MetaEvent::Deleted { key: "w/1".into(), revision: version + 1 };
    let expected = MetaChanges::Events { events: vec![MetaEvent::Put(entry), deleted], revision: version + 1 };
    assert_eq!(watch(revision, Duration::ZERO).await, expected);
    let nothing = MetaChanges::Events { events: vec![], revision: version + 1 };
    assert_eq!(watch(version + 1, Duration::from_millis(20)).await, nothing);
    assert_eq!(watch(version + 100, MINUTE).await, MetaChanges::Relist);
}

async fn keys_vanish_with_their_session(core: impl Core) {
    let put = |key: &str, session| MetaPut {
        key: key.into(),
        value: Bytes::new(),
        condition: MetaCondition::Always,
        session: Some(session),
    };
    let closed = core.session_open(MINUTE).await.unwrap();
    let short = core.session_open(Duration::from_millis(100)).await.unwrap();
    assert_ne!(closed, short);
    core.meta_put(put("s/closed", closed)).await.unwrap();
    let version = core.meta_put(put("s/short", short)).await.unwrap();
    core.session_renew(closed).await.unwrap();
    core.session_close(closed).await.unwrap();
    assert_eq!(core.session_renew(closed).await, Err(MetaError::UnknownSession));
    assert_eq!(core.meta_put(put("s/x", closed)).await, Err(MetaError::UnknownSession));

    let (mut after_revision, mut deleted) = (version, Vec::new());
    while deleted.len() < 2 {
        let watch = MetaWatch { prefix: "s/".into(), after_revision, wait: MINUTE };
        let MetaChanges::Events { events, revision } = core.meta_watch(watch).await.unwrap() else { panic!("relist") };
        after_revision = revision;
        deleted.extend(events.into_iter().map(|event| match event {
            MetaEvent::Deleted { key, .. } => key,
            MetaEvent::Put(entry) => panic!("put {}", entry.key),
        }));
    }
    assert_eq!(deleted, ["s/closed", "s/short"]);
    assert!(core.meta_list("s/".into()).await.unwrap().entries.is_empty());
}

async fn a_large_batch_passes(core: impl Core) {
    let topic = topic(&core, "t", 1).await;
    let payload: Vec<u8> = (0..20_000_000u32).map(|at| at as u8).collect();
    append_one(&core, part(&topic, 0), batch(1, 0, &payload)).await.unwrap();
    let batches = read_all(&core, part(&topic, 0), 0).await;
    assert!(batches.len() == 1 && batches[0].payload == payload);
}
