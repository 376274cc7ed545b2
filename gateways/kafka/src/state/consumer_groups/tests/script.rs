//! Scripts: a file of commands, each followed by what came of it (lines that begin with `> `).
//!
//! `POLYMQ_BLESS=1 cargo test` writes what comes of them now. A line `at <ms>` sets the time and ticks; `topics a:3`
//! says which topics there are. Partitions are written `a:0,1`. After each command the group is stored and restored, so
//! that every script also shows that nothing is lost by that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use codec_kafka::consumer_protocol::{ConsumerAssignment, ConsumerSubscription, TopicPartitions};
use core_rpc::{PartitionId, TopicId};

use crate::state::consumer_groups::*;
use crate::state::groups::{JoinRequest, Leaver, Protocol};

/// The topics of a test: their ids are their positions in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub topics: BTreeMap<String, TopicSize>,
    pub revision: u64,
}

impl Image {
    /// A topic that is there already gets this number of partitions.
    pub fn set(&mut self, name: &str, partitions: u32) {
        self.revision += 1;
        let id = TopicId(u128::from(self.revision));
        let topic = self.topics.entry(name.to_owned()).or_insert(TopicSize { id, partitions });
        topic.partitions = partitions;
    }
}

impl TopicImage for Image {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn by_name(&self, name: &str) -> Option<TopicSize> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }
}

struct Stage {
    group: ConsumerGroup,
    image: Image,
    settings: ConsumerSettings,
    now_ms: i64,
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

    fn optional(&self, key: &str) -> Option<String> {
        self.keyed.get(key).map(|value| (*value).to_owned())
    }

    fn number(&self, key: &str, default: i64) -> i64 {
        self.keyed.get(key).map_or(default, |value| value.parse().expect("a number"))
    }

    fn names(&self, key: &str) -> Option<Vec<String>> {
        let names = self.keyed.get(key)?.split(',').filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect())
    }
}

impl Stage {
    fn new() -> Self {
        Stage {
            group: ConsumerGroup::new("g".into(), 0),
            image: Image::default(),
            settings: ConsumerSettings { session_timeout_ms: 45_000, heartbeat_interval_ms: 5_000, members_max: 100 },
            now_ms: 0,
            out: String::new(),
        }
    }

    fn say(&mut self, line: std::fmt::Arguments) {
        writeln!(self.out, "> {line}").expect("a string takes all");
    }

    fn run(&mut self, line: &str) {
        let words = Words::of(line);
        let (command, name) = (words.plain[0], words.plain.get(1).copied().unwrap_or_default());
        match command {
            "at" => {
                self.now_ms = name.parse().expect("a time");
                self.group.tick(self.now_ms);
            }
            "topics" => {
                for topic in &words.plain[1..] {
                    let (name, count) = topic.split_once(':').expect("name:partitions");
                    match count {
                        "gone" => drop(self.image.topics.remove(name)),
                        count => self.image.set(name, count.parse().expect("a number")),
                    }
                    self.image.revision += 1;
                }
            }
            "limit" => self.settings.members_max = name.parse().expect("a number"),
            "beat" => self.beat(name, &words),
            "leave" => {
                let departure = Departure {
                    member_id: name.into(),
                    instance_id: words.optional("instance"),
                    comes_back: words.plain.contains(&"back-soon"),
                };
                let left = self.group.leave(&departure);
                self.say(format_args!("{left:?}"));
            }
            "commit" => {
                let committing = Committing { member_id: Some(name), epoch: words.number("epoch", -1) as i32 };
                let checked = self.group.check_commit(committing);
                self.say(format_args!("{checked:?}"));
            }
            "describe" => self.describe(),
            "classic-join" => self.classic_join(name, &words),
            "classic-sync" => {
                let instance = words.optional("instance");
                let generation = words.number("gen", -1) as i32;
                let synced = self.group.classic_sync(
                    name,
                    instance.as_deref(),
                    generation,
                    (Some("consumer"), None),
                    &self.image,
                    self.now_ms,
                );
                match synced {
                    Ok(synced) => {
                        let assignment = ConsumerAssignment::decode(&synced.assignment).expect("an assignment");
                        let topics = assignment
                            .assigned_partitions
                            .iter()
                            .map(|topic| format!("{}:{}", topic.topic, joined(topic.partitions.iter())));
                        let topics: Vec<String> = topics.collect();
                        self.say(format_args!("synced has={}", topics.join(" ")));
                    }
                    Err(error) => self.say(format_args!("{error:?}")),
                }
            }
            "classic-heartbeat" => {
                let generation = words.number("gen", -1) as i32;
                let beaten = self.group.classic_heartbeat(name, None, generation, self.now_ms);
                self.say(format_args!("{beaten:?}"));
            }
            "classic-leave" => {
                let leavers = words.plain[1..].iter().map(|id| Leaver {
                    member_id: (*id).to_owned(),
                    instance_id: words.optional("instance"),
                    reason: None,
                });
                let results = self.group.classic_leave(&leavers.collect::<Vec<_>>());
                self.say(format_args!("{results:?}"));
            }
            other => panic!("{other} is no command"),
        }
        self.store();
    }

