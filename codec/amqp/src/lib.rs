//! AMQP 0-9-1, with RabbitMQ's extensions: bytes ↔ frames, methods, tables and contents. No I/O, no clock.
