//! Reply codes and what RabbitMQ says with them: the only place that knows them.
//!
//! A [`Refusal`] is what a handler answers instead of a reply. Whether it ends the channel or the whole connection
//! follows from its code, as the specification says (section 1.2: soft and hard errors).

use std::borrow::Cow;

use core_rpc::{AppendError, LeaseError, MetaError, TopicError};

/// Codes of `basic.return`, `channel.close` and `connection.close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyCode {
    Success = 200,
    ContentTooLarge = 311,
    NoRoute = 312,
    NoConsumers = 313,
    ConnectionForced = 320,
    InvalidPath = 402,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl ReplyCode {
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The name that begins RabbitMQ's texts.
    pub fn name(self) -> &'static str {
        match self {
            ReplyCode::Success => "SUCCESS",
            ReplyCode::ContentTooLarge => "CONTENT_TOO_LARGE",
            ReplyCode::NoRoute => "NO_ROUTE",
            ReplyCode::NoConsumers => "NO_CONSUMERS",
            ReplyCode::ConnectionForced => "CONNECTION_FORCED",
            ReplyCode::InvalidPath => "INVALID_PATH",
            ReplyCode::AccessRefused => "ACCESS_REFUSED",
            ReplyCode::NotFound => "NOT_FOUND",
            ReplyCode::ResourceLocked => "RESOURCE_LOCKED",
            ReplyCode::PreconditionFailed => "PRECONDITION_FAILED",
            ReplyCode::FrameError => "FRAME_ERROR",
            ReplyCode::SyntaxError => "SYNTAX_ERROR",
            ReplyCode::CommandInvalid => "COMMAND_INVALID",
            ReplyCode::ChannelError => "CHANNEL_ERROR",
            ReplyCode::UnexpectedFrame => "UNEXPECTED_FRAME",
            ReplyCode::ResourceError => "RESOURCE_ERROR",
            ReplyCode::NotAllowed => "NOT_ALLOWED",
            ReplyCode::NotImplemented => "NOT_IMPLEMENTED",
            ReplyCode::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Ends the connection, not only the channel.
    pub fn is_hard(self) -> bool {
        matches!(self.code(), 320 | 402 | 501..)
    }
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ReplyCode,
    /// Without the code's name: `no queue 'q' in vhost '/'`.
    pub explanation: Cow<'static, str>,
    hard: bool,
}

/// A short string of the protocol holds so many bytes.
const REPLY_TEXT_BYTES_MAX: usize = 255;

impl Refusal {
    pub fn new(code: ReplyCode, explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, explanation: explanation.into(), hard: code.is_hard() }
    }

    /// The same, but it ends the connection.
    pub fn hard(mut self) -> Refusal {
        self.hard = true;
        self
    }

    pub fn is_hard(&self) -> bool {
        self.hard
    }

    /// What is sent: `NOT_FOUND - no queue 'q' in vhost '/'`, cut to what a short string holds.
    pub fn text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        if text.len() > REPLY_TEXT_BYTES_MAX {
            let mut end = REPLY_TEXT_BYTES_MAX - 3;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        text
    }

    pub fn access_refused(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::AccessRefused, explanation)
    }

    pub fn not_found(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::NotFound, explanation)
    }

    pub fn resource_locked(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::ResourceLocked, explanation)
    }

    pub fn precondition_failed(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::PreconditionFailed, explanation)
    }

    pub fn not_allowed(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::NotAllowed, explanation)
    }

    pub fn not_implemented(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::NotImplemented, explanation)
    }

    pub fn command_invalid(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::CommandInvalid, explanation)
    }

    pub fn syntax_error(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::SyntaxError, explanation)
    }

    pub fn frame_error(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::FrameError, explanation)
    }

    pub fn unexpected_frame(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::UnexpectedFrame, explanation)
    }

    pub fn channel_error(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::ChannelError, explanation)
    }

    pub fn internal_error(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::InternalError, explanation)
    }

    pub fn resource_error(explanation: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ReplyCode::ResourceError, explanation)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl std::error::Error for Refusal {}

/// What the core could not do for a reason that is not the client's.
impl From<MetaError> for Refusal {
    fn from(error: MetaError) -> Refusal {
        match error {
            MetaError::InvalidKey | MetaError::TooLarge => Refusal::precondition_failed(error.to_string()),
            MetaError::DiskFull => Refusal::resource_error(error.to_string()),
            _ => Refusal::internal_error(error.to_string()),
        }
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Refusal {
        match error {
            TopicError::InvalidName | TopicError::PartitionCount { .. } => {
                Refusal::precondition_failed(error.to_string())
            }
            TopicError::DiskFull => Refusal::resource_error(error.to_string()),
            _ => Refusal::internal_error(error.to_string()),
        }
    }
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::DiskFull => Refusal::resource_error(error.to_string()),
            _ => Refusal::internal_error(error.to_string()),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        match error {
            AppendError::TooLarge { .. } => Refusal::precondition_failed(error.to_string()),
            AppendError::DiskFull => Refusal::resource_error(error.to_string()),
            _ => Refusal::internal_error(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_what_ends() {
        assert!(!Refusal::not_found("x").is_hard());
        assert!(!Refusal::access_refused("x").is_hard());
        assert!(!Refusal::precondition_failed("x").is_hard());
        assert!(Refusal::not_allowed("x").is_hard());
        assert!(Refusal::not_implemented("x").is_hard());
        assert!(Refusal::new(ReplyCode::ConnectionForced, "x").is_hard());
        assert!(Refusal::access_refused("x").hard().is_hard());
    }

    #[test]
    fn a_text_fits_a_short_string() {
        assert_eq!(Refusal::not_found("no queue 'q' in vhost '/'").text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        let text = Refusal::not_found("ä".repeat(300)).text();
        assert!(text.len() <= 255 && text.ends_with("..."));
    }
}
