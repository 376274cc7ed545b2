//! Batches that another protocol reads than the one that wrote them: stored bytes of the one → stored form of the other,
//! by the neutral [`Message`](crate::Message). Offsets stay what they are; nothing of this is ever written back.

mod amqp;
mod kafka;
mod mqtt;
pub mod names;

pub use amqp::{AmqpMessages, amqp_messages, amqp_payload};
pub use kafka::kafka_batch;
pub use mqtt::{Belongs, MqttMessages, mqtt_messages, mqtt_messages_where};
