//! Policies: which one matches a queue or an exchange, and what two of them say together.
//!
//! Patterns are Perl's, as RabbitMQ takes them: those in use look ahead (`^(?!amq\.).+`).

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::queue_config::{QueueType, max_age_ms, stricter_limit};
use super::records::PolicyRecord;

/// What a policy may apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Queue(QueueType),
    Exchange,
}

/// A policy that can be matched.
#[derive(Debug)]
pub struct Policy {
    pub record: PolicyRecord,
    pattern: Option<Regex>,
}

/// Keys that a type of queue does not know: a policy that has one does not apply to it at all.
fn unsupported(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic => &[
            "delivery-limit",
            "dead-letter-strategy",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "max-age",
            "stream-max-segment-size-bytes",
            "stream-filter-size-bytes",
            "initial-cluster-size",
        ],
        QueueType::Quorum => &[
            "max-age",
            "stream-max-segment-size-bytes",
            "stream-filter-size-bytes",
            "initial-cluster-size",
            "queue-mode",
        ],
        QueueType::Stream => &[
            "expires",
            "message-ttl",
            "max-length",
            "overflow",
            "dead-letter-exchange",
            "dead-letter-routing-key",
            "dead-letter-strategy",
            "delivery-limit",
            "queue-mode",
            "max-in-memory-length",
            "max-in-memory-bytes",
        ],
    }
}

impl Policy {
    pub fn new(record: PolicyRecord) -> Policy {
        let pattern = Regex::new(&record.pattern);
        if let Err(error) = &pattern {
            tracing::warn!(pattern = record.pattern, %error, "a policy's pattern cannot be read; it matches nothing");
        }
        Policy { pattern: pattern.ok(), record }
    }

    fn matches(&self, target: Target, name: &str) -> bool {
        let applies = match (target, self.record.apply_to.as_str()) {
            (_, "all") | (Target::Queue(_), "queues") | (Target::Exchange, "exchanges") => true,
            (Target::Queue(queue_type), apply_to) => apply_to == queue_type.apply_to(),
            _ => false,
        };
        let supported = match target {
            Target::Exchange => true,
            Target::Queue(queue_type) => {
                !self.record.definition.keys().any(|key| unsupported(queue_type).contains(&key.as_str()))
            }
        };
        let is_match = |pattern: &Regex| pattern.is_match(name).unwrap_or(false);
        applies && supported && self.pattern.as_ref().is_some_and(is_match)
    }
}

/// The policy of the highest priority that matches; its name with it.
pub fn best<'p>(policies: &'p BTreeMap<String, Policy>, target: Target, name: &str) -> Option<(&'p str, &'p Policy)> {
    let matching = policies.iter().filter(|(_, policy)| policy.matches(target, name));
    let best =
        matching.reduce(|best, other| if other.1.record.priority > best.1.record.priority { other } else { best });
    best.map(|(name, policy)| (name.as_str(), policy))
}

