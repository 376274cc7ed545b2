//! Random histories against what must always hold: no partition is owned by two clients at once, and a group that is
//! left alone comes to rest with every partition read.
//!
//! The clients are modelled as real ones: each has partitions in its hands, gives up what it is no longer assigned before
//! it says so, and forgets everything when it is fenced. Answers may be lost.

use std::collections::{BTreeMap, BTreeSet};

use core_rpc::PartitionId;
use proptest::prelude::*;

use super::script::Image;
use crate::state::consumer_groups::*;
use crate::state::groups::GroupError;

#[derive(Clone, Debug)]
enum Action {
    Beat {
        client: usize,
        answer_is_lost: bool,
    },
    /// It gives up what it is no longer assigned; a client may take its time for that.
    Revoke {
        client: usize,
    },
    Leave {
        client: usize,
    },
    Crash {
        client: usize,
    },
    Subscribe {
        client: usize,
        topics: u8,
    },
    Grow {
        topic: usize,
        partitions: u32,
    },
    Pass {
        ms: u32,
    },
    /// Another gateway takes over.
    Restart,
}

fn actions() -> impl Strategy<Value = Action> {
    let client = || 0usize..5;
    prop_oneof![
        12 => (client(), prop::bool::weighted(0.1)).prop_map(|(client, answer_is_lost)| Action::Beat { client, answer_is_lost }),
        6 => client().prop_map(|client| Action::Revoke { client }),
        1 => client().prop_map(|client| Action::Leave { client }),
        1 => client().prop_map(|client| Action::Crash { client }),
        1 => (client(), 1u8..8).prop_map(|(client, topics)| Action::Subscribe { client, topics }),
        1 => (0usize..3, 1u32..7).prop_map(|(topic, partitions)| Action::Grow { topic, partitions }),
        2 => (0u32..20_000).prop_map(|ms| Action::Pass { ms }),
        1 => Just(Action::Restart),
    ]
}

/// A client: what it believes, and what it really reads.
#[derive(Clone, Debug, Default)]
struct Client {
    life: u32,
    epoch: i32,
    assigned: Partitions,
    reads: Partitions,
    topics: BTreeSet<usize>,
    /// What was told last; None: everything is said anew.
    told: Option<BTreeSet<usize>>,
    last_answer_ms: i64,
    is_in: bool,
}

const TOPICS: [&str; 3] = ["a", "b", "c"];
const SESSION_MS: u32 = 45_000;

struct World {
    group: ConsumerGroup,
    record: ConsumerGroupRecord,
    image: Image,
    clients: Vec<Client>,
    now_ms: i64,
    settings: ConsumerSettings,
}

impl World {
    fn new() -> Self {
        let mut image = Image::default();
        TOPICS.iter().zip([3, 1, 4]).for_each(|(name, partitions)| image.set(name, partitions));
        let clients = (0..5).map(|index| Client { topics: [index % 3, 0].into(), ..Client::default() });
        World {
            group: ConsumerGroup::new("g".into(), 0),
            record: ConsumerGroupRecord::default(),
            image,
            clients: clients.collect(),
            now_ms: 0,
            settings: ConsumerSettings {
                session_timeout_ms: SESSION_MS,
                heartbeat_interval_ms: 5_000,
                members_max: 100,
            },
        }
    }

