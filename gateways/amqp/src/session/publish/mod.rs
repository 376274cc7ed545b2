//! Publishes: from their frames into the round.
//!
//! ```text
//! basic.publish ─► Incoming (route) ─ header ─► properties ─ body frames ─► publish ─► Round ─┬► one append per read round
//!                                                                    basic.return ◄─┘         └► confirms
//! ```
//! A message's bytes are copied once: from the read buffer into its queue's batch. Nothing is allocated for it, as long as
//! exchange, routing key and properties are those of messages before it.

mod flights;
mod one;

use bytes::BytesMut;
use codec_amqp::in_place::{FrameView, HeaderView, PublishView};
use codec_amqp::{ContentError, FrameKind};
use core_rpc::Core;

pub(super) use self::flights::{Confirming, Flights};
pub(crate) use self::flights::{hold, take_turns};
use super::frames::{Fault, Stop};
use super::serve::Session;
use crate::errors::Refusal;
use crate::state::channel::Channel;
use crate::state::channel::publishing::Incoming;

/// Class and method of basic.publish.
pub(super) const PUBLISH: (u16, u16) = (60, 40);

/// Bodies in many frames that a connection may have half sent on its channels, in messages of the largest size.
const HALF_SENT_MAX: u64 = 16;

impl<C: Core> Session<C> {
    /// Takes a frame of a publish; None: it is none.
    pub(super) fn take_publish_frame(&mut self, frame: &FrameView<'_>) -> Option<Result<(), Stop>> {
        let number = frame.channel;
        let channel = self.channels.get_mut(number)?;
        let incoming = channel.publishing.incoming.as_ref();
        Some(match frame.kind {
            FrameKind::Header => self.take_header(number, frame.payload),
            FrameKind::Body => self.take_body(number, frame.payload),
            FrameKind::Heartbeat => return None,
            FrameKind::Method if incoming.is_some() => Err(Stop::Fault(number, expected_frame(incoming).into())),
            FrameKind::Method if PublishView::is_one(frame.payload) => self.begin_publish(number, frame.payload),
            FrameKind::Method => return None,
        })
    }

    /// The method frame of a publish.
    fn begin_publish(&mut self, number: u16, payload: &[u8]) -> Result<(), Stop> {
        let fault = |refusal| Stop::Fault(number, Fault::new(refusal, PUBLISH));
        let view = PublishView::read(payload).map_err(|error| fault(Refusal::syntax_error(error.to_string())))?;
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let publishing = &mut channel.publishing;
        let route = publishing
            .route(view.exchange, view.routing_key)
            .map_err(|error| fault(Refusal::syntax_error(error.to_string())))?;
        publishing.incoming =
            Some(Incoming { route, mandatory: view.mandatory, immediate: view.immediate, body_bytes: None });
        self.has_published = true;
        Ok(())
    }

    /// The header frame of a publish.
    fn take_header(&mut self, number: u16, payload: &[u8]) -> Result<(), Stop> {
        let fault = |refusal| Stop::Fault(number, Fault::new(refusal, PUBLISH));
        let message_bytes_max = self.gateway.config.message_bytes_max;
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let publishing = &mut channel.publishing;
        let Some(incoming) = publishing.incoming.as_mut().filter(|incoming| incoming.body_bytes.is_none()) else {
            return Err(Stop::Fault(number, Fault::from(expected_frame(publishing.incoming.as_ref()))));
        };
        let header = HeaderView::read(payload).map_err(|error| match error {
            ContentError::Weight(_) => fault(Refusal::unexpected_frame(error.to_string())),
            ContentError::Syntax(_) => fault(Refusal::syntax_error(error.to_string())),
        })?;
        if header.class_id != PUBLISH.0 {
            return Err(fault(Refusal::unexpected_frame(format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            ))));
        }
        if header.body_bytes > message_bytes_max {
            publishing.incoming = None;
            return Err(fault(Refusal::precondition_failed(format!(
                "message size {} is larger than configured max size {message_bytes_max}",
                header.body_bytes
            ))));
        }
        incoming.body_bytes = Some(header.body_bytes);
        publishing.properties.clear();
        publishing.properties.extend_from_slice(header.properties);
        if header.body_bytes > 0 {
            return Ok(());
        }
        self.publish(number, &[])
    }

    /// A body frame of a publish.
    fn take_body(&mut self, number: u16, piece: &[u8]) -> Result<(), Stop> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let publishing = &mut channel.publishing;
        let Some(body_bytes) = publishing.incoming.and_then(|incoming| incoming.body_bytes) else {
            return Err(Stop::Fault(number, Fault::from(expected_frame(publishing.incoming.as_ref()))));
        };
        let body = &mut publishing.body;
        let arrived = body.len() as u64 + piece.len() as u64;
        if arrived > body_bytes {
            let refusal = Refusal::frame_error("more of a body than its header announced");
            return Err(Stop::Fault(number, Fault::new(refusal, PUBLISH)));
        }
        if body.is_empty() && arrived == body_bytes {
            return self.publish(number, piece);
        }
        self.half_sent_bytes += piece.len() as u64;
        if self.half_sent_bytes > HALF_SENT_MAX * self.gateway.config.message_bytes_max {
            let refusal = Refusal::resource_error("too many messages are half sent on this connection's channels");
            return Err(Stop::Fault(number, Fault::new(refusal, PUBLISH)));
        }
        body.extend_from_slice(piece);
        if arrived < body_bytes {
            return Ok(());
        }
        let whole = std::mem::take(body);
        self.half_sent_bytes -= whole.len() as u64;
        let published = self.publish(number, &whole);
        self.keep_memory(number, whole);
        published
    }

    /// Keeps a body's memory for the next one, unless it is much.
    fn keep_memory(&mut self, number: u16, mut body: BytesMut) {
        const KEPT_BYTES_MAX: usize = 256 << 10;
        if body.capacity() <= KEPT_BYTES_MAX
            && let Some(channel) = self.channels.get_mut(number)
        {
            body.clear();
            channel.publishing.body = body;
        }
    }

    /// A message is whole.
    fn publish(&mut self, number: u16, body: &[u8]) -> Result<(), Stop> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let Some(incoming) = channel.publishing.incoming.take() else { return Ok(()) };
        let published = one::publish(
            &self.gateway,
            &self.connection,
            channel,
            &mut self.flights.round,
            &mut self.wire.out,
            incoming,
            body,
        );
        published.map_err(|refusal| Stop::Fault(number, Fault::new(refusal, PUBLISH)))
    }

    /// A channel is gone: what it had half sent goes with it.
    pub(super) fn forget_half_sent(&mut self, channel: &Channel) {
        self.half_sent_bytes = self.half_sent_bytes.saturating_sub(channel.publishing.body.len() as u64);
    }
}

/// RabbitMQ's words for a frame that is not the one that must come.
pub(super) fn expected_frame(incoming: Option<&Incoming>) -> Refusal {
    Refusal::unexpected_frame(match incoming {
        None => "expected method frame, got non method frame instead",
        Some(Incoming { body_bytes: None, .. }) => {
            "expected content header for class 60, got non content header frame instead"
        }
        Some(_) => "expected content body, got non content body frame instead",
    })
}
