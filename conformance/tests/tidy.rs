//! The map made true: what ARCHITECTURE.md promises of the tree and a machine can check.
//!
//! Reads files as text; it needs no build of anything else.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest hand-written file, lines.
const FILE_LINES_MAX: usize = 800;
/// Longest main.rs of a binary, lines: a main configures, starts and waits.
const MAIN_LINES_MAX: usize = 40;

/// Words that name a wire protocol or its original broker; none may appear below core/.
const PROTOCOL_WORDS: [&str; 7] = ["kafka", "amqp", "rabbit", "rocketmq", "mqtt", "mosquitto", "iggy"];

/// (folder, crates of ours that it may depend on); the first match counts. A trailing `*` matches one more part.
const MAY_DEPEND_ON: [(&str, &[&str]); 14] = [
    ("codec/record", &[]),
    ("codec/*", &["codec-record"]),
    ("core/rpc", &["codec-record"]),
    ("core/log", &["codec-record", "core-rpc"]),
    ("core/process", &[]),
    ("core/server", &["codec-record", "core-rpc", "core-log", "core-process"]),
    ("gateways/runtime", &["core-rpc", "core-process"]),
    ("gateways/*", &["codec-*", "core-rpc", "gateway-runtime"]),
    ("polymq", &["*"]),
    ("conformance", &["*"]),
    ("conformance/bench/mqtt/load", &[]),
    ("conformance/mqtt/rust", &[]),
    ("codec/kafka/*", &["*"]),
    ("codec/mqtt/*", &["*"]),
];

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    let mut faults = Vec::new();
    for manifest in files("toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let folder = shown(manifest.parent().unwrap());
        if folder.is_empty() {
            continue;
        }
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(pattern, _)| matches(pattern, &folder)) else {
            faults.push(format!("{folder}: a crate that the table does not know"));
            continue;
        };
        for dependency in our_dependencies(&fs::read_to_string(&manifest).unwrap()) {
            if !allowed.iter().any(|pattern| matches(pattern, &dependency)) {
                faults.push(format!("{folder}: may not depend on {dependency}"));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn no_word_in_core_names_a_protocol() {
    let mut faults = Vec::new();
    for path in files("rs").into_iter().chain(files("toml")).filter(|path| shown(path).starts_with("core/")) {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.to_lowercase();
            if let Some(word) = PROTOCOL_WORDS.iter().find(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: names {word}", shown(&path), number + 1));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn every_module_says_what_it_is() {
    let faults = files("rs")
        .into_iter()
        .filter(|path| !starts_with_module_doc(&fs::read_to_string(path).unwrap()))
        .map(|path| format!("{}: does not begin with a `//!` line", shown(&path)));
    assert_none(faults.collect());
}

#[test]
fn files_fit_a_reader() {
    let mut faults = Vec::new();
    for path in files("rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let most = if path.ends_with("src/main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        if lines > most {
            faults.push(format!("{}: {lines} lines, at most {most}", shown(&path)));
        }
    }
    assert_none(faults);
}

#[test]
fn codecs_do_no_io_and_read_no_clock() {
    const BANNED: [&str; 7] =
        ["std::net", "std::fs", "tokio", "Instant::now", "SystemTime::now", "std::thread", "std::env"];
    let mut faults = Vec::new();
    for path in files("rs") {
        let name = shown(&path);
        if !name.starts_with("codec/") || !name.contains("/src/") || name.contains("/fuzz/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for word in BANNED.iter().filter(|word| text.contains(**word)) {
            faults.push(format!("{name}: uses {word}"));
        }
    }
    assert_none(faults);
}

#[test]
fn only_errors_rs_knows_wire_error_codes() {
    let mut faults = Vec::new();
    for path in files("rs") {
        let name = shown(&path);
        if !name.starts_with("gateways/") || !name.contains("/src/") || path.ends_with("errors.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let value = line.split("error_code: ").nth(1).unwrap_or("");
            if value.starts_with(|c: char| c == '-' || ('1'..='9').contains(&c)) {
                faults.push(format!("{name}:{}: a wire error code as a number", number + 1));
            }
        }
    }
    assert_none(faults);
}

/// Docker gives the build only what `.dockerignore` lets through; without one crate's manifest nothing builds.
#[test]
fn the_image_is_built_of_every_crate() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (manifest, ignored) = (read("Cargo.toml"), read(".dockerignore"));
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).expect("the workspace's members");
    let members = members.split('"').skip(1).step_by(2).map(|member| member.trim_end_matches("/*"));
    let is_let_in = |member: &str| {
        let mut wanted = ignored.lines().filter_map(|line| line.strip_prefix('!'));
        wanted.any(|path| Path::new(member).starts_with(path) || path == format!("{member}/Cargo.toml"))
    };
    assert_none(
        members.filter(|member| !is_let_in(member)).map(|member| format!("{member}: not in the image")).collect(),
    );
}

/// Links, and paths from the root in code spans.
#[test]
fn what_the_pages_name_is_there() {
    const ROOMS: [&str; 6] = ["codec/", "core/", "gateways/", "polymq/", "conformance/", "docs/"];
    let mut faults = Vec::new();
    for page in files("md") {
        let (text, folder) = (fs::read_to_string(&page).unwrap(), page.parent().unwrap());
        let spans = text.split('`').skip(1).step_by(2).filter(|span| ROOMS.iter().any(|room| span.starts_with(room)));
        let spans = spans.filter(|span| !span.contains(['*', ' ', '{', '\n'])).map(|span| root().join(span));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://")).map(|link| folder.join(link));
        faults.extend(
            spans
                .chain(links)
                .filter(|path| !path.exists())
                .map(|path| format!("{}: {}", shown(&page), path.display())),
        );
    }
    assert_none(faults);
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

fn starts_with_module_doc(text: &str) -> bool {
    text.lines().find(|line| !line.starts_with("#!")).is_some_and(|line| line.starts_with("//! "))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/')),
        None => pattern == name,
    }
}

/// Names under `[dependencies]` that are crates of this workspace; development dependencies are free.
fn our_dependencies(manifest: &str) -> Vec<String> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim() == "[dependencies]";
        } else if in_dependencies {
            let name = line.split(['.', '=', ' ']).next().unwrap_or("").to_owned();
            let ours = ["codec-", "core-", "gateway-"].iter().any(|prefix| name.starts_with(prefix))
                || name.ends_with("-gateway")
                || name == "polymq";
            if ours {
                found.push(name);
            }
        }
    }
    found
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
