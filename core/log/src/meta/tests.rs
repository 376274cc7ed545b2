//! Meta against a model, against crashes and full disks, and its watches and sessions by a clock set by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use core_rpc::*;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::disk::{FaultyDisk, MemoryDisk, Operation};

const MINUTE: Duration = Duration::from_secs(60);

/// Both clocks, set by hand.
#[derive(Default)]
struct ManualClock(Mutex<Duration>);

impl SessionClock for ManualClock {
    fn elapsed(&self) -> Duration {
        *self.0.lock()
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.lock().as_millis() as i64
    }
}

#[derive(Default)]
struct Engine(Mutex<BTreeMap<TopicId, Topic>>);

impl TopicOwner for Engine {
    fn end_session(&self, _: SessionId) {}

    fn add_topic(&self, topic: &Topic) {
        assert!(self.0.lock().insert(topic.id, topic.clone()).is_none());
    }

    fn update_topic(&self, topic: &Topic) {
        assert!(self.0.lock().insert(topic.id, topic.clone()).is_some());
    }

    fn remove_topic(&self, id: TopicId) {
        assert!(self.0.lock().remove(&id).is_some());
    }
}

struct World {
    meta: Meta,
    clock: Arc<ManualClock>,
    engine: Arc<Engine>,
}

fn open(disk: impl Disk + 'static) -> World {
    let clock = Arc::new(ManualClock::default());
    static LAST: AtomicU64 = AtomicU64::new(0);
    let options = MetaOptions {
        clock: clock.clone(),
        session_clock: clock.clone(),
        random: Box::new(|| u128::from(LAST.fetch_add(1, Ordering::Relaxed))),
    };
    let opened = OpenedMeta::open(Arc::new(disk), options).expect("opens");
    let engine = Arc::new(Engine::default());
    for topic in opened.topics() {
        engine.add_topic(&topic);
    }
    World { meta: opened.start(engine.clone()).expect("starts"), clock, engine }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

fn put(key: &str, value: &str, condition: MetaCondition) -> MetaPut {
    MetaPut { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), condition, session: None }
}

fn watch(prefix: &str, after_revision: u64, wait: Duration) -> MetaWatch {
    MetaWatch { prefix: prefix.into(), after_revision, wait }
}

fn create(name: &str, partitions: u32) -> TopicCreate {
    TopicCreate {
        namespace: "default".into(),
        name: name.into(),
        partitions,
        settings: TopicSettings::default(),
        labels: BTreeMap::new(),
    }
}

/// What anybody can see.
fn seen(meta: &Meta) -> Vec<MetaEntry> {
    run(meta.meta_list(String::new())).expect("lists").entries
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, session: Option<u8>, condition: u8 },
    Delete { key: u8, condition: u8 },
    Open,
    Close(u8),
    Create(u8),
    Alter(u8, u32),
    DeleteTopic(u8),
    Advance(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, proptest::option::of(0u8..4), 0u8..4)
            .prop_map(|(key, session, condition)| Step::Put { key, session, condition }),
        3 => (0u8..6, 0u8..4).prop_map(|(key, condition)| Step::Delete { key, condition }),
        2 => Just(Step::Open),
        1 => (0u8..4).prop_map(Step::Close),
        2 => (0u8..3).prop_map(Step::Create),
        2 => (0u8..3, 0u32..5).prop_map(|(topic, partitions)| Step::Alter(topic, partitions)),
        1 => (0u8..3).prop_map(Step::DeleteTopic),
        1 => (1u8..40).prop_map(Step::Advance),
        1 => Just(Step::Restart),
    ]
}

/// The obvious implementation.
#[derive(Default)]
struct Model {
    /// Key → (value, version, session).
    entries: BTreeMap<String, (Bytes, u64, Option<SessionId>)>,
    /// Session → when it ends, s.
    sessions: BTreeMap<SessionId, u64>,
    revision: u64,
    now: u64,
}

const SESSION_SECONDS: u64 = 30;

impl Model {
    fn condition(&self, key: &str, condition: u8) -> (MetaCondition, bool) {
        let version = self.entries.get(key).map(|entry| entry.1);
        match condition {
            0 => (MetaCondition::Absent, version.is_none()),
            1 => (MetaCondition::Version(version.unwrap_or(1)), version.is_some()),
            2 => (MetaCondition::Version(u64::MAX), false),
            _ => (MetaCondition::Always, true),
        }
    }

