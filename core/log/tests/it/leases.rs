//! Lease maps against a model that knows each message: what is handed out, in which order and how often counted, and what is
//! found after the power is cut.
//!
//! An answered durable settle (transfer, discard, seek) must be found; what ended without an answer (a time-out, a settle
//! that was cut off) may be found or not, but nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_log::disk::{FaultyDisk, MemoryDisk};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::model::Random;
use crate::queues;

const LEASE_MS: i64 = 100;
const ACQUISITIONS_MAX: u32 = 3;

/// What is durable of a message: its counts while it is available, and from when on it is; None: settled.
type Kept = Option<(u32, u32, i64)>;

const NEW: Kept = Some((0, 0, 0));

#[derive(Clone, Debug, Default)]
struct Message {
    /// What a restart may find; the last is what is so now, but for leases.
    may_be: Vec<Kept>,
    lease: Option<Leased>,
    /// What its batch says.
    not_before_ms: i64,
}

#[derive(Clone, Debug)]
struct Leased {
    holder: String,
    until_ms: i64,
    session: Option<u64>,
}

#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, Message>,
    /// (base, count)
    batches: Vec<(u64, u64)>,
    /// A batch whose append was cut off may be there.
    open_counts: Vec<u64>,
    rejected: u64,
}

impl Message {
    fn now(&self) -> Kept {
        *self.may_be.last().unwrap_or(&NEW)
    }

    fn is_free(&self) -> bool {
        self.lease.is_none() && self.now().is_some()
    }

    fn is_available(&self, now_ms: i64) -> bool {
        let due = |kept: Kept| kept.is_some_and(|(_, _, until_ms)| until_ms <= now_ms);
        self.lease.is_none() && due(self.now()) && self.not_before_ms <= now_ms
    }

    fn is_held_by(&self, holder: &str) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.holder == holder)
    }

    /// What its end makes of it, and whether it counts as rejected.
    fn end(&self, settlement: Settlement, until_ms: i64) -> (Kept, bool) {
        let (acquisitions, failures, _) = self.now().unwrap();
        let acquisitions = acquisitions + 1;
        match settlement {
            Settlement::Accept => (None, false),
            Settlement::Reject => (None, true),
            _ if acquisitions >= ACQUISITIONS_MAX => (None, true),
            Settlement::Release => (Some((acquisitions, failures, until_ms)), false),
            Settlement::Fail => (Some((acquisitions, failures + 1, until_ms)), false),
        }
    }
}

struct World<'a> {
    engine: &'a Engine,
    clock: &'a TestClock,
    model: &'a mut Model,
}

