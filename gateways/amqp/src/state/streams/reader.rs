//! The task of one consumer of a stream: reads as fast as the client acknowledges.

use std::sync::Arc;
use std::time::Duration;

use codec_amqp::{FieldTable, ShortStr};
use core_rpc::{Core, FetchError};
use tokio::time::timeout;

use super::cursor::{Cursor, Piece};
use super::filter::Filter;
use super::offset::{StartAt, check_consumer};
use crate::errors::Refusal;
use crate::state::channel::Consuming;
use crate::state::queues::{Consumer, DELIVERY_BYTES, Parcel, Parceled, Unasked};
use crate::state::topology::Queue;
use crate::{Gateway, now_ms};

/// How long one fetch waits for messages; it is made again at once.
const READ_WAIT: Duration = Duration::from_secs(30);
/// How long to wait before reading again where it failed.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Checks what a consumer asks for, and finds where it begins.
pub async fn begin<C: Core>(
    core: &C,
    queue: &Queue,
    consuming: &Consuming,
    no_ack: bool,
    arguments: &FieldTable,
) -> Result<Cursor, Refusal> {
    let channel_prefetch = consuming.window().window.limit();
    check_consumer(&queue.name, &queue.vhost, consuming.prefetch(), channel_prefetch, no_ack)?;
    let filter = Filter::read(arguments)?;
    let start = StartAt::read(arguments, now_ms())?;
    let opened = Cursor::open(core, queue.partition(0), ShortStr::truncated(&queue.name), start).await;
    opened.map(|cursor| cursor.with_filter(filter)).map_err(|error| match error {
        FetchError::UnknownPartition => {
            Refusal::not_found(format!("no queue '{}' in vhost '{}'", queue.name, queue.vhost))
        }
        error => Refusal::internal_error(error.to_string()),
    })
}

/// Runs until the consumer has left, or its stream is gone.
pub async fn run<C: Core>(gateway: Arc<Gateway<C>>, consumer: Arc<Consumer>, mut cursor: Cursor) {
    let live = consumer.queue.clone();
    while !live.is_over() && !gateway.stop.is_cancelled() {
        if !cursor.has_message() {
            let read = tokio::select! {
                () = gateway.stop.cancelled() => return,
                () = live.changed.notified() => continue,
                read = cursor.read(&gateway.core, READ_WAIT) => read,
            };
            match read {
                Ok(()) => {}
                Err(FetchError::UnknownPartition) => return gateway.queues.deleted(live.topic),
                Err(error) => {
                    tracing::debug!(stream = %live.queue.name, %error, "cannot read a stream");
                    // Over, or to be tried again.
                    let _ = timeout(RETRY_AFTER, live.changed.notified()).await;
                }
            }
            continue;
        }
        // Asked first, so that whoever makes room knows whom to wake.
        if consumer.demand() > 0
            && let Some(piece) = cursor.deal(|bytes| consumer.takes(bytes + DELIVERY_BYTES))
        {
            send(&consumer, piece);
            continue;
        }
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = live.changed.notified() => {}
            () = live.waker().notified() => {}
        }
    }
}

fn send(consumer: &Arc<Consumer>, piece: Piece) {
    let message = |placed: &super::Placed| Parceled {
        offset: placed.offset,
        at: placed.at,
        acquisitions: 1,
        failures: 0,
        is_uncounted: false,
    };
    let messages: Vec<Parceled> = piece.messages.iter().map(message).collect();
    let bytes = piece.bytes + DELIVERY_BYTES * messages.len();
    let parcel = Parcel { consumer: consumer.clone(), partition: 0, payload: piece.payload, messages, bytes };
    // The connection is gone: its consumers are on their way out.
    if let Err(Unasked::Deliveries(parcel)) = consumer.outbox.push(Unasked::Deliveries(parcel)) {
        parcel.give_back();
    }
}
