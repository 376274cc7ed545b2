//! Why bytes could not be decoded, or a message not be encoded.

use crate::api::ApiKey;

/// Bytes of a peer that are no valid message. The connection they came from cannot be resynchronised by content: a
/// gateway answers with what its protocol has for it, or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a value.
    #[error("the frame ends {missing} bytes too early")]
    Truncated {
        /// How many bytes more the value needs.
        missing: usize,
    },
    /// A length or count below -1, or of a varint that is too long.
    #[error("invalid length")]
    InvalidLength,
    /// An array counts more elements than the frame has bytes left.
    #[error("an array of {count} elements in {remaining} bytes")]
    ArrayTooLong {
        /// The count on the wire.
        count: usize,
        /// The bytes left in the frame.
        remaining: usize,
    },
    /// Null where this version of the message does not allow it.
    #[error("unexpected null")]
    UnexpectedNull,
    /// A tagged field whose content has another size than it declares.
    #[error("tagged field {tag} does not have its declared size")]
    InvalidTaggedField {
        /// The field's tag.
        tag: u32,
    },
    /// What the frame decodes to would need more memory than a frame may cause.
    #[error("the message needs more memory than a frame may cause")]
    OverBudget,
    /// This crate has no such version of the API.
    #[error("{api:?} has no version {version}")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
    },
}

/// A message of ours that does not fit into the encoding. The writer keeps the first one and reports it at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string over 32,767 bytes in the classic encoding, or a value or frame over 2 GiB.
    #[error("a value of {bytes} bytes is too long for its length field")]
    TooLong {
        /// The length of the value.
        bytes: usize,
    },
    /// This crate has no such version of the API.
    #[error("{api:?} has no version {version}")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
    },
}
