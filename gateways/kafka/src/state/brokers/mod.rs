//! The brokers of the cluster, which are the live gateways, and which of them is responsible for what.
//!
//! Any gateway can serve any partition, so a partition's leader is only where clients are sent to spread the load. A
//! coordinator works alone: a group or a transactional id is refused (NOT_COORDINATOR) by all gateways but one. Which
//! one follows from who lives, by rendezvous hashing; two gateways may differ about that for the moment that a watch
//! takes, so what a coordinator writes is fenced by versions and generations besides.

mod rendezvous;

use core_rpc::PartitionId;
use gateway_runtime::{Member, Members, Membership};
use tokio::sync::watch;

use rendezvous::{hash, nth, pick};

/// What a coordinator is responsible for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorKey<'a> {
    /// A group of whatever protocol, by its id.
    Group(&'a str),
    /// A transactional id.
    Transaction(&'a str),
}

impl CoordinatorKey<'_> {
    fn hash(self) -> u64 {
        let (kind, key) = match self {
            CoordinatorKey::Group(id) => (b"group", id),
            CoordinatorKey::Transaction(id) => (b"trans", id),
        };
        hash(&[kind, key.as_bytes()])
    }
}

/// The brokers as this one sees them. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Brokers {
    membership: Membership,
}

impl Brokers {
    pub fn new(membership: Membership) -> Self {
        Brokers { membership }
    }

    /// This gateway's node id.
    pub fn own_id(&self) -> i32 {
        self.membership.own().node_id
    }

    /// The live brokers, by id. Never empty: while nobody is registered (this gateway has just lost its session, say),
    /// this one is all that a client can be told of.
    pub fn live(&self) -> View {
        let members = self.membership.live();
        match members.is_empty() {
            false => View { members },
            true => View { members: vec![self.membership.own().clone()].into() },
        }
    }

    /// Whether this gateway is the one that works on a group or a transactional id. Others answer NOT_COORDINATOR.
    pub fn coordinates(&self, key: CoordinatorKey<'_>) -> bool {
        let members = self.membership.live();
        let own = self.membership.own();
        match members.as_slice() {
            [only] => only.incarnation == own.incarnation,
            members => owner(key.hash(), members).is_some_and(|owner| owner.incarnation == own.incarnation),
        }
    }

    /// Whether nobody else can have taken over what this gateway coordinates: its session certainly lives. Where not,
    /// what is not fenced otherwise has to wait (COORDINATOR_NOT_AVAILABLE).
    pub fn is_sure(&self) -> bool {
        self.membership.is_sure()
    }

    /// To be woken when the live brokers change.
    pub fn changes(&self) -> watch::Receiver<Members> {
        self.membership.changes()
    }

    /// Leaves the cluster, so that others take over at once.
    pub async fn leave(&self) {
        self.membership.leave().await;
    }
}

/// The live brokers at one moment.
#[derive(Clone, Debug)]
pub struct View {
    members: Members,
}

impl View {
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn has(&self, node_id: i32) -> bool {
        self.members.iter().any(|member| member.node_id == node_id)
    }

    /// The broker that clients take for the controller; any of them serves what is asked of a controller.
    pub fn controller_id(&self) -> i32 {
        self.members.first().map_or(-1, |member| member.node_id)
    }

    /// The broker that clients are sent to for a partition. A topic's partitions are dealt in rounds, of as many as there are brokers:
    /// each round has every broker once, in an order of its own. So no broker leads two of a topic's partitions more than another does.
    pub fn leader_id(&self, partition: PartitionId) -> i32 {
        match self.members.as_slice() {
            [only] => only.node_id,
            members => {
                let count = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
                let (round, turn) = (partition.index / count, partition.index % count);
                let key = hash(&[&partition.topic.0.to_be_bytes(), &round.to_be_bytes()]);
                nth(key, members.iter().map(|member| member.node_id), turn as usize).unwrap_or(-1)
            }
        }
    }

    /// The broker that works on a group or a transactional id.
    pub fn coordinator(&self, key: CoordinatorKey<'_>) -> Option<&Member> {
        owner(key.hash(), &self.members)
    }
}

fn owner(key_hash: u64, members: &[Member]) -> Option<&Member> {
    let id = pick(key_hash, members.iter().map(|member| member.node_id))?;
    members.iter().find(|member| member.node_id == id)
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use super::*;

    pub fn member(node_id: i32) -> Member {
        let incarnation = [node_id as u8; 16];
        Member {
            node_id,
            host: "h".into(),
            port: 9000 + node_id as u16,
            tls: None,
            rack: None,
            started_ms: 0,
            incarnation,
        }
    }

    /// The brokers as `own` sees them, and who can change who lives.
    pub fn brokers(own: i32, live: &[i32]) -> (Brokers, watch::Sender<Members>) {
        let (sender, receiver) = watch::channel(members(live));
        (Brokers::new(Membership::fixed(member(own), receiver)), sender)
    }

    pub fn members(live: &[i32]) -> Members {
        Arc::new(live.iter().map(|id| member(*id)).collect())
    }

    #[test]
    fn each_key_has_one_coordinator() {
        let (one, _sender) = brokers(1, &[1, 2]);
        let (two, _sender) = brokers(2, &[1, 2]);
        let mut of_one = 0;
        for index in 0..1000 {
            let id = format!("group-{index}");
            let key = CoordinatorKey::Group(&id);
            assert_ne!(one.coordinates(key), two.coordinates(key));
            let told = one.live().coordinator(key).unwrap().node_id;
            assert_eq!(told == 1, one.coordinates(key));
            of_one += usize::from(told == 1);
        }
        assert!((400..600).contains(&of_one));
        // A group and a transactional id of the same name are two things.
        let names: Vec<String> = (0..100).map(|index| index.to_string()).collect();
        let differs = |name: &&String| {
            one.coordinates(CoordinatorKey::Group(name)) != one.coordinates(CoordinatorKey::Transaction(name))
        };
        assert!(names.iter().any(|name| differs(&name)));
    }

    #[test]
    fn a_topic_s_partitions_are_dealt_evenly() {
        let (brokers, _sender) = brokers(1, &[1, 2, 5]);
        let leader = |topic, index| brokers.live().leader_id(PartitionId { topic: core_rpc::TopicId(topic), index });
        let mut of_first = std::collections::BTreeMap::<i32, u32>::new();
        for topic in 0..300 {
            for round in 0..4 {
                let mut leaders: Vec<i32> = (0..3).map(|turn| leader(topic, round * 3 + turn)).collect();
                leaders.sort_unstable();
                assert_eq!(leaders, [1, 2, 5]);
            }
            *of_first.entry(leader(topic, 0)).or_default() += 1;
        }
        assert!(of_first.values().all(|count| (70..130).contains(count)), "small topics spread as well: {of_first:?}");
    }

    #[test]
    fn who_is_not_registered_coordinates_nothing() {
        let (brokers, live) = brokers(1, &[1]);
        let key = CoordinatorKey::Group("g");
        assert!(brokers.coordinates(key));
        live.send(members(&[])).unwrap();
        assert!(!brokers.coordinates(key));
        assert_eq!(brokers.live().controller_id(), 1);
        // Another gateway has taken the id.
        live.send(Arc::new(vec![Member { incarnation: [9; 16], ..member(1) }])).unwrap();
        assert!(!brokers.coordinates(key));
    }
}
