//! Who of a share group reads which partitions. Kafka calls its own the `simple` assignor; the rules here are the same:
//! every subscribed partition has a reader, every member has a partition to read if there is one, the load is even, and what
//! need not move stays. With more members than partitions a partition has several readers.

use std::collections::{BTreeMap, BTreeSet};

use core_rpc::{PartitionId, TopicId};

pub const NAME: &str = "simple";

pub type Assignment = BTreeSet<PartitionId>;

/// `subscriptions`: for each member the topics and how many partitions each has. `before`: who read what.
pub fn assign(
    subscriptions: &BTreeMap<String, Vec<(TopicId, u32)>>,
    before: &BTreeMap<String, Assignment>,
) -> BTreeMap<String, Assignment> {
    let mut readers: BTreeMap<PartitionId, Vec<&String>> = BTreeMap::new();
    for (member, topics) in subscriptions {
        for (topic, partitions) in topics {
            for index in 0..*partitions {
                readers.entry(PartitionId { topic: *topic, index }).or_default().push(member);
            }
        }
    }
    let mut target: BTreeMap<String, Assignment> =
        subscriptions.keys().map(|member| (member.clone(), Assignment::new())).collect();
    let fair_share = readers.len().div_ceil(subscriptions.len().max(1));
    let had = |member: &String, partition: &PartitionId| {
        before.get(member).is_some_and(|assignment| assignment.contains(partition))
    };
    let mut shared: BTreeMap<PartitionId, usize> = BTreeMap::new();
    // Who had a partition keeps it while its share is fair.
    for (partition, members) in &readers {
        let keeper = members.iter().find(|member| had(member, partition) && target[**member].len() < fair_share);
        if let Some(keeper) = keeper {
            target.entry((*keeper).clone()).or_default().insert(*partition);
            shared.insert(*partition, 1);
        }
    }
    // The others go to whoever has least.
    for (partition, members) in &readers {
        if shared.contains_key(partition) {
            continue;
        }
        if let Some(least) = members.iter().min_by_key(|member| target[**member].len()) {
            target.entry((*least).clone()).or_default().insert(*partition);
            shared.insert(*partition, 1);
        }
    }
    // Whoever has nothing shares: what it had, or what the fewest read.
    let idle: Vec<String> = target.iter().filter(|(_, has)| has.is_empty()).map(|(member, _)| member.clone()).collect();
    for member in idle {
        let candidates =
            readers.iter().filter(|(_, members)| members.contains(&&member)).map(|(partition, _)| *partition);
        let chosen =
            candidates.min_by_key(|partition| (shared.get(partition).copied().unwrap_or(0), !had(&member, partition)));
        if let Some(partition) = chosen {
            target.entry(member).or_default().insert(partition);
            *shared.entry(partition).or_default() += 1;
        }
    }
    target
}
