//! Cuts frames out of a byte stream.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{FrameError, frame_bytes};

/// What is read at once where no frame asks for more.
const READ_BYTES: usize = 128 * 1024;

/// How far memory may run ahead of what a frame's sender really sent.
const TRUST_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the connection ended inside a frame")]
    Torn,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct FrameReader<R> {
    read: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(read: R) -> Self {
        FrameReader { read, buffer: BytesMut::new() }
    }

    /// The next frame if it has been read whole already.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        match frame_bytes(&self.buffer)? {
            Some(bytes) if bytes <= self.buffer.len() => Ok(Some(self.buffer.split_to(bytes).freeze())),
            _ => Ok(None),
        }
    }

    /// Reads once. False when the stream has ended, between two frames. Cancelling it loses nothing.
    pub async fn fill(&mut self) -> Result<bool, ReadError> {
        let missing = match frame_bytes(&self.buffer)? {
            Some(bytes) => bytes.saturating_sub(self.buffer.len()),
            None => 0,
        };
        // Memory follows the bytes that came, not the length that was claimed: a frame's room at most doubles.
        let room = missing.min(self.buffer.len().max(TRUST_BYTES));
        if self.buffer.capacity() - self.buffer.len() < room.max(1) {
            self.buffer.reserve(room.max(READ_BYTES));
        }
        match self.read.read_buf(&mut self.buffer).await? {
            0 if self.buffer.is_empty() => Ok(false),
            0 => Err(ReadError::Torn),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Frame;
    use crate::wire::message::Request;

    #[tokio::test]
    async fn frames_are_cut_wherever_the_stream_breaks() {
        let mut stream = Vec::new();
        for call in 0..50u64 {
            let message = Request::MetaGet("k".repeat(call as usize * 7));
            stream.extend(Frame::encode(call, &message, vec![]).unwrap().head());
        }
        for step in [1, 3, 17, 4096] {
            let (near, mut far) = tokio::io::duplex(step);
            let stream = stream.clone();
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &stream).await });
            let mut reader = FrameReader::new(near);
            let mut count = 0;
            loop {
                while let Some(frame) = reader.buffered().unwrap() {
                    let received = super::super::frame::decode::<Request>(frame).unwrap();
                    assert_eq!(received.call, count);
                    count += 1;
                }
                if !reader.fill().await.unwrap() {
                    break;
                }
            }
            assert_eq!(count, 50);
        }
    }

    #[tokio::test]
    async fn a_claimed_length_takes_no_memory() {
        let (near, mut far) = tokio::io::duplex(64);
        let claim = (super::super::FRAME_BYTES_MAX as u32 - 4).to_le_bytes();
        tokio::io::AsyncWriteExt::write_all(&mut far, &claim).await.unwrap();
        let mut reader = FrameReader::new(near);
        reader.fill().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut far, &claim).await.unwrap();
        reader.fill().await.unwrap();
        assert!(reader.buffer.capacity() <= 2 * TRUST_BYTES, "{}", reader.buffer.capacity());
        drop(far);
        assert!(matches!(reader.fill().await, Err(ReadError::Torn)));
    }
}
