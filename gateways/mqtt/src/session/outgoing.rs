//! What waits to be written to a connection: packets that were encoded here, and payloads that lie where they lay.
//!
//! ```text
//! chunks   │ acknowledgements, heads, small payloads │ payload (shared) │ heads … │ payload (shared) │ …
//! ```
//! It is a [`Buf`] of many chunks: what an asynchronous writer calls `write_buf` writes it by vectored writes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use codec_mqtt::{EncodeError, Head, Packet, PacketId, SharedPublish, Version};

/// Pieces up to this size are copied: one more chunk in a vectored write costs more than that.
const COPY_BYTES_MAX: usize = 4096;

/// How much is allocated at once for what is encoded here.
const ALLOCATE_BYTES: usize = 16 << 10;

/// Packets to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Bytes>,
    /// What comes behind the chunks.
    tail: BytesMut,
    chunked_bytes: usize,
    /// Packets since this was asked for last.
    packets: u64,
}

impl Outgoing {
    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.chunked_bytes + self.tail.len()
    }

    /// How many packets were put since this was called last.
    pub(crate) fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    /// Any packet of at most so many bytes. On an error nothing is written.
    pub(crate) fn put(
        &mut self,
        packet: &Packet,
        version: Version,
        packet_bytes_max: usize,
    ) -> Result<(), EncodeError> {
        self.room();
        let before = self.tail.len();
        packet.encode(version, &mut self.tail)?;
        if self.tail.len() - before > packet_bytes_max {
            self.tail.truncate(before);
            return Err(EncodeError::TooLarge);
        }
        self.packets += 1;
        Ok(())
    }

    /// An acknowledgement that says nothing but its identifier, which every version writes alike: `first` is the first byte of
    /// its fixed header.
    pub(crate) fn put_plain(&mut self, first: u8, packet_id: PacketId) {
        self.room();
        let [high, low] = packet_id.get().to_be_bytes();
        self.tail.extend_from_slice(&[first, 2, high, low]);
        self.packets += 1;
    }

    /// A message for a subscriber.
    pub(crate) fn put_publish(
        &mut self,
        publish: &SharedPublish,
        version: Version,
        head: &Head<'_>,
    ) -> Result<(), EncodeError> {
        self.room();
        publish.put_head(version, head, &mut self.tail)?;
        self.packets += 1;
        for piece in publish.tail(version) {
            if piece.len() <= COPY_BYTES_MAX {
                self.tail.extend_from_slice(&piece);
            } else {
                self.share(piece);
            }
        }
        Ok(())
    }

    /// Gives the memory back: the connection may be idle from now on.
    pub(crate) fn release(&mut self) {
        if self.len() == 0 {
            *self = Outgoing { packets: self.packets, ..Outgoing::default() };
        }
    }

    fn share(&mut self, piece: Bytes) {
        let before = self.tail.split().freeze();
        self.chunked_bytes += before.len() + piece.len();
        self.chunks.push_back(before);
        self.chunks.push_back(piece);
    }

    /// Room for what is commonly encoded, so that it grows by few large steps and reuses what was written.
    fn room(&mut self) {
        if self.tail.capacity() - self.tail.len() < 256 {
            self.tail.reserve(if self.tail.capacity() == 0 { 1024 } else { ALLOCATE_BYTES });
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

#[cfg(test)]
mod tests {
    use codec_mqtt::{Delivery, Properties, Text, TopicAliasUse};

    use super::*;

    /// Small payloads are in the chunk of their heads, large ones where they lay; either way what comes out is the packet.
    #[test]
    fn payloads_are_written_behind_their_heads() {
        let mut out = Outgoing::default();
        let mut expected = BytesMut::new();
        for payload_bytes in [3, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 0] {
            let topic = Text::new("a/b").unwrap();
            let payload = Bytes::from(vec![7; payload_bytes]);
            let publish = SharedPublish::new(topic.clone(), &Properties::default(), payload.clone()).unwrap();
            let head = Head {
                duplicate: false,
                delivery: Delivery::AtMostOnce,
                retain: false,
                topic_alias: TopicAliasUse::None,
                message_expiry_interval_s: None,
                subscription_ids: &[],
            };
            out.put_publish(&publish, Version::Mqtt5, &head).unwrap();
            let properties = Properties::default();
            let delivery = Delivery::AtMostOnce;
            Packet::Publish(codec_mqtt::Publish {
                duplicate: false,
                delivery,
                retain: false,
                topic,
                properties,
                payload,
            })
            .encode(Version::Mqtt5, &mut expected)
            .unwrap();
        }
        assert_eq!(out.len(), expected.len());
        assert!(out.chunks.len() >= 2, "the large one is shared");
        assert_eq!(out.copy_to_bytes(out.remaining()), expected);
        out.release();
        assert_eq!(out.tail.capacity(), 0);
        assert_eq!((out.take_packets(), out.take_packets()), (4, 0));
    }
}
