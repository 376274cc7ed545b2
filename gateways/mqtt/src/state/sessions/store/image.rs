//! What the log says of all clients' sessions: a fold over the records, the same in every gateway that has read as far. Pure.
//!
//! A client's session is looked after by its record's keeper. Who wants it from another gateway **claims** it; claims lie in
//! the client's partition, so that all agree on their order. A claimant may take the session when everybody who lives and had
//! it before, its keeper and whoever claimed earlier, has given it up; a later claim of another makes it give up itself. So
//! whoever claimed last has it in the end, and at no time two.
//!
//! ```text
//! c/G ──────────── s/ keeper: none ──────── s/ keeper: G, without c/G ─ …
//! G claims         K has seen it and gives  G has it
//! ```
//! Claims of those who live no more are void. Two kinds of claims give way to a client's own wish: that of a gateway which adopts
//! what a dead one has left, and that which only makes known to new gateways who has been connected for long.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use codec_mqtt::{PacketId, Text};
use core_rpc::PartitionId;

use super::keys::{Key, Received};
use crate::state::sessions::attempts::Attempt;
use crate::state::sessions::record::{Delta, Head, Incarnation, Record, Unreadable, decode_positions};

/// Why somebody claims a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client has connected there.
    Connect = 1,
    /// It has nobody who looks after it.
    Adopt = 2,
    /// The client has been connected there since before anybody had to know.
    Announce = 3,
}

impl Why {
    /// A claim's payload.
    pub fn encode(self) -> Bytes {
        Bytes::copy_from_slice(&[self as u8])
    }

    fn decode(payload: &[u8]) -> Option<Why> {
        match payload {
            [1] => Some(Why::Connect),
            [2] => Some(Why::Adopt),
            [3] => Some(Why::Announce),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub gateway: Incarnation,
    pub offset: u64,
    pub why: Why,
}

/// A session's record. Its bytes are kept where they may be needed: of sessions that are not this gateway's.
#[derive(Clone, Debug)]
pub struct Known {
    /// As it was told last.
    pub head: Head,
    number: u32,
    bytes: Bytes,
    /// What has changed since.
    delta: Option<Bytes>,
}

impl Known {
    pub fn record(&self) -> Result<Record, Unreadable> {
        let record = Record::decode(&self.bytes)?;
        match &self.delta {
            Some(delta) => Ok(record.with(Delta::decode(delta)?)),
            None => Ok(record),
        }
    }

    pub fn has_delta(&self) -> bool {
        self.delta.is_some()
    }
}

#[derive(Debug, Default)]
struct Client {
    record: Option<Known>,
    claims: Vec<Claim>,
    /// Received and not released, or perhaps.
    received: BTreeMap<PacketId, Received>,
}

impl Client {
    fn is_empty(&self) -> bool {
        self.record.is_none() && self.claims.is_empty() && self.received.is_empty()
    }
}

/// What a record changed that somebody may have to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// Another gateway has claimed the client for a connection.
    Claimed(Text),
    /// Another gateway looks after the client's session.
    Taken(Text),
    /// A record that says less than is known was written over one that says more.
    Outdated(Text),
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The session is the claimant's.
    Own,
    /// Somebody has it who has to give it up first.
    Waits,
    /// Somebody has claimed it since, or with more right: it is to be given up.
    Superseded,
}

#[derive(Debug)]
pub struct Image {
    own: Incarnation,
    clients: HashMap<Text, Client>,
    positions: HashMap<Incarnation, Vec<(PartitionId, u64)>>,
    /// By partition: the offset behind what is in here.
    passed: Vec<u64>,
}

impl Image {
    pub fn new(own: Incarnation, partitions: u32) -> Image {
        Image { own, clients: HashMap::new(), positions: HashMap::new(), passed: vec![0; partitions as usize] }
    }

    /// Everything of a partition before this offset is in here.
    pub fn passed(&self, partition: u32) -> u64 {
        self.passed.get(partition as usize).copied().unwrap_or(u64::MAX)
    }

    pub fn pass(&mut self, partition: u32, offset: u64) {
        if let Some(passed) = self.passed.get_mut(partition as usize) {
            *passed = offset.max(*passed);
        }
    }

