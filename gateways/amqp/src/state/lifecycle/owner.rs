//! Which of the live gateways keeps house for a queue: by rendezvous hashing, so that each knows it without asking, and little changes
//! hands when one comes or goes. Pure.

use gateway_runtime::Member;

/// The node id of who is responsible. None: nobody lives.
pub fn of(members: &[Member], key: u128) -> Option<i32> {
    members.iter().map(|member| member.node_id).max_by_key(|node_id| (weight(*node_id, key), *node_id))
}

/// The key of what has a name.
pub fn key(name: &str) -> u128 {
    u128::from(crc32c::crc32c(name.as_bytes()))
}

/// Every gateway must come to the same: FNV-1a, then the finalizer of MurmurHash3, which spreads neighbouring ids.
fn weight(node_id: i32, key: u128) -> u64 {
    let bytes = node_id.to_be_bytes().into_iter().chain(key.to_be_bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccdu64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[i32]) -> Vec<Member> {
        let member = |id: &i32| Member {
            node_id: *id,
            host: "h".into(),
            port: 1,
            tls: None,
            rack: None,
            started_ms: 0,
            incarnation: [0; 16],
        };
        ids.iter().map(member).collect()
    }

    #[test]
    fn each_has_its_share_and_keeps_it() {
        assert_eq!(of(&[], 1), None);
        let three = members(&[1, 2, 3]);
        let mut shares = [0; 4];
        for key in 0..3000u128 {
            let owner = of(&three, key).unwrap();
            shares[owner as usize] += 1;
            // Who goes leaves the others what they have.
            if owner != 3 {
                assert_eq!(of(&members(&[2, 1]), key), Some(owner));
            }
        }
        assert!(shares[1..].iter().all(|share| (900..1100).contains(share)), "{shares:?}");
    }
}
