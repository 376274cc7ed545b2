//! What waits to be written to a connection: frames that were encoded here, and bodies that lie where they lay.
//!
//! ```text
//! chunks   │ method, header, body frame's head │ body (shared) │ 0xce, next method … │ body (shared) │ …
//! ```
//!
//! It is a [`Buf`] of many chunks: what an asynchronous writer calls `write_buf` writes it by vectored writes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::content::{CLASS_BASIC, put_header};
use crate::frame::{FRAME_END, FRAME_OVERHEAD_BYTES, FrameKind, put_head, put_heartbeat};
use crate::method::{Method, Writer};

/// Pieces of bodies up to this size are copied: three more chunks in a vectored write cost more than that.
const COPY_BYTES_MAX: usize = 4096;

/// How much is allocated at once for what is encoded here.
const ALLOCATE_BYTES: usize = 16 * 1024;

/// Frames to be written, in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    chunks: VecDeque<Bytes>,
    /// What comes behind the chunks.
    tail: BytesMut,
    chunked_bytes: usize,
}

/// A method that a content follows, with borrowed arguments: there is one for each message that is delivered. Strings
/// must not be longer than 255 bytes, which those that came by AMQP are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMethod<'a> {
    Publish { exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool },
    Return { reply_code: u16, reply_text: &'a str, exchange: &'a str, routing_key: &'a str },
    Deliver { consumer_tag: &'a str, delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str },
    GetOk { delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str, message_count: u32 },
}

impl Outgoing {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.chunked_bytes + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn put_method(&mut self, channel: u16, method: &Method) {
        self.room();
        method.encode(channel, &mut self.tail);
    }

    pub fn put_heartbeat(&mut self) {
        self.room();
        put_heartbeat(&mut self.tail);
    }

    /// Bytes as they are: the protocol header.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// A method and its content: properties as they stand in a content header (flags first), and the body in frames that
    /// honour `frame_bytes_max` (0: no limit).
    pub fn put_content(
        &mut self,
        channel: u16,
        method: ContentMethod<'_>,
        properties: &[u8],
        body: &Bytes,
        frame_bytes_max: usize,
    ) {
        self.room();
        method.put(channel, &mut self.tail);
        put_header(&mut self.tail, channel, CLASS_BASIC, body.len() as u64, properties);
        let piece_bytes_max = match frame_bytes_max {
            0 => u32::MAX as usize - FRAME_OVERHEAD_BYTES,
            // Less cannot be agreed; a frame without room for a byte would never end.
            most => most.max(FRAME_OVERHEAD_BYTES + 1) - FRAME_OVERHEAD_BYTES,
        };
        let mut from = 0;
        while from < body.len() {
            let to = body.len().min(from + piece_bytes_max);
            put_head(&mut self.tail, FrameKind::Body, channel, to - from);
            if to - from <= COPY_BYTES_MAX {
                self.tail.put_slice(&body[from..to]);
            } else {
                self.share(body.slice(from..to));
            }
            self.tail.put_u8(FRAME_END);
            from = to;
        }
    }

    /// Everything of another behind all of this.
    pub fn append(&mut self, other: Outgoing) {
        if other.chunks.is_empty() {
            self.tail.extend_from_slice(&other.tail);
            return;
        }
        let before = self.tail.split().freeze();
        if !before.is_empty() {
            self.chunked_bytes += before.len();
            self.chunks.push_back(before);
        }
        self.chunked_bytes += other.chunked_bytes;
        self.chunks.extend(other.chunks);
        self.tail = other.tail;
    }

    fn share(&mut self, piece: Bytes) {
        let before = self.tail.split().freeze();
        self.chunked_bytes += before.len() + piece.len();
        self.chunks.push_back(before);
        self.chunks.push_back(piece);
    }

    /// Room for what is commonly encoded, so that it grows by few large steps and reuses what was written.
    fn room(&mut self) {
        if self.tail.capacity() - self.tail.len() < 1024 {
            self.tail.reserve(ALLOCATE_BYTES);
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail, |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]).chain(tail);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            if bytes < chunk.len() {
                chunk.advance(bytes);
                self.chunked_bytes -= bytes;
                return;
            }
            bytes -= chunk.len();
            self.chunked_bytes -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail.advance(bytes);
    }
}

impl ContentMethod<'_> {
    fn put(&self, channel: u16, out: &mut BytesMut) {
        crate::frame::put_frame(out, FrameKind::Method, channel, |out| {
            let mut writer = Writer::new(out);
            let number = match self {
                ContentMethod::Publish { .. } => 40,
                ContentMethod::Return { .. } => 50,
                ContentMethod::Deliver { .. } => 60,
                ContentMethod::GetOk { .. } => 71,
            };
            writer.bytes(&[0, CLASS_BASIC as u8, 0, number]);
            match *self {
                ContentMethod::Publish { exchange, routing_key, mandatory, immediate } => {
                    writer.bytes(&[0, 0]);
                    writer.short(exchange.as_bytes());
                    writer.short(routing_key.as_bytes());
                    writer.bit(mandatory);
                    writer.bit(immediate);
                }
                ContentMethod::Return { reply_code, reply_text, exchange, routing_key } => {
                    writer.bytes(&reply_code.to_be_bytes());
                    writer.short(reply_text.as_bytes());
                    writer.short(exchange.as_bytes());
                    writer.short(routing_key.as_bytes());
                }
                ContentMethod::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key } => {
                    writer.short(consumer_tag.as_bytes());
                    writer.bytes(&delivery_tag.to_be_bytes());
                    writer.bit(redelivered);
                    writer.short(exchange.as_bytes());
                    writer.short(routing_key.as_bytes());
                }
                ContentMethod::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count } => {
                    writer.bytes(&delivery_tag.to_be_bytes());
                    writer.bit(redelivered);
                    writer.short(exchange.as_bytes());
                    writer.short(routing_key.as_bytes());
                    writer.bytes(&message_count.to_be_bytes());
                }
            }
        });
    }
}
