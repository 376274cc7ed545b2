//! Class access (30): of AMQP 0-8. RabbitMQ answers it and means nothing by it; old clients ask.

use codec_record::amqp_message::ShortStr;

use super::schema::method;

method! {
    Request = 30, 10, "access.request" {
        realm: ShortStr,
        exclusive: bool,
        passive: bool,
        active: bool,
        write: bool,
        read: bool,
    }
}

method! {
    RequestOk = 30, 11, "access.request-ok" { ticket: u16 }
}
