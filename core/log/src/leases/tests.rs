//! Tests of lease maps: the pure map against one that knows each message.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::*;
use proptest::prelude::*;

use super::map::{Holding, LeaseMap, Settling, Until, Want};
use super::record::LeaseImage;

#[derive(Clone, Debug)]
enum Step {
    Lease {
        first: u64,
        count: u64,
        holder: u8,
        strict: Option<u64>,
        window: u64,
    },
    Settle {
        first: u64,
        count: u64,
        holder: u8,
        settlement: u8,
        delay_ms: u64,
        kept: bool,
    },
    /// As a batch says that is not to be handed out yet.
    Delay {
        first: u64,
        count: u64,
        until_ms: i64,
        window: u64,
    },
    Discard {
        end: u64,
        count: u64,
        kept: bool,
    },
    PassTime {
        ms: i64,
    },
    Skip {
        first: u64,
        count: u64,
    },
    Unlease {
        first: u64,
        count: u64,
        holder: u8,
    },
    Raise {
        floor: u64,
    },
    Release {
        holder: u8,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (first, count) = (0..30u64, 1..8u64);
    prop_oneof![
        4 => (first.clone(), count.clone(), 0..2u8, prop::option::of(1..5u64), 1..40u64)
            .prop_map(|(first, count, holder, strict, window)| Step::Lease { first, count, holder, strict, window }),
        4 => (first.clone(), count.clone(), 0..2u8, 0..4u8, 0..3u64, prop::bool::weighted(0.8)).prop_map(
            |(first, count, holder, settlement, delay_ms, kept)|
                Step::Settle { first, count, holder, settlement, delay_ms, kept }
        ),
        1 => (first.clone(), count.clone(), 0..20i64, 1..40u64)
            .prop_map(|(first, count, until_ms, window)| Step::Delay { first, count, until_ms, window }),
        1 => (first.clone(), count.clone(), prop::bool::weighted(0.8))
            .prop_map(|(end, count, kept)| Step::Discard { end, count, kept }),
        1 => (1..4i64).prop_map(|ms| Step::PassTime { ms }),
        1 => (first.clone(), count.clone()).prop_map(|(first, count)| Step::Skip { first, count }),
        1 => (first.clone(), count, 0..2u8).prop_map(|(first, count, holder)| Step::Unlease { first, count, holder }),
        1 => first.prop_map(|floor| Step::Raise { floor }),
        1 => (0..2u8).prop_map(|holder| Step::Release { holder }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Available(u32, u32),
    Delayed(i64, u32, u32),
    Leased(u8, u32, u32),
    Settled,
}

const ACQUISITIONS_MAX: u32 = 3;

fn holder(number: u8) -> String {
    format!("h{number}")
}

proptest! {
    #[test]
    fn a_map_is_what_happened_to_each_message(steps in prop::collection::vec(step(), 1..60)) {
        let mut map = LeaseMap::new(0);
        let (mut floor, mut messages): (u64, Vec<Is>) = (0, Vec::new());
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Lease { first, count, holder: number, strict, window } => {
                    let (first, last) = (first.min(messages.len() as u64), first + count - 1);
                    let holding = Arc::new(Holding {
                        holder: Arc::from(holder(number)),
                        until: Until::At(Duration::from_secs(1)),
                        acquisitions_max: ACQUISITIONS_MAX,
                    });
                    let mode = if strict.is_some() { AcquireMode::Strict } else { AcquireMode::Batch };
                    let want = Want { holding, mode, window_messages: window };
                    let leased = map.lease(first, last, &want, strict.unwrap_or(100));
                    // New ones come in within the window and, where the mode is strict, the credit.
                    let (len, credit) = (messages.len() as u64, strict.unwrap_or(u64::MAX));
                    let room = window.saturating_sub(len - floor);
                    if last >= len && room > 0 {
                        let last = if strict.is_some() { last.min(len + room.min(credit) - 1) } else { last };
                        messages.resize(last as usize + 1, Is::Available(0, 0));
                    }
                    let mut expected = 0;
                    for message in messages.iter_mut().take(last as usize + 1).skip(first.max(floor) as usize) {
                        if let Is::Available(acquisitions, failures) = *message && expected < credit {
                            *message = Is::Leased(number, acquisitions + 1, failures);
                            expected += 1;
                        }
                    }
                    prop_assert_eq!(leased.messages, expected);
                }
                Step::Settle { first, count, holder: number, settlement, delay_ms, kept } => {
                    let last = first + count - 1;
                    let settlement = [Settlement::Accept, Settlement::Release, Settlement::Reject, Settlement::Fail][settlement as usize];
                    let mut settling = Settling::default();
                    let range = SettleRange { first, last, settlement, delay: Duration::from_millis(delay_ms) };
                    let answer = map.settle(range, &holder(number), now_ms, &mut settling);
                    let held = |offset: u64| matches!(messages.get(offset as usize), Some(Is::Leased(by, ..)) if *by == number);
                    let expected = if last < floor { Err(LeaseError::Passed) }
                        else if (first.max(floor)..=last).all(held) { Ok(()) } else { Err(LeaseError::NotHeld) };
                    prop_assert_eq!(answer, expected);
                    if answer.is_err() { continue; }
                    if !kept {
                        map.unlock(&settling);
                        continue;
                    }
                    map.apply(&settling);
                    for message in &mut messages[first.max(floor) as usize..=last as usize] {
                        if let Is::Leased(_, acquisitions, failures) = *message {
                            let failures = failures + u32::from(settlement == Settlement::Fail);
                            let ends = matches!(settlement, Settlement::Accept | Settlement::Reject) || acquisitions >= ACQUISITIONS_MAX;
                            *message = match delay_ms as i64 {
                                _ if ends => Is::Settled,
                                0 => Is::Available(acquisitions, failures),
                                delay_ms => Is::Delayed(now_ms + delay_ms + 1, acquisitions, failures),
                            };
                        }
                    }
                }
                Step::Delay { first, count, until_ms, window } => {
                    if first > messages.len() as u64 { continue; }
                    map.delay(first, first + count - 1, until_ms, window);
                    if window > messages.len() as u64 - floor {
                        messages.resize(messages.len().max((first + count) as usize), Is::Available(0, 0));
                    }
                    for message in messages.iter_mut().take((first + count) as usize).skip(first.max(floor) as usize) {
                        if let Is::Available(acquisitions, failures) = *message {
                            *message = Is::Delayed(until_ms, acquisitions, failures);
                        }
                    }
                }
                Step::Discard { end, count, kept } => {
                    let mut settling = Settling::default();
                    let (discarded, more) = map.discard(end, count, 3, &mut settling);
                    let free = |message: &Is| matches!(message, Is::Available(..) | Is::Delayed(..));
                    // What is new comes in even if there are too many ranges to take it at once.
                    let older = messages.iter().filter(|message| free(message)).count() as u64;
                    let fresh = end.saturating_sub(messages.len() as u64).min(count.saturating_sub(older));
                    messages.resize(messages.len() + fresh as usize, Is::Available(0, 0));
                    let expected = messages.iter().filter(|message| free(message)).count().min(count as usize) as u64;
                    prop_assert!(discarded == expected || more && discarded < expected && settling.marks.len() <= 3);
                    if !kept {
                        map.unlock(&settling);
                    } else {
                        map.apply(&settling);
                        messages.iter_mut().filter(|message| free(message)).take(discarded as usize)
                            .for_each(|message| *message = Is::Settled);
                    }
                }
                Step::PassTime { ms } => {
                    now_ms += ms;
                    let mut matured = false;
                    for message in &mut messages {
                        if let Is::Delayed(until_ms, acquisitions, failures) = *message && until_ms <= now_ms {
                            *message = Is::Available(acquisitions, failures);
                            matured = true;
                        }
                    }
                    prop_assert_eq!(map.mature(now_ms), matured);
                    let is_due = |message: &Is| match message { Is::Delayed(until_ms, ..) => Some(*until_ms), _ => None };
                    let soonest = messages.iter().filter_map(is_due).min();
                    prop_assert!(map.soonest_ms() <= soonest && map.soonest_ms().is_some() == soonest.is_some());
                }
                Step::Skip { first, count } => {
                    if first > messages.len() as u64 { continue; }
                    map.skip(first, first + count - 1);
                    for offset in first..first + count {
                        if offset >= messages.len() as u64 {
                            messages.push(Is::Settled);
                        } else if matches!(messages[offset as usize], Is::Available(..) | Is::Delayed(..)) && offset >= floor {
                            messages[offset as usize] = Is::Settled;
                        }
                    }
                }
                Step::Unlease { first, count, holder: number } => {
                    map.unlease(first, first + count - 1, &holder(number));
                    for offset in first.max(floor)..(first + count).min(messages.len() as u64) {
                        if let Is::Leased(by, acquisitions, failures) = messages[offset as usize] && by == number {
                            messages[offset as usize] = Is::Available(acquisitions - 1, failures);
                        }
                    }
                    while messages.len() as u64 > floor && messages.last() == Some(&Is::Available(0, 0)) {
                        messages.pop();
                    }
                }
                Step::Raise { floor: to } => {
                    map.raise_floor(to);
                    while (messages.len() as u64) < to { messages.push(Is::Settled); }
                    messages[..to as usize].fill(Is::Settled);
                }
                Step::Release { holder: number } => {
                    let mut settling = Settling::default();
                    map.release(&mut settling, |holding| *holding.holder == *holder(number));
                    map.apply(&settling);
                    for message in &mut messages {
                        if let Is::Leased(by, acquisitions, failures) = *message && by == number {
                            let ends = acquisitions >= ACQUISITIONS_MAX;
                            *message = if ends { Is::Settled } else { Is::Available(acquisitions, failures) };
                        }
                    }
                }
                Step::Restart => {
                    map = LeaseMap::restore(map.snapshot());
                    for message in &mut messages {
                        if let Is::Leased(_, acquisitions, failures) = *message {
                            *message = Is::Available(acquisitions - 1, failures);
                        }
                    }
                }
            }
            floor = messages.iter().position(|message| *message != Is::Settled).unwrap_or(messages.len()) as u64;
            map.check();
            let view = map.view(usize::MAX);
            prop_assert_eq!((view.floor, view.next), (floor, messages.len() as u64));
            let count = |is: fn(&Is) -> bool| messages[floor as usize..].iter().filter(|message| is(message)).count() as u64;
            prop_assert_eq!(view.available, count(|is| matches!(is, Is::Available(..))));
            prop_assert_eq!(view.delayed, count(|is| matches!(is, Is::Delayed(..))));
            prop_assert_eq!(view.leased, count(|is| matches!(is, Is::Leased(..))));
            prop_assert_eq!(view.settled, count(|is| matches!(is, Is::Settled)));
            for range in &view.ranges {
                for offset in range.first..=range.last {
                    let is = match &range.state {
                        RangeState::Available => Is::Available(range.acquisitions, range.failures),
                        RangeState::Delayed { until_ms } => Is::Delayed(*until_ms, range.acquisitions, range.failures),
                        RangeState::Leased { holder } => Is::Leased(u8::from(holder == "h1"), range.acquisitions, range.failures),
                        RangeState::Settled => Is::Settled,
                    };
                    prop_assert_eq!(is, messages[offset as usize], "{}", offset);
                }
            }
        }
    }
}

const MILLION: u64 = 1_000_000;

fn want(until: Until) -> Want {
    let holding = Arc::new(Holding { holder: Arc::from("h"), until, acquisitions_max: u32::MAX });
    Want { holding, mode: AcquireMode::Strict, window_messages: u64::MAX }
}

fn settle_now(map: &mut LeaseMap, first: u64, last: u64, settlement: Settlement) {
    let mut settling = Settling::default();
    map.settle(SettleRange::new(first, last, settlement), "h", 0, &mut settling).unwrap();
    map.apply(&settling);
}

/// Every second of two million messages is settled, one by one: each hole is a range of its own.
#[test]
fn a_million_holes_are_cheap() {
    let mut map = LeaseMap::new(0);
    let leased = map.lease(0, 2 * MILLION - 1, &want(Until::Session(SessionId(1))), u64::MAX);
    assert_eq!(leased.messages, 2 * MILLION);
    let started = std::time::Instant::now();
    (0..MILLION).for_each(|hole| settle_now(&mut map, 2 * hole + 1, 2 * hole + 1, Settlement::Accept));
    let settle = started.elapsed() / MILLION as u32;
    let bytes = map.bytes();
    let view = map.view(0);
    assert_eq!((view.floor, view.leased, view.settled), (0, MILLION, MILLION));
    let frozen = std::time::Instant::now();
    let image = map.snapshot();
    let freeze = frozen.elapsed();
    // While a snapshot is written, and with every second one released again.
    let started = std::time::Instant::now();
    (0..MILLION / 100).for_each(|at| settle_now(&mut map, 200 * at, 200 * at, Settlement::Release));
    let release = started.elapsed() / (MILLION / 100) as u32;
    let started = std::time::Instant::now();
    let mut from = 0;
    for at in 0..MILLION / 100 {
        let (first, last) = map.candidate(from, u64::MAX).unwrap();
        assert_eq!((first, last), (200 * at, Some(200 * at)));
        map.lease(first, first, &want(Until::Session(SessionId(1))), 1);
        from = first + 1;
    }
    let acquire = started.elapsed() / (MILLION / 100) as u32;
    let stored = image.into_stored();
    assert_eq!(stored.runs.len() as u64, 2 * MILLION);
    let stored_bytes = postcard::to_stdvec(&stored).unwrap().len();
    println!(
        "a million holes: {} bytes in memory, {stored_bytes} in a snapshot; settle {settle:?}, release {release:?}, \
         acquire {acquire:?}, freezing {freeze:?}",
        bytes
    );
    assert!(bytes < 40 << 20, "{bytes}");
    assert!(freeze < Duration::from_millis(100) && settle < Duration::from_millis(1), "{freeze:?} {settle:?}");
    let restored = LeaseMap::restore(LeaseImage::from(stored));
    assert_eq!((restored.view(0).available, restored.view(0).settled), (MILLION, MILLION));
    // Nothing is refused, nothing is lost: the holes close, and the floor moves.
    (0..MILLION).for_each(|at| settle_now(&mut map, 2 * at, 2 * at, Settlement::Accept));
    assert_eq!((map.floor(), map.view(1).ranges), (2 * MILLION, vec![]));
}

#[test]
fn a_million_delayed_messages_are_cheap() {
    let mut map = LeaseMap::new(0);
    // Each at a time of its own, in no order.
    let time_of = |offset: u64| (offset * 7_919 % MILLION) as i64;
    (0..MILLION).for_each(|offset| map.delay(offset, offset, time_of(offset), u64::MAX));
    let bytes = map.bytes();
    println!("a million delayed messages: {bytes} bytes in memory");
    assert!(bytes < 64 << 20, "{bytes}");
    assert_eq!(map.view(0).delayed, MILLION);
    let started = std::time::Instant::now();
    for now_ms in (0..MILLION as i64).step_by(1000) {
        let soonest_ms = map.soonest_ms().unwrap();
        assert!(soonest_ms <= now_ms);
        assert!(map.mature(now_ms));
        assert_eq!(map.view(0).available, now_ms as u64 + 1);
    }
    println!("making 1,000 of them available: {:?}", started.elapsed() / 1000);
}