    fn store(&mut self) {
        if let Some(record) = self.group.take_changed() {
            self.record = record;
        }
        self.group.check();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Beat { client, answer_is_lost } => self.beat(client, answer_is_lost),
            Action::Revoke { client } => {
                let client = &mut self.clients[client];
                client.reads = client.reads.intersection(&client.assigned);
            }
            Action::Leave { client } => {
                let id = self.id(client);
                let departure = Departure { member_id: id, instance_id: None, comes_back: false };
                let _unknown = self.group.leave(&departure);
                self.forget(client);
            }
            Action::Crash { client } => self.forget(client),
            Action::Subscribe { client, topics } => {
                self.clients[client].topics = (0..3).filter(|topic| topics & (1 << topic) != 0).collect();
            }
            Action::Grow { topic, partitions } => {
                let before = self.image.topics[TOPICS[topic]].partitions;
                self.image.set(TOPICS[topic], before.max(partitions));
            }
            Action::Pass { ms } => {
                self.now_ms += i64::from(ms);
                // A client that heard nothing for a session gives up by itself, before the group does.
                for index in 0..self.clients.len() {
                    if self.now_ms - self.clients[index].last_answer_ms >= i64::from(SESSION_MS) {
                        self.forget(index);
                    }
                }
                self.group.tick(self.now_ms);
            }
            Action::Restart => {
                let record = ConsumerGroupRecord::decode(&self.record.encode().unwrap()).unwrap();
                self.group = ConsumerGroup::restore("g".into(), record, &self.settings, self.now_ms);
            }
        }
        self.store();
        self.check_owners();
    }

    fn id(&self, client: usize) -> String {
        format!("{client}.{}", self.clients[client].life)
    }

    /// Everything is dropped; it comes back as somebody new.
    fn forget(&mut self, client: usize) {
        let known = &mut self.clients[client];
        *known = Client { life: known.life + 1, topics: known.topics.clone(), ..Client::default() };
    }

    fn beat(&mut self, index: usize, answer_is_lost: bool) {
        let member_id = self.id(index);
        let client = &mut self.clients[index];
        let is_full = client.epoch == 0;
        // After an answer that did not come, a client says everything, and is told everything.
        let says_all = is_full || client.told.is_none();
        let says_topics = says_all || client.told.as_ref() != Some(&client.topics);
        let request = HeartbeatRequest {
            member_id,
            epoch: client.epoch,
            instance_id: None,
            rack_id: None,
            // Longer than any run: a client that is put out while it still reads is the one case that is not safe.
            rebalance_timeout_ms: says_all.then_some(10_000_000),
            client_id: "c".into(),
            client_host: "/h".into(),
            topics: says_topics.then(|| client.topics.iter().map(|topic| TOPICS[*topic].to_owned()).collect()),
            regex: None,
            assignor: None,
            owned: Some(client.reads.clone()),
        };
        let answer = self.group.heartbeat(request, &self.image, &self.settings, self.now_ms);
        let client = &mut self.clients[index];
        match answer {
            _ if answer_is_lost => client.told = None,
            Ok(beaten) => {
                client.is_in = true;
                client.epoch = beaten.epoch;
                client.told = Some(client.topics.clone());
                client.last_answer_ms = self.now_ms;
                if let Some(assignment) = beaten.assignment {
                    client.assigned = assignment;
                }
                // What is new is read once the old is given up, as clients do.
                if client.reads.is_subset_of(&client.assigned) {
                    client.reads = client.assigned.clone();
                }
            }
            Err(GroupError::FencedEpoch | GroupError::UnknownMember) => self.forget(index),
            Err(error) => panic!("{error}"),
        }
    }

    fn check_owners(&self) {
        let mut owners: BTreeMap<PartitionId, usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate() {
            for partition in client.reads.iter() {
                if let Some(other) = owners.insert(partition, index) {
                    panic!("{partition:?} is read by {other} and {index}");
                }
            }
        }
    }

    /// All heartbeat until nothing changes any more.
    fn rest(&mut self) {
        for _ in 0..30 {
            for client in 0..self.clients.len() {
                self.act(Action::Revoke { client });
                self.act(Action::Beat { client, answer_is_lost: false });
            }
            self.act(Action::Pass { ms: 5_000 });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_readers_and_groups_come_to_rest(actions in prop::collection::vec(actions(), 1..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.rest();
        let described = world.group.describe();
        prop_assert_eq!(described.state, ConsumerGroupState::Stable);
        prop_assert_eq!(described.members.len(), 5);
        let reads: usize = world.clients.iter().map(|client| client.reads.len()).sum();
        let read: BTreeSet<usize> = world.clients.iter().flat_map(|client| client.topics.clone()).collect();
        let all: usize = read.iter().map(|topic| world.image.topics[TOPICS[*topic]].partitions as usize).sum();
        prop_assert_eq!(reads, all);
        // At rest nothing is told and nothing stored.
        let epoch = world.group.epoch();
        world.rest();
        prop_assert_eq!(world.group.epoch(), epoch);
    }
}
