//! Random histories, each from a seed: clients that join, sync, heartbeat, leave, vanish and repeat themselves, stores
//! that fail, and gateways that restart. After every step what must always hold is checked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::state::groups::*;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a client knows of itself.
#[derive(Default)]
struct Client {
    instance_id: Option<String>,
    version: i64,
    member_id: String,
    generation: i32,
    /// The members it must assign to, if it leads.
    leads: Vec<String>,
    /// What a well-behaved client would do now.
    next: Next,
}

#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Join,
    Wait,
    Sync,
    Heartbeat,
}

#[derive(Clone, Debug)]
enum Parked {
    Join { client: usize },
    Sync { client: usize, generation: i32, member_id: String },
}

struct World {
    random: Random,
    group: Group,
    config: GroupConfig,
    now_ms: i64,
    clients: Vec<Client>,
    next_ticket: Ticket,
    fresh: u64,
    parked: BTreeMap<Ticket, Parked>,
    record: Option<GroupRecord>,
    /// Raised by what the group shows; a restart falls back to the stored one.
    generation_seen: i32,
    /// What the leader of a generation assigned, until the generation is given out again.
    assigned: BTreeMap<i32, BTreeMap<String, Bytes>>,
    /// Leader and protocol that a generation's members were told of.
    told: BTreeMap<i32, (String, Option<String>)>,
    syncs_answered: usize,
    restarts: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = GroupConfig {
            initial_rebalance_delay_ms: [0, 500, 3_000][random.below(3) as usize],
            members_max: [3, 5, 100][random.below(3) as usize],
            ..GroupConfig::default()
        };
        let clients = (0..6)
            .map(|index| Client {
                instance_id: (index % 3 == 2).then(|| format!("static{index}")),
                version: [3, 5, 8, 9][random.below(4) as usize].max(if index % 3 == 2 { 5 } else { 0 }),
                ..Client::default()
            })
            .collect();
        World {
            random,
            group: Group::new("g".into(), config, 0),
            config,
            now_ms: 0,
            clients,
            next_ticket: 0,
            fresh: 0,
            parked: BTreeMap::new(),
            record: None,
            generation_seen: 0,
            assigned: BTreeMap::new(),
            told: BTreeMap::new(),
            syncs_answered: 0,
            restarts: 0,
        }
    }

    fn step(&mut self) {
        let client = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(250) {
            100.. => match self.clients[client].next {
                Next::Join => self.join(client),
                Next::Sync => self.sync(client),
                Next::Wait | Next::Heartbeat => self.heartbeat(client),
            },
            0..30 => self.join(client),
            30..60 => self.sync(client),
            60..75 => self.heartbeat(client),
            75..80 => self.leave(client),
            80..83 => self.clients[client].member_id.clear(),
            83..84 => self.restart(),
            _ => {
                self.now_ms += [1, 200, 500, 500, 3_000, 3_000, 9_000, 40_000][self.random.below(8) as usize];
                self.tick();
            }
        }
        self.check();
    }

    fn park(&mut self, parked: Parked) -> Ticket {
        self.next_ticket += 1;
        self.parked.insert(self.next_ticket, parked);
        self.next_ticket
    }

    fn join(&mut self, index: usize) {
        let wide = self.random.percent(50);
        let names: &[&str] = if wide { &["sticky", "range"] } else { &["range"] };
        let protocols = names
            .iter()
            .map(|name| Protocol { name: (*name).to_owned(), metadata: Bytes::from_static(b"m") })
            .collect();
        self.fresh += 1;
        let client = &self.clients[index];
        let request = JoinRequest {
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            client_id: format!("client{index}"),
            client_host: "/127.0.0.1".into(),
            protocol_type: "consumer".into(),
            protocols,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            member_id_required: client.version >= 4,
            skip_assignment_known: client.version >= 9,
            fresh: self.fresh.to_string(),
            reason: None,
        };
        let ticket = self.park(Parked::Join { client: index });
        self.clients[index].next = Next::Wait;
        let effects = self.group.join(request, ticket, self.now_ms);
        self.apply(effects);
    }

    fn sync(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.member_id.is_empty() {
            return;
        }
        let (member_id, generation) = (client.member_id.clone(), client.generation);
        let request = SyncRequest {
            member_id: member_id.clone(),
            instance_id: client.instance_id.clone(),
            generation,
            protocol_type: Some("consumer".into()),
            protocol: None,
            // Each try assigns something else, so that a mix of two tries would show.
            assignments: client
                .leads
                .iter()
                .map(|id| (id.clone(), Bytes::from(format!("{id} {generation} {}", self.next_ticket))))
                .collect(),
        };
        let ticket = self.park(Parked::Sync { client: index, generation, member_id });
        self.clients[index].next = Next::Wait;
        let effects = self.group.sync(request, ticket, self.now_ms);
        self.apply(effects);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        let result =
            self.group.heartbeat(&client.member_id, client.instance_id.as_deref(), client.generation, self.now_ms);
        let client = &mut self.clients[index];
        match result {
            Ok(()) => {}
            Err(_) if matches!(client.next, Next::Wait) => {}
            Err(GroupError::RebalanceInProgress | GroupError::IllegalGeneration) => client.next = Next::Join,
            Err(_) => {
                client.member_id.clear();
                client.next = Next::Join;
            }
        }
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let leaver = Leaver {
            member_id: std::mem::take(&mut client.member_id),
            instance_id: client.instance_id.clone(),
            reason: None,
        };
        let (_, effects) = self.group.leave(&[leaver], self.now_ms);
        self.apply(effects);
    }

    fn tick(&mut self) {
        // The shell calls again while something is due.
        while self.group.next_deadline_ms().is_some_and(|at_ms| at_ms <= self.now_ms) {
            let effects = self.group.tick(self.now_ms);
            self.apply(effects);
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.parked.clear();
        self.clients.iter_mut().for_each(|client| client.next = Next::Join);
        self.group = match self.record.clone() {
            Some(record) => {
                self.generation_seen = record.generation;
                Group::restore("g".into(), self.config, record, self.now_ms)
            }
            None => {
                self.generation_seen = 0;
                Group::new("g".into(), self.config, self.now_ms)
            }
        };
        self.told.retain(|generation, _| *generation <= self.generation_seen);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        let count = effects.len();
        for (index, effect) in effects.into_iter().enumerate() {
            match effect {
                Effect::JoinAnswer(ticket, result) => self.join_answered(ticket, result),
                Effect::SyncAnswer(ticket, result) => self.sync_answered(ticket, result),
                Effect::Store(record) => {
                    assert_eq!(index + 1, count, "a store is the last effect");
                    let result = if self.random.percent(5) { Err(StoreError::Unavailable) } else { Ok(()) };
                    if result.is_ok() {
                        self.assigned.entry(record.generation).or_insert_with(|| {
                            record.members.iter().map(|member| (member.id.clone(), member.assignment.clone())).collect()
                        });
                        // A static replacement stores the same assignments under another id.
                        let assigned = self.assigned.get_mut(&record.generation).expect("just made");
                        assigned
                            .extend(record.members.iter().map(|member| (member.id.clone(), member.assignment.clone())));
                        self.record = Some(record);
                    }
                    let effects = self.group.stored(result, self.now_ms);
                    self.apply(effects);
                }
            }
        }
    }

    fn join_answered(&mut self, ticket: Ticket, result: Result<Joined, JoinRefused>) {
        let Some(Parked::Join { client }) = self.parked.remove(&ticket) else { panic!("a join is answered once") };
        let client = &mut self.clients[client];
        client.next = if result.is_ok() { Next::Sync } else { Next::Join };
        match result {
            Ok(joined) => {
                assert!(joined.generation >= 1);
                assert_eq!(
                    joined.members.is_empty(),
                    joined.leader != joined.member_id,
                    "only the leader sees members"
                );
                if !joined.members.is_empty() && !joined.skip_assignment {
                    // A generation given out anew after a restart or a failed store has other assignments.
                    if self.group.state() == GroupState::CompletingRebalance {
                        self.assigned.remove(&joined.generation);
                    }
                }
                let told = (joined.leader.clone(), joined.protocol.clone());
                if self.group.state() == GroupState::CompletingRebalance {
                    let first = self.told.entry(joined.generation).or_insert_with(|| told.clone());
                    assert_eq!(*first, told, "all of a generation hear the same");
                }
                client.leads = joined.members.into_iter().map(|member| member.member_id).collect();
                client.member_id = joined.member_id;
                client.generation = joined.generation;
            }
            Err(refused) => match refused.error {
                GroupError::MemberIdRequired => client.member_id = refused.member_id,
                GroupError::RebalanceInProgress | GroupError::CoordinatorNotAvailable => {}
                _ => client.member_id.clear(),
            },
        }
    }

    fn sync_answered(&mut self, ticket: Ticket, result: Result<Synced, GroupError>) {
        let parked = self.parked.remove(&ticket);
        let Some(Parked::Sync { client, generation, member_id }) = parked else { panic!("a sync is answered once") };
        self.clients[client].next = if result.is_ok() { Next::Heartbeat } else { Next::Join };
        match result {
            Ok(synced) => {
                self.syncs_answered += 1;
                let expected = &self.assigned[&generation][&member_id];
                assert_eq!(&synced.assignment, expected, "{member_id} gets what the leader of {generation} assigned");
            }
            Err(GroupError::UnknownMember | GroupError::FencedInstance) => self.clients[client].member_id.clear(),
            Err(_) => {}
        }
    }

    fn check(&mut self) {
        assert!(self.group.generation() >= self.generation_seen, "generations only rise");
        self.generation_seen = self.group.generation();
        let described = self.group.describe();
        let instances: Vec<&String> =
            described.members.iter().filter_map(|member| member.instance_id.as_ref()).collect();
        let distinct: BTreeSet<&String> = instances.iter().copied().collect();
        assert_eq!(instances.len(), distinct.len(), "one member to an instance id");
        assert_eq!(described.members.is_empty(), self.group.state() == GroupState::Empty || self.is_gathering_nobody());
        if !self.parked.is_empty() || !described.members.is_empty() {
            assert!(self.group.next_deadline_ms().is_some(), "something will happen by itself");
        }
    }

    /// All members of a rebalance may be gone while ids given out may still come.
    fn is_gathering_nobody(&self) -> bool {
        self.group.state() == GroupState::PreparingRebalance && self.group.describe().members.is_empty()
    }

    /// With nobody doing anything, every parked request is answered and the group empties.
    fn wind_down(&mut self) {
        for _ in 0..200 {
            self.now_ms += 10_000;
            self.tick();
            self.check();
        }
        assert!(self.parked.is_empty(), "left unanswered: {:?}", self.parked);
        assert_eq!(self.group.state(), GroupState::Empty);
        assert!(self.group.is_idle());
    }
}

#[test]
fn random_histories_keep_what_must_hold() {
    let (mut syncs_answered, mut restarts) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.wind_down();
        syncs_answered += world.syncs_answered;
        restarts += world.restarts;
    }
    // The histories are worth something only if groups do get stable in them.
    assert!(syncs_answered > 5_000, "only {syncs_answered} syncs were answered");
    assert!(restarts > 300, "only {restarts} restarts");
}
