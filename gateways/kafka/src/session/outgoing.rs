//! Answers on their way out: frames one behind the other, as one [`Buf`], so that a vectored write sends several.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Buf;
use codec_kafka::Frame;

use crate::state::Reserved;

#[derive(Default)]
pub struct Outgoing {
    /// Each with what is reserved for it until it is sent.
    frames: VecDeque<(Frame, Option<Reserved>)>,
    bytes: usize,
}

impl Outgoing {
    pub fn push(&mut self, frame: Frame, memory: Option<Reserved>) {
        self.bytes += frame.remaining();
        self.frames.push_back((frame, memory));
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |(frame, _)| frame.chunk())
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (frame, _) in &self.frames {
            if filled == slices.len() {
                break;
            }
            filled += frame.chunks_vectored(&mut slices[filled..]);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced past the end");
        self.bytes -= count;
        while let Some((frame, _)) = self.frames.front_mut() {
            let part = count.min(frame.remaining());
            frame.advance(part);
            count -= part;
            if frame.has_remaining() {
                return;
            }
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_kafka::Writer;

    #[test]
    fn frames_follow_one_another() {
        let mut outgoing = Outgoing::default();
        for _ in 0..3 {
            outgoing.push(Writer::new().finish().unwrap(), None);
        }
        // An empty frame is its length prefix.
        assert_eq!(outgoing.remaining(), 12);
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(outgoing.chunks_vectored(&mut slices), 2);
        outgoing.advance(5);
        assert_eq!((outgoing.remaining(), outgoing.chunk().len()), (7, 3));
        outgoing.advance(7);
        assert_eq!((outgoing.remaining(), outgoing.chunk().len()), (0, 0));
    }
}
