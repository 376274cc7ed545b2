//! Whether a queue's arguments, an exchange's, or a binding's are such as RabbitMQ takes, with its texts where not.

use std::fmt;

use super::arguments::{Argument, Arguments};
use super::queue_config::{QueueType, max_age_ms};
use super::records::ExchangeKind;
use super::routing::{HashOn, WEIGHT_MAX, X_MATCH, X_MATCHES};
use crate::errors::Refusal;

/// What is named in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'r> {
    /// (vhost, name)
    Queue(&'r str, &'r str),
    Exchange(&'r str, &'r str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Queue(vhost, name) => write!(f, "queue '{name}' in vhost '{vhost}'"),
            Resource::Exchange(vhost, name) => write!(f, "exchange '{name}' in vhost '{vhost}'"),
        }
    }
}

/// The longest time that may be asked for: ten years, ms.
const EXPIRY_MS_MAX: i64 = 315_360_000_000;

/// What is wrong with a value, as RabbitMQ prints it.
type Problem = String;
type Check = fn(&Argument, &Arguments) -> Result<(), Problem>;

/// The arguments that are checked, of all types of queues.
const CHECKS: &[(&str, Check)] = &[
    ("x-expires", expires),
    ("x-message-ttl", message_ttl),
    ("x-dead-letter-exchange", text),
    ("x-dead-letter-routing-key", dead_letter_routing_key),
    ("x-dead-letter-strategy", dead_letter_strategy),
    ("x-max-length", not_negative),
    ("x-max-length-bytes", not_negative),
    ("x-max-in-memory-length", not_negative),
    ("x-max-in-memory-bytes", not_negative),
    ("x-max-priority", max_priority),
    ("x-overflow", overflow),
    ("x-queue-version", queue_version),
    ("x-single-active-consumer", boolean),
    ("x-consumer-timeout", not_negative),
    ("x-consumer-disconnected-timeout", not_negative),
    ("x-delivery-limit", integer_check),
    ("x-quorum-initial-group-size", positive),
    ("x-max-age", max_age),
    ("x-stream-max-segment-size-bytes", not_negative),
    ("x-stream-filter-size-bytes", not_negative),
    ("x-initial-cluster-size", positive),
    ("x-queue-leader-locator", leader_locator),
];

/// The arguments that a type of queue knows.
pub fn known_arguments(queue_type: QueueType) -> &'static [&'static str] {
    match queue_type {
        QueueType::Classic => &[
            "x-expires",
            "x-message-ttl",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
            "x-overflow",
            "x-queue-mode",
            "x-queue-version",
            "x-single-active-consumer",
            "x-queue-type",
            "x-queue-master-locator",
            "x-queue-leader-locator",
        ],
        QueueType::Quorum => &[
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-dead-letter-strategy",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-in-memory-length",
            "x-max-in-memory-bytes",
            "x-overflow",
            "x-single-active-consumer",
            "x-queue-type",
            "x-quorum-initial-group-size",
            "x-delivery-limit",
            "x-message-ttl",
            "x-queue-leader-locator",
            "x-consumer-disconnected-timeout",
            "x-consumer-timeout",
        ],
        QueueType::Stream => &[
            "x-max-length-bytes",
            "x-queue-type",
            "x-max-age",
            "x-stream-max-segment-size-bytes",
            "x-stream-filter-size-bytes",
            "x-initial-cluster-size",
            "x-queue-leader-locator",
        ],
    }
}

