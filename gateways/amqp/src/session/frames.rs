//! Whose turn a frame is: the connection's, a channel's method, or a piece of a message.

use bytes::{Buf, Bytes, BytesMut};
use codec_amqp::frame::{FrameError, FrameKind};
use codec_amqp::in_place::{FrameView, peek};
use codec_amqp::{Method, MethodError, channel, connection, queue};
use core_rpc::Core;

use super::busy::Work;
use super::serve::{Ended, Session};
use super::{SessionError, goodbye};
use crate::errors::Refusal;
use crate::handlers::{self, Request, Turn};
use crate::state::channel::{Channel, Seat};

/// A refusal, and the method that was refused (class, method; 0: none).
pub(super) struct Fault {
    pub(super) refusal: Refusal,
    pub(super) at: (u16, u16),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault { refusal, at: (0, 0) }
    }
}

impl Fault {
    pub(super) fn new(refusal: Refusal, at: (u16, u16)) -> Fault {
        Fault { refusal, at }
    }

    pub(super) fn of_connection(refusal: Refusal, at: (u16, u16)) -> Fault {
        Fault { refusal: refusal.hard(), at }
    }
}

impl<C: Core> Session<C> {
    /// Handles the frames that have arrived whole, while there is room for what they bring. Those of a channel that is busy wait
    /// for it.
    pub(super) async fn take_frames(&mut self) -> Result<Option<Ended>, SessionError> {
        while self.may_take() {
            let Some((number, mut frames)) = self.busy.take_backlog() else { break };
            let ended = self.take_from(&mut frames, Source::Backlog(number)).await;
            self.busy.put_back(number, frames);
            if !matches!(ended, Ok(None)) {
                return ended;
            }
        }
        self.is_held &= !self.busy.is_empty();
        // Borrowed from here on by the frames, while the session goes on.
        let mut input = std::mem::take(&mut self.wire.input);
        let ended = self.take_from(&mut input, Source::Wire).await;
        debug_assert!(self.wire.input.is_empty() || matches!(ended, Ok(Some(_)) | Err(_)));
        self.wire.input = input;
        ended
    }

    /// Handles frames, and cuts off those that are done.
    async fn take_from(&mut self, frames: &mut BytesMut, source: Source) -> Result<Option<Ended>, SessionError> {
        let mut at = 0;
        let ended = loop {
            let goes_on = match source {
                Source::Wire => self.may_read(),
                Source::Backlog(number) => self.may_take() && !self.busy.has(number),
            };
            if !goes_on {
                break Ok(None);
            }
            let frame = match peek(&frames[at..], self.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(None),
                Err(error) => {
                    at = frames.len();
                    break self.end(Fault::of_connection(refusal_of_frame(error), (0, 0))).await.map(Some);
                }
            };
            let begin = at;
            let end = at + frame.frame_bytes();
            if !self.busy.is_empty() {
                if frame.channel == 0 && frame.kind == FrameKind::Method {
                    // A goodbye, most likely: it comes behind all that was asked for.
                    self.is_held = true;
                    break Ok(None);
                }
                if self.busy.has(frame.channel) {
                    self.busy.put_off(frame.channel, &frames[begin..end]);
                    at = end;
                    continue;
                }
            }
            at = end;
            let taken = match self.take_publish_frame(&frame) {
                Some(taken) => taken.map(|()| None),
                None => match self.run_of_declares(&frame, &frames[end..]) {
                    Some((declares, bytes)) => {
                        at += bytes;
                        self.take_work(frame.channel, Work::Declares(declares)).await.map(|()| None)
                    }
                    None => self.take_frame(frame).await,
                },
            };
            match taken {
                Ok(None) => {}
                Ok(Some(ended)) => break Ok(Some(ended)),
                Err(Stop::Fault(number, fault)) if !fault.refusal.is_hard() => self.close_channel(number, fault).await,
                Err(Stop::Fault(_, fault)) => break self.end(fault).await.map(Some),
                Err(Stop::Session(error)) => break Err(error),
            }
        };
        frames.advance(at);
        ended
    }

