//! The index against what filters mean, literally; and what a million names take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// What 4.7 says.
fn naive(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    for (at, level) in filter.iter().enumerate() {
        match (*level, name.get(at)) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == *other => {}
            _ => return false,
        }
    }
    filter.len() == name.len()
}

fn index(names: &[&str]) -> RetainedIndex {
    let mut index = RetainedIndex::new(1 << 20);
    (0..).zip(names).for_each(|(offset, name)| index.put(name, 0, offset, None, name.as_bytes()));
    index
}

fn matched(index: &RetainedIndex, filter: &str) -> Vec<String> {
    let mut found = Vec::new();
    index.matching(filter, &mut |name, _| found.push(name.to_owned()));
    found
}

#[test]
fn filters_find_what_they_match() {
    let index = index(&["a", "a/b", "a/b/c", "a/b!", "a!/b", "/", "", "a/", "$SYS/x", "b/b", "x!/b", "x", "x/b"]);
    assert_eq!(matched(&index, "a/b/#"), ["a/b", "a/b/c"]);
    assert_eq!(matched(&index, "+/b"), ["a!/b", "a/b", "b/b", "x!/b", "x/b"]);
    assert_eq!(matched(&index, "a/#"), ["a", "a/", "a/b", "a/b!", "a/b/c"]);
    assert_eq!(matched(&index, "#").len(), 12);
    assert_eq!(matched(&index, "$SYS/#"), ["$SYS/x"]);
    assert_eq!(matched(&index, "$SYS/+"), ["$SYS/x"]);
    assert_eq!(matched(&index, "+/x"), [""; 0]);
    assert_eq!(matched(&index, "a/b"), ["a/b"]);
    assert_eq!(matched(&index, "a/c"), [""; 0]);
    assert_eq!(matched(&index, "+"), ["", "a", "x"]);
    assert_eq!(matched(&index, "/+"), ["/"]);
}

#[test]
fn the_last_one_is_retained_and_older_news_change_nothing() {
    let mut index = RetainedIndex::new(10);
    index.put("a", 1, 5, Some(99), b"12345678");
    let retained = index.get("a").unwrap();
    assert_eq!((retained.partition, retained.offset, retained.is_over(98), retained.is_over(99)), (1, 5, false, true));
    assert_eq!(retained.body, Body::InMemory(b"12345678".as_slice().into()));
    // The second is too much for the budget, until the first is smaller.
    index.put("b", 1, 6, None, b"1234");
    assert_eq!((index.get("b").unwrap().body, index.bytes()), (Body::InLog, 8));
    index.put("a", 1, 4, None, b"");
    assert_eq!(index.get("a").unwrap(), retained);
    index.put("a", 1, 7, None, b"123");
    index.put("b", 1, 8, None, b"1234");
    assert_eq!((index.len(), index.bytes()), (2, 7));
    assert!(!index.get("a").unwrap().is_over(i64::MAX - 1));
    assert!(!index.remove("a", 1, 6));
    assert!(index.remove("a", 1, 9));
    assert!(!index.remove("a", 1, 9));
    assert_eq!((index.len(), index.bytes(), index.get("a")), (1, 4, None));
}

#[test]
fn a_walk_can_be_left_and_taken_up_again() {
    let mut index = RetainedIndex::new(0);
    for number in 0..1000_u64 {
        index.put(&format!("dev{number:03}/state"), 0, number, None, b"");
        index.put(&format!("dev{number:03}/battery"), 0, number, None, b"");
        index.put(&format!("dev{number:03}/version"), 0, number, None, b"");
    }
    for (filter, expected) in [("+/state", 1000), ("#", 3000), ("+/absent", 0), ("+/+", 3000), ("dev01/#", 0)] {
        let (mut cursor, mut found) = (None, Vec::new());
        loop {
            let chunk = index.matching_after(filter, cursor.as_ref(), 10);
            assert!(chunk.found.len() <= 10);
            found.extend(chunk.found.into_iter().map(|(name, _)| name));
            // What changes meanwhile changes nothing for the others.
            index.put("dev000/aaa", 0, 1, None, b"");
            cursor = chunk.next;
            if cursor.is_none() {
                break;
            }
        }
        index.remove("dev000/aaa", 0, 9);
        assert!(found.is_sorted());
        assert_eq!(found.len(), expected, "{filter}");
    }
}

