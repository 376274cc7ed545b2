//! What the server says of itself in `connection.start`.
//!
//! `product` is `RabbitMQ` and `version` a version of RabbitMQ 4: clients decide by them what they may use (Spring AMQP,
//! Celery and several management tools parse the version; some refuse what is not RabbitMQ). Who really answers is
//! told in `platform` and `information`.

use codec_amqp::{FieldTable, FieldValue, ShortStr};

/// The version whose behaviour is the model.
pub const RABBITMQ_VERSION: &str = "4.1.0";

/// The properties. `cluster_name` is the same on all gateways of a core.
pub fn server_properties(cluster_name: &str) -> FieldTable {
    let yes = |name| (ShortStr::from_static(name), FieldValue::Bool(true));
    let capabilities: FieldTable = [
        yes("publisher_confirms"),
        yes("exchange_exchange_bindings"),
        yes("basic.nack"),
        yes("consumer_cancel_notify"),
        yes("connection.blocked"),
        yes("consumer_priorities"),
        yes("authentication_failure_close"),
        yes("per_consumer_qos"),
        yes("direct_reply_to"),
    ]
    .into_iter()
    .collect();
    let text = |name, value: &str| (ShortStr::from_static(name), FieldValue::text(value));
    [
        (ShortStr::from_static("capabilities"), FieldValue::Table(capabilities)),
        text("cluster_name", cluster_name),
        text("copyright", "The PolyMQ authors"),
        text("information", concat!("PolyMQ ", env!("CARGO_PKG_VERSION"), ": AMQP 0-9-1 as RabbitMQ speaks it")),
        text("platform", concat!("PolyMQ ", env!("CARGO_PKG_VERSION"))),
        text("product", "RabbitMQ"),
        text("version", RABBITMQ_VERSION),
    ]
    .into_iter()
    .collect()
}