/// Whether a queue may be declared like this; `arguments` name its type.
pub fn queue(
    resource: Resource<'_>,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: &Arguments,
) -> Result<QueueType, Refusal> {
    let queue_type = queue_type(resource, arguments)?;
    let known = known_arguments(queue_type);
    for (name, check) in CHECKS.iter().filter(|(name, _)| known.contains(name)) {
        if let Some(value) = arguments.get(name) {
            check(value, arguments).map_err(|problem| invalid(name, resource, &problem))?;
        }
    }
    // An argument that no type knows is the client's own business.
    let is_foreign = |name: &str| {
        !known.contains(&name) && QueueType::ALL.iter().any(|other| known_arguments(*other).contains(&name))
    };
    if let Some(name) = arguments.0.keys().find(|name| is_foreign(name)) {
        return Err(Refusal::precondition_failed(format!(
            "invalid arg '{name}' for {resource} of queue type rabbit_{}_queue",
            queue_type.name()
        )));
    }
    if queue_type != QueueType::Classic {
        let property = match (auto_delete, exclusive, durable) {
            (true, ..) => Some("auto-delete"),
            (_, true, _) => Some("exclusive-owner"),
            (.., false) => Some("non-durable"),
            _ => None,
        };
        if let Some(property) = property {
            return Err(Refusal::precondition_failed(format!("invalid property '{property}' for {resource}")));
        }
    }
    if queue_type == QueueType::Stream {
        stream(arguments)?;
    }
    Ok(queue_type)
}

fn queue_type(resource: Resource<'_>, arguments: &Arguments) -> Result<QueueType, Refusal> {
    let problem = match arguments.get("x-queue-type") {
        None => return Ok(QueueType::Classic),
        Some(Argument::Text(name)) => match QueueType::of(name) {
            Some(queue_type) => return Ok(queue_type),
            None => format!("\"unsupported queue type '{name}'\""),
        },
        Some(other) => unacceptable(other),
    };
    Err(invalid("x-queue-type", resource, &problem))
}

/// The largest segment of a stream that RabbitMQ takes, bytes.
const STREAM_SEGMENT_BYTES_MAX: i64 = 3_000_000_000;

fn stream(arguments: &Arguments) -> Result<(), Refusal> {
    if arguments.integer("x-stream-max-segment-size-bytes").is_some_and(|size| size > STREAM_SEGMENT_BYTES_MAX) {
        return Err(Refusal::precondition_failed("Exceeded max value for x-stream-max-segment-size-bytes"));
    }
    if arguments.integer("x-stream-filter-size-bytes").is_some_and(|size| !(16..=255).contains(&size)) {
        return Err(Refusal::precondition_failed("Invalid value for x-stream-filter-size-bytes"));
    }
    Ok(())
}

fn invalid(name: &str, resource: Resource<'_>, problem: &str) -> Refusal {
    Refusal::precondition_failed(format!("invalid arg '{name}' for {resource}: {problem}"))
}

