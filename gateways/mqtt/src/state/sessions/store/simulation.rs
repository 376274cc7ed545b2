//! Three gateways, one client and one log, in all orders that chance finds: at no time two have the session, what one has given up
//! the next goes on with, and who claimed last has it in the end.

use bytes::Bytes;
use codec_mqtt::{Text, Version};
use proptest::prelude::*;

use super::image::{Image, Seen, Standing, Why};
use super::keys::Key;
use super::owner;
use crate::state::sessions::record::{Head, Incarnation, Record};

const GATEWAYS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client connects to this gateway.
    Connect(usize),
    /// It reads one record of the log.
    Read(usize),
    /// It does what is next for it.
    Act(usize),
    /// It dies, and starts anew.
    Kill(usize),
}

#[derive(Debug)]
struct Gateway {
    own: Incarnation,
    image: Image,
    read: usize,
    /// Waits with a claim: who lived when that was looked at last, and how long the log was then.
    claimed: Option<(Vec<Incarnation>, usize)>,
    /// Has the session, at this epoch.
    kept: Option<u32>,
    /// Its record is not written yet.
    is_unwritten: bool,
    is_wanted: bool,
}

struct World {
    client_id: Text,
    log: Vec<(String, Bytes)>,
    gateways: Vec<Gateway>,
    lives: u8,
}

fn gateway(life: u8) -> Gateway {
    let own = Incarnation([life; 16]);
    let image = Image::new(own, 1);
    Gateway { own, image, read: 0, claimed: None, kept: None, is_unwritten: false, is_wanted: false }
}

impl World {
    fn new() -> World {
        let gateways = (1..=GATEWAYS as u8).map(gateway).collect();
        World { client_id: Text::new("client").unwrap(), log: Vec::new(), gateways, lives: GATEWAYS as u8 }
    }

    fn put(&mut self, key: Key<'_>, payload: Bytes) -> usize {
        self.log.push((key.to_string(), payload));
        self.log.len() - 1
    }

    fn claim(&mut self, at: usize, why: Why) {
        let (own, client_id) = (self.gateways[at].own, self.client_id.clone());
        let live = self.live();
        let offset = self.put(Key::Claim(own, &client_id), why.encode());
        self.gateways[at].claimed = Some((live, offset + 1));
    }

    fn live(&self) -> Vec<Incarnation> {
        self.gateways.iter().map(|gateway| gateway.own).collect()
    }

    fn unclaim(&mut self, at: usize) {
        let (own, client_id) = (self.gateways[at].own, self.client_id.clone());
        self.put(Key::Claim(own, &client_id), Bytes::new());
        self.gateways[at].claimed = None;
    }

    fn record(&mut self, at: usize, epoch: u32, is_released: bool) {
        let own = self.gateways[at].own;
        let client_id = self.client_id.clone();
        let mut head = Head::new(own, 1, Version::Mqtt5);
        (head.epoch, head.expiry_s) = (epoch, u32::MAX);
        head.keeper = head.keeper.filter(|_| !is_released);
        let record = Record { head, will: None, snapshot: Default::default() };
        self.put(Key::Session(&client_id), record.encode().unwrap());
        // The same batch.
        self.put(Key::Claim(own, &client_id), Bytes::new());
    }

    fn read(&mut self, at: usize) {
        let gateway = &mut self.gateways[at];
        let Some((key, payload)) = self.log.get(gateway.read) else { return };
        let seen = gateway.image.apply(gateway.read as u64, key.as_bytes(), payload);
        gateway.read += 1;
        if matches!(seen, Seen::Claimed(_)) {
            gateway.is_wanted = true;
        }
        assert!(!matches!(seen, Seen::Outdated(_)), "nobody writes who does not have it");
    }

    fn act(&mut self, at: usize) {
        let (live, end) = (self.live(), self.log.len());
        let lives = |incarnation| live.contains(&incarnation);
        let client_id = self.client_id.clone();
        let gateway = &mut self.gateways[at];
        if let Some(epoch) = gateway.kept {
            if gateway.is_unwritten {
                gateway.is_unwritten = false;
                self.record(at, epoch, false);
            } else if gateway.is_wanted {
                gateway.is_wanted = false;
                if gateway.image.is_wanted_elsewhere(&client_id, &lives) {
                    gateway.kept = None;
                    self.record(at, epoch, true);
                }
            }
            return;
        }
        if let Some((lived, until)) = &gateway.claimed {
            if gateway.read < *until {
                return;
            }
            match gateway.image.standing(&client_id, &|incarnation| lived.contains(&incarnation)) {
                Standing::Waits => gateway.claimed = Some((live, end)),
                Standing::Superseded => self.unclaim(at),
                Standing::Own => {
                    let known = gateway.image.record(&client_id);
                    let epoch = known.map_or(0, |known| known.head.epoch + 1);
                    (gateway.kept, gateway.claimed, gateway.is_unwritten) = (Some(epoch), None, true);
                    let newest = self.log.iter().filter(|(key, _)| key.starts_with("s/"));
                    let newest = newest.map(|(_, record)| Head::decode(record).unwrap().1.epoch).max();
                    assert_eq!(newest.map_or(0, |epoch| epoch + 1), epoch, "it goes on with what was there last");
                }
            }
            return;
        }
        let orphans = gateway.image.orphans(&lives);
        if !orphans.is_empty() && owner::of(live.iter().copied(), &client_id) == Some(gateway.own) {
            self.claim(at, Why::Adopt);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect(at) => {
                let gateway = &self.gateways[at];
                if gateway.kept.is_none() && gateway.claimed.is_none() {
                    self.claim(at, Why::Connect);
                }
            }
            Step::Read(at) => self.read(at),
            Step::Act(at) => self.act(at),
            Step::Kill(at) => {
                self.lives += 1;
                self.gateways[at] = gateway(self.lives);
                // Who starts reads everything first.
                while self.gateways[at].read < self.log.len() {
                    self.read(at);
                }
                self.gateways[at].is_wanted = false;
            }
        }
        let keepers = self.gateways.iter().filter(|gateway| gateway.kept.is_some()).count();
        assert!(keepers <= 1, "{keepers} have the session");
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            for at in 0..GATEWAYS {
                while self.gateways[at].read < self.log.len() {
                    self.step(Step::Read(at));
                }
                self.step(Step::Act(at));
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..GATEWAYS).prop_map(Step::Connect),
        12 => (0..GATEWAYS).prop_map(Step::Read),
        8 => (0..GATEWAYS).prop_map(Step::Act),
        1 => (0..GATEWAYS).prop_map(Step::Kill),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_session_has_one_keeper(steps in steps(), last in 0..GATEWAYS) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        let has_record = world.log.iter().any(|(key, _)| key.starts_with("s/"));
        prop_assert_eq!(world.gateways.iter().any(|gateway| gateway.kept.is_some()), has_record);
        prop_assert!(world.gateways.iter().all(|gateway| gateway.claimed.is_none()), "nobody waits for ever");
        // Whoever connects last has it.
        world.step(Step::Connect(last));
        world.settle();
        prop_assert!(world.gateways[last].kept.is_some());
    }
}