    /// A record of the log, in the order of its partition.
    pub fn apply(&mut self, offset: u64, key: &[u8], payload: &[u8]) -> Seen {
        let client_id = match Key::parse(key) {
            Some(Key::Session(id) | Key::Delta(id) | Key::Claim(_, id) | Key::Received(_, id)) => id,
            Some(Key::Positions(gateway)) => {
                match decode_positions(payload) {
                    Ok(positions) => drop(self.positions.insert(gateway, positions)),
                    Err(_) => drop(self.positions.remove(&gateway)),
                }
                return Seen::Nothing;
            }
            None => return Seen::Nothing,
        };
        // Its own memory: a slice would hold the whole batch.
        let Some(client_id) = Text::new(client_id) else { return Seen::Nothing };
        let own = self.own;
        let client = self.clients.entry(client_id.clone()).or_default();
        let mut seen = Seen::Nothing;
        match Key::parse(key) {
            Some(Key::Session(_)) if payload.is_empty() => client.record = None,
            Some(Key::Session(_)) => match Head::decode(payload) {
                Ok((_, head)) if client.record.as_ref().is_some_and(|known| head.epoch < known.head.epoch) => {
                    seen = Seen::Outdated(client_id.clone());
                }
                Ok((number, head)) => {
                    let is_own = head.keeper == Some(own);
                    if head.keeper.is_some() && !is_own {
                        seen = Seen::Taken(client_id.clone());
                    }
                    let bytes = if is_own { Bytes::new() } else { Bytes::copy_from_slice(payload) };
                    client.record = Some(Known { head, number, bytes, delta: None });
                }
                Err(error) => tracing::error!(client = %client_id, %error, "a session is lost"),
            },
            // With its record's end, or its next.
            Some(Key::Delta(_)) if payload.is_empty() => {}
            Some(Key::Delta(_)) => match (Delta::decode_head(payload), &mut client.record) {
                (Ok((number, head)), Some(known)) => {
                    if (head.life, head.epoch, number) == (known.head.life, known.head.epoch, known.number) {
                        // Of this gateway's own: one that is given up is written whole.
                        let is_own = known.bytes.is_empty();
                        known.delta = Some(if is_own { Bytes::new() } else { Bytes::copy_from_slice(payload) });
                        known.head = head;
                    } else if head.epoch < known.head.epoch {
                        seen = Seen::Outdated(client_id.clone());
                    }
                }
                (Ok(_), None) => {}
                (Err(error), _) => tracing::error!(client = %client_id, %error, "what changed of a session is lost"),
            },
            Some(Key::Claim(gateway, _)) => {
                client.claims.retain(|claim| claim.gateway != gateway);
                if let Some(why) = Why::decode(payload) {
                    client.claims.push(Claim { gateway, offset, why });
                    if gateway != own && why == Why::Connect {
                        seen = Seen::Claimed(client_id.clone());
                    }
                }
            }
            Some(Key::Received(packet_id, _)) => match Received::decode(payload) {
                Some(received) => drop(client.received.insert(packet_id, received)),
                None => drop(client.received.remove(&packet_id)),
            },
            _ => {}
        }
        if client.is_empty() {
            self.clients.remove(&client_id);
        }
        seen
    }

    pub fn record(&self, client_id: &Text) -> Option<&Known> {
        self.clients.get(client_id)?.record.as_ref()
    }

    /// What was received in this life of a client's session and not released; with an attempt: what may have been.
    pub fn received(&self, client_id: &Text, life: u64) -> Vec<(PacketId, Option<Attempt>)> {
        let received = self.clients.get(client_id).map(|client| &client.received);
        let of_life = received.into_iter().flatten().filter(|(_, received)| received.life == life);
        of_life.map(|(packet_id, received)| (*packet_id, received.attempt)).collect()
    }

    /// Everything that was received and not released, in whatever life.
    pub fn received_ever(&self, client_id: &Text) -> Vec<PacketId> {
        self.clients.get(client_id).into_iter().flat_map(|client| client.received.keys().copied()).collect()
    }

    pub fn positions(&self, gateway: Incarnation) -> &[(PartitionId, u64)] {
        self.positions.get(&gateway).map_or(&[], Vec::as_slice)
    }

    /// Whether there is anything that somebody else may have to say of a client: a session, or a claim of one who lives.
    pub fn is_contested(&self, client_id: &Text, lives: &dyn Fn(Incarnation) -> bool) -> bool {
        let own = self.own;
        self.clients.get(client_id).is_some_and(|client| {
            client.record.is_some() || client.claims.iter().any(|claim| claim.gateway != own && lives(claim.gateway))
        })
    }

