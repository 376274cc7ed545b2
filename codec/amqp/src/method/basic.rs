//! Class basic (60): messages.

use codec_record::amqp_message::{FieldTable, ShortStr};

use super::schema::method;

method! {
    Qos = 60, 10, "basic.qos" {
        /// Bytes; RabbitMQ takes only 0.
        prefetch_size: u32,
        /// Messages; 0: any number.
        prefetch_count: u16,
        /// In RabbitMQ: for the channel as a whole, not for each consumer.
        global: bool,
    }
}

method! {
    QosOk = 60, 11, "basic.qos-ok" {}
}

method! {
    Consume = 60, 20, "basic.consume", before(u16) {
        queue: ShortStr,
        /// Empty: the server makes one up.
        consumer_tag: ShortStr,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        no_wait: bool,
        arguments: FieldTable,
    }
}

method! {
    ConsumeOk = 60, 21, "basic.consume-ok" { consumer_tag: ShortStr }
}

method! {
    /// Of the server, too, where the client's capabilities have `consumer_cancel_notify` (RabbitMQ's).
    Cancel = 60, 30, "basic.cancel" { consumer_tag: ShortStr, no_wait: bool }
}

method! {
    CancelOk = 60, 31, "basic.cancel-ok" { consumer_tag: ShortStr }
}

method! {
    /// Followed by a content.
    Publish = 60, 40, "basic.publish", before(u16) {
        exchange: ShortStr,
        routing_key: ShortStr,
        mandatory: bool,
        immediate: bool,
    }
}

method! {
    /// A message that found no queue. Followed by a content.
    Return = 60, 50, "basic.return" {
        reply_code: u16,
        reply_text: ShortStr,
        exchange: ShortStr,
        routing_key: ShortStr,
    }
}

method! {
    /// Followed by a content.
    Deliver = 60, 60, "basic.deliver" {
        consumer_tag: ShortStr,
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortStr,
        routing_key: ShortStr,
    }
}

method! {
    Get = 60, 70, "basic.get", before(u16) { queue: ShortStr, no_ack: bool }
}

method! {
    /// Followed by a content.
    GetOk = 60, 71, "basic.get-ok" {
        delivery_tag: u64,
        redelivered: bool,
        exchange: ShortStr,
        routing_key: ShortStr,
        /// How many are left.
        message_count: u32,
    }
}

method! {
    GetEmpty = 60, 72, "basic.get-empty" {} behind(ShortStr)
}

method! {
    /// Of a consumer; of the server as a publisher's confirm (RabbitMQ's).
    Ack = 60, 80, "basic.ack" {
        /// With `multiple`, 0 is all.
        delivery_tag: u64,
        multiple: bool,
    }
}

method! {
    Reject = 60, 90, "basic.reject" { delivery_tag: u64, requeue: bool }
}

method! {
    /// Has no answer; deprecated.
    RecoverAsync = 60, 100, "basic.recover-async" { requeue: bool }
}

method! {
    Recover = 60, 110, "basic.recover" { requeue: bool }
}

method! {
    RecoverOk = 60, 111, "basic.recover-ok" {}
}

method! {
    /// RabbitMQ's: a reject of many; of the server, a publish that failed.
    Nack = 60, 120, "basic.nack" { delivery_tag: u64, multiple: bool, requeue: bool }
}
