//! Which of the live gateways takes on what a dead one has left: by rendezvous hashing, so that each knows it without asking. Pure.

use crate::state::sessions::record::Incarnation;
use crate::translate::hash;

/// Who it is. None: nobody lives.
pub fn of(lives: impl IntoIterator<Item = Incarnation>, client_id: &str) -> Option<Incarnation> {
    let client = hash(client_id.as_bytes());
    lives.into_iter().max_by_key(|incarnation| (weight(*incarnation, client), *incarnation))
}

/// FNV-1a, then the finalizer of MurmurHash3, which spreads neighbours.
fn weight(incarnation: Incarnation, client: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&incarnation.0);
    bytes[16..].copy_from_slice(&client.to_be_bytes());
    let mut hash = hash(&bytes);
    for factor in [0xff51_afd7_ed55_8ccdu64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_keeps_it() {
        let lives = [1, 2, 3].map(|byte| Incarnation([byte; 16]));
        let mut shares = [0; 4];
        for client in 0..3000 {
            let client = format!("client-{client}");
            let owner = of(lives, &client).unwrap();
            shares[owner.0[0] as usize] += 1;
            if owner != lives[2] {
                assert_eq!(of(lives[..2].iter().copied(), &client), Some(owner));
            }
        }
        assert!(shares[1..].iter().all(|share| (850..1150).contains(share)), "{shares:?}");
        assert_eq!(of([], "a"), None);
    }
}
