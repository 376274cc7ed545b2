//! Class connection (10): the handshake and the end of a connection.

use bytes::Bytes;
use codec_record::amqp_message::{FieldTable, ShortStr};

use super::schema::method;

method! {
    /// The server's first word.
    Start = 10, 10, "connection.start" {
        version_major: u8,
        version_minor: u8,
        server_properties: FieldTable,
        /// Separated by spaces.
        mechanisms: Bytes,
        /// Separated by spaces.
        locales: Bytes,
    }
}

method! {
    /// Who the client is.
    StartOk = 10, 11, "connection.start-ok" {
        client_properties: FieldTable,
        mechanism: ShortStr,
        /// As the mechanism has it: `\0user\0password` for PLAIN, the fields of a table for AMQPLAIN.
        response: Bytes,
        locale: ShortStr,
    }
}

method! {
    /// A mechanism's further question.
    Secure = 10, 20, "connection.secure" { challenge: Bytes }
}

method! {
    /// The answer to it.
    SecureOk = 10, 21, "connection.secure-ok" { response: Bytes }
}

method! {
    /// The limits that the server would like.
    Tune = 10, 30, "connection.tune" {
        /// The highest channel number; 0: no limit.
        channel_max: u16,
        /// Bytes, with what stands around the payload; 0: no limit.
        frame_max: u32,
        /// Seconds; 0: none.
        heartbeat: u16,
    }
}

method! {
    /// The limits that hold.
    TuneOk = 10, 31, "connection.tune-ok" {
        /// The highest channel number; 0: no limit.
        channel_max: u16,
        /// Bytes, with what stands around the payload; 0: no limit.
        frame_max: u32,
        /// Seconds; 0: none.
        heartbeat: u16,
    }
}

method! {
    /// The virtual host that all that follows is about.
    Open = 10, 40, "connection.open" { virtual_host: ShortStr } behind(ShortStr, bool)
}

method! {
    OpenOk = 10, 41, "connection.open-ok" {} behind(ShortStr)
}

method! {
    /// The end, with the method that was at fault, or 0.
    Close = 10, 50, "connection.close" { reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16 }
}

method! {
    CloseOk = 10, 51, "connection.close-ok" {}
}

method! {
    /// RabbitMQ's: the server takes no more publishes for now.
    Blocked = 10, 60, "connection.blocked" { reason: ShortStr }
}

method! {
    /// RabbitMQ's: it does again.
    Unblocked = 10, 61, "connection.unblocked" {}
}

method! {
    /// RabbitMQ's: a new password or token for the same user.
    UpdateSecret = 10, 70, "connection.update-secret" { new_secret: Bytes, reason: ShortStr }
}

method! {
    UpdateSecretOk = 10, 71, "connection.update-secret-ok" {}
}
