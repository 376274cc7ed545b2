//! What waits to be sent on a connection, and the task that sends it.
//!
//! Frames queued while a write runs are sent together by the next one: small pieces are copied side by side into a
//! buffer, payloads are written from where they are (vectored).

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::frame::Frame;

/// A payload smaller than this is cheaper copied than given a slice of its own.
const COPY_BYTES_MAX: usize = 1024;
/// Frames are gathered up to this before they are written.
const GATHER_BYTES: usize = 1 << 20;
/// Slices of one vectored write; Linux takes up to 1,024.
const SLICES_MAX: usize = 64;

/// A queue of frames. Pushing never waits; who pushes holds the permits that bound it.
#[derive(Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<(Frame, Option<OwnedSemaphorePermit>)>,
    closed: bool,
}

impl Outbox {
    /// Queues a frame. The permit is given back when the frame has been written, or will never be.
    pub fn push(&self, frame: Frame, permit: Option<OwnedSemaphorePermit>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.frames.push_back((frame, permit));
            drop(queue);
            self.ready.notify_one();
        }
    }

    /// Nothing more is taken; [`Outbox::run`] ends when what is queued has been written.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_one();
    }

    /// Takes back what no write has begun to send.
    pub fn take_unsent(&self) -> Vec<Frame> {
        self.queue.lock().frames.drain(..).map(|(frame, _)| frame).collect()
    }

    /// Writes what is queued until the outbox is closed and empty, or a write fails.
    pub async fn run(&self, mut write: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut gather = Gather::default();
        loop {
            let closed = self.gather(&mut gather);
            if !gather.is_empty() {
                gather.write_to(&mut write).await?;
                gather.permits.clear();
            } else if closed {
                return write.shutdown().await;
            } else {
                self.ready.notified().await;
            }
        }
    }

    /// Moves queued frames to `gather`; returns whether the outbox is closed.
    fn gather(&self, gather: &mut Gather) -> bool {
        let mut queue = self.queue.lock();
        while gather.bytes < GATHER_BYTES {
            let Some((frame, permit)) = queue.frames.pop_front() else { break };
            gather.push(&frame);
            gather.permits.extend(permit);
        }
        queue.closed
    }
}

/// A run of bytes made of copied small pieces and shared large ones.
#[derive(Default)]
struct Gather {
    pieces: VecDeque<Bytes>,
    /// Small pieces since the last large one.
    tail: BytesMut,
    bytes: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Gather {
    fn push(&mut self, frame: &Frame) {
        self.bytes += frame.bytes();
        self.piece(frame.head());
        for batch in frame.batches() {
            self.tail.extend_from_slice(&batch.header.encode());
            self.piece(&batch.payload);
        }
    }

    fn piece(&mut self, piece: &Bytes) {
        if piece.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(piece);
        } else {
            self.end_tail();
            self.pieces.push_back(piece.clone());
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    async fn write_to(&mut self, write: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        self.end_tail();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let written = write.write_vectored(&slices[..count]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        self.bytes = 0;
        write.flush().await
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}