    /// The group goes on as it is stored; but what it knows of its deadlines stays, as a restart would renew them.
    fn store(&mut self) {
        if let Some(record) = self.group.take_changed() {
            let record = ConsumerGroupRecord::decode(&record.encode().expect("encodes")).expect("decodes");
            let restored = ConsumerGroup::restore("g".into(), record, &self.settings, self.now_ms);
            assert_eq!(restored.describe(), self.group.describe());
        }
        self.group.check();
    }

    fn beat(&mut self, name: &str, words: &Words) {
        let epoch = words.number("epoch", 0) as i32;
        let joins = epoch == 0;
        let request = HeartbeatRequest {
            member_id: name.into(),
            epoch,
            instance_id: words.optional("instance"),
            rack_id: None,
            rebalance_timeout_ms: joins.then_some(words.number("timeout", 10_000) as u32),
            client_id: "c".into(),
            client_host: "/h".into(),
            topics: words.names("topics"),
            regex: words.optional("regex"),
            assignor: words.optional("assignor").map(|name| Assignor::from_name(&name).expect("an assignor")),
            owned: match words.optional("owns") {
                Some(text) => Some(self.partitions(&text)),
                None => joins.then(Partitions::default),
            },
        };
        match self.group.heartbeat(request, &self.image, &self.settings, self.now_ms) {
            Ok(Beaten { member_id, epoch, assignment, .. }) => {
                let has = assignment.map(|assignment| format!(" has={}", self.text(&assignment)));
                self.say(format_args!("{member_id} epoch={epoch}{}", has.unwrap_or_default()));
            }
            Err(error) => self.say(format_args!("{error:?}")),
        }
    }

    fn classic_join(&mut self, name: &str, words: &Words) {
        let owned = self.partitions(&words.optional("owns").unwrap_or_default());
        let owned_partitions = owned.by_topic().map(|(id, indexes)| TopicPartitions {
            topic: self.image.name_of(id).expect("a topic"),
            partitions: indexes.iter().map(|index| *index as i32).collect(),
        });
        let subscription = ConsumerSubscription {
            topics: words.names("topics").unwrap_or_default(),
            owned_partitions: owned_partitions.collect(),
            ..Default::default()
        };
        let metadata: Bytes = subscription.encode(1).expect("encodes");
        let request = JoinRequest {
            member_id: if name == "-" { String::new() } else { name.into() },
            instance_id: words.optional("instance"),
            client_id: "c".into(),
            client_host: "/h".into(),
            protocol_type: words.optional("type").unwrap_or_else(|| "consumer".into()),
            protocols: vec![Protocol { name: words.optional("protocol").unwrap_or_else(|| "range".into()), metadata }],
            session_timeout_ms: words.number("session", 30_000) as i32,
            rebalance_timeout_ms: words.number("timeout", 10_000) as u32,
            member_id_required: true,
            skip_assignment_known: true,
            fresh: "fresh".into(),
            reason: None,
        };
        match self.group.classic_join(request, &self.image, &self.settings, self.now_ms) {
            Ok(joined) => self.say(format_args!("{} gen={}", joined.member_id, joined.generation)),
            Err(refused) => self.say(format_args!("{:?} {}", refused.error, refused.member_id)),
        }
    }

    fn describe(&mut self) {
        let group = self.group.describe();
        self.say(format_args!(
            "{} epoch={} assigned-at={} by={}",
            group.state.name(),
            group.epoch,
            group.assignment_epoch,
            group.assignor.name()
        ));
        for member in group.members {
            let (has, target) = (self.text(&member.assigned), self.text(&member.target));
            let classic = if member.is_classic { " classic" } else { "" };
            self.say(format_args!("  {} epoch={} has={has} target={target}{classic}", member.id, member.epoch));
        }
    }

    fn partitions(&self, text: &str) -> Partitions {
        let topics = text.split(';').filter(|topic| !topic.is_empty());
        let of_topic = |topic: &str| {
            let (name, indexes) = topic.split_once(':').expect("topic:indexes");
            let topic = self.image.topics[name].id;
            let indexes = indexes.split(',').map(|index| index.parse().expect("an index"));
            indexes.map(|index| PartitionId { topic, index }).collect::<Vec<_>>()
        };
        topics.flat_map(of_topic).collect()
    }

    fn text(&self, partitions: &Partitions) -> String {
        let topics = partitions.by_topic().map(|(id, indexes)| {
            format!("{}:{}", self.image.name_of(id).unwrap_or("?".into()), joined(indexes.iter()))
        });
        topics.collect::<Vec<_>>().join(";")
    }
}

fn joined<T: ToString>(numbers: impl Iterator<Item = T>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// Runs a script; returns it with what came of it.
fn run(script: &str) -> String {
    let mut stage = Stage::new();
    for line in script.lines().filter(|line| !line.starts_with('>')) {
        writeln!(stage.out, "{line}").expect("a string takes all");
        if !line.is_empty() && !line.starts_with('#') {
            stage.run(line);
        }
    }
    stage.out
}

#[test]
fn scripts_do_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/consumer_groups/tests/scripts");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts") {
        let path = entry.expect("an entry").path();
        let script = std::fs::read_to_string(&path).expect("a script");
        let result = run(&script);
        if std::env::var_os("POLYMQ_BLESS").is_some() {
            std::fs::write(&path, &result).expect("writes");
        } else {
            assert_eq!(result, script, "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 5);
}