fn unacceptable(value: &Argument) -> Problem {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn integer(value: &Argument) -> Result<i64, Problem> {
    value.as_integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn integer_check(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    integer(value).map(drop)
}

fn not_negative(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    match integer(value)? {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        _ => Ok(()),
    }
}

fn positive(value: &Argument, arguments: &Arguments) -> Result<(), Problem> {
    not_negative(value, arguments)?;
    if integer(value)? == 0 { Err("{value_zero,0}".into()) } else { Ok(()) }
}

fn expiry(milliseconds: i64) -> Result<(), Problem> {
    match milliseconds {
        negative @ ..0 => Err(format!("{{value_negative,{negative}}}")),
        0..=EXPIRY_MS_MAX => Ok(()),
        large => Err(format!("{{value_too_large,{large}}}")),
    }
}

fn expires(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    match integer(value)? {
        0 => Err("{value_zero,0}".into()),
        milliseconds => expiry(milliseconds),
    }
}

fn message_ttl(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    expiry(integer(value)?)
}

fn max_priority(value: &Argument, arguments: &Arguments) -> Result<(), Problem> {
    not_negative(value, arguments)?;
    match integer(value)? {
        large @ 256.. => Err(format!("{{max_value_exceeded,{large}}}")),
        _ => Ok(()),
    }
}

fn boolean(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    value.as_bool().map(drop).ok_or_else(|| unacceptable(value))
}

fn text(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    value.as_text().map(drop).ok_or_else(|| unacceptable(value))
}

fn one_of(value: &Argument, allowed: &[&str], otherwise: &str) -> Result<(), Problem> {
    match value.as_text() {
        Some(text) if allowed.contains(&text) => Ok(()),
        Some(_) => Err(otherwise.into()),
        None => Err(unacceptable(value)),
    }
}

fn dead_letter_routing_key(value: &Argument, arguments: &Arguments) -> Result<(), Problem> {
    text(value, arguments)?;
    match arguments.get("x-dead-letter-exchange") {
        Some(_) => Ok(()),
        None => Err("routing_key_but_no_dlx_defined".into()),
    }
}

fn dead_letter_strategy(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    one_of(value, &["at-most-once", "at-least-once"], "invalid_dlx_strategy")
}

fn overflow(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow")
}

fn leader_locator(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    one_of(value, &["client-local", "balanced", "random", "least-leaders"], "invalid_queue_locator_arg")
}

fn queue_version(value: &Argument, arguments: &Arguments) -> Result<(), Problem> {
    not_negative(value, arguments)?;
    match integer(value)? {
        // Version 1 is of older servers; it changes nothing that a client sees.
        1 | 2 => Ok(()),
        other => Err(format!("\"unsupported queue version '{other}'\"")),
    }
}

fn max_age(value: &Argument, _: &Arguments) -> Result<(), Problem> {
    match value.as_text() {
        Some(text) => max_age_ms(text).map(drop).ok_or_else(|| "invalid_max_age".into()),
        None => Err(unacceptable(value)),
    }
}

/// How an exchange routes, as its arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Never [`ExchangeKind::Delayed`]: the type that a delayed exchange has inside.
    pub kind: ExchangeKind,
    pub hash_on: HashOn,
}

/// Whether an exchange may be declared like this.
pub fn exchange(kind: ExchangeKind, arguments: &Arguments) -> Result<Routing, Refusal> {
    let inner = match kind {
        ExchangeKind::Delayed => match arguments.text("x-delayed-type").and_then(ExchangeKind::of) {
            Some(ExchangeKind::Delayed) | None => {
                return Err(Refusal::precondition_failed(
                    "Invalid argument, 'x-delayed-type' must be an existing exchange type",
                ));
            }
            Some(inner) => inner,
        },
        kind => kind,
    };
    let hash_on = match inner {
        ExchangeKind::ConsistentHash => match (arguments.text("hash-header"), arguments.text("hash-property")) {
            (None, None) => HashOn::RoutingKey,
            (Some(header), None) => HashOn::Header(header.to_owned()),
            (None, Some(property @ ("correlation_id" | "message_id" | "timestamp"))) => {
                HashOn::Property(property.to_owned())
            }
            (None, Some(property)) => {
                return Err(Refusal::precondition_failed(format!("Unsupported property: {property}")));
            }
            (Some(_), Some(_)) => {
                return Err(Refusal::precondition_failed("hash-header and hash-property are mutually exclusive"));
            }
        },
        _ => HashOn::RoutingKey,
    };
    Ok(Routing { kind: inner, hash_on })
}

/// Whether an exchange of this type takes such a binding.
pub fn binding(kind: ExchangeKind, routing_key: &str, arguments: &Arguments) -> Result<(), Refusal> {
    match kind {
        ExchangeKind::Headers => match arguments.get(X_MATCH) {
            None => Ok(()),
            Some(Argument::Text(text)) if X_MATCHES.contains(&text.as_str()) => Ok(()),
            Some(Argument::Text(text)) => Err(Refusal::precondition_failed(format!(
                "Invalid x-match field value <<\"{text}\">>; expected all, any, all-with-x, or any-with-x"
            ))),
            Some(other) => Err(Refusal::precondition_failed(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                other.type_name(),
                other.to_text()
            ))),
        },
        ExchangeKind::ConsistentHash => match routing_key.parse::<i64>() {
            Err(_) => {
                Err(Refusal::precondition_failed(format!("The binding key must be an integer: <<\"{routing_key}\">>")))
            }
            Ok(..=0) => Err(Refusal::precondition_failed("The binding key must be greater than 0")),
            Ok(weight) if weight > i64::from(WEIGHT_MAX) => {
                Err(Refusal::precondition_failed(format!("The binding key must not exceed {WEIGHT_MAX}")))
            }
            Ok(_) => Ok(()),
        },
        ExchangeKind::LocalRandom if !routing_key.is_empty() => {
            Err(Refusal::precondition_failed(format!("Non empty binding '{routing_key}' key not permitted")))
        }
        _ => Ok(()),
    }
}

