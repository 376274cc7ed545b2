//! Frames: a call's number, its message, and raw batches.
//!
//! ```text
//!  0        4        8                16             16 + message
//!  ├ length ┼ message┼ call id ───────┼ message … ────┼ batches …: header (64 bytes), payload, header, …
//! ```
//! `length`: bytes after it. `message`: length of the message (postcard of [`super::message`]). Integers are
//! little-endian. A call's answer bears its call id.

use bytes::{Buf, Bytes};
use codec_record::{Batch, BatchHeader, HEADER_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FRAME_BYTES_MAX;

/// Length of `length`, bytes.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Where the message begins.
const MESSAGE_AT: usize = 16;
/// The least that `length` can say.
const BODY_BYTES_MIN: usize = MESSAGE_AT - LENGTH_BYTES;

/// A payload smaller than this is copied out of the frame it came in: who keeps it would otherwise keep the whole
/// read buffer (64 KiB and more) alive.
const SLICE_BYTES_MIN: usize = 4096;

/// A frame to send. Cloning shares everything.
#[derive(Clone, Debug)]
pub struct Frame {
    pub call: u64,
    /// From `length` to the end of the message.
    head: Bytes,
    batches: Vec<Batch>,
    bytes: usize,
}

/// A frame that was received.
#[derive(Debug)]
pub struct Received<M> {
    pub call: u64,
    pub message: M,
    pub batches: Vec<Batch>,
    /// What the frame took on the wire.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame is larger than {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    #[error("a frame is shorter than it must be")]
    Truncated,
    #[error("a frame's message cannot be read")]
    Message,
    #[error("a batch's header in a frame does not match its CRC")]
    BatchHeader,
}

impl Frame {
    pub fn encode(call: u64, message: &impl Serialize, batches: Vec<Batch>) -> Result<Frame, FrameError> {
        let mut head = Vec::with_capacity(128);
        head.resize(MESSAGE_AT, 0);
        let mut head = postcard::to_extend(message, head).map_err(|_| FrameError::Message)?;
        let bytes = head.len() + batches.iter().map(Batch::stored_bytes).sum::<usize>();
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        let message_bytes = head.len() - MESSAGE_AT;
        head[0..4].copy_from_slice(&((bytes - LENGTH_BYTES) as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(message_bytes as u32).to_le_bytes());
        head[8..16].copy_from_slice(&call.to_le_bytes());
        Ok(Frame { call, head: head.into(), batches, bytes })
    }

    /// What it takes on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn head(&self) -> &Bytes {
        &self.head
    }

    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }
}

/// The length that a frame's first bytes say, itself included; None while there are too few.
pub(crate) fn frame_bytes(received: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_le_bytes(*length) as usize + LENGTH_BYTES;
    match bytes {
        _ if bytes > FRAME_BYTES_MAX => Err(FrameError::TooLarge),
        _ if bytes < LENGTH_BYTES + BODY_BYTES_MIN => Err(FrameError::Truncated),
        _ => Ok(Some(bytes)),
    }
}

/// Reads a whole frame, `length` included. Payloads are slices of it, but for small ones.
pub fn decode<M: DeserializeOwned>(mut frame: Bytes) -> Result<Received<M>, FrameError> {
    let bytes = frame.len();
    if bytes < MESSAGE_AT {
        return Err(FrameError::Truncated);
    }
    frame.advance(LENGTH_BYTES);
    let message_bytes = frame.get_u32_le() as usize;
    let call = frame.get_u64_le();
    if message_bytes > frame.len() {
        return Err(FrameError::Truncated);
    }
    let message = match postcard::take_from_bytes::<M>(&frame[..message_bytes]) {
        Ok((message, [])) => message,
        _ => return Err(FrameError::Message),
    };
    frame.advance(message_bytes);

    let mut batches = Vec::new();
    while !frame.is_empty() {
        if frame.len() < HEADER_BYTES {
            return Err(FrameError::Truncated);
        }
        let header = BatchHeader::decode(&frame).map_err(|_| FrameError::BatchHeader)?;
        frame.advance(HEADER_BYTES);
        let payload_bytes = header.payload_length as usize;
        if payload_bytes > frame.len() {
            return Err(FrameError::Truncated);
        }
        let payload = frame.split_to(payload_bytes);
        let payload = if payload_bytes < SLICE_BYTES_MIN { Bytes::copy_from_slice(&payload) } else { payload };
        batches.push(Batch { header, payload });
    }
    Ok(Received { call, message, batches, bytes })
}

