//! MQTT over WebSocket (section 6 of MQTT 5; RFC 6455): a stream of bytes over any stream of bytes, so that the session does
//! not know.
//!
//! ```text
//! socket bytes ─ handshake ─ Inbound: headers and masks taken out in place ─► the session's buffer
//! socket bytes ◄─ frame header, then the session's slices, one vectored write ◄─ the session
//! ```
//! Frames need not be packets [MQTT-6.0.0-2]: what a client sends is read as it comes, and each write of the session is a
//! binary frame. A text frame closes the connection [MQTT-6.0.0-1].
//!
//! Our own code and no library: those gather whole messages before they hand them out, in buffers of their own. Here nothing
//! is copied twice, an idle connection holds some hundred bytes, and a message may be of any length.

mod handshake;
mod inbound;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gateway_runtime::{Carried, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::inbound::{CONTROL_BYTES_MAX, Event, Inbound};

/// Slices of one write, with the header before them.
const SLICES_MAX: usize = 64;

/// The longest header that a server writes: it does not mask.
const HEADER_BYTES_MAX: usize = 10;

/// FIN, and the kind.
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// "Normal closure", and "no status" where the other side gave none.
const NORMAL: u16 = 1000;

/// A connection that was upgraded.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    inbound: Inbound,
    /// What came behind the handshake and was not read yet.
    early: Vec<u8>,
    outbound: Outbound,
    /// The client has sent a close frame, or something it may not.
    is_read_over: bool,
}

#[derive(Debug, Default)]
struct Outbound {
    /// Of the header of the frame that is being written.
    header: Header,
    /// What is to come of its payload.
    rest: u64,
    /// A control frame, to be written between others: the answer to the last ping, or the close frame.
    control: Vec<u8>,
    /// How much of it is written. Once it has begun, no other takes its place.
    control_written: usize,
    /// Nothing comes behind a close frame.
    is_closing: bool,
    /// A write waits for room: whoever reads must not wait for it in its stead.
    is_blocked: bool,
}

#[derive(Debug, Default)]
struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
    written: usize,
}

impl Header {
    fn of(first: u8, payload_bytes: u64) -> Header {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = first;
        let length = match payload_bytes {
            short @ ..126 => {
                bytes[1] = short as u8;
                2
            }
            middle @ ..65536 => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(middle as u16).to_be_bytes());
                4
            }
            long => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        Header { bytes, length, written: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..self.length]
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Answers the client's request. `path` is the one that it has to be for; `None`: any. The error says why the client was
    /// refused, after it was told.
    pub async fn accept(mut stream: S, path: Option<&str>) -> io::Result<WebSocket<S>> {
        let early = handshake::run(&mut stream, path).await?;
        Ok(WebSocket { stream, inbound: Inbound::default(), early, outbound: Outbound::default(), is_read_over: false })
    }

    /// Reads bytes as they come, into what is free of `buffer`.
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.drain(..length);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Carried for WebSocket<Stream> {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() && !self.is_read_over {
            return self.stream.poll_read_ready(context);
        }
        Poll::Ready(Ok(()))
    }
}

impl Outbound {
    /// Has a control frame written, unless nothing may come any more. The answer to a later ping takes the place of one that
    /// has not begun (section 5.5.3).
    fn put_control(&mut self, first: u8, payload: &[u8]) {
        debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
        if self.is_closing || self.control_written > 0 {
            return;
        }
        self.control.clear();
        self.control.extend_from_slice(Header::of(first, payload.len() as u64).rest());
        self.control.extend_from_slice(payload);
    }

    fn close(&mut self, payload: &[u8]) {
        if self.is_closing {
            return;
        }
        if self.control_written > 0 {
            // Behind the rest of what has begun.
            self.control.extend_from_slice(Header::of(CLOSE, payload.len() as u64).rest());
            self.control.extend_from_slice(payload);
        } else {
            self.put_control(CLOSE, payload);
        }
        self.is_closing = true;
    }

    fn is_between_frames(&self) -> bool {
        self.rest == 0 && self.header.rest().is_empty()
    }

    /// Writes the control frame that waits, if there is one and a frame is not under way.
    fn poll_control<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.is_between_frames() && self.control_written < self.control.len() {
            let written = ready!(Pin::new(&mut *stream).poll_write(context, &self.control[self.control_written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.control_written += written;
        }
        if self.control_written == self.control.len() && !self.control.is_empty() {
            self.control = Vec::new();
            self.control_written = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_control(stream, context))?;
        let slices = &slices[..slices.len().min(SLICES_MAX - 1)];
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.is_between_frames() {
            if self.is_closing {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.rest = offered as u64;
            self.header = Header::of(BINARY, self.rest);
        }
        loop {
            let header = self.header.rest();
            let header_length = header.len();
            // Of a frame that has begun, no more than its header said.
            let mut room = self.rest;
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            all[0] = IoSlice::new(header);
            let mut count = 1;
            for slice in slices {
                let length = usize::try_from(room).unwrap_or(usize::MAX).min(slice.len());
                all[count] = IoSlice::new(&slice[..length]);
                count += 1;
                room -= length as u64;
            }
            let first = if header_length == 0 { 1 } else { 0 };
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(context, &all[first..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_header = written.min(header_length);
            self.header.written += of_header;
            let of_payload = written - of_header;
            self.rest -= of_payload as u64;
            if of_payload > 0 {
                return Poll::Ready(Ok(of_payload));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut events = Vec::new();
        loop {
            if own.is_read_over {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            let filled = own.poll_fill(context, buffer);
            if filled.is_pending() && !own.outbound.is_blocked {
                // A pong that did not go out yet goes out when there is room, even if nothing else is written.
                if let Poll::Ready(written) = own.outbound.poll_control(&mut own.stream, context) {
                    written?;
                }
            }
            ready!(filled)?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let taken = own.inbound.take(&mut buffer.filled_mut()[before..], &mut events);
            buffer.set_filled(before + *taken.as_ref().unwrap_or(&0));
            for event in events.drain(..) {
                match event {
                    Event::Ping(payload) => own.outbound.put_control(PONG, &payload),
                    Event::Close(payload) => {
                        // Its status comes back (section 5.5.1); of the reason there is no need.
                        own.outbound.close(&payload[..payload.len().min(2)]);
                        own.is_read_over = true;
                    }
                }
            }
            let violation = taken.err();
            if let Some(violation) = violation {
                own.outbound.close(&violation.status().to_be_bytes());
                own.is_read_over = true;
            }
            if !own.outbound.is_blocked
                && let Poll::Ready(written) = own.outbound.poll_control(&mut own.stream, context)
            {
                written?;
            }
            match violation {
                Some(violation) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation))),
                None if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                // Only headers and control frames: on, until the stream has nothing more.
                None => {}
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        let written = own.outbound.poll_write(&mut own.stream, context, slices);
        own.outbound.is_blocked = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let written = own.outbound.poll_control(&mut own.stream, context);
        own.outbound.is_blocked = written.is_pending();
        ready!(written)?;
        Pin::new(&mut own.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        own.outbound.close(&NORMAL.to_be_bytes());
        // In the middle of a frame the client would take it for the frame's: then there is no goodbye.
        let written = own.outbound.poll_control(&mut own.stream, context);
        own.outbound.is_blocked = written.is_pending();
        ready!(written)?;
        Pin::new(&mut own.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
