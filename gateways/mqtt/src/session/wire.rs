//! The socket with its two buffers: what has come and is not looked at yet, and what is to be sent.
//!
//! Nothing is read while nothing may be taken in, and what is produced is bounded by whoever produces it; so a peer that
//! sends and never reads is left waiting. A connection that is idle has no buffers.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use codec_mqtt::{Error, Frame, split};
use gateway_runtime::Stream;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::outgoing::Outgoing;

/// What is read at once: at first, and when the peer keeps sending more than that.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

pub(crate) struct Wire {
    stream: Stream,
    /// Not looked at yet.
    input: BytesMut,
    /// To be sent.
    pub(crate) out: Outgoing,
    /// Room to make for the next read.
    read_bytes: usize,
    /// All that was written is with the operating system.
    flushed: bool,
    pub(crate) last_received: Instant,
    /// Not counted yet.
    received_bytes: u64,
    sent_bytes: u64,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Wire {
        Wire {
            stream,
            input: BytesMut::new(),
            out: Outgoing::default(),
            read_bytes: READ_BYTES_MIN,
            flushed: true,
            last_received: Instant::now(),
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// The next packet that has come whole.
    pub(crate) fn frame(&mut self, packet_bytes_max: usize) -> Result<Option<Frame>, Error> {
        split(&mut self.input, packet_bytes_max)
    }

    /// The bytes that were received and sent since the last call.
    pub(crate) fn take_bytes(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.received_bytes), std::mem::take(&mut self.sent_bytes))
    }

    /// Whether all is sent.
    pub(crate) fn is_sent(&self) -> bool {
        !self.out.has_remaining() && self.flushed
    }

    /// Writes while the socket takes something. Returns whether it took something.
    pub(crate) fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.is_sent() {
            return Ok(false);
        }
        let mut sent = false;
        while self.out.has_remaining() {
            let Poll::Ready(written) = poll_write_buf(Pin::new(&mut self.stream), context, &mut self.out) else {
                break;
            };
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent_bytes += count as u64,
            }
            sent = true;
        }
        // A plain connection keeps nothing back; an encrypted one may.
        self.flushed = match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => flushed.map(|()| true)?,
            Poll::Pending => false,
        };
        Ok(sent)
    }

    /// Whether the peer has sent something that is not read yet.
    pub(crate) fn has_unread(&self, context: &mut Context<'_>) -> bool {
        self.stream.poll_unread(context).is_ready()
    }

    /// Reads once. 0: the peer's end.
    pub(crate) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Memory is made ready only when there is something to read.
        if self.stream.poll_read_ready(context)?.is_pending() {
            self.release_input();
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < self.read_bytes {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input) else {
            self.release_input();
            return Poll::Pending;
        };
        let count = read?;
        self.received_bytes += count as u64;
        self.last_received = Instant::now();
        if count == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if count < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(count))
    }

    /// Gives the memory back of a buffer in which nothing is.
    fn release_input(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
        }
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn rest(&mut self) {
        self.release_input();
        if self.flushed {
            self.out.release();
        }
    }

    /// Reads something more, and sends what is to be sent. False: the peer's end.
    pub(crate) async fn receive(&mut self) -> io::Result<bool> {
        poll_fn(|context| {
            self.poll_send(context)?;
            Poll::Ready(Ok(ready!(self.poll_receive(context))? > 0))
        })
        .await
    }

    /// Sends all there is.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            self.poll_send(context)?;
            if self.is_sent() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Tells the peer that nothing more comes.
    pub(crate) async fn shut_down(&mut self) {
        // It may be gone already; nobody is there to be told.
        let _ = poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await;
    }

    /// Waits until the peer sends something that is not looked at, or closes (0).
    pub(crate) async fn discard(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            self.input.clear();
            self.poll_receive(context)
        })
        .await
    }
}