#[cfg(test)]
mod tests {
    use codec_record::FormatId;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::{Answer, Request};
    use crate::*;

    fn wire(frame: &Frame) -> Vec<u8> {
        let mut bytes = frame.head().to_vec();
        for batch in frame.batches() {
            bytes.extend(batch.header.encode());
            bytes.extend(&batch.payload[..]);
        }
        assert_eq!(bytes.len(), frame.bytes());
        bytes
    }

    fn batches() -> impl Strategy<Value = Vec<Batch>> {
        let payload = prop_oneof![proptest::collection::vec(any::<u8>(), 0..64), Just(vec![7; SLICE_BYTES_MIN + 1])];
        let batch = payload.prop_map(|payload| Batch::new(FormatId::RAW, 1, 0, payload.into()));
        proptest::collection::vec(batch, 0..4)
    }

    proptest! {
        #[test]
        fn frames_read_as_they_are_written(call: u64, topics: Vec<u128>, batches in batches()) {
            let partitions: Vec<_> =
                topics.into_iter().map(|topic| PartitionId { topic: TopicId(topic), index: 3 }).collect();
            let frame = Frame::encode(call, &Request::Append(partitions.clone()), batches.clone()).unwrap();
            let bytes = wire(&frame);
            prop_assert_eq!(frame_bytes(&bytes), Ok(Some(bytes.len())));
            let received = decode::<Request>(bytes.into()).unwrap();
            prop_assert_eq!(received.call, call);
            prop_assert_eq!(received.batches, batches);
            prop_assert!(matches!(received.message, Request::Append(got) if got == partitions));
        }

        /// The bytes of a frame, cut and with bits flipped, never panic; nor do bytes at random.
        #[test]
        fn no_bytes_panic(
            batches in batches(), cut: prop::sample::Index, flips: Vec<(prop::sample::Index, u8)>, noise: Vec<u8>,
        ) {
            let entry = MetaEntry { key: "k".into(), value: Bytes::from_static(b"v"), version: 1, session: None };
            let answer = Answer::MetaList(Ok(MetaList { entries: vec![entry; 3], revision: 9 }));
            for frame in [
                Frame::encode(1, &answer, batches.clone()).unwrap(),
                Frame::encode(1, &Request::Inspect(vec![]), batches.clone()).unwrap(),
            ] {
                let mut bytes = wire(&frame);
                bytes.truncate(cut.index(bytes.len()) + 1);
                for (at, mask) in &flips {
                    let at = at.index(bytes.len());
                    bytes[at] ^= mask;
                }
                let _ = frame_bytes(&bytes);
                let _ = decode::<Request>(bytes.clone().into());
                let _ = decode::<Answer>(bytes.into());
            }
            let mut framed = vec![0; MESSAGE_AT];
            framed[4..8].copy_from_slice(&(noise.len() as u32).to_le_bytes());
            framed.extend(&noise);
            let _ = decode::<Request>(framed.clone().into());
            let _ = decode::<Answer>(framed.into());
            let _ = decode::<Request>(noise.into());
        }
    }

    #[test]
    fn lengths_from_a_peer_are_checked() {
        assert_eq!(frame_bytes(&u32::MAX.to_le_bytes()), Err(FrameError::TooLarge));
        assert_eq!(frame_bytes(&[0; 4]), Err(FrameError::Truncated));
        assert_eq!(frame_bytes(&[0; 3]), Ok(None));
        // A list that claims 2^32 - 1 partitions in five bytes.
        let mut frame = vec![0; MESSAGE_AT];
        frame.extend([6, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        frame[4..8].copy_from_slice(&6u32.to_le_bytes());
        assert_eq!(decode::<Request>(frame.into()).map(|_| ()), Err(FrameError::Message));
    }
}
