//! What is known of a message's deaths: the `x-death` header's entries, newest first, and when they make a cycle. Pure.
//!
//! A queue and a reason have one entry: dying there again for that reason counts it up and moves it to the front; time, exchange
//! and routing keys stay those of the first time (RabbitMQ 4, "Dead Letter Exchanges": "Effects on Dead-Lettered Messages").

use bytes::Bytes;

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// basic.reject or basic.nack without requeue.
    Rejected,
    /// Its time to live, or its queue's, was over.
    Expired,
    /// The queue was full.
    MaxLength,
    /// Handed out more often than a quorum queue's delivery limit.
    DeliveryLimit,
}

impl Reason {
    /// As the headers name it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }

    pub fn named(name: &[u8]) -> Option<Reason> {
        [Reason::Rejected, Reason::Expired, Reason::MaxLength, Reason::DeliveryLimit]
            .into_iter()
            .find(|reason| reason.name().as_bytes() == name)
    }
}

/// One entry of `x-death`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub queue: Bytes,
    pub reason: Reason,
    /// How often.
    pub count: i64,
    /// When for the first time, seconds since the Unix epoch.
    pub time_seconds: u64,
    /// To which the message was published before it died for the first time here.
    pub exchange: Bytes,
    /// With which it was published then: its own and those of CC, without BCC.
    pub routing_keys: Vec<Bytes>,
    /// The `expiration` property that the message lost when it died here for the first time.
    pub original_expiration: Option<Bytes>,
}

/// All deaths of a message, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deaths(pub Vec<Death>);

impl Deaths {
    /// Notes one more death; `death.count` is 1.
    pub fn record(&mut self, death: Death) {
        let known = self.0.iter().position(|old| old.queue == death.queue && old.reason == death.reason);
        let newest = match known {
            Some(at) => {
                let old = self.0.remove(at);
                Death { count: old.count.saturating_add(1), ..old }
            }
            None => death,
        };
        self.0.insert(0, newest);
    }

    /// Whether handing the message to `target` would close a circle in which nobody rejected it: it died there before, and neither
    /// then nor since by a client's wish. Such a message would go round for ever.
    pub fn is_cycle(&self, target: &[u8]) -> bool {
        let Some(at) = self.0.iter().position(|death| death.queue == target) else { return false };
        self.0[..=at].iter().all(|death| death.reason != Reason::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &'static str, reason: Reason, time_seconds: u64) -> Death {
        Death {
            queue: queue.into(),
            reason,
            count: 1,
            time_seconds,
            exchange: "x".into(),
            routing_keys: vec!["k".into()],
            original_expiration: None,
        }
    }

    #[test]
    fn the_newest_is_first_and_the_same_death_counts() {
        let mut deaths = Deaths::default();
        deaths.record(death("a", Reason::Rejected, 1));
        deaths.record(death("b", Reason::Expired, 2));
        deaths.record(death("a", Reason::Expired, 3));
        let shown = |deaths: &Deaths| -> Vec<(Bytes, Reason, i64, u64)> {
            deaths.0.iter().map(|d| (d.queue.clone(), d.reason, d.count, d.time_seconds)).collect()
        };
        assert_eq!(
            shown(&deaths),
            [
                ("a".into(), Reason::Expired, 1, 3),
                ("b".into(), Reason::Expired, 1, 2),
                ("a".into(), Reason::Rejected, 1, 1)
            ]
        );
        let again = Death { exchange: "other".into(), ..death("a", Reason::Rejected, 9) };
        deaths.record(again);
        // Counted up and in front, but time and exchange are of the first.
        assert_eq!(deaths.0[0], Death { count: 2, ..death("a", Reason::Rejected, 1) });
        assert_eq!(deaths.0.len(), 3);
    }

    #[test]
    fn a_circle_without_rejection_is_a_cycle() {
        let mut deaths = Deaths::default();
        assert!(!deaths.is_cycle(b"a"));
        deaths.record(death("a", Reason::Expired, 1));
        assert!(deaths.is_cycle(b"a"));
        assert!(!deaths.is_cycle(b"b"));
        deaths.record(death("b", Reason::MaxLength, 2));
        assert!(deaths.is_cycle(b"a"));
        // A client said no somewhere on the way: it may go round again.
        deaths.record(death("c", Reason::Rejected, 3));
        assert!(!deaths.is_cycle(b"a"));
        assert!(!deaths.is_cycle(b"c"));
        // But only once: the next circle without a rejection is one.
        deaths.record(death("a", Reason::Expired, 4));
        assert!(deaths.is_cycle(b"a"));
        assert!(!deaths.is_cycle(b"b"));
    }

    #[test]
    fn reasons_have_the_names_of_the_header() {
        for reason in [Reason::Rejected, Reason::Expired, Reason::MaxLength, Reason::DeliveryLimit] {
            assert_eq!(Reason::named(reason.name().as_bytes()), Some(reason));
        }
        assert_eq!(Reason::named(b"old age"), None);
    }
}
