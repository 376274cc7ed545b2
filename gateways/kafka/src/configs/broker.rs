//! The broker's configuration, as clients see it: how this gateway was started and what is built in. What clients have set since is in
//! [`super::dynamic`].
//!
//! The keys are those of Kafka that mean something here, and those that give the topics' defaults.

use codec_kafka::frame::DEFAULT_FRAME_BYTES_MAX;

use super::TOPIC_CONFIGS;
use super::definition::Kind;
use crate::{Config, Identity};

/// A key, its value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    pub name: &'static str,
    pub kind: Kind,
    pub value: Option<String>,
    /// Whether the gateway was told so when it was started; otherwise it is built in.
    pub given: bool,
    pub documentation: &'static str,
}

/// All keys of a broker, in the order of their names.
pub fn broker_configs(config: &Config, identity: &Identity, advertised: &(String, u16)) -> Vec<BrokerConfig> {
    let listener = |host: &str, port: u16| match host.contains(':') {
        true => format!("PLAINTEXT://[{host}]:{port}"),
        false => format!("PLAINTEXT://{host}:{port}"),
    };
    let given = |name, kind, value: String, documentation| BrokerConfig {
        name,
        kind,
        value: Some(value),
        given: true,
        documentation,
    };
    let built_in = |name, kind, value: &str, documentation| BrokerConfig {
        name,
        kind,
        value: Some(value.to_owned()),
        given: false,
        documentation,
    };
    let node_id = identity.node_id.to_string();
    let idle_ms = config.connections_max_idle.as_millis().to_string();
    let frame_bytes = DEFAULT_FRAME_BYTES_MAX.to_string();
    let groups = &config.groups;
    let retention_minutes = (groups.offsets_retention.as_secs() / 60).to_string();
    let mut configs = vec![
        given("advertised.listeners", Kind::String, listener(&advertised.0, advertised.1), "Where clients connect to."),
        given(
            "auto.create.topics.enable",
            Kind::Boolean,
            config.auto_create_topics.to_string(),
            "Whether asking for an unknown topic creates it.",
        ),
        given("broker.id", Kind::Int, node_id.clone(), "This broker's id."),
        given(
            "connections.max.idle.ms",
            Kind::Long,
            idle_ms,
            "After what time without a request a connection is closed.",
        ),
        given(
            "listeners",
            Kind::String,
            listener(&config.listen.ip().to_string(), config.listen.port()),
            "Where the broker listens.",
        ),
        given(
            "max.connections",
            Kind::Int,
            config.connections_max.to_string(),
            "Connections that may be open at once.",
        ),
        given("node.id", Kind::Int, node_id, "This broker's id."),
        given(
            "num.partitions",
            Kind::Int,
            config.num_partitions.to_string(),
            "Partitions of a topic that is created without saying how many.",
        ),
        given(
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            groups.initial_rebalance_delay_ms.to_string(),
            "How long the first rebalance of an empty group waits for more members.",
        ),
        given(
            "group.max.session.timeout.ms",
            Kind::Int,
            groups.session_timeout_ms_max.to_string(),
            "The longest session timeout of a group's member.",
        ),
        given("group.max.size", Kind::Int, groups.members_max.to_string(), "Members that a group may have."),
        given(
            "group.min.session.timeout.ms",
            Kind::Int,
            groups.session_timeout_ms_min.to_string(),
            "The shortest session timeout of a group's member.",
        ),
        given(
            "offset.metadata.max.bytes",
            Kind::Int,
            groups.offset_metadata_length_max.to_string(),
            "The longest metadata of a committed offset.",
        ),
        given(
            "offsets.retention.minutes",
            Kind::Int,
            retention_minutes,
            "How long the offsets of a group without members are kept.",
        ),
        given(
            "transaction.max.timeout.ms",
            Kind::Int,
            config.transactions.timeout_ms_max.to_string(),
            "The longest time after which a producer may ask for its open transactions to be aborted.",
        ),
        given(
            "transactional.id.expiration.ms",
            Kind::Int,
            config.transactions.id_expiration.as_millis().to_string(),
            "How long a transactional id is remembered that nobody uses.",
        ),
        built_in(
            "default.replication.factor",
            Kind::Int,
            "1",
            "Replicas of a topic that is created without saying how many.",
        ),
        built_in("delete.topic.enable", Kind::Boolean, "true", "Whether topics can be deleted."),
        built_in("fetch.max.bytes", Kind::Int, "57671680", "The greatest answer to a fetch."),
        built_in(
            "max.request.partition.size.limit",
            Kind::Int,
            "2000",
            "Partitions in one answer to DescribeTopicPartitions.",
        ),
        built_in("offsets.topic.replication.factor", Kind::Int, "1", "Replicas of what groups have committed."),
        built_in("socket.request.max.bytes", Kind::Int, &frame_bytes, "The largest request."),
        built_in("transaction.state.log.replication.factor", Kind::Int, "1", "Replicas of the transactions' state."),
    ];
    for definition in TOPIC_CONFIGS {
        if let Some(name) = definition.broker_synonym {
            configs.push(built_in(name, definition.kind, definition.default, definition.documentation));
        }
    }
    configs.sort_by_key(|config| config.name);
    configs
}
