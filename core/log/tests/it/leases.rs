//! Lease maps against a model that knows each message: what is handed out, in which order and how often counted, and what is
//! found after the power is cut.
//!
//! An answered durable settle must be found; what ended without an answer (a time-out, a settle that was cut off) may be
//! found or not, but nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_log::disk::{FaultyDisk, MemoryDisk};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::model::Random;

const LEASE_MS: i64 = 100;
const ACQUISITIONS_MAX: u32 = 3;

/// What is durable of a message: its counts while it is available; None: settled.
type Kept = Option<(u32, u32)>;

#[derive(Clone, Debug, Default)]
struct Message {
    /// What a restart may find; the last is what is so now, but for leases.
    may_be: Vec<Kept>,
    lease: Option<(String, i64)>,
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
        *self.may_be.last().unwrap_or(&Some((0, 0)))
    }

    fn is_available(&self) -> bool {
        self.lease.is_none() && self.now().is_some()
    }

    /// What its end makes of it, and whether it counts as rejected.
    fn end(&self, settlement: Settlement) -> (Kept, bool) {
        let (acquisitions, failures) = self.now().unwrap();
        let acquisitions = acquisitions + 1;
        match settlement {
            Settlement::Accept => (None, false),
            Settlement::Reject => (None, true),
            _ if acquisitions >= ACQUISITIONS_MAX => (None, true),
            Settlement::Release => (Some((acquisitions, failures)), false),
            Settlement::Fail => (Some((acquisitions, failures + 1)), false),
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
        match random.below(8) {
            0 | 1 => self.append(1 + random.below(4)).await,
            2..5 => self.acquire(random).await,
            5 | 6 => self.settle(random).await,
            _ => self.pass_time(random).await,
        }
    }

    async fn append(&mut self, count: u64) -> bool {
        match append(self.engine, partition(0), batch(count as u32, "content")).await {
            Ok(appended) => {
                self.model.appended(appended.base_offset, count);
                true
            }
            Err(AppendError::Unavailable | AppendError::StorageFailed) => {
                self.model.open_counts.push(count);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn acquire(&mut self, random: &mut Random) -> bool {
        let mode = if random.below(2) == 0 { AcquireMode::Strict } else { AcquireMode::Batch };
        let holder = format!("holder {}", random.below(2));
        let credit = 1 + random.below(6);
        let request = AcquireRequest {
            group: group("g"),
            partitions: vec![partition(0)],
            holder: holder.clone(),
            lease: Lease::Timed(Duration::from_millis(LEASE_MS as u64)),
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
            let available = (*base..base + count).filter(|offset| self.model.messages[offset].is_available());
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
                let (acquisitions, failures) = message.now().unwrap();
                assert_eq!((range.acquisitions, range.failures), (acquisitions + 1, failures), "{offset}");
                message.lease = Some((holder.clone(), self.clock.now() + LEASE_MS));
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
            ranges.push(SettleRange::new(first, first + random.below(3), settlement));
        }
        let durable = random.below(3) > 0;
        let partitions = vec![(partition(0), ranges.clone())];
        let request = SettleRequest { group: group("g"), holder: holder.clone(), partitions, durable };
        let floor = self.model.floor();
        let answers = self.engine.settle(request).await.remove(0);
        let mut goes_on = true;
        for (range, answer) in ranges.into_iter().zip(answers) {
            let first = range.first.max(floor);
            let held = (first..=range.last).all(|offset| {
                self.model
                    .messages
                    .get(&offset)
                    .is_some_and(|message| message.lease.as_ref().is_some_and(|(other, _)| *other == holder))
            });
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
            for offset in first..=range.last {
                let Some(message) = self.model.messages.get_mut(&offset) else { continue };
                if !held {
                    continue;
                }
                let (end, rejected) = message.end(range.settlement);
                self.model.rejected += u64::from(rejected);
                message.lease = None;
                if kept {
                    message.may_be.clear();
                }
                message.may_be.push(end);
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
        // The writer does one thing after the other: when this is answered, what ran out has been released.
        let goes_on = self.engine.lease_forget(group("none"), Some(vec![partition(0)])).await.is_ok();
        let now = self.clock.now();
        for message in self.model.messages.values_mut() {
            if message.lease.as_ref().is_some_and(|(_, until)| *until <= now) {
                let (end, rejected) = message.end(Settlement::Release);
                self.model.rejected += u64::from(rejected);
                message.lease = None;
                message.may_be.push(end);
            }
        }
        goes_on
    }
}

impl Model {
    fn appended(&mut self, base: u64, count: u64) {
        self.batches.push((base, count));
        for offset in base..base + count {
            self.messages.insert(offset, Message { may_be: vec![Some((0, 0))], lease: None });
        }
    }

    fn floor(&self) -> u64 {
        let unsettled = self.messages.iter().find(|(_, message)| message.now().is_some());
        unsettled.map_or(self.messages.len() as u64, |(offset, _)| *offset)
    }

    /// Compares with what the engine shows while it runs.
    fn check(&self, engine: &Engine) {
        let Some(view) = engine.peek(&peek_all()).remove(0).1 else { return };
        assert!(view.floor <= self.floor());
        assert_eq!(view.rejected_total, self.rejected);
        for (offset, message) in self.messages.range(..view.next) {
            let range = view.ranges.iter().find(|range| (range.first..=range.last).contains(offset));
            match (range, message.now(), &message.lease) {
                (None, None, None) => assert!(*offset < view.floor),
                (Some(range), None, None) => assert_eq!(range.state, RangeState::Settled),
                (Some(range), Some(counts), None) => {
                    assert_eq!(range.state, RangeState::Available, "{offset}");
                    assert_eq!((range.acquisitions, range.failures), counts, "{offset}");
                }
                (Some(range), Some(_), Some((holder, _))) => {
                    assert_eq!(range.state, RangeState::Leased { holder: holder.clone() }, "{offset}");
                }
                other => panic!("{offset}: {other:?}"),
            }
        }
        for (_, message) in self.messages.range(view.next..) {
            assert!(message.lease.is_none() && message.now() == Some((0, 0)));
        }
    }

    /// Takes over what a restart found, if it may be.
    async fn restart(&mut self, engine: &Engine) {
        for batch in read_all(engine, partition(0), 1 << 20).await.unwrap() {
            let (base, count) = (batch.header.base_offset, u64::from(batch.header.count));
            if !self.messages.contains_key(&base) {
                assert!(self.open_counts.contains(&count));
                self.appended(base, count);
            }
        }
        self.open_counts.clear();
        let view = engine.peek(&peek_all()).remove(0).1.unwrap_or_default();
        for (offset, message) in &mut self.messages {
            let found: Kept = match view.ranges.iter().find(|range| (range.first..=range.last).contains(offset)) {
                None if *offset < view.floor => None,
                None => Some((0, 0)),
                Some(range) => match range.state {
                    RangeState::Settled => None,
                    RangeState::Available => Some((range.acquisitions, range.failures)),
                    RangeState::Delayed { .. } => panic!("nothing is delayed"),
                    RangeState::Leased { .. } => panic!("a lease survives a restart"),
                },
            };
            assert!(message.may_be.contains(&found), "{offset}: {found:?} is none of {message:?}");
            *message = Message { may_be: vec![found], lease: None };
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
    Setup { config, ..Setup::default() }
}

/// Several lives of one disk, some ended by a stop and some by a power cut.
fn lives(seeds: std::ops::Range<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for seed in seeds {
            let mut random = Random(seed);
            let mut model = Model::default();
            let mut disk = MemoryDisk::new();
            for life in 0..6 {
                let setup = setup(seed);
                let faulty = FaultyDisk::over(disk.clone());
                faulty.crash_in(if life % 2 == 0 { 30 + random.below(300) } else { u64::MAX });
                if let Ok(engine) = setup.open(Arc::new(faulty.clone())) {
                    model.restart(&engine).await;
                    let mut world = World { engine: &engine, clock: &setup.clock, model: &mut model };
                    for _ in 0..120 {
                        if !world.step(&mut random).await {
                            assert!(faulty.crashed());
                            break;
                        }
                        if !faulty.crashed() {
                            world.model.check(&engine);
                        }
                    }
                    engine.stop();
                }
                disk = if life % 2 == 0 { disk.crash(seed ^ life) } else { disk };
            }
            let engine = setup(seed).open(Arc::new(disk.clone())).unwrap();
            model.restart(&engine).await;
            engine.stop();
        }
    });
}

#[test]
fn messages_are_settled_once_over_crashes() {
    lives(0..150);
}
