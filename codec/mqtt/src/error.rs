//! What a peer violated, and what cannot be written.

use crate::reason::Reason;

/// Bytes that are no packet, or a packet that may not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({statement}, reason code {:#04x})", *.reason as u8)]
pub struct Error {
    /// With which version 5 answers: [`Reason::MalformedPacket`] and [`Reason::ProtocolError`] mostly; the others say that
    /// an older version has an answer of its own, or that the connection can be told more.
    pub reason: Reason,
    /// The normative statement (`MQTT-2.2.1-3`), or the section where the specification gives it no name. Of version 5
    /// unless it begins with another's number.
    pub statement: &'static str,
    /// For logs and reason strings.
    pub what: &'static str,
}

impl Error {
    pub(crate) const fn new(reason: Reason, statement: &'static str, what: &'static str) -> Error {
        Error { reason, statement, what }
    }

    pub(crate) const fn malformed(statement: &'static str, what: &'static str) -> Error {
        Error::new(Reason::MalformedPacket, statement, what)
    }

    pub(crate) const fn protocol(statement: &'static str, what: &'static str) -> Error {
        Error::new(Reason::ProtocolError, statement, what)
    }
}

/// A packet that cannot be written; nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a packet of more than 268,435,455 bytes behind its fixed header")]
    TooLarge,
    #[error("the version of this connection has no such packet or code")]
    NotInVersion,
    #[error("a property that does not belong in this packet")]
    Property,
}
