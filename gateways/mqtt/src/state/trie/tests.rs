//! The trie against what filters mean, literally; and how much a hundred thousand of them take.

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::time::Instant;

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

fn matched(trie: &Trie<u32, String>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    trie.matches(name, &mut |_, filter| found.push(filter.clone()));
    found.sort();
    found
}

fn trie(filters: &[&str]) -> Trie<u32, String> {
    let mut trie = Trie::default();
    for (key, filter) in (0..).zip(filters) {
        assert_eq!(trie.insert(filter, key, filter.to_string()), None);
    }
    trie
}

/// 4.7.1.2, 4.7.1.3, 4.7.2.
#[test]
fn the_specifications_examples() {
    let all = trie(&["sport/tennis/player1/#", "sport/#", "#", "+/tennis/#", "sport/+/player1", "sport/tennis/+"]);
    assert_eq!(matched(&all, "sport/tennis/player1").len(), 6);
    assert_eq!(matched(&all, "sport/tennis/player1/ranking").len(), 4);
    assert_eq!(matched(&all, "sport"), ["#", "sport/#"]);
    let all = trie(&["sport/+", "+", "+/+", "/+", "/", "sport/"]);
    assert_eq!(matched(&all, "sport"), ["+"]);
    assert_eq!(matched(&all, "sport/"), ["+/+", "sport/", "sport/+"]);
    assert_eq!(matched(&all, "/finance"), ["+/+", "/+"]);
    assert_eq!(matched(&all, "/"), ["+/+", "/", "/+"]);
    let all = trie(&["#", "+/monitor/Clients", "$SYS/#", "$SYS/monitor/+", "$SYS/+/Clients"]);
    assert_eq!(matched(&all, "$SYS/monitor/Clients"), ["$SYS/#", "$SYS/+/Clients", "$SYS/monitor/+"]);
    assert_eq!(matched(&all, "$SYS"), ["$SYS/#"]);
}

#[test]
fn a_key_has_one_subscription_for_each_filter() {
    let mut trie = Trie::default();
    assert_eq!(trie.insert("a/+", 1, "first"), None);
    assert_eq!(trie.insert("a/+", 1, "second"), Some("first"));
    assert_eq!(trie.insert("a/b", 1, "other"), None);
    assert_eq!((trie.len(), trie.generation()), (2, 3));
    assert_eq!(trie.get("a/+", &1), Some(&"second"));
    assert_eq!(trie.remove("a/+", &2), None);
    assert_eq!(trie.remove("a/c", &1), None);
    assert_eq!(trie.generation(), 3);
    assert_eq!(trie.remove("a/+", &1), Some("second"));
    assert_eq!((trie.len(), trie.generation()), (1, 4));
    assert_eq!(trie.get("a/+", &1), None);
}

/// Whether any filter may match names whose first level is this one.
fn could_match<K: Copy + Eq + std::hash::Hash, V>(trie: &Trie<K, V>, first: &str) -> bool {
    let levels = trie.first_levels();
    (levels.wildcard && !first.starts_with('$')) || levels.literals.contains(first)
}

#[test]
fn first_levels_say_who_can_be_interested() {
    let mut trie = trie(&["a/b", "a/c", "$SYS/#", "b"]);
    let literals = |levels: &[&str]| levels.iter().map(|level| Box::from(*level)).collect::<HashSet<Box<str>>>();
    assert_eq!(trie.first_levels(), FirstLevels { literals: literals(&["a", "$SYS", "b"]), wildcard: false });
    assert!(could_match(&trie, "a") && could_match(&trie, "$SYS") && !could_match(&trie, "c"));
    trie.remove("a/b", &0);
    assert!(could_match(&trie, "a"));
    trie.remove("a/c", &1);
    assert!(!could_match(&trie, "a"));
    trie.insert("+/x", 9, String::new());
    assert!(could_match(&trie, "a") && could_match(&trie, "") && !could_match(&trie, "$x"));
    assert_eq!(trie.first_levels(), FirstLevels { literals: literals(&["$SYS", "b"]), wildcard: true });
}

