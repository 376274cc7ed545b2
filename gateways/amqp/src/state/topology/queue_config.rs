//! What a queue does, as it follows from its arguments and the policies that match it.
//!
//! A policy's value stands where the queue has no argument of that name; where both have one, the smaller number counts (for
//! the operator's policy too), and otherwise the argument, but for streams' and `overflow` of quorum queues, where the policy does.

use serde_json::{Map, Value};

use super::arguments::{Argument, Arguments};

/// Redeliveries that a quorum queue allows where nobody says otherwise.
const DELIVERY_LIMIT_DEFAULT: u32 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    #[default]
    Classic,
    Quorum,
    Stream,
}

impl QueueType {
    pub const ALL: [QueueType; 3] = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];

    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
            QueueType::Stream => "stream",
        }
    }

    pub fn of(name: &str) -> Option<QueueType> {
        QueueType::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a policy calls them that applies to queues of this type only.
    pub fn apply_to(self) -> &'static str {
        match self {
            QueueType::Classic => "classic_queues",
            QueueType::Quorum => "quorum_queues",
            QueueType::Stream => "streams",
        }
    }
}

/// What becomes of a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    #[default]
    AtMostOnce,
    AtLeastOnce,
}

/// The effective settings of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueConfig {
    pub queue_type: QueueType,
    pub message_ttl_ms: Option<u64>,
    /// The queue is deleted when nobody used it for so long.
    pub expires_ms: Option<u64>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_routing_key: Option<String>,
    pub dead_letter_strategy: DeadLetterStrategy,
    /// None: all messages are alike.
    pub max_priority: Option<u8>,
    pub single_active_consumer: bool,
    /// After so many failed deliveries a message is dead. None: no limit.
    pub delivery_limit: Option<u32>,
    /// Streams: messages older than this are dropped.
    pub max_age_ms: Option<u64>,
    /// Streams: the size of a segment, as declared.
    pub stream_segment_bytes_max: Option<u64>,
    pub consumer_timeout_ms: Option<u64>,
}

impl QueueConfig {
    /// Of a queue's arguments, which were checked, and the definition of the policies that match it, merged.
    pub fn of(arguments: &Arguments, policy: &Map<String, Value>) -> QueueConfig {
        let queue_type = arguments.text("x-queue-type").and_then(QueueType::of).unwrap_or_default();
        let is_stream = queue_type == QueueType::Stream;
        let source = Source { arguments, policy };
        let delivery_limit = match queue_type {
            QueueType::Quorum => match source.delivery_limit() {
                None => Some(DELIVERY_LIMIT_DEFAULT),
                // Below zero: no limit.
                Some(limit) => u32::try_from(limit).ok(),
            },
            _ => None,
        };
        QueueConfig {
            queue_type,
            message_ttl_ms: source.smaller("message-ttl").filter(|_| !is_stream),
            expires_ms: source.smaller("expires").filter(|_| !is_stream),
            max_length: source.smaller("max-length").filter(|_| !is_stream),
            max_length_bytes: match is_stream {
                true => source.policy_integer("max-length-bytes").or_else(|| source.integer("x-max-length-bytes")),
                false => source.smaller("max-length-bytes"),
            },
            overflow: match source.text("overflow", queue_type != QueueType::Classic) {
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            dead_letter_exchange: source.text("dead-letter-exchange", false).map(Into::into),
            dead_letter_routing_key: source.text("dead-letter-routing-key", false).map(Into::into),
            dead_letter_strategy: match source.text("dead-letter-strategy", false) {
                Some("at-least-once") => DeadLetterStrategy::AtLeastOnce,
                _ => DeadLetterStrategy::AtMostOnce,
            },
            max_priority: source.integer("x-max-priority").and_then(|priority| u8::try_from(priority).ok()),
            single_active_consumer: arguments.get("x-single-active-consumer").and_then(Argument::as_bool) == Some(true),
            delivery_limit,
            max_age_ms: source.text("max-age", true).and_then(max_age_ms).filter(|_| is_stream),
            stream_segment_bytes_max: source
                .policy_integer("stream-max-segment-size-bytes")
                .or_else(|| source.integer("x-stream-max-segment-size-bytes")),
            consumer_timeout_ms: source.smaller("consumer-timeout"),
        }
    }

    /// Partitions of the queue's topic: one for each priority.
    pub fn partitions(&self) -> u32 {
        self.max_priority.map_or(1, |priority| u32::from(priority) + 1)
    }

    /// Whether a publish must ask for room first.
    pub fn is_limited(&self) -> bool {
        self.queue_type != QueueType::Stream && (self.max_length.is_some() || self.max_length_bytes.is_some())
    }
}

struct Source<'s> {
    arguments: &'s Arguments,
    policy: &'s Map<String, Value>,
}

