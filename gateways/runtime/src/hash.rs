//! Hashes that are stored, or that all gateways must come to alike, those of other builds too: these functions never change.
//!
//! Rendezvous hashing gives each key to the node that weighs most for it. Every gateway knows the answer without asking, and when
//! a node comes or goes, only what goes to it or was its own moves.

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.into_iter().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The node that weighs most; None only if there are no nodes.
pub fn heaviest<N: Copy + Ord>(nodes: impl IntoIterator<Item = N>, weight: impl Fn(N) -> u64) -> Option<N> {
    nodes.into_iter().max_by_key(|node| (weight(*node), *node))
}

/// What a node weighs for a key: FNV-1a, then the finalizer of MurmurHash3, which spreads neighbours.
pub fn weight(node: &[u8], key: &[u8]) -> u64 {
    let mut hash = fnv1a(node.iter().chain(key).copied());
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_stay_what_they_are() {
        assert_eq!(fnv1a([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(weight(b"", b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(weight(&1i32.to_be_bytes(), &7u128.to_be_bytes()), 0x5486_b28f_a9ee_72fb);
    }

    #[test]
    fn keys_spread_and_move_only_where_they_must() {
        let owner = |nodes: &[u32], key: u32| {
            heaviest(nodes.iter().copied(), |node| weight(&node.to_be_bytes(), &key.to_be_bytes()))
        };
        assert_eq!(owner(&[], 1), None);
        let mut shares = [0; 4];
        for key in 0..3000 {
            let before = owner(&[1, 2, 3], key).unwrap();
            shares[before as usize] += 1;
            let after = owner(&[2, 1], key).unwrap();
            assert!(before == 3 || after == before);
        }
        assert!(shares[1..].iter().all(|share| (900..1100).contains(share)), "{shares:?}");
    }
}
