//! What a limited queue has room for: which of new messages a full one refuses, and how many old ones one that is too full drops. Pure.

/// The limits of a queue; at least one is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub messages: Option<u64>,
    /// Of the bodies.
    pub bytes: Option<u64>,
}

/// What waits in a queue: neither settled nor handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    pub messages: u64,
    /// Of the bodies; zero where there is no limit on them.
    pub bytes: u64,
}

impl Limits {
    fn fit(&self, ready: Ready) -> bool {
        self.messages.is_none_or(|most| ready.messages <= most) && self.bytes.is_none_or(|most| ready.bytes <= most)
    }

    /// For each of new messages, by the sizes of their bodies, whether it still fits. A later, smaller one may fit where one before
    /// did not.
    pub fn admit(&self, mut ready: Ready, bodies: impl Iterator<Item = u64>) -> Vec<bool> {
        let admit = |body_bytes| {
            let then = Ready { messages: ready.messages + 1, bytes: ready.bytes + body_bytes };
            let fits = self.fit(then);
            if fits {
                ready = then;
            }
            fits
        };
        bodies.map(admit).collect()
    }

    /// How many of the oldest ready messages must go, by the sizes of their bodies, oldest first.
    pub fn excess(&self, mut ready: Ready, oldest_bodies: impl Iterator<Item = u64>) -> u64 {
        let mut dropped = 0;
        for body_bytes in oldest_bodies {
            if ready.messages == 0 || self.fit(ready) {
                break;
            }
            ready.messages -= 1;
            ready.bytes = ready.bytes.saturating_sub(body_bytes);
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Limits = Limits { messages: Some(3), bytes: Some(100) };

    #[test]
    fn a_full_queue_refuses_each_that_does_not_fit() {
        let ready = Ready { messages: 1, bytes: 50 };
        // The second is too large; the third is not; the fourth is one too many.
        assert_eq!(BOTH.admit(ready, [10, 50, 40, 0].into_iter()), [true, false, true, false]);
        let none = Limits { messages: Some(0), bytes: None };
        assert_eq!(none.admit(Ready::default(), [0].into_iter()), [false]);
    }

    #[test]
    fn one_that_is_too_full_drops_the_oldest_until_it_fits() {
        let sizes = || [60, 30, 20, 10].into_iter();
        assert_eq!(BOTH.excess(Ready { messages: 3, bytes: 100 }, sizes()), 0);
        assert_eq!(BOTH.excess(Ready { messages: 4, bytes: 100 }, sizes()), 1);
        assert_eq!(BOTH.excess(Ready { messages: 4, bytes: 170 }, sizes()), 2);
        // One message that alone is too large goes, too.
        assert_eq!(BOTH.excess(Ready { messages: 1, bytes: 101 }, [101].into_iter()), 1);
        let none = Limits { messages: Some(0), bytes: None };
        assert_eq!(none.excess(Ready { messages: 4, bytes: 0 }, sizes()), 4);
    }
}