    async fn take_frame(&mut self, frame: FrameView<'_>) -> Result<Option<Ended>, Stop> {
        if frame.channel == 0 {
            return self.take_connection_frame(frame).await;
        }
        let number = frame.channel;
        let fault = |fault: Fault| Stop::Fault(number, fault);
        match (frame.kind, self.channels.seat(number)) {
            (FrameKind::Heartbeat, _) => {
                Err(fault(Refusal::unexpected_frame(format!("heartbeat on channel {number}")).into()))
            }
            (FrameKind::Method, Seat::Open(_)) => self.take_method(number, frame.payload).await.map(|()| None),
            (FrameKind::Header | FrameKind::Body, Seat::Open(_)) => {
                Err(fault(Refusal::unexpected_frame("expected method frame, got non method frame instead").into()))
            }
            // Its frames wait: it is busy.
            (_, Seat::Lent | Seat::Leaving) => {
                debug_assert!(false, "a frame was taken for a channel that is busy");
                Ok(None)
            }
            (kind, Seat::Closing) => {
                self.take_while_closing(number, kind, frame.payload);
                Ok(None)
            }
            (FrameKind::Method, Seat::Free) => self.open_channel(number, frame.payload).map(|()| None).map_err(fault),
            (FrameKind::Header | FrameKind::Body, Seat::Free) => {
                Err(fault(Refusal::channel_error("expected 'channel.open'").into()))
            }
        }
    }

