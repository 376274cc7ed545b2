//! Rendezvous hashing ([`gateway_runtime::hash`]) with weights of its own: a key is hashed once, not once more for each node, since
//! an answer to Metadata asks for thousands.
//!
//! All gateways must come to the same result, those of other builds too: the function never changes.

use gateway_runtime::hash::{fnv1a, heaviest};

/// A hash of some bytes.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    fnv1a(parts.iter().copied().flatten().copied())
}

/// The node that a key's hash goes to; None only if there are no nodes.
pub(super) fn pick(key_hash: u64, nodes: impl Iterator<Item = i32>) -> Option<i32> {
    heaviest(nodes, |node| weight(key_hash, node))
}

/// The node that is the `n`th in a key's order of them, from 0; None only if there are no more than `n`.
pub(super) fn nth(key_hash: u64, nodes: impl Iterator<Item = i32>, n: usize) -> Option<i32> {
    let mut ranked: Vec<(u64, i32)> = nodes.map(|node| (weight(key_hash, node), node)).collect();
    ranked.sort_unstable();
    ranked.get(n).map(|(_, node)| *node)
}

fn weight(key_hash: u64, node: i32) -> u64 {
    mix(key_hash ^ mix(node as u32 as u64))
}

/// The finalizer of SplitMix64: every bit of the input moves half of the output's.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_stays_what_it_is() {
        assert_eq!(hash(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(&[b"foo", b"bar"]), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn keys_spread_and_move_only_where_they_must() {
        let before: Vec<i32> = (0..10_000).map(|key: u32| pick(hash(&[&key.to_be_bytes()]), 1..=4).unwrap()).collect();
        for node in 1..=4 {
            let share = before.iter().filter(|owner| **owner == node).count();
            assert!((2_300..2_700).contains(&share), "node {node} has {share}");
        }
        for (key, owner) in before.iter().enumerate() {
            let after = pick(hash(&[&(key as u32).to_be_bytes()]), [1, 2, 4].into_iter()).unwrap();
            assert!(*owner == 3 || after == *owner);
        }
    }
}
