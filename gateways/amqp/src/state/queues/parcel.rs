//! Messages of one stored batch on their way to one consumer: the batch's bytes are shared, a message is a position.

use std::sync::Arc;

use bytes::Bytes;
use core_rpc::{SettleRange, Settlement};
use gateway_runtime::Marks;

use super::consumer::Consumer;
use super::live::LiveQueue;
use super::stock::Next;

/// What each delivery is counted for beside its bytes: even empty ones take memory, here and in frames.
pub const DELIVERY_BYTES: usize = 64;

#[derive(Debug)]
pub struct Parcel {
    pub consumer: Arc<Consumer>,
    /// The partition's number in the queue.
    pub partition: u32,
    /// Stored messages, one behind the other.
    pub payload: Bytes,
    /// By rising offset.
    pub messages: Vec<Parceled>,
    /// What room it takes in the outbox.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parceled {
    pub offset: u64,
    /// Where the message begins in the payload.
    pub at: u32,
    /// How often it was handed out, this time included.
    pub acquisitions: u32,
    /// How often it was returned.
    pub failures: u32,
    /// It may have been handed out more often: the core was restarted since.
    pub is_uncounted: bool,
}

impl Parceled {
    /// Whether somebody may have had it before.
    pub fn is_redelivered(&self) -> bool {
        self.acquisitions > 1 || self.is_uncounted
    }
}

impl From<&Next> for Parceled {
    fn from(next: &Next) -> Parceled {
        let Next { offset, at, acquisitions, failures, is_uncounted, .. } = *next;
        Parceled { offset, at, acquisitions, failures, is_uncounted }
    }
}

impl Parcel {
    /// The ranges of its messages, all settled alike.
    pub fn ranges(&self, settlement: Settlement) -> Vec<SettleRange> {
        let mut marks = Marks::default();
        self.messages.iter().for_each(|message| marks.push(message.offset, settlement));
        marks.take()
    }

    pub fn queue(&self) -> &Arc<LiveQueue> {
        &self.consumer.queue
    }

    /// The consumer is gone: others are to have the messages.
    pub fn give_back(self) {
        let queue = self.queue();
        queue.settle(self.partition, self.ranges(Settlement::Release));
        if !self.consumer.no_ack {
            self.consumer.give_places(self.messages.len() as u32);
        }
    }
}
