//! conformance/kafka/COVERAGE.md names tests: each of them must be there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All text below some folders.
fn text_of(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.file_name().is_some_and(|name| name != "COVERAGE.md")
            && let Ok(read) = fs::read_to_string(path)
        {
            text += &read;
        }
    }
    text
}

fn is_name(word: &str) -> bool {
    word.contains('_')
        && word.chars().all(|character| character.is_ascii_lowercase() || "_0123456789".contains(character))
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let table = fs::read_to_string(root().join("conformance/kafka/COVERAGE.md")).unwrap();
    let rust = text_of(&["gateways/kafka/tests", "core/log/tests"]);
    let clients = text_of(&["conformance/kafka"]);
    let (mut named, mut absent) = (0, Vec::new());
    for row in table.lines().filter(|line| line.starts_with('|')) {
        let Some(tests) = row.split('|').nth(2) else { continue };
        for word in tests.split(|character: char| character.is_whitespace() || ",;()".contains(character)) {
            let quoted = word.strip_prefix('`').and_then(|word| word.strip_suffix('`'));
            let is_there = match quoted {
                Some(word) if is_name(word) => rust.contains(&format!("fn {word}(")),
                Some(_) => continue,
                None => {
                    let case = word.rsplit('/').next().unwrap_or(word);
                    if !is_name(case) {
                        continue;
                    }
                    let ways = [
                        format!("\"{case}\""),
                        format!("case_{case}("),
                        format!("def {case}("),
                        format!("async {case}(kit)"),
                    ];
                    // The codecs are cases of one name.
                    case.starts_with("compression_") || ways.iter().any(|way| clients.contains(way))
                }
            };
            named += 1;
            if !is_there {
                absent.push(word);
            }
        }
    }
    assert!(named > 100, "{named}");
    assert_eq!(absent, [""; 0], "not there");
}
