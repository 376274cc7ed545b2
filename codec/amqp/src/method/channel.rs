//! Class channel (20): one of many conversations on a connection.

use bytes::Bytes;
use codec_record::amqp_message::ShortStr;

use super::schema::method;

method! {
    Open = 20, 10, "channel.open" {} behind(ShortStr)
}

method! {
    OpenOk = 20, 11, "channel.open-ok" {} behind(Bytes)
}

method! {
    /// Stops or resumes deliveries.
    Flow = 20, 20, "channel.flow" { active: bool }
}

method! {
    FlowOk = 20, 21, "channel.flow-ok" { active: bool }
}

method! {
    /// The end of the channel, with the method that was at fault, or 0.
    Close = 20, 40, "channel.close" { reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16 }
}

method! {
    CloseOk = 20, 41, "channel.close-ok" {}
}
