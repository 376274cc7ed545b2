//! When a message is over: its own `expiration` and its queue's `x-message-ttl`, whichever comes first. Pure.

/// When a message expires, ms since the Unix epoch; None: never.
///
/// `arrived_ms` is when it came into the queue, `expires_ms` the stored time of its own expiry (0: none), `ttl_ms` the queue's as it
/// is now, so that a policy that comes later applies to what lies there already.
pub fn deadline_ms(arrived_ms: i64, expires_ms: i64, ttl_ms: Option<u64>) -> Option<i64> {
    let own = Some(expires_ms).filter(|at_ms| *at_ms != 0);
    let queue = ttl_ms.map(|ttl_ms| arrived_ms.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX)));
    own.into_iter().chain(queue).min()
}

/// Whether a message may no longer be given to a consumer that is there now.
///
/// One whose time to live is nothing is for a consumer that is ready when it comes: handing it out takes a moment, which is not
/// held against it.
pub fn is_over(deadline_ms: Option<i64>, arrived_ms: i64, now_ms: i64) -> bool {
    deadline_ms.is_some_and(|at_ms| {
        let grace_ms = if at_ms <= arrived_ms { AT_ONCE_MS } else { 0 };
        at_ms.saturating_add(grace_ms) <= now_ms
    })
}

/// Whether a message may no longer be given to somebody who asks for it now, having not waited for it; or that was handed out before,
/// and was given back.
pub fn is_past(deadline_ms: Option<i64>, now_ms: i64) -> bool {
    deadline_ms.is_some_and(|at_ms| at_ms <= now_ms)
}

/// When to look whether a message with this deadline is over: when [`is_over`] says yes.
pub fn look_ms(deadline_ms: i64, arrived_ms: i64) -> i64 {
    if deadline_ms <= arrived_ms { deadline_ms.saturating_add(AT_ONCE_MS) } else { deadline_ms }
}

/// How long a message without time to live may take from its arrival to a waiting consumer.
pub const AT_ONCE_MS: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_one_counts() {
        assert_eq!(deadline_ms(1000, 0, None), None);
        assert_eq!(deadline_ms(1000, 0, Some(500)), Some(1500));
        assert_eq!(deadline_ms(1000, 1200, Some(500)), Some(1200));
        assert_eq!(deadline_ms(1000, 1700, Some(500)), Some(1500));
        assert_eq!(deadline_ms(1000, 1700, None), Some(1700));
        assert_eq!(deadline_ms(1000, 0, Some(u64::MAX)), Some(i64::MAX));
    }

    #[test]
    fn over_is_at_the_deadline() {
        assert!(!is_over(None, 1000, i64::MAX));
        assert!(!is_over(Some(1500), 1000, 1499));
        assert!(is_over(Some(1500), 1000, 1500));
        assert!(!is_past(Some(1500), 1499) && is_past(Some(1500), 1500) && is_past(Some(1000), 1000));
        // No time to live: whoever waits gets it.
        assert!(!is_over(Some(1000), 1000, 1000));
        assert!(is_over(Some(1000), 1000, 1000 + AT_ONCE_MS));
    }
}