/// What a policy and an operator's policy say together: of what both set, the stricter.
pub fn merged(policy: Option<&Policy>, operator: Option<&Policy>) -> Map<String, Value> {
    let mut merged = policy.map(|policy| policy.record.definition.clone()).unwrap_or_default();
    for (key, operators) in operator.iter().flat_map(|policy| &policy.record.definition) {
        let value = match (merged.get(key).and_then(Value::as_i64), operators.as_i64()) {
            (Some(own), Some(operators)) if key == "delivery-limit" => stricter_limit(own, operators).into(),
            (Some(own), Some(operators)) => own.min(operators).into(),
            _ => operators.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

/// Whether a definition may be set, with RabbitMQ's reason where not. `operator`: as an operator's policy.
pub fn validate(definition: &Map<String, Value>, operator: bool) -> Result<(), String> {
    const OPERATORS: [&str; 8] = [
        "expires",
        "message-ttl",
        "max-length",
        "max-length-bytes",
        "max-in-memory-length",
        "max-in-memory-bytes",
        "delivery-limit",
        "overflow",
    ];
    if definition.is_empty() {
        return Err("no policy provided".into());
    }
    for (key, value) in definition {
        let at_least = |least: i64| value.as_i64().is_some_and(|value| value >= least);
        let one_of = |texts: &[&str]| value.as_str().is_some_and(|text| texts.contains(&text));
        let (is_valid, what) = match key.as_str() {
            other if operator && !OPERATORS.contains(&other) => {
                return Err(format!("[{{<<\"{other}\">>,{value}}}] are not recognised policy settings"));
            }
            "alternate-exchange" => (value.is_string(), "alternate exchange name"),
            "consumer-timeout" => (at_least(0), "consumer timeout"),
            "dead-letter-exchange" => (value.is_string(), "dead letter exchange name"),
            "dead-letter-routing-key" => (value.is_string(), "dead letter routing key"),
            "dead-letter-strategy" => (one_of(&["at-most-once", "at-least-once"]), "dead letter strategy"),
            "message-ttl" => (at_least(0), "message TTL"),
            "expires" => (at_least(1), "queue expiry"),
            "max-length" => (at_least(0), "maximum length"),
            "max-length-bytes" => (at_least(0), "maximum length in bytes"),
            "max-in-memory-length" | "max-in-memory-bytes" => (at_least(0), "maximum memory in bytes"),
            "queue-mode" => (one_of(&["default", "lazy"]), "queue-mode value"),
            "queue-version" => (matches!(value.as_i64(), Some(1 | 2)), "queue-version value"),
            "overflow" => (one_of(&["drop-head", "reject-publish", "reject-publish-dlx"]), "overflow value"),
            "delivery-limit" => (value.is_i64() || value.is_u64(), "delivery limit"),
            "max-age" => (value.as_str().and_then(max_age_ms).is_some(), "max age"),
            "queue-leader-locator" | "queue-master-locator" => (value.is_string(), "queue leader locator value"),
            "initial-cluster-size" => (at_least(0), "cluster size"),
            "stream-max-segment-size-bytes" => (at_least(0), "segment size"),
            "stream-filter-size-bytes" => {
                (value.as_i64().is_some_and(|size| (16..=255).contains(&size)), "filter size. Valid range is 16-255")
            }
            // Of mirrored classic queues, which definitions of older servers still have: there is nothing to mirror.
            "ha-mode"
            | "ha-params"
            | "ha-sync-mode"
            | "ha-sync-batch-size"
            | "ha-promote-on-shutdown"
            | "ha-promote-on-failure" => (true, ""),
            // Of federation, likewise.
            "federation-upstream" | "federation-upstream-set" => (true, ""),
            other => return Err(format!("[{{<<\"{other}\">>,{value}}}] are not recognised policy settings")),
        };
        if !is_valid {
            let shown = value.as_str().map_or_else(|| value.to_string(), |text| format!("<<\"{text}\">>"));
            return Err(format!("{shown} is not a valid {what}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policies(list: &[(&str, &str, &str, i64, Value)]) -> BTreeMap<String, Policy> {
        let policy = |(name, pattern, apply_to, priority, definition): &(&str, &str, &str, i64, Value)| {
            let definition = definition.as_object().unwrap().clone();
            let record = PolicyRecord {
                pattern: pattern.to_string(),
                apply_to: apply_to.to_string(),
                definition,
                priority: *priority,
            };
            (name.to_string(), Policy::new(record))
        };
        list.iter().map(policy).collect()
    }

    #[test]
    fn the_highest_priority_that_matches() {
        let policies = policies(&[
            ("all", ".*", "all", 0, json!({"expires": 5})),
            ("not-ours", r"^(?!amq\.).+", "queues", 5, json!({"max-length": 5})),
            ("limit", "^q", "quorum_queues", 9, json!({"delivery-limit": 5})),
            ("age", "^q", "queues", 10, json!({"max-age": "1D"})),
        ]);
        let name = |target, name| best(&policies, target, name).map(|(name, _)| name);
        let classic = Target::Queue(QueueType::Classic);
        assert_eq!(name(classic, "q"), Some("not-ours"));
        assert_eq!(name(classic, "amq.gen-x"), Some("all"));
        assert_eq!(name(Target::Queue(QueueType::Quorum), "q"), Some("limit"));
        assert_eq!(name(Target::Queue(QueueType::Stream), "q"), Some("age"));
        assert_eq!(name(Target::Exchange, "q"), Some("all"));
    }

    #[test]
    fn the_stricter_of_two() {
        let own = Policy::new(PolicyRecord {
            pattern: String::new(),
            apply_to: "all".into(),
            definition: json!({"max-length": 10, "expires": 5, "delivery-limit": -1}).as_object().unwrap().clone(),
            priority: 0,
        });
        let operator = Policy::new(PolicyRecord {
            definition: json!({"max-length": 5, "expires": 9, "delivery-limit": 7}).as_object().unwrap().clone(),
            ..own.record.clone()
        });
        let expected = json!({"max-length": 5, "expires": 5, "delivery-limit": 7});
        assert_eq!(Value::Object(merged(Some(&own), Some(&operator))), expected);
    }

    #[test]
    fn what_may_be_set() {
        let asked = |definition: Value, operator| validate(definition.as_object().unwrap(), operator);
        assert_eq!(asked(json!({"message-ttl": 5, "dead-letter-exchange": "x"}), false), Ok(()));
        assert_eq!(asked(json!({"message-ttl": "5"}), false), Err("<<\"5\">> is not a valid message TTL".into()));
        assert!(asked(json!({"unknown": 5}), false).is_err() && asked(json!({}), false).is_err());
        assert!(asked(json!({"dead-letter-exchange": "x"}), true).is_err());
    }
}