impl World<'_> {
    /// Does one thing. False: the engine takes no more.
    async fn step(&mut self, random: &mut Random) -> bool {
        match random.below(20) {
            0..4 => self.append(1 + random.below(4), random).await,
            4..9 => self.acquire(random).await,
            9..13 => self.settle(random).await,
            13 => self.transfer(random).await,
            14 => self.discard(random).await,
            15 => self.renew(random),
            16 => self.release(random).await,
            17 => self.end_session(random).await,
            18 if random.below(6) == 0 => self.seek(random).await,
            _ => self.pass_time(random).await,
        }
    }

    async fn append(&mut self, count: u64, random: &mut Random) -> bool {
        let not_before_ms = match random.below(4) {
            0 => self.clock.now() + random.below(3 * LEASE_MS as u64) as i64,
            _ => 0,
        };
        let mut batch = batch(count as u32, "content");
        batch.header.not_before_ms = (not_before_ms > 0).then_some(not_before_ms);
        match append(self.engine, partition(0), batch).await {
            Ok(appended) => {
                self.model.appended(appended.base_offset, count, not_before_ms);
                true
            }
            Err(AppendError::Unavailable | AppendError::StorageFailed) => {
                self.model.open_counts.push(count);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What was said of some messages is done for certain, or perhaps.
    fn settled(&mut self, offset: u64, settlement: Settlement, until_ms: i64, is_certain: bool) {
        let Some(message) = self.model.messages.get_mut(&offset) else { return };
        let (end, rejected) = message.end(settlement, until_ms);
        self.model.rejected += u64::from(rejected);
        message.lease = None;
        if is_certain {
            message.may_be.clear();
        }
        message.may_be.push(end);
    }

    /// Settles a message and appends another, at once.
    async fn transfer(&mut self, random: &mut Random) -> bool {
        let Some((&last, _)) = self.model.messages.last_key_value() else { return true };
        let (holder, offset) = (format!("holder {}", random.below(2)), random.below(last + 1));
        let settles = vec![(partition(0), vec![SettleRange::new(offset, offset, Settlement::Accept)])];
        let appends = vec![Append { partition: partition(0), batch: batch(2, "content") }];
        let request = TransferRequest { group: group("g"), holder: holder.clone(), session: None, settles, appends };
        let is_held = self.model.messages.get(&offset).is_some_and(|message| message.is_held_by(&holder));
        match self.engine.transfer(request, None).await {
            Ok(appended) => {
                assert!(is_held, "{offset} of {holder}");
                self.settled(offset, Settlement::Accept, 0, true);
                self.model.appended(appended[0].base_offset, 2, 0);
                true
            }
            Err(TransferError::Settle { at: 0, .. }) => {
                assert!(!is_held || self.engine_has_no_map(), "{offset} of {holder}");
                true
            }
            Err(TransferError::Unavailable | TransferError::StorageFailed) => {
                if is_held {
                    self.settled(offset, Settlement::Accept, 0, false);
                }
                self.model.open_counts.push(2);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn discard(&mut self, random: &mut Random) -> bool {
        let (start, messages_max) = (SeekTo::At(OffsetAt::Earliest), random.below(4));
        let request = DiscardRequest { group: group("g"), partition: partition(0), start, messages_max };
        let free = self.model.messages.iter().filter(|(_, message)| message.is_free()).map(|(offset, _)| *offset);
        let free: Vec<u64> = free.take(messages_max as usize).collect();
        let answer = self.engine.discard(request).await;
        match answer {
            Ok(discarded) => assert_eq!(discarded, free.len() as u64),
            Err(LeaseError::Unavailable | LeaseError::StorageFailed) => {}
            Err(error) => panic!("{error}"),
        }
        for offset in free {
            let Some(message) = self.model.messages.get_mut(&offset) else { continue };
            if answer.is_ok() {
                message.may_be.clear();
            }
            message.may_be.push(None);
        }
        answer.is_ok()
    }

    fn renew(&mut self, random: &mut Random) -> bool {
        let Some((&last, _)) = self.model.messages.last_key_value() else { return true };
        let (holder, first) = (format!("holder {}", random.below(2)), random.below(last + 1));
        let last = first + random.below(2);
        let partitions = vec![(partition(0), vec![(first, last)])];
        let lease = Lease::Timed(Duration::from_millis(LEASE_MS as u64));
        let answer = self.engine.renew(RenewRequest { group: group("g"), holder: holder.clone(), partitions, lease });
        let floor = self.model.floor();
        let held = |offset| self.model.messages.get(&offset).is_some_and(|message| message.is_held_by(&holder));
        if answer[0][0].is_ok() {
            assert!((first.max(floor)..=last).all(held));
            for offset in first.max(floor)..=last {
                let Some(message) = self.model.messages.get_mut(&offset) else { continue };
                let until_ms = self.clock.now() + LEASE_MS;
                message.lease = Some(Leased { holder: holder.clone(), until_ms, session: None });
            }
        } else {
            assert!(!(first..=last).all(held) || self.engine_has_no_map());
        }
        true
    }

    async fn release(&mut self, random: &mut Random) -> bool {
        let holder = format!("holder {}", random.below(2));
        let request = ReleaseRequest { group: group("g"), holder: holder.clone(), partitions: None };
        let goes_on = self.engine.release(request).await.is_ok();
        self.end_leases(|lease| lease.holder == holder);
        goes_on
    }

    async fn end_session(&mut self, random: &mut Random) -> bool {
        let session = random.below(2);
        self.engine.end_session(SessionId(session));
        let goes_on = self.is_done().await;
        self.end_leases(|lease| lease.session == Some(session));
        goes_on
    }

    /// The writer does one thing after the other: when this is answered, what was asked before is done.
    async fn is_done(&self) -> bool {
        self.engine.lease_forget(group("none"), Some(vec![partition(0)])).await.is_ok()
    }

    fn end_leases(&mut self, ended: impl Fn(&Leased) -> bool) {
        let over = |message: &Message| message.lease.as_ref().is_some_and(&ended);
        let over: Vec<u64> =
            self.model.messages.iter().filter(|(_, message)| over(message)).map(|(offset, _)| *offset).collect();
        over.into_iter().for_each(|offset| self.settled(offset, Settlement::Release, 0, false));
    }

    async fn seek(&mut self, random: &mut Random) -> bool {
        let Some((&last, _)) = self.model.messages.last_key_value() else { return true };
        let floor = random.below(last + 2);
        let request = SeekRequest { group: group("g"), seeks: vec![(partition(0), SeekTo::Offset(floor))] };
        let answer = self.engine.lease_seek(request).await.remove(0);
        for (offset, message) in &mut self.model.messages {
            message.lease = None;
            if answer.is_ok() {
                message.may_be.clear();
            }
            message.may_be.push(if *offset < floor { None } else { NEW });
        }
        match answer {
            Ok(found) => assert_eq!(found, floor),
            Err(LeaseError::Unavailable | LeaseError::StorageFailed) => return false,
            Err(error) => panic!("{error}"),
        }
        true
    }

    async fn acquire(&mut self, random: &mut Random) -> bool {
        let mode = if random.below(2) == 0 { AcquireMode::Strict } else { AcquireMode::Batch };
        let holder = format!("holder {}", random.below(2));
        let credit = 1 + random.below(6);
        let session = (random.below(3) == 0).then(|| random.below(2));
        let lease = match session {
            Some(session) => Lease::Session(SessionId(session)),
            None => Lease::Timed(Duration::from_millis(LEASE_MS as u64)),
        };
        let now_ms = self.clock.now();
        let request = AcquireRequest {
            group: group("g"),
            partitions: vec![partition(0)],
            holder: holder.clone(),
            lease,
            mode,
            credit_messages: credit as u32,
            credit_bytes: 1 << 20,
            bytes_min: 0,
            window_messages: u64::MAX,
            acquisitions_max: Some(ACQUISITIONS_MAX),
            start: SeekTo::At(OffsetAt::Earliest),
            isolation: Isolation::All,
            wait: Duration::ZERO,
        };
        let acquired = match self.engine.acquire(request).await.remove(0) {
            Ok(acquired) => acquired,
            Err(LeaseError::Unavailable | LeaseError::StorageFailed) => return false,
            Err(error) => panic!("{error}"),
        };
        let mut expected = Vec::new();
        for (base, count) in &self.model.batches {
            let available = (*base..base + count).filter(|offset| self.model.messages[offset].is_available(now_ms));
            let left = credit.saturating_sub(expected.len() as u64) as usize;
            match mode {
                AcquireMode::Strict => expected.extend(available.take(left)),
                AcquireMode::Batch if left > 0 => expected.extend(available),
                AcquireMode::Batch => {}
            }
        }
        let got: Vec<u64> = acquired.ranges.iter().flat_map(|range| range.first..=range.last).collect();
        assert_eq!(got, expected, "{mode:?} {credit}: {acquired:?}");
        for range in &acquired.ranges {
            for offset in range.first..=range.last {
                let message = self.model.messages.get_mut(&offset).unwrap();
                let (acquisitions, failures, _) = message.now().unwrap();
                assert_eq!((range.acquisitions, range.failures), (acquisitions + 1, failures), "{offset}");
                let until_ms = if session.is_some() { i64::MAX } else { now_ms + LEASE_MS };
                message.lease = Some(Leased { holder: holder.clone(), until_ms, session });
                let holds = |batch: &&codec_record::Batch| {
                    (batch.header.base_offset..batch.header.next_offset()).contains(&offset)
                };
                assert_eq!(acquired.batches.iter().filter(holds).count(), 1, "{offset} is in one batch");
            }
        }
        true
    }

    async fn settle(&mut self, random: &mut Random) -> bool {
        let Some((&last, _)) = self.model.messages.last_key_value() else { return true };
        let holder = format!("holder {}", random.below(2));
        let mut ranges = Vec::new();
        for _ in 0..=random.below(3) {
            let first = random.below(last + 2);
            let settlement = match random.below(5) {
                0 => Settlement::Release,
                1 => Settlement::Reject,
                2 => Settlement::Fail,
                _ => Settlement::Accept,
            };
            let delay = if random.below(2) == 0 { Duration::from_millis(random.below(60)) } else { Duration::ZERO };
            ranges.push(SettleRange { delay, ..SettleRange::new(first, first + random.below(3), settlement) });
        }
        let durable = random.below(3) > 0;
        let partitions = vec![(partition(0), ranges.clone())];
        let request = SettleRequest { group: group("g"), holder: holder.clone(), partitions, durable };
        let floor = self.model.floor();
        let answers = self.engine.settle(request).await.remove(0);
        let mut goes_on = true;
        for (range, answer) in ranges.into_iter().zip(answers) {
            let first = range.first.max(floor);
            let held = (first..=range.last)
                .all(|offset| self.model.messages.get(&offset).is_some_and(|message| message.is_held_by(&holder)));
            let kept = match answer {
                // Its first messages may have been settled by a range before it, and passed since.
                Err(LeaseError::Passed) => {
                    assert!(range.last < floor);
                    continue;
                }
                Err(LeaseError::NotHeld) => {
                    assert!(!held || self.engine_has_no_map(), "{range:?} of {holder}");
                    continue;
                }
                Ok(()) => durable,
                Err(LeaseError::Unavailable | LeaseError::StorageFailed) => {
                    goes_on = false;
                    false
                }
                Err(error) => panic!("{error}"),
            };
            if answer.is_ok() {
                assert!(held, "{range:?} of {holder}");
            }
            let until_ms =
                if range.delay.is_zero() { 0 } else { self.clock.now() + range.delay.as_millis() as i64 + 1 };
            for offset in (first..=range.last).filter(|_| held) {
                self.settled(offset, range.settlement, until_ms, kept);
            }
        }
        goes_on
    }

    fn engine_has_no_map(&self) -> bool {
        self.engine.peek(&peek_all())[0].1.is_none()
    }

    async fn pass_time(&mut self, random: &mut Random) -> bool {
        self.clock.set(self.clock.now() + random.below(LEASE_MS as u64) as i64);
        self.engine.clock_changed();
        let goes_on = self.is_done().await;
        let now = self.clock.now();
        self.end_leases(|lease| lease.until_ms <= now);
        goes_on
    }
}

impl Model {
    fn appended(&mut self, base: u64, count: u64, not_before_ms: i64) {
        self.batches.push((base, count));
        for offset in base..base + count {
            self.messages.insert(offset, Message { may_be: vec![NEW], lease: None, not_before_ms });
        }
    }

    fn floor(&self) -> u64 {
        let unsettled = self.messages.iter().find(|(_, message)| message.now().is_some());
        unsettled.map_or(self.messages.len() as u64, |(offset, _)| *offset)
    }

    /// Compares with what the engine shows while it runs.
    fn check(&self, engine: &Engine, now_ms: i64) {
        let Some(view) = engine.peek(&peek_all()).remove(0).1 else { return };
        assert!(view.floor <= self.floor());
        assert_eq!(view.rejected_total, self.rejected);
        let mut counts = (0, 0, 0, 0);
        for (offset, message) in self.messages.range(..view.next) {
            let range = view.ranges.iter().find(|range| (range.first..=range.last).contains(offset));
            let Some(range) = range else {
                assert!(*offset < view.floor && message.lease.is_none() && message.now().is_none(), "{offset}");
                continue;
            };
            match (&range.state, message.now(), &message.lease) {
                (RangeState::Settled, None, None) => counts.3 += 1,
                (RangeState::Available, Some((acquisitions, failures, until_ms)), None) => {
                    // What its batch delays is only known when it was read.
                    assert!(until_ms <= now_ms, "{offset}");
                    assert_eq!((range.acquisitions, range.failures), (acquisitions, failures), "{offset}");
                    counts.0 += 1;
                }
                (RangeState::Delayed { until_ms }, Some((acquisitions, failures, is_until_ms)), None) => {
                    assert!(*until_ms > now_ms && *until_ms == is_until_ms.max(message.not_before_ms), "{offset}");
                    assert_eq!((range.acquisitions, range.failures), (acquisitions, failures), "{offset}");
                    counts.1 += 1;
                }
                (RangeState::Leased { holder }, Some(_), Some(lease)) => {
                    assert_eq!(*holder, lease.holder, "{offset}");
                    counts.2 += 1;
                }
                other => panic!("{offset}: {other:?}"),
            }
        }
        assert_eq!((view.available, view.delayed, view.leased, view.settled), counts);
        assert_eq!(view.end.max(view.next), view.next.max(self.messages.len() as u64));
        for (_, message) in self.messages.range(view.next..) {
            assert!(message.lease.is_none() && message.now() == NEW);
        }
    }

    /// Takes over what a restart found, if it may be.
    async fn restart(&mut self, engine: &Engine, now_ms: i64) {
        for batch in read_all(engine, partition(0), 1 << 20).await.unwrap() {
            let (base, count) = (batch.header.base_offset, u64::from(batch.header.count));
            if !self.messages.contains_key(&base) {
                assert!(self.open_counts.contains(&count));
                self.appended(base, count, batch.header.not_before_ms.unwrap_or(0));
            }
        }
        self.open_counts.clear();
        let view = engine.peek(&peek_all()).remove(0).1.unwrap_or_default();
        for (offset, message) in &mut self.messages {
            let found: Kept = match view.ranges.iter().find(|range| (range.first..=range.last).contains(offset)) {
                None if *offset < view.floor => None,
                None => NEW,
                Some(range) => match range.state {
                    RangeState::Settled => None,
                    RangeState::Available => Some((range.acquisitions, range.failures, 0)),
                    RangeState::Delayed { until_ms } if until_ms == message.not_before_ms => {
                        Some((range.acquisitions, range.failures, 0))
                    }
                    RangeState::Delayed { until_ms } => Some((range.acquisitions, range.failures, until_ms)),
                    RangeState::Leased { .. } => panic!("a lease survives a restart"),
                },
            };
            let due = |kept: &Kept| kept.map(|(a, f, until_ms)| (a, f, if until_ms <= now_ms { 0 } else { until_ms }));
            assert!(message.may_be.iter().any(|kept| due(kept) == found), "{offset}: {found:?} is none of {message:?}");
            *message = Message { may_be: vec![found], lease: None, not_before_ms: message.not_before_ms };
        }
        self.rejected = view.rejected_total;
    }
}

fn peek_all() -> PeekRequest {
    PeekRequest { group: group("g"), partitions: Some(vec![partition(0)]), ranges_max: u32::MAX }
}

fn setup(seed: u64) -> Setup {
    let config = Config {
        shards: Some(1),
        pack_bytes: 24 << 10,
        pack_bytes_first: if seed.is_multiple_of(2) { 12 << 10 } else { 24 << 10 },
        background: false,
        ..config()
    };
    let topics = vec![topic(TOPIC, 1, TopicSettings { together: true, ..settings(Durability::Fsync) })];
    Setup { config, topics, ..Setup::default() }
}

/// Several lives of one disk, some ended by a stop and some by a power cut.
fn lives(seeds: std::ops::Range<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for seed in seeds {
            let mut random = Random(seed);
            let mut model = Model::default();
            let mut disk = MemoryDisk::new();
            // One clock: what is delayed is so over restarts.
            let setup = setup(seed);
            for life in 0..6 {
                let faulty = FaultyDisk::over(disk.clone());
                faulty.crash_in(if life % 2 == 0 { 30 + random.below(300) } else { u64::MAX });
                if let Ok(engine) = setup.open(Arc::new(faulty.clone())) {
                    model.restart(&engine, setup.clock.now()).await;
                    let mut world = World { engine: &engine, clock: &setup.clock, model: &mut model };
                    for _ in 0..120 {
                        if !world.step(&mut random).await {
                            assert!(faulty.crashed());
                            break;
                        }
                        if !faulty.crashed() {
                            world.model.check(&engine, setup.clock.now());
                        }
                    }
                    engine.stop();
                }
                disk = if life % 2 == 0 { disk.crash(seed ^ life) } else { disk };
            }
            let engine = setup.open(Arc::new(disk.clone())).unwrap();
            model.restart(&engine, setup.clock.now()).await;
            engine.stop();
        }
    });
}

#[test]
fn messages_are_settled_once_over_crashes() {
    lives(0..150);
}

#[test]
fn messages_are_settled_once_over_other_crashes() {
    lives(1_000_000..1_000_150);
}

/// Acquires so many messages under a lease that lasts.
async fn take(engine: &Engine, credit_messages: u32) -> Acquired {
    let request = AcquireRequest { holder: "a".to_owned(), ..queues::request(partition(0), credit_messages) };
    engine.acquire(request).await.remove(0).expect("acquired")
}

#[tokio::test]
async fn what_was_out_when_it_stopped_is_uncounted_and_no_more() {
    let (setup, disk) = (setup(0), MemoryDisk::new());
    let open = || setup.open(Arc::new(disk.clone())).expect("an engine");
    let engine = open();
    for _ in 0..10 {
        append(&engine, partition(0), batch(1, "content")).await.unwrap();
    }
    assert_eq!(take(&engine, 4).await.uncounted_before, 0);
    let release = ReleaseRequest { group: group("g"), holder: "a".to_owned(), partitions: None };
    engine.release(release).await.unwrap();
    assert_eq!(take(&engine, 2).await.ranges.last().map(|range| range.last), Some(1));
    engine.stop();
    // Two were out, which nobody wrote down; how often the other two were is written.
    let engine = open();
    let acquired = take(&engine, 10).await;
    assert_eq!(acquired.uncounted_before, 2);
    let counts: Vec<u32> =
        acquired.ranges.iter().flat_map(|range| (range.first..=range.last).map(|_| range.acquisitions)).collect();
    assert_eq!(counts, [2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
    // All are out now, and this end is no stop.
    let crashed = disk.crash(1);
    drop(engine);
    let engine = setup.open(Arc::new(crashed.clone())).expect("an engine");
    assert_eq!(take(&engine, 1).await.uncounted_before, 10);
    engine.stop();
    // It stays so until they are settled.
    let engine = setup.open(Arc::new(crashed)).expect("an engine");
    assert_eq!(take(&engine, 1).await.uncounted_before, 10);
    engine.stop();
}

#[tokio::test]
async fn a_run_that_handed_out_and_wrote_nothing_is_not_forgotten() {
    let (setup, disk) = (setup(0), MemoryDisk::new());
    let engine = setup.open(Arc::new(disk.clone())).expect("an engine");
    append(&engine, partition(0), batch(3, "content")).await.unwrap();
    take(&engine, 1).await;
    let release = ReleaseRequest { group: group("g"), holder: "a".to_owned(), partitions: None };
    engine.release(release).await.unwrap();
    engine.stop();
    let engine = setup.open(Arc::new(disk.clone())).expect("an engine");
    let acquired = take(&engine, 3).await;
    assert_eq!(acquired.uncounted_before, 0);
    let crashed = disk.crash(2);
    engine.stop();
    let engine = setup.open(Arc::new(crashed)).expect("an engine");
    assert_eq!(take(&engine, 3).await.uncounted_before, 3);
    engine.stop();
}