#[test]
fn the_deepest_filters_take_no_stack() {
    let deep = "/".repeat(32_766);
    let wild = vec!["+"; 32_767].join("/");
    let all = format!("{}#", "+/".repeat(32_766));
    let mut trie = trie(&[&deep, &wild, &all]);
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            assert_eq!(matched(&trie, &deep).len(), 3);
            assert_eq!(trie.remove(&deep, &0).as_ref(), Some(&deep));
            assert_eq!(matched(&trie, &deep).len(), 2);
            drop(trie);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn many_subscribers_of_one_filter_come_and_go() {
    let mut trie = Trie::default();
    for key in 0..1000_u32 {
        trie.insert("a", key, key);
    }
    for key in (0..1000).filter(|key| key % 3 != 0).chain([3, 999]) {
        assert_eq!(trie.remove("a", &key), Some(key));
    }
    let mut left = BTreeSet::new();
    trie.matches("a", &mut |key, value| assert!(key == value && left.insert(*key)));
    assert_eq!(left, (0..999).filter(|key| key % 3 == 0 && *key != 3).collect());
    for key in left {
        assert_eq!(trie.remove("a", &key), Some(key));
    }
    assert!(trie.is_empty());
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$x"])
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
    fn it_matches_what_the_filters_say(
        steps in prop::collection::vec((filter(), 0..4_u32, any::<bool>()), 1..40),
        names in prop::collection::vec(name(), 1..12),
    ) {
        let mut trie: Trie<u32, String> = Trie::default();
        let mut known: HashMap<(String, u32), String> = HashMap::new();
        for (filter, key, insert) in steps {
            let place = (filter.clone(), key);
            if insert {
                prop_assert_eq!(trie.insert(&filter, key, filter.clone()), known.insert(place, filter));
            } else {
                prop_assert_eq!(trie.remove(&filter, &key), known.remove(&place));
            }
            prop_assert_eq!(trie.len(), known.len());
        }
        for name in &names {
            let mut expected: Vec<String> = known.keys().filter(|(filter, _)| naive(filter, name))
                .map(|(filter, _)| filter.clone()).collect();
            expected.sort();
            let first = name.split('/').next().unwrap();
            prop_assert!(expected.is_empty() || could_match(&trie, first));
            prop_assert_eq!(matched(&trie, name), expected);
        }
        for (filter, key) in known.keys() {
            prop_assert!(trie.remove(filter, key).is_some());
        }
        prop_assert_eq!((trie.nodes.len(), trie.edges.len(), trie.first_levels.len()), (1, 0, 0));
    }
}

/// Bytes of this process in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Not a test: prints what a hundred thousand filters take, and a match among them.
#[test]
#[ignore]
fn measure_a_hundred_thousand_filters() {
    const COUNT: u32 = 100_000;
    let filter = |at: u32| match at % 10 {
        0 => format!("building-{}/floor-{}/+/temperature", at % 500, at % 40),
        1 => format!("devices/dev-{at:06}/commands/#"),
        2 => format!("+/floor-{}/room-{}/alarm", at % 40, at),
        _ => format!("devices/dev-{at:06}/state/{}", ["on", "battery", "firmware"][at as usize % 3]),
    };
    let names: Vec<String> = (0..COUNT)
        .map(|at| match at % 3 {
            0 => format!("building-{}/floor-{}/room-{at}/temperature", at % 500, at % 40),
            1 => format!("devices/dev-{at:06}/state/on"),
            _ => format!("devices/dev-{at:06}/commands/reboot/now"),
        })
        .collect();
    let before = resident_bytes();
    let began = Instant::now();
    let mut trie: Trie<u64, u64> = Trie::default();
    (0..COUNT).for_each(|at| {
        trie.insert(&filter(at), u64::from(at), 7);
    });
    let inserted = began.elapsed() / COUNT;
    let bytes = (resident_bytes() - before) / COUNT as usize;
    let began = Instant::now();
    let mut found = 0_u64;
    names.iter().for_each(|name| trie.matches(black_box(name), &mut |_, value| found += value));
    let matched = began.elapsed() / COUNT;
    let began = Instant::now();
    (0..COUNT).for_each(|at| {
        trie.remove(&filter(at), &u64::from(at));
    });
    let removed = began.elapsed() / COUNT;
    println!(
        "{COUNT} filters: {bytes} bytes, insert {inserted:?}, match {matched:?} ({} of each), remove {removed:?}",
        found as f64 / 7.0 / f64::from(COUNT)
    );
    assert!(trie.is_empty());
}