    /// channel.open (20, 10), which alone may come on a free channel.
    fn open_channel(&mut self, number: u16, payload: &[u8]) -> Result<(), Fault> {
        let method = decode(payload)?;
        let at = method.id();
        let Method::ChannelOpen(_) = method else {
            return Err(Fault { refusal: Refusal::channel_error("expected 'channel.open'"), at });
        };
        let channel_max = self.connection.negotiated.channel_max;
        if number > channel_max || self.channels.len() >= usize::from(channel_max) {
            let open = self.channels.len();
            let refusal = Refusal::not_allowed(format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({channel_max})"
            ));
            return Err(Fault { refusal, at });
        }
        let user = &self.connection.user.name;
        if let Some(limit) = self.gateway.topology.user_limit(user, "max-channels")
            && self.gateway.registry.channels_of(user) as u64 >= limit
        {
            let refusal = Refusal::not_allowed(format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            ));
            return Err(Fault { refusal, at });
        }
        let opened = Channel::new(number);
        self.connection.add_channel(opened.info.clone());
        self.channels.open(opened);
        self.wire.out.put_method(number, &channel::OpenOk {}.into());
        Ok(())
    }

    /// After our channel.close everything is thrown away until the answer, or the peer's own close.
    fn take_while_closing(&mut self, number: u16, kind: FrameKind, payload: &[u8]) {
        if kind != FrameKind::Method {
            return;
        }
        match decode(payload) {
            Ok(Method::ChannelCloseOk(_)) => self.channels.closed(number),
            Ok(Method::ChannelClose(_)) => self.wire.out.put_method(number, &channel::CloseOk {}.into()),
            _ => {}
        }
    }

    async fn take_method(&mut self, number: u16, payload: &[u8]) -> Result<(), Stop> {
        let method = decode(payload).map_err(|fault| Stop::Fault(number, fault))?;
        let at = method.id();
        match method {
            Method::ChannelOpen(_) => {
                let refusal = Refusal::channel_error("second 'channel.open' seen");
                return Err(Stop::Fault(number, Fault { refusal, at }));
            }
            // An answer to a close that crossed the peer's own.
            Method::ChannelCloseOk(_) => return Ok(()),
            _ => {}
        }
        let work = match handlers::turn(&method) {
            _ if matches!(method, Method::ChannelClose(_)) => Work::Close,
            Turn::Now => {
                let handled = self.handle_now(number, method);
                return handled.map_err(|refusal| Stop::Fault(number, Fault { refusal, at }));
            }
            Turn::AfterPublishes => Work::Method(method),
        };
        self.take_work(number, work).await
    }

    async fn take_work(&mut self, number: u16, work: Work) -> Result<(), Stop> {
        match self.begin(number, work).await {
            Some(done) => self.finish(done).map_err(|(number, fault)| Stop::Fault(number, fault)),
            None => Ok(()),
        }
    }

    /// The frame and those behind it, if they are declares that may be handled together; and the bytes of those behind.
    fn run_of_declares(&self, frame: &FrameView<'_>, behind: &[u8]) -> Option<(Vec<queue::Declare>, usize)> {
        let is_open = matches!(self.channels.seat(frame.channel), Seat::Open(_));
        is_open.then(|| handlers::run_of_declares(frame, behind, self.frame_bytes_max)).flatten()
    }

    fn handle_now(&mut self, number: u16, method: Method) -> Result<(), Refusal> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let mut request = Request {
            gateway: &self.gateway,
            connection: &self.connection,
            channel,
            replies: &mut self.wire.out,
            settles: &mut self.settles,
        };
        handlers::handle_now(&mut request, method)
    }

    async fn take_connection_frame(&mut self, frame: FrameView<'_>) -> Result<Option<Ended>, Stop> {
        match frame.kind {
            FrameKind::Heartbeat => return Ok(None),
            FrameKind::Method => {}
            FrameKind::Header | FrameKind::Body => {
                let refusal = Refusal::unexpected_frame("expected method frame, got non method frame instead");
                return Err(Stop::Fault(0, Fault::of_connection(refusal, (0, 0))));
            }
        }
        let method =
            decode(frame.payload).map_err(|fault| Stop::Fault(0, Fault::of_connection(fault.refusal, fault.at)))?;
        let at = method.id();
        match method {
            Method::ConnectionClose(close) => {
                tracing::debug!(connection = %self.connection.name, code = close.reply_code, "the client closes");
                self.leave().await;
                self.wire.out.put_method(0, &connection::CloseOk {}.into());
                goodbye::linger(&mut self.wire).await.map_err(Stop::Session)?;
                Ok(Some(Ended::ByClient))
            }
            // Of a close that we did not ask for.
            Method::ConnectionCloseOk(_) => Ok(None),
            // A new secret is for logins that expire (tokens). A password does not, and so RabbitMQ does not look at it.
            Method::ConnectionUpdateSecret(_) => {
                self.wire.out.put_method(0, &connection::UpdateSecretOk {}.into());
                Ok(None)
            }
            _ => {
                let refusal = Refusal::command_invalid("unimplemented method");
                Err(Stop::Fault(0, Fault::of_connection(refusal, at)))
            }
        }
    }

    /// Closes a channel for what the client did on it.
    pub(super) async fn close_channel(&mut self, number: u16, fault: Fault) {
        if !matches!(self.channels.seat(number), Seat::Open(_)) {
            return;
        }
        tracing::info!(connection = %self.connection.name, channel = number, refusal = %fault.refusal, "a channel is closed");
        self.busy.forget(number);
        if let Some(done) = self.begin(number, Work::Refuse(fault)).await {
            // Nothing is wrong with a farewell.
            let _ = self.finish(done);
        }
    }

    /// Ends the connection for what the client did, or for our reasons.
    pub(super) async fn end(&mut self, fault: Fault) -> Result<Ended, SessionError> {
        let Fault { refusal, at } = fault;
        tracing::info!(connection = %self.connection.name, %refusal, "a connection is closed");
        self.leave().await;
        goodbye::close(&mut self.wire, &refusal, at, self.frame_bytes_max).await?;
        Ok(Ended::ByUs)
    }
}

/// Where frames come from.
#[derive(Clone, Copy)]
enum Source {
    Wire,
    /// They waited for this channel.
    Backlog(u16),
}

/// Why a frame is not done.
pub(super) enum Stop {
    /// On this channel.
    Fault(u16, Fault),
    Session(SessionError),
}

fn decode(payload: &[u8]) -> Result<Method, Fault> {
    // Strings of a method may be kept; they must not keep a whole read buffer.
    Method::decode(&Bytes::copy_from_slice(payload)).map_err(|error| match error {
        MethodError::Unknown { class, method } => {
            Fault { refusal: Refusal::not_implemented(error.to_string()), at: (class, method) }
        }
        MethodError::Syntax { class, method, .. } => {
            Fault { refusal: Refusal::syntax_error(error.to_string()), at: (class, method) }
        }
    })
}

fn refusal_of_frame(error: FrameError) -> Refusal {
    match error {
        FrameError::TooLarge { frame_bytes, frame_bytes_max } => Refusal::frame_error(format!(
            "type, all octets = frame size {frame_bytes}, frame max {frame_bytes_max}: frame_too_large"
        )),
        error => Refusal::frame_error(error.to_string()),
    }
}
