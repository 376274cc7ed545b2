//! The only place that knows which reason code answers what went wrong.
//!
//! Version 5 has a code for everything; what older versions answer follows from it ([`Reason::return_code`], and that a
//! connection is closed where there is no code at all).

use codec_mqtt::{Error, Reason};

use crate::state::access::Denied;
use crate::state::publishing::PublishError;
use crate::state::sessions::OpenError;

/// Why a client does not get what it wants, and is told so with the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (reason code {:#04x})", *.reason as u8)]
pub struct Refusal {
    pub reason: Reason,
    /// For the log and for the reason string.
    pub what: &'static str,
}

impl Refusal {
    pub const fn new(reason: Reason, what: &'static str) -> Refusal {
        Refusal { reason, what }
    }

    pub const fn protocol(what: &'static str) -> Refusal {
        Refusal::new(Reason::ProtocolError, what)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::new(error.reason, error.what)
    }
}

pub const TAKEN_OVER: Refusal =
    Refusal::new(Reason::SessionTakenOver, "another connection has the client identifier now");
pub const SHUTTING_DOWN: Refusal = Refusal::new(Reason::ServerShuttingDown, "the server is shutting down");
pub const SILENT: Refusal = Refusal::new(Reason::KeepAliveTimeout, "nothing came for one and a half keep alives");
/// The client asks again with a new connection, and may be luckier.
pub const UNAVAILABLE: Refusal = Refusal::new(Reason::ServerBusy, "the log is unavailable");

/// What becomes of a message that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The same message will not be kept the next time either, or not soon: version 5 says so in the acknowledgement.
    Told(Reason),
    /// It may have been kept, or may be the next time: the client has to send it again, and it does after a new connection.
    Again(Refusal),
}

impl From<PublishError> for Lost {
    fn from(error: PublishError) -> Lost {
        match error {
            PublishError::TooLarge => Lost::Told(Reason::ImplementationSpecific),
            PublishError::DiskFull => Lost::Told(Reason::QuotaExceeded),
            PublishError::TopicInvalid => Lost::Told(Reason::TopicNameInvalid),
            PublishError::StorageFailed
            | PublishError::Unavailable
            | PublishError::TopicGone
            | PublishError::ProducerLost
            | PublishError::NotHeld
            | PublishError::TakenForDead => Lost::Again(UNAVAILABLE),
        }
    }
}

/// A connection that cannot go on because something was not kept.
impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Refusal {
        match error {
            PublishError::DiskFull => Refusal::new(Reason::QuotaExceeded, "the disk is full"),
            _ => UNAVAILABLE,
        }
    }
}

/// Of CONNACK.
impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Refusal {
        match error {
            OpenError::TakenOver => Refusal::new(Reason::ServerBusy, "the client has connected elsewhere meanwhile"),
            OpenError::ClientIdTooLong => Refusal::new(Reason::ClientIdNotValid, "the client identifier is too long"),
            OpenError::Busy => Refusal::new(Reason::ServerUnavailable, "the session's gateway does not answer"),
            OpenError::Store(_) => Refusal::new(Reason::ServerUnavailable, "the session cannot be recorded"),
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        let what = match denied {
            Denied::BadCredentials => "the user name or the password is wrong",
            Denied::NotAuthorized => "the client is not authorized",
            Denied::BadMethod => "the authentication method is not known",
            Denied::Unavailable => "the users cannot be read",
        };
        Refusal::new(denied.reason(), what)
    }
}
