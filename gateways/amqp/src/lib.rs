//! The AMQP 0-9-1 gateway: speaks RabbitMQ's wire protocol to clients, and the core's contract to a log core.