#[test]
fn what_is_over_is_swept_out() {
    let mut index = RetainedIndex::new(1000);
    for number in 0..100_u64 {
        let expires_ms = (number % 2 == 0).then_some(number as i64);
        index.put(&format!("{number:03}"), 0, number, expires_ms, b"x");
    }
    let mut over = 0;
    let mut cursor = index.sweep(None, 30, 49, &mut |_| over += 1);
    assert_eq!((index.len(), index.bytes(), over), (85, 85, 15));
    while cursor.is_some() {
        cursor = index.sweep(cursor.as_ref(), 30, 49, &mut |_| over += 1);
    }
    assert_eq!((index.len(), index.bytes(), index.stored_bytes(), over), (75, 75, 75, 25));
    assert!(index.get("048").is_none() && index.get("050").is_some() && index.get("001").is_some());
    // Where nothing expires nobody looks.
    for number in 0..100 {
        index.remove(&format!("{number:03}"), 0, u64::MAX);
    }
    index.put("a", 0, 0, None, b"x");
    index.put("b", 0, 1, None, b"x");
    assert_eq!(index.sweep(None, 1, i64::MAX - 1, &mut |_| over += 1), None);
    assert_eq!((index.len(), over), (2, 25));
}

#[test]
fn the_deepest_names_take_no_stack() {
    let deep = "/".repeat(65_535);
    let index = index(&[&deep]);
    assert_eq!(matched(&index, &format!("{}+", "+/".repeat(32_766))), [""; 0]);
    assert_eq!(matched(&index, &format!("{}#", "+/".repeat(32_766))), [deep]);
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$x", "a!", "a0", "b/"])
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
}

fn filter() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 0..4);
    (levels, any::<bool>()).prop_map(|(mut levels, hash)| {
        if hash || levels.is_empty() {
            levels.push("#");
        }
        levels.join("/")
    })
}

proptest! {
    #[test]
    fn it_finds_what_the_filters_say(
        steps in prop::collection::vec((name(), 0..9_usize, prop::bool::weighted(0.8)), 1..200),
        filters in prop::collection::vec(filter(), 1..12),
        max in 1..5_usize,
    ) {
        let mut index = RetainedIndex::new(200);
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for (offset, (name, length, put)) in (0..).zip(steps) {
            if put {
                index.put(&name, 0, offset, None, &vec![0; length]);
                known.insert(name, length);
            } else {
                prop_assert_eq!(index.remove(&name, 0, offset), known.remove(&name).is_some());
            }
            prop_assert!(index.bytes() <= 200);
            prop_assert_eq!(index.stored_bytes(), known.values().sum::<usize>() as u64);
        }
        for filter in &filters {
            let expected: Vec<String> = known.keys().filter(|name| naive(filter, name)).cloned().collect();
            prop_assert_eq!(&matched(&index, filter), &expected, "{}", filter);
            let (mut cursor, mut found) = (None, Vec::new());
            loop {
                let chunk = index.matching_after(filter, cursor.as_ref(), max);
                found.extend(chunk.found.into_iter().map(|(name, _)| name.to_string()));
                cursor = chunk.next;
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert_eq!(&found, &expected);
        }
        for name in known.keys() {
            prop_assert!(index.remove(name, 0, u64::MAX));
        }
        prop_assert_eq!((index.len(), index.bytes()), (0, 0));
    }
}

/// Bytes of this process in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Not a test: prints what a million names take, how long they take to come, and walks among them.
#[test]
#[ignore]
fn measure_a_million_names() {
    const COUNT: u64 = 1_000_000;
    let before = resident_bytes();
    let began = Instant::now();
    let mut index = RetainedIndex::new(0);
    for at in 0..COUNT {
        // As hashing has them come: in no order.
        let number = at.wrapping_mul(7_919) % COUNT;
        let kind = ["state", "battery", "firmware", "position"][number as usize % 4];
        index.put(&format!("fleet/device-{:06}/{kind}", number / 4), 0, at, None, b"{}");
    }
    let loaded = began.elapsed();
    println!("{COUNT} names: {} bytes each, loaded in {loaded:?}", (resident_bytes() - before) / COUNT as usize);
    for filter in ["#", "fleet/+/state", "+/device-000100/#", "+/+/absent", "fleet/device-200000/+", "+/+/+"] {
        let (mut cursor, mut found, mut chunks, mut longest) = (None, 0, 0, Duration::ZERO);
        let began = Instant::now();
        loop {
            let began = Instant::now();
            let chunk = index.matching_after(filter, cursor.as_ref(), 256);
            longest = longest.max(began.elapsed());
            (found, chunks, cursor) = (found + chunk.found.len(), chunks + 1, chunk.next);
            if cursor.is_none() {
                break;
            }
        }
        println!("{filter}: {found} in {:?}, {chunks} chunks, the longest {longest:?}", began.elapsed());
    }
    let began = Instant::now();
    let found = (0..COUNT).filter(|at| index.get(&format!("fleet/device-{at:06}/state")).is_some()).count();
    println!("get: {:?} ({found} found)", began.elapsed() / COUNT as u32);
}
