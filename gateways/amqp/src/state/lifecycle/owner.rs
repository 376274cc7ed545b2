//! Which of the live gateways keeps house for a queue: by rendezvous hashing, so that each knows it without asking, and little changes
//! hands when one comes or goes. Pure.

use gateway_runtime::Member;
use gateway_runtime::hash::{heaviest, weight};

/// The node id of who is responsible. None: nobody lives.
pub fn of(members: &[Member], key: u128) -> Option<i32> {
    let key = key.to_be_bytes();
    heaviest(members.iter().map(|member| member.node_id), |node_id| weight(&node_id.to_be_bytes(), &key))
}

/// The key of what has a name.
pub fn key(name: &str) -> u128 {
    u128::from(crc32c::crc32c(name.as_bytes()))
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
