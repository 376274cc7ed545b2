//! Scripts: a file of commands, each followed by what came of it (lines that begin with `> `).
//!
//! `POLYMQ_BLESS=1 cargo test` writes what comes of them now. A line `at <ms>` sets the time and ticks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;

use crate::state::groups::*;

/// A group under test, its requests' names, and the record last stored.
struct Stage {
    group: Group,
    now_ms: i64,
    next_ticket: Ticket,
    fresh: u32,
    /// Ticket to who asked.
    parked: BTreeMap<Ticket, String>,
    record: Option<GroupRecord>,
    next_store: Result<(), StoreError>,
    config: GroupConfig,
    out: String,
}

/// `key=value` words after a command.
struct Words<'a> {
    plain: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let mut words = Words { plain: Vec::new(), keyed: BTreeMap::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => drop(words.keyed.insert(key, value)),
                None => words.plain.push(word),
            }
        }
        words
    }

    fn text(&self, key: &str, default: &str) -> String {
        (*self.keyed.get(key).unwrap_or(&default)).to_owned()
    }

    fn optional(&self, key: &str) -> Option<String> {
        self.keyed.get(key).map(|value| (*value).to_owned())
    }

    fn number(&self, key: &str, default: i64) -> i64 {
        self.keyed.get(key).map_or(default, |value| value.parse().expect("a number"))
    }

    fn pairs(&self, key: &str, default: &str) -> Vec<(String, Bytes)> {
        self.text(key, default)
            .split(',')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once(':').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
            .collect()
    }
}

impl Stage {
    fn new(config: GroupConfig) -> Self {
        Stage {
            group: Group::new("g".into(), config, 0),
            now_ms: 0,
            next_ticket: 0,
            fresh: 0,
            parked: BTreeMap::new(),
            record: None,
            next_store: Ok(()),
            config,
            out: String::new(),
        }
    }

    fn say(&mut self, line: std::fmt::Arguments) {
        writeln!(self.out, "> {line}").expect("a string takes all");
    }

    fn park(&mut self, who: &str) -> Ticket {
        self.next_ticket += 1;
        self.parked.insert(self.next_ticket, who.to_owned());
        self.next_ticket
    }

