//! The subscriptions of clients' metrics (KIP-714), as far as a Kafka without a receiver for them has them: they can be set,
//! described and listed, and nobody is asked for metrics.

use super::Labels;
use super::definition::{Allowed, Definition, Effect, Kind, elements};
use crate::errors::{ErrorCode, Refusal};

const METRICS: &str = "metrics";
const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";

/// What a client may be told by in a pattern.
const MATCHED: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// The keys of a subscription, by name.
pub const CLIENT_METRICS_CONFIGS: &[Definition] = &[
    Definition {
        name: INTERVAL,
        kind: Kind::Int,
        default: "300000",
        allowed: Allowed::Range(100, 3_600_000),
        effect: Effect::Moot("there is no receiver for clients' metrics"),
        broker_synonym: None,
        documentation: "How often clients push their metrics.",
    },
    Definition {
        name: MATCH,
        kind: Kind::List,
        default: "",
        allowed: Allowed::Any,
        effect: Effect::Moot("there is no receiver for clients' metrics"),
        broker_synonym: None,
        documentation: "Which clients the subscription is for: patterns such as client_id=app-.*.",
    },
    Definition {
        name: METRICS,
        kind: Kind::List,
        default: "",
        allowed: Allowed::Any,
        effect: Effect::Moot("there is no receiver for clients' metrics"),
        broker_synonym: None,
        documentation: "Beginnings of the names of the metrics that clients push.",
    },
];

pub fn client_metrics_definition(name: &str) -> Option<&'static Definition> {
    CLIENT_METRICS_CONFIGS.iter().find(|definition| definition.name == name)
}

/// Checks a subscription, with Kafka's errors.
pub fn check_client_metrics(labels: &Labels) -> Result<(), Refusal> {
    let refused = |code, message: String| Err(Refusal::new(code, message));
    for (name, value) in labels {
        let Some(definition) = client_metrics_definition(name) else {
            return refused(ErrorCode::InvalidRequest, format!("Unknown client metrics configuration: {name}"));
        };
        if definition.check(value).is_err() {
            return refused(
                ErrorCode::InvalidRequest,
                format!("Invalid value {value} for {name}, interval must be between 100 and 3600000 (1 hour)"),
            );
        }
    }
    for pattern in labels.get(MATCH).into_iter().flat_map(|patterns| elements(patterns)) {
        let is_good = pattern.split_once('=').is_some_and(|(name, expression)| {
            MATCHED.contains(&name.trim()) && regex_lite::Regex::new(expression.trim()).is_ok()
        });
        if !is_good {
            return refused(ErrorCode::InvalidConfig, format!("Illegal client matching pattern: {pattern}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_checked() {
        let code = |name: &str, value: &str| {
            check_client_metrics(&Labels::from([(name.into(), value.into())])).err().map(|refusal| refusal.code)
        };
        assert_eq!(code("metrics", "org.apache.kafka.consumer."), None);
        assert_eq!(code("interval.ms", "100"), None);
        assert_eq!(code("interval.ms", "99"), Some(ErrorCode::InvalidRequest));
        assert_eq!(code("nope", "1"), Some(ErrorCode::InvalidRequest));
        assert_eq!(code("match", "client_id=a.*,client_source_port=1"), None);
        for pattern in ["x=a", "client_id", "client_id=("] {
            assert_eq!(code("match", pattern), Some(ErrorCode::InvalidConfig), "{pattern}");
        }
    }
}