    fn end(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.2 != Some(session));
        self.revision += (before - self.entries.len()) as u64;
    }

    fn entries(&self) -> Vec<MetaEntry> {
        let entry = |(key, (value, version, session)): (&String, &(Bytes, u64, Option<SessionId>))| MetaEntry {
            key: key.clone(),
            value: value.clone(),
            version: *version,
            session: *session,
        };
        self.entries.iter().map(entry).collect()
    }
}

fn take_step(world: &World, model: &mut Model, step: Step, at: usize) {
    let meta = world.meta.clone();
    let session_of = |model: &Model, at: u8| {
        let known = model.sessions.keys().nth(at as usize).copied();
        known.map_or((SessionId(999), false), |session| (session, true))
    };
    match step {
        Step::Put { key, session, condition } => {
            let key = format!("key/{key}");
            let session = session.map(|session| session_of(model, session));
            let (condition, holds) = model.condition(&key, condition);
            let value = Bytes::from(at.to_string());
            let put = MetaPut { key: key.clone(), value: value.clone(), condition, session: session.map(|s| s.0) };
            match run(meta.meta_put(put)) {
                Ok(version) => {
                    assert!(holds && session.is_none_or(|session| session.1));
                    model.revision += 1;
                    assert_eq!(version, model.revision);
                    model.entries.insert(key, (value, version, session.map(|s| s.0)));
                }
                Err(MetaError::UnknownSession) => assert!(session.is_some_and(|session| !session.1)),
                Err(MetaError::Conflict(entry)) => {
                    assert!(!holds);
                    assert_eq!(entry.map(|entry| entry.version), model.entries.get(&key).map(|entry| entry.1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        Step::Delete { key, condition } => {
            let key = format!("key/{key}");
            let (condition, holds) = model.condition(&key, condition);
            assert_eq!(run(meta.meta_delete(key.clone(), condition)).is_ok(), holds);
            if holds && model.entries.remove(&key).is_some() {
                model.revision += 1;
            }
        }
        Step::Open => {
            let session = run(meta.session_open(Duration::from_secs(SESSION_SECONDS))).expect("opens");
            assert!(model.sessions.insert(session, model.now + SESSION_SECONDS).is_none(), "ids are not given twice");
        }
        Step::Close(session) => {
            let (session, known) = session_of(model, session);
            assert_eq!(run(meta.session_close(session)).is_ok(), known);
            model.end(session);
        }
        Step::Create(topic) => {
            let key = Topic::key("default", &topic.to_string());
            let created = run(meta.topic_create(create(&topic.to_string(), 2)));
            assert_eq!(created.is_ok(), !model.entries.contains_key(&key));
            if let Ok(topic) = created {
                model.revision += 1;
                assert_eq!(topic.version, model.revision);
                assert_eq!(topic.created_ms, model.now as i64 * 1000);
                let value = Bytes::from(topic.to_value().unwrap());
                model.entries.insert(key, (value, topic.version, None));
            }
        }
        Step::Alter(topic, partitions) => {
            let key = Topic::key("default", &topic.to_string());
            let known = model.entries().into_iter().find(|entry| entry.key == key);
            let alter = TopicAlter { partitions: Some(partitions), ..TopicAlter::default() };
            match run(meta.topic_alter("default".into(), topic.to_string(), alter)) {
                Ok(topic) => {
                    let before = Topic::from_entry(&known.expect("it is known")).unwrap();
                    model.revision += 1;
                    assert!(partitions >= before.partitions);
                    assert_eq!(topic, Topic { partitions, version: model.revision, ..before });
                    let value = Bytes::from(topic.to_value().unwrap());
                    model.entries.insert(key, (value, topic.version, None));
                }
                Err(TopicError::Unknown) => assert!(known.is_none()),
                Err(TopicError::PartitionCount { .. }) => {
                    assert!(partitions < Topic::from_entry(&known.expect("it is known")).unwrap().partitions);
                }
                Err(error) => panic!("{error}"),
            }
        }
        Step::DeleteTopic(topic) => {
            let known = model.entries.remove(&Topic::key("default", &topic.to_string())).is_some();
            assert_eq!(run(meta.topic_delete("default".into(), topic.to_string())).is_ok(), known);
            model.revision += u64::from(known);
        }
        Step::Advance(seconds) => {
            model.now += u64::from(seconds);
            *world.clock.0.lock() = Duration::from_secs(model.now);
            let now = model.now;
            let over: Vec<_> = model.sessions.iter().filter(|(_, end)| **end <= now).map(|(id, _)| *id).collect();
            for session in over {
                model.end(session);
                assert_eq!(run(meta.session_renew(session)), Err(MetaError::UnknownSession));
            }
            let rest: Vec<_> = model.sessions.keys().copied().collect();
            for session in rest.into_iter().step_by(2) {
                run(meta.session_renew(session)).expect("it lives");
                model.sessions.insert(session, now + SESSION_SECONDS);
            }
            meta.clock_changed();
            // Any further change comes after the ends of sessions.
            run(meta.meta_put(put("key/last", "", MetaCondition::Always))).expect("puts");
            model.revision += 1;
            model.entries.insert("key/last".into(), (Bytes::new(), model.revision, None));
        }
        Step::Restart => unreachable!("the caller restarts"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn meta_is_like_its_model(steps in proptest::collection::vec(step(), 1..60)) {
        let mut disk = MemoryDisk::new();
        let mut world = open(disk.clone());
        let mut model = Model::default();
        let mut watched = 0;
        let mut mirror = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            if let Step::Restart = step {
                // Everything answered was synced: no crash may lose it.
                world.meta.stop();
                disk = disk.crash(at as u64);
                world = open(disk.clone());
                model.now = 0;
                for end in model.sessions.values_mut() {
                    *end = SESSION_SECONDS;
                }
            } else {
                take_step(&world, &mut model, step, at);
            }
            let list = run(world.meta.meta_list(String::new())).unwrap();
            prop_assert_eq!(&list.entries, &model.entries());
            prop_assert_eq!(list.revision, model.revision);

            // Who follows the events sees the same.
            match run(world.meta.meta_watch(watch("", watched, Duration::ZERO))).unwrap() {
                MetaChanges::Events { events, revision } => {
                    watched = revision;
                    for event in events {
                        match event {
                            MetaEvent::Put(entry) => {
                                mirror.insert(entry.key.clone(), entry);
                            }
                            MetaEvent::Deleted { key, .. } => {
                                mirror.remove(&key);
                            }
                        }
                    }
                }
                MetaChanges::Relist => {
                    watched = list.revision;
                    mirror = list.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
                }
            }
            prop_assert_eq!(mirror.values().cloned().collect::<Vec<_>>(), model.entries());
            let topics = world.meta.topics().into_iter().map(|topic| (topic.id, topic)).collect::<BTreeMap<_, _>>();
            prop_assert_eq!(&*world.engine.0.lock(), &topics);
        }
    }
}

/// One writer, power cuts at every operation: what was answered is there, and at most the change in flight besides.
#[test]
fn a_crash_anywhere_keeps_what_was_answered() {
    let mut crashes = 0;
    for crash_at in 1..120 {
        let faulty = FaultyDisk::default();
        let world = open(faulty.clone());
        faulty.crash_in(crash_at);
        let mut history = vec![seen(&world.meta)];
        let mut acknowledged = 0;
        for at in 0..20 {
            let key = format!("key/{}", at % 5);
            let condition = if at % 3 == 0 { MetaCondition::Always } else { MetaCondition::Absent };
            let result = match at % 4 {
                3 => run(world.meta.meta_delete(key, MetaCondition::Always)).map(|()| 0),
                _ => run(world.meta.meta_put(put(&key, &"v".repeat(at * 100), condition))),
            };
            match result {
                Ok(_) => {
                    acknowledged = history.len();
                    history.push(seen(&world.meta));
                }
                Err(MetaError::Conflict(_)) => {}
                Err(MetaError::StorageFailed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        world.meta.stop();
        if !faulty.crashed() {
            break;
        }
        crashes += 1;
        for seed in 0..8 {
            let after = open(faulty.disk.crash(seed));
            let entries = seen(&after.meta);
            let list = run(after.meta.meta_list(String::new())).unwrap();
            if history[acknowledged.min(history.len() - 1)] != entries {
                // The change in flight, whole: one revision more than was answered.
                let answered = history.last().unwrap().iter().map(|entry| entry.version).max().unwrap_or(0);
                assert!(list.revision > answered, "crash {crash_at}, seed {seed}");
                let fresh = entries.iter().filter(|entry| entry.version > answered).count();
                assert!(fresh <= 1, "crash {crash_at}, seed {seed}");
            }
            // Life goes on, with higher revisions.
            let version = run(after.meta.meta_put(put("key/after", "", MetaCondition::Absent))).unwrap();
            assert_eq!(version, list.revision + 1);
        }
    }
    assert!(crashes > 20, "{crashes} crashes");
}

#[test]
fn a_crash_while_the_database_is_made_leaves_nothing_in_the_way() {
    for crash_at in 1..40 {
        let faulty = FaultyDisk::default();
        faulty.crash_in(crash_at);
        let options = || MetaOptions {
            clock: Arc::new(ManualClock::default()),
            session_clock: Arc::new(ManualClock::default()),
            random: Box::new(|| 1),
        };
        let opened = OpenedMeta::open(Arc::new(faulty.clone()), options());
        assert_eq!(opened.is_err(), faulty.crashed(), "{crash_at}");
        drop(opened);
        for seed in 0..4 {
            let world = open(faulty.disk.crash(seed));
            run(world.meta.meta_put(put("k", "v", MetaCondition::Absent))).unwrap();
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let faulty = FaultyDisk::default();
    let world = open(faulty.clone());
    run(world.meta.meta_put(put("before", "", MetaCondition::Always))).unwrap();
    faulty.disk.set_capacity(Some(faulty.disk.used_bytes()));
    let large = "x".repeat(META_VALUE_BYTES_MAX);
    let mut kept = 0;
    let refused = loop {
        match run(world.meta.meta_put(put(&format!("large/{kept}"), &large, MetaCondition::Always))) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, MetaError::DiskFull);
    assert_eq!(run(world.meta.meta_list("large/".into())).unwrap().entries.len(), kept);
    let error = run(world
        .meta
        .topic_create(TopicCreate { labels: [("large".to_owned(), large.clone())].into(), ..create("t", 1) }));
    assert_eq!(error, Err(TopicError::DiskFull));
    assert!(world.engine.0.lock().is_empty());

    faulty.disk.set_capacity(None);
    run(world.meta.meta_put(put("after", "", MetaCondition::Absent))).unwrap();
    let entries = seen(&world.meta);
    world.meta.stop();
    assert_eq!(seen(&open(faulty.disk.crash(1)).meta), entries);
}

#[test]
fn a_failed_sync_ends_writing_but_not_reading() {
    let faulty = FaultyDisk::default();
    let world = open(faulty.clone());
    run(world.meta.meta_put(put("k", "1", MetaCondition::Always))).unwrap();
    faulty.fail(Operation::Sync, 1, ErrorKind::StorageFull);
    for _ in 0..2 {
        let refused = run(world.meta.meta_put(put("k", "2", MetaCondition::Always)));
        assert_eq!(refused, Err(MetaError::StorageFailed));
    }
    assert_eq!(run(world.meta.meta_get("k".into())).unwrap().unwrap().value, "1");
    world.meta.stop();
    assert_eq!(run(open(faulty.disk.crash(3)).meta.meta_get("k".into())).unwrap().unwrap().value, "1");
}

#[test]
fn concurrent_puts_share_their_syncs() {
    let faulty = FaultyDisk::default();
    let world = open(faulty.clone());
    let before = faulty.changes();
    run(async {
        let mut puts: Vec<_> = (0..1000)
            .map(|at| Box::pin(world.meta.meta_put(put(&format!("k/{at:04}"), "value", MetaCondition::Absent))))
            .collect();
        // Begins all of them; the first may be done already.
        puts.retain_mut(|put| match put.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => {
                done.unwrap();
                false
            }
            Poll::Pending => true,
        });
        for put in puts {
            put.await.unwrap();
        }
    });
    assert_eq!(seen(&world.meta).len(), 1000);
    let changes = faulty.changes() - before;
    assert!(changes < 500, "{changes} writes and syncs for 1,000 puts");
}

#[test]
fn a_watch_sees_each_change_under_its_prefix_once_and_in_order() {
    let world = open(MemoryDisk::new());
    let meta = world.meta.clone();
    let watcher = std::thread::spawn(move || {
        let (mut versions, mut after) = (Vec::new(), 0);
        while versions.len() < 200 {
            match run(meta.meta_watch(watch("a/", after, MINUTE))).unwrap() {
                MetaChanges::Events { events, revision } => {
                    assert!(revision > after);
                    after = revision;
                    versions.extend(events.iter().map(|event| match event {
                        MetaEvent::Put(entry) => entry.version,
                        MetaEvent::Deleted { revision, .. } => *revision,
                    }));
                }
                MetaChanges::Relist => panic!("all is remembered"),
            }
        }
        versions
    });
    let mut expected = Vec::new();
    for at in 0..200 {
        run(world.meta.meta_put(put("b/other", "", MetaCondition::Always))).unwrap();
        expected.push(run(world.meta.meta_put(put(&format!("a/{}", at % 7), "", MetaCondition::Always))).unwrap());
    }
    assert_eq!(watcher.join().unwrap(), expected);

    let now = run(world.meta.meta_list(String::new())).unwrap().revision;
    let nothing = MetaChanges::Events { events: vec![], revision: now };
    assert_eq!(run(world.meta.meta_watch(watch("a/", now, Duration::from_millis(1)))).unwrap(), nothing);
    // Who only looks waits for no timer.
    let looks = pin!(world.meta.meta_watch(watch("a/", now, Duration::ZERO)));
    assert_eq!(looks.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(nothing)));
    assert_eq!(run(world.meta.meta_watch(watch("a/", now + 1, MINUTE))).unwrap(), MetaChanges::Relist);

    // A watch that waits learns of the end.
    let meta = world.meta.clone();
    run(async {
        let mut waiting = pin!(meta.meta_watch(watch("a/", now, MINUTE)));
        assert!(matches!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        world.meta.stop();
        assert_eq!(waiting.await, Err(MetaError::Unavailable));
    });
}

#[test]
fn who_is_too_far_behind_lists_again() {
    let disk = MemoryDisk::new();
    let world = open(disk.clone());
    let value = "x".repeat(META_VALUE_BYTES_MAX);
    for _ in 0..18 {
        run(world.meta.meta_put(put("k", &value, MetaCondition::Always))).unwrap();
    }
    assert_eq!(run(world.meta.meta_watch(watch("", 1, MINUTE))).unwrap(), MetaChanges::Relist);
    assert!(matches!(run(world.meta.meta_watch(watch("", 17, MINUTE))).unwrap(), MetaChanges::Events { .. }));
    world.meta.stop();
    let world = open(disk);
    assert_eq!(run(world.meta.meta_watch(watch("", 17, MINUTE))).unwrap(), MetaChanges::Relist);
}

#[test]
fn the_keys_of_a_session_vanish_with_it() {
    let world = open(MemoryDisk::new());
    let session = run(world.meta.session_open(MINUTE)).unwrap();
    for key in ["s/1", "s/2", "s/3"] {
        let put = MetaPut { session: Some(session), ..put(key, "", MetaCondition::Absent) };
        run(world.meta.meta_put(put)).unwrap();
    }
    // Taken over by nobody's session: it stays.
    run(world.meta.meta_put(put("s/3", "mine", MetaCondition::Always))).unwrap();
    let before = run(world.meta.meta_list(String::new())).unwrap().revision;

    *world.clock.0.lock() = MINUTE - Duration::from_millis(1);
    run(world.meta.session_renew(session)).unwrap();
    *world.clock.0.lock() = 2 * MINUTE - Duration::from_millis(2);
    world.meta.clock_changed();
    run(world.meta.session_renew(session)).unwrap();
    *world.clock.0.lock() = 3 * MINUTE;
    assert_eq!(run(world.meta.session_renew(session)), Err(MetaError::UnknownSession), "late, though not yet ended");
    world.meta.clock_changed();
    let events = run(world.meta.meta_watch(watch("s/", before, MINUTE))).unwrap();
    let deleted = |key: &str, revision| MetaEvent::Deleted { key: key.into(), revision };
    let expected = vec![deleted("s/1", before + 1), deleted("s/2", before + 2)];
    assert_eq!(events, MetaChanges::Events { events: expected, revision: before + 2 });
    assert_eq!(run(world.meta.session_close(session)), Err(MetaError::UnknownSession));
}

#[test]
fn a_session_may_be_meant_to_live_for_ever() {
    let disk = MemoryDisk::new();
    let world = open(disk.clone());
    let session = run(world.meta.session_open(Duration::MAX)).unwrap();
    world.meta.stop();
    let world = open(disk);
    *world.clock.0.lock() = Duration::from_secs(u64::from(u32::MAX));
    world.meta.clock_changed();
    run(world.meta.session_renew(session)).unwrap();
}

#[test]
fn sessions_end_by_themselves() {
    let clock: Arc<dyn SessionClock> = Arc::new(SteadyClock::default());
    let options = MetaOptions { clock: Arc::new(ManualClock::default()), session_clock: clock, random: Box::new(|| 1) };
    let opened = OpenedMeta::open(Arc::new(MemoryDisk::new()), options).unwrap();
    let meta = opened.start(Arc::new(Engine::default())).unwrap();
    let session = run(meta.session_open(Duration::from_millis(20))).unwrap();
    let version =
        run(meta.meta_put(MetaPut { session: Some(session), ..put("k", "", MetaCondition::Always) })).unwrap();
    let changes = run(meta.meta_watch(watch("k", version, MINUTE))).unwrap();
    assert!(matches!(changes, MetaChanges::Events { events, .. } if matches!(events[0], MetaEvent::Deleted { .. })));
}

#[test]
fn topics_obey_their_rules() {
    let world = open(MemoryDisk::new());
    let meta = &world.meta;
    for partitions in [0, PARTITIONS_MAX + 1] {
        let refused = run(meta.topic_create(create("t", partitions)));
        assert_eq!(refused, Err(TopicError::PartitionCount { max: PARTITIONS_MAX }));
    }
    for create in [create("", 1), create(&"n".repeat(META_KEY_BYTES_MAX), 1)] {
        assert_eq!(run(meta.topic_create(create)), Err(TopicError::InvalidName));
    }
    let mut asked = create("t", PARTITIONS_MAX);
    asked.settings.batch_bytes_max = u32::MAX;
    let topic = run(meta.topic_create(asked)).unwrap();
    assert_eq!(topic.settings.batch_bytes_max, BATCH_BYTES_MAX);
    let entry = run(meta.meta_get(Topic::key("default", "t"))).unwrap().unwrap();
    assert_eq!((Topic::from_entry(&entry), entry.version), (Some(topic.clone()), topic.version));

    let alter = |alter: TopicAlter| run(meta.topic_alter("default".into(), "t".into(), alter));
    let other_id = TopicAlter { id: Some(TopicId(77)), ..TopicAlter::default() };
    assert_eq!(alter(other_id), Err(TopicError::Unknown));
    let labels: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    let labelled = TopicAlter {
        labels: Some(labels.clone()),
        if_version: Some(topic.version),
        id: Some(topic.id),
        ..TopicAlter::default()
    };
    assert_eq!(alter(labelled.clone()).unwrap().labels, labels);
    assert_eq!(alter(labelled), Err(TopicError::Conflict));

    // Namespaces with a slash are no other topic's name.
    let slashed = TopicCreate { namespace: "a/b".into(), ..create("c", 1) };
    run(meta.topic_create(slashed)).unwrap();
    run(meta.topic_create(TopicCreate { namespace: "a".into(), ..create("b/c", 1) })).unwrap();

    for key in ["", "topic/default/t", &"k".repeat(META_KEY_BYTES_MAX + 1)] {
        assert_eq!(run(meta.meta_put(put(key, "", MetaCondition::Always))), Err(MetaError::InvalidKey));
        assert_eq!(run(meta.meta_delete(key.into(), MetaCondition::Always)), Err(MetaError::InvalidKey));
    }
    let large = "x".repeat(META_VALUE_BYTES_MAX + 1);
    assert_eq!(run(meta.meta_put(put("k", &large, MetaCondition::Always))), Err(MetaError::TooLarge));
    run(meta.topic_delete("default".into(), "t".into())).unwrap();
    assert_eq!(run(meta.topic_delete("default".into(), "t".into())), Err(TopicError::Unknown));
}
