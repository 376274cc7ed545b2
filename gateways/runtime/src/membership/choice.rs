//! Which node id a gateway registers under. Pure: what is registered goes in, what to do comes out.

use core_rpc::{MetaCondition, MetaEntry};

use super::NodeId;
use super::record::Member;

/// The lowest id that is given to a gateway that has none of its own.
const FIRST_ID: i32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Write the entry of this id, under this condition.
    Register(i32, MetaCondition),
    /// Another gateway has the id: wait until its session ends.
    Taken(Box<Member>),
}

/// `own.node_id` is not looked at. `may_replace`: an entry with our address is that of our former life, whose session
/// has not ended yet. That is certain only at the start, when we have just bound the address.
pub(super) fn choose(entries: &[MetaEntry], own: &Member, wanted: NodeId, may_replace: bool) -> Choice {
    let registered: Vec<(Member, u64)> =
        entries.iter().filter_map(|entry| Some((Member::decode(entry)?, entry.version))).collect();
    let is_ours =
        |member: &Member| member.incarnation == own.incarnation || (may_replace && member.has_address_of(own));
    match wanted {
        NodeId::Fixed(id) => match registered.into_iter().find(|(member, _)| member.node_id == id) {
            None => Choice::Register(id, MetaCondition::Absent),
            Some((member, version)) if is_ours(&member) => Choice::Register(id, MetaCondition::Version(version)),
            Some((member, _)) => Choice::Taken(Box::new(member)),
        },
        NodeId::Lowest => {
            if let Some((member, version)) = registered.iter().find(|(member, _)| is_ours(member)) {
                return Choice::Register(member.node_id, MetaCondition::Version(*version));
            }
            let is_free = |id: &i32| registered.iter().all(|(member, _)| member.node_id != *id);
            let free = (FIRST_ID..i32::MAX).find(is_free).unwrap_or(i32::MAX);
            Choice::Register(free, MetaCondition::Absent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node_id: i32, port: u16, incarnation: u8) -> Member {
        let incarnation = [incarnation; 16];
        Member { node_id, host: "h".into(), port, tls: None, rack: None, started_ms: 0, incarnation }
    }

    fn entries(members: &[Member]) -> Vec<MetaEntry> {
        let entry = |member: &Member| MetaEntry {
            key: format!("gateway/x/{}", member.node_id),
            value: member.encode().unwrap(),
            version: 10 + member.node_id as u64,
            session: None,
        };
        members.iter().map(entry).collect()
    }

    #[test]
    fn the_lowest_free_id_is_taken() {
        let own = member(0, 9, 9);
        let choose = |members: &[Member]| choose(&entries(members), &own, NodeId::Lowest, true);
        assert_eq!(choose(&[]), Choice::Register(1, MetaCondition::Absent));
        assert_eq!(choose(&[member(1, 1, 1), member(3, 3, 3)]), Choice::Register(2, MetaCondition::Absent));
        // Restarted at the same address: the same id again.
        assert_eq!(choose(&[member(1, 1, 1), member(3, 9, 3)]), Choice::Register(3, MetaCondition::Version(13)));
    }

    #[test]
    fn an_id_has_one_gateway() {
        let own = member(0, 9, 9);
        let others = entries(&[member(1, 1, 1), member(2, 9, 2), member(3, 3, 9)]);
        let choose = |id, may_replace| choose(&others, &own, NodeId::Fixed(id), may_replace);
        assert_eq!(choose(7, false), Choice::Register(7, MetaCondition::Absent));
        assert_eq!(choose(1, true), Choice::Taken(Box::new(member(1, 1, 1))));
        // Our address: our former life, but only at the start.
        assert_eq!(choose(2, true), Choice::Register(2, MetaCondition::Version(12)));
        assert_eq!(choose(2, false), Choice::Taken(Box::new(member(2, 9, 2))));
        // Our own entry, whose writing was not confirmed.
        assert_eq!(choose(3, false), Choice::Register(3, MetaCondition::Version(13)));
    }
}
