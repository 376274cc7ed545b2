//! Class exchange (40): what messages are published to. Auto-delete, internal, bind and unbind are RabbitMQ's.

use codec_record::amqp_message::{FieldTable, ShortStr};

use super::schema::method;

method! {
    Declare = 40, 10, "exchange.declare", before(u16) {
        exchange: ShortStr,
        /// `direct`, `topic` …
        kind: ShortStr,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        no_wait: bool,
        arguments: FieldTable,
    }
}

method! {
    DeclareOk = 40, 11, "exchange.declare-ok" {}
}

method! {
    Delete = 40, 20, "exchange.delete", before(u16) { exchange: ShortStr, if_unused: bool, no_wait: bool }
}

method! {
    DeleteOk = 40, 21, "exchange.delete-ok" {}
}

method! {
    /// What `source` routes goes to the exchange `destination`, too.
    Bind = 40, 30, "exchange.bind", before(u16) {
        destination: ShortStr,
        source: ShortStr,
        routing_key: ShortStr,
        no_wait: bool,
        arguments: FieldTable,
    }
}

method! {
    BindOk = 40, 31, "exchange.bind-ok" {}
}

method! {
    Unbind = 40, 40, "exchange.unbind", before(u16) {
        destination: ShortStr,
        source: ShortStr,
        routing_key: ShortStr,
        no_wait: bool,
        arguments: FieldTable,
    }
}

method! {
    /// 51, not 41: so it is in RabbitMQ and its clients.
    UnbindOk = 40, 51, "exchange.unbind-ok" {}
}
