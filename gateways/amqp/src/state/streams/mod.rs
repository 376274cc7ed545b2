//! Queues of type stream: read from any offset, again and again.