    /// Whether another gateway that lives has claimed the client for a connection, later than this one.
    pub fn is_wanted_elsewhere(&self, client_id: &Text, lives: &dyn Fn(Incarnation) -> bool) -> bool {
        let Some(client) = self.clients.get(client_id) else { return false };
        let own = self.own_claim(client).filter(|claim| claim.why == Why::Connect);
        client.claims.iter().any(|claim| {
            claim.gateway != self.own
                && claim.why == Why::Connect
                && lives(claim.gateway)
                && own.is_none_or(|own| own.offset < claim.offset)
        })
    }

    /// Whether another gateway that lives has claimed the client because nobody seemed to look after its session.
    pub fn is_adopted_elsewhere(&self, client_id: &Text, lives: &dyn Fn(Incarnation) -> bool) -> bool {
        let claims = self.clients.get(client_id).into_iter().flat_map(|client| &client.claims);
        claims.into_iter().any(|claim| claim.why == Why::Adopt && claim.gateway != self.own && lives(claim.gateway))
    }

    fn own_claim(&self, client: &Client) -> Option<Claim> {
        client.claims.iter().find(|claim| claim.gateway == self.own).copied()
    }

    /// Whether this gateway claims a client.
    pub fn is_claimed(&self, client_id: &Text) -> bool {
        self.clients.get(client_id).is_some_and(|client| self.own_claim(client).is_some())
    }

    /// How this gateway's claim stands; without one it has been superseded.
    pub fn standing(&self, client_id: &Text, lives: &dyn Fn(Incarnation) -> bool) -> Standing {
        let Some(client) = self.clients.get(client_id) else { return Standing::Superseded };
        let Some(own) = self.own_claim(client) else { return Standing::Superseded };
        let others = || client.claims.iter().filter(|claim| claim.gateway != self.own && lives(claim.gateway));
        let keeper = client.record.as_ref().and_then(|known| known.head.keeper);
        let is_kept = keeper.is_some_and(|keeper| keeper != self.own && lives(keeper));
        let is_superseded = match own.why {
            Why::Connect => others().any(|claim| claim.why == Why::Connect && claim.offset > own.offset),
            // It is for those that nobody else has anything to do with.
            Why::Adopt | Why::Announce => {
                is_kept || others().any(|claim| claim.why != Why::Adopt || claim.offset < own.offset)
            }
        };
        if is_superseded {
            return Standing::Superseded;
        }
        let is_held = others().any(|claim| claim.offset < own.offset);
        if is_held || is_kept { Standing::Waits } else { Standing::Own }
    }

    /// The clients whose sessions nobody who lives looks after, or wants to.
    pub fn orphans(&self, lives: &dyn Fn(Incarnation) -> bool) -> Vec<Text> {
        let is_orphan = |client: &Client| {
            client.record.as_ref().is_some_and(|known| !known.head.keeper.is_some_and(lives))
                && !client.claims.iter().any(|claim| lives(claim.gateway))
        };
        let orphans = self.clients.iter().filter(|(_, client)| is_orphan(client));
        orphans.map(|(client_id, _)| client_id.clone()).collect()
    }

    /// Keys of what nobody needs any more: claims and positions of the dead, and what was received in sessions that are over.
    pub fn garbage(&self, lives: &dyn Fn(Incarnation) -> bool, is_mine: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut garbage = Vec::new();
        let mut keepers: Vec<Incarnation> = Vec::new();
        for (client_id, client) in &self.clients {
            if let Some(keeper) = client.record.as_ref().and_then(|known| known.head.keeper)
                && !lives(keeper)
                && !keepers.contains(&keeper)
            {
                keepers.push(keeper);
            }
            if !is_mine(client_id) {
                continue;
            }
            let dead = client.claims.iter().filter(|claim| !lives(claim.gateway));
            garbage.extend(dead.map(|claim| Key::Claim(claim.gateway, client_id).to_string()));
            if client.record.is_none() && client.claims.is_empty() {
                garbage.extend(client.received.keys().map(|id| Key::Received(*id, client_id).to_string()));
            }
        }
        // A dead gateway's positions say how far its sessions had come, until all are another's.
        let done = self.positions.keys().filter(|gateway| !lives(**gateway) && !keepers.contains(gateway));
        garbage.extend(done.map(|gateway| Key::Positions(*gateway).to_string()).filter(|key| is_mine(key)));
        garbage
    }
}
