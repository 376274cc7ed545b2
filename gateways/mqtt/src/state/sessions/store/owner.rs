//! Which of the live gateways takes on what a dead one has left: by rendezvous hashing, so that each knows it without asking. Pure.

use gateway_runtime::hash::{fnv1a, heaviest, weight};

use crate::state::sessions::record::Incarnation;

/// Who it is. None: nobody lives.
pub fn of(lives: impl IntoIterator<Item = Incarnation>, client_id: &str) -> Option<Incarnation> {
    let client = fnv1a(client_id.bytes()).to_be_bytes();
    heaviest(lives, |incarnation| weight(&incarnation.0, &client))
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