    fn run(&mut self, line: &str) {
        let words = Words::of(line);
        let (command, name) = (words.plain[0], words.plain.get(1).copied().unwrap_or_default());
        match command {
            "at" => {
                self.now_ms = name.parse().expect("a time");
                let effects = self.group.tick(self.now_ms);
                self.apply(effects);
            }
            "join" => self.join(name, &words),
            "sync" => self.sync(name, &words),
            "heartbeat" | "commit" => {
                let (instance, generation) = (words.optional("instance"), words.number("gen", -1) as i32);
                let name = if name == "-" { "" } else { name };
                let result = match command {
                    "heartbeat" => self.group.heartbeat(name, instance.as_deref(), generation, self.now_ms),
                    _ => self.group.check_commit(name, instance.as_deref(), generation, self.now_ms),
                };
                match result {
                    Ok(()) => self.say(format_args!("ok")),
                    Err(error) => self.say(format_args!("{error:?}")),
                }
            }
            "leave" => {
                let leavers: Vec<Leaver> = words.plain[1..]
                    .iter()
                    .map(|who| {
                        let (member_id, instance) = who.split_once('/').unwrap_or((who, ""));
                        let instance_id = (!instance.is_empty()).then(|| instance.to_owned());
                        Leaver { member_id: member_id.to_owned(), instance_id, reason: None }
                    })
                    .collect();
                let (results, effects) = self.group.leave(&leavers, self.now_ms);
                self.say(format_args!("{results:?}"));
                self.apply(effects);
            }
            "state" => self.state(),
            "store-fails" => self.next_store = Err(StoreError::Unavailable),
            "store-superseded" => self.next_store = Err(StoreError::Superseded),
            "restart" => {
                self.parked.clear();
                self.group = match self.record.clone() {
                    None => Group::new("g".into(), self.config, self.now_ms),
                    Some(record) => {
                        let bytes = record.encode().expect("encodes");
                        let record = GroupRecord::decode(&bytes).expect("decodes what it encoded");
                        Group::restore("g".into(), self.config, record, self.now_ms)
                    }
                };
                self.state();
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn join(&mut self, client: &str, words: &Words) {
        let version = words.number("v", 9);
        self.fresh += 1;
        let protocols = words.pairs("protocols", "range:m");
        let request = JoinRequest {
            member_id: words.text("id", ""),
            instance_id: words.optional("instance"),
            client_id: client.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            protocol_type: words.text("type", "consumer"),
            protocols: protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata }).collect(),
            session_timeout_ms: words.number("session", 10_000) as i32,
            rebalance_timeout_ms: words.number("rebalance", 60_000) as u32,
            member_id_required: version >= 4,
            skip_assignment_known: version >= 9,
            fresh: self.fresh.to_string(),
            reason: None,
        };
        let ticket = self.park(client);
        let effects = self.group.join(request, ticket, self.now_ms);
        self.apply(effects);
    }

    fn sync(&mut self, member: &str, words: &Words) {
        let request = SyncRequest {
            member_id: member.to_owned(),
            instance_id: words.optional("instance"),
            generation: words.number("gen", -1) as i32,
            protocol_type: words.optional("type"),
            protocol: words.optional("protocol"),
            assignments: words.pairs("assign", ""),
        };
        let ticket = self.park(member);
        let effects = self.group.sync(request, ticket, self.now_ms);
        self.apply(effects);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::JoinAnswer(ticket, result) => {
                    let who = self.parked.remove(&ticket).expect("one answer to a request");
                    match result {
                        Ok(joined) => {
                            let ids: Vec<&str> =
                                joined.members.iter().map(|member| member.member_id.as_str()).collect();
                            let skip = if joined.skip_assignment { " skip-assignment" } else { "" };
                            self.say(format_args!(
                                "{who} joined as {} generation {} {} leader {} members {ids:?}{skip}",
                                joined.member_id,
                                joined.generation,
                                joined.protocol.as_deref().unwrap_or("-"),
                                joined.leader,
                            ));
                        }
                        Err(refused) => {
                            self.say(format_args!("{who} join refused {:?} {:?}", refused.error, refused.member_id));
                        }
                    }
                }
                Effect::SyncAnswer(ticket, result) => {
                    let who = self.parked.remove(&ticket).expect("one answer to a request");
                    match result {
                        Ok(synced) => self.say(format_args!("{who} synced {:?}", synced.assignment)),
                        Err(error) => self.say(format_args!("{who} sync refused {error:?}")),
                    }
                }
                Effect::Store(record) => {
                    let result = std::mem::replace(&mut self.next_store, Ok(()));
                    let members = record.members.len();
                    self.say(format_args!("store generation {} with {members} members: {result:?}", record.generation));
                    if result.is_ok() {
                        self.record = Some(record);
                    }
                    let effects = self.group.stored(result, self.now_ms);
                    self.apply(effects);
                }
            }
        }
    }

    fn state(&mut self) {
        let described = self.group.describe();
        let ids: Vec<&str> = described.members.iter().map(|member| member.id.as_str()).collect();
        let (state, generation) = (described.state, self.group.generation());
        let line = format!("{state:?} generation {generation} members {ids:?} parked {:?}", self.parked);
        self.say(format_args!("{line}"));
    }
}

fn run_script(text: &str) -> String {
    let mut config = GroupConfig::default();
    let mut stage: Option<Stage> = None;
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(settings) = line.strip_prefix("config ") {
            let words = Words::of(settings);
            config.members_max = words.number("members_max", config.members_max as i64) as usize;
            config.initial_rebalance_delay_ms = words.number("delay", 3_000) as u32;
            continue;
        }
        let stage = stage.get_or_insert_with(|| Stage::new(config));
        stage.run(line);
        out.push_str(&std::mem::take(&mut stage.out));
    }
    out
}

#[test]
fn scripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/groups/tests/scripts");
    let bless = std::env::var_os("POLYMQ_BLESS").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the scripts' folder") {
        let path = entry.expect("an entry").path();
        let expected = std::fs::read_to_string(&path).expect("a script");
        let found = run_script(&expected);
        if bless {
            std::fs::write(&path, &found).expect("the script is writable");
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no scripts in {}", folder.display());
}