/// Whether an exchange of type `x-local-random` may lead to a queue of this type; None: to another exchange.
pub fn destination_of_local_random(queue_type: Option<QueueType>) -> Result<(), Refusal> {
    match queue_type {
        Some(QueueType::Classic) => Ok(()),
        Some(other) => Err(Refusal::precondition_failed(format!(
            "Queue type rabbit_{}_queue not valid for this exchange type",
            other.name()
        ))),
        None => Err(Refusal::precondition_failed("Destination not found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: serde_json::Value) -> String {
        let arguments = Arguments::from_json(&arguments).unwrap();
        match queue(Resource::Queue("/", "q"), true, false, false, &arguments) {
            Ok(_) => "ok".into(),
            Err(refusal) => refusal.text(),
        }
    }

    #[test]
    fn wrong_arguments_of_a_queue() {
        for (arguments, expected) in [
            (r#"{"x-message-ttl": 0, "x-max-length": 0, "unknown": "x"}"#, "ok"),
            (
                r#"{"x-message-ttl": "5"}"#,
                r#"x-message-ttl' for queue 'q' in vhost '/': "expected integer, got longstr""#,
            ),
            (r#"{"x-message-ttl": -1}"#, "x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}"),
            (r#"{"x-expires": 0}"#, "x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
            (r#"{"x-expires": 400000000000}"#, "x-expires' for queue 'q' in vhost '/': {value_too_large,400000000000}"),
            (r#"{"x-max-priority": 256}"#, "x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,256}"),
            (r#"{"x-overflow": "x"}"#, "x-overflow' for queue 'q' in vhost '/': invalid_overflow"),
            (r#"{"x-overflow": 5}"#, "x-overflow' for queue 'q' in vhost '/': {unacceptable_type,long}"),
            (
                r#"{"x-dead-letter-routing-key": "k"}"#,
                "x-dead-letter-routing-key' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined",
            ),
            (
                r#"{"x-delivery-limit": 5}"#,
                "x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
            ),
            (
                r#"{"x-queue-type": "quorum", "x-max-priority": 5}"#,
                "x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
            ),
            (
                r#"{"x-queue-type": "other"}"#,
                r#"x-queue-type' for queue 'q' in vhost '/': "unsupported queue type 'other'""#,
            ),
            (
                r#"{"x-queue-type": "stream", "x-max-age": "5"}"#,
                "x-max-age' for queue 'q' in vhost '/': invalid_max_age",
            ),
        ] {
            let expected = match expected {
                "ok" => "ok".to_owned(),
                rest => format!("PRECONDITION_FAILED - invalid arg '{rest}"),
            };
            assert_eq!(refused(serde_json::from_str(arguments).unwrap()), expected);
        }
    }

    #[test]
    fn a_quorum_queue_is_durable_and_nobodys() {
        let arguments = Arguments::from_json(&serde_json::json!({"x-queue-type": "quorum"})).unwrap();
        let asked = |durable, exclusive, auto_delete| {
            queue(Resource::Queue("v", "q"), durable, exclusive, auto_delete, &arguments).map_err(|error| error.text())
        };
        let refused =
            |property| Err(format!("PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost 'v'"));
        assert_eq!(asked(true, false, false), Ok(QueueType::Quorum));
        assert_eq!(asked(false, false, false), refused("non-durable"));
        assert_eq!(asked(true, true, false), refused("exclusive-owner"));
        assert_eq!(asked(true, false, true), refused("auto-delete"));
    }

    #[test]
    fn bindings_that_the_type_does_not_take() {
        let none = Arguments::default();
        assert!(binding(ExchangeKind::ConsistentHash, "10", &none).is_ok());
        for bad in ["x", "", "0", "-1", "10001"] {
            assert!(binding(ExchangeKind::ConsistentHash, bad, &none).is_err(), "{bad}");
        }
        let matching = |value: &str| [(X_MATCH.to_owned(), Argument::Text(value.into()))].into_iter().collect();
        assert!(binding(ExchangeKind::Headers, "", &matching("any-with-x")).is_ok());
        assert!(binding(ExchangeKind::Headers, "", &matching("some")).is_err());
        assert!(exchange(ExchangeKind::Delayed, &none).is_err());
    }
}