impl<'s> Source<'s> {
    fn integer(&self, argument: &str) -> Option<u64> {
        u64::try_from(self.arguments.integer(argument)?).ok()
    }

    fn policy_integer(&self, name: &str) -> Option<u64> {
        self.policy.get(name)?.as_u64()
    }

    fn smaller(&self, name: &str) -> Option<u64> {
        let (argument, policy) = (self.integer(&format!("x-{name}")), self.policy_integer(name));
        argument.into_iter().chain(policy).min()
    }

    fn text(&self, name: &str, policy_first: bool) -> Option<&'s str> {
        let argument = self.arguments.text(&format!("x-{name}"));
        let policy = self.policy.get(name).and_then(Value::as_str);
        if policy_first { policy.or(argument) } else { argument.or(policy) }
    }

    fn delivery_limit(&self) -> Option<i64> {
        let argument = self.arguments.integer("x-delivery-limit");
        let policy = self.policy.get("delivery-limit").and_then(Value::as_i64);
        match (argument, policy) {
            (Some(argument), Some(policy)) => Some(stricter_limit(argument, policy)),
            (argument, policy) => argument.or(policy),
        }
    }
}

/// The stricter of two delivery limits, of which a negative one is none.
pub fn stricter_limit(one: i64, other: i64) -> i64 {
    if one < 0 || other < 0 { one.max(other) } else { one.min(other) }
}

/// `7D`, `12h`: a number and Y (years of 365 days), M (months of 30), D, h, m or s, in ms.
pub fn age_ms(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).filter(|at| *at > 0)?;
    let unit_seconds: u64 = match &text[digits..] {
        "Y" => 365 * 24 * 3600,
        "M" => 30 * 24 * 3600,
        "D" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let number: u64 = text[..digits].parse().ok()?;
    number.checked_mul(unit_seconds)?.checked_mul(1000)
}

/// An age after which something goes: not at once.
pub fn max_age_ms(text: &str) -> Option<u64> {
    age_ms(text).filter(|age_ms| *age_ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: Value, policy: Value) -> QueueConfig {
        let Value::Object(policy) = policy else { panic!("no object") };
        QueueConfig::of(&Arguments::from_json(&arguments).unwrap(), &policy)
    }

    #[test]
    fn the_smaller_number_counts() {
        let config = config(
            serde_json::json!({"x-message-ttl": 500, "x-max-length": 10}),
            serde_json::json!({"message-ttl": 300, "max-length": 20, "expires": 7}),
        );
        assert_eq!((config.message_ttl_ms, config.max_length, config.expires_ms), (Some(300), Some(10), Some(7)));
        assert!(config.is_limited());
    }

    #[test]
    fn an_argument_goes_before_a_policys_exchange() {
        let policy = serde_json::json!({"dead-letter-exchange": "p", "overflow": "reject-publish"});
        let classic =
            config(serde_json::json!({"x-dead-letter-exchange": "a", "x-overflow": "drop-head"}), policy.clone());
        assert_eq!(classic.dead_letter_exchange.as_deref(), Some("a"));
        assert_eq!(classic.overflow, Overflow::DropHead);
        let quorum = config(serde_json::json!({"x-queue-type": "quorum", "x-overflow": "drop-head"}), policy);
        assert_eq!((quorum.dead_letter_exchange.as_deref(), quorum.overflow), (Some("p"), Overflow::RejectPublish));
    }

    #[test]
    fn delivery_limits() {
        let limit = |arguments, policy| config(arguments, policy).delivery_limit;
        let none = || serde_json::json!({});
        assert_eq!(limit(none(), serde_json::json!({"delivery-limit": 5})), None, "classic queues have none");
        assert_eq!(limit(serde_json::json!({"x-queue-type": "quorum"}), none()), Some(20));
        let with = |limit: i64| serde_json::json!({"x-queue-type": "quorum", "x-delivery-limit": limit});
        assert_eq!(limit(with(-1), none()), None);
        assert_eq!(limit(with(9), serde_json::json!({"delivery-limit": 5})), Some(5));
        assert_eq!(limit(with(-1), serde_json::json!({"delivery-limit": 5})), Some(5));
    }

    #[test]
    fn ages() {
        assert_eq!(age_ms("7D"), Some(7 * 24 * 3600 * 1000));
        assert_eq!(age_ms("1s"), Some(1000));
        assert_eq!((age_ms("0s"), max_age_ms("0s"), max_age_ms("1s")), (Some(0), None, Some(1000)));
        for bad in ["", "D", "5", "5x", "5 s", "-5s", "99999999999999999999Y"] {
            assert_eq!(age_ms(bad), None, "{bad}");
        }
    }
}
