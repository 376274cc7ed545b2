//! A consumer at this gateway.

use std::sync::Arc;

use codec_amqp::ShortStr;
use codec_amqp::table::FieldTable;

use super::live::LiveQueue;
use super::outbox::Outbox;
use crate::state::channel::Window;

/// What a consumer is. Its queue's dispatcher, its channel and the registry share it.
#[derive(Debug)]
pub struct Consumer {
    /// No other of this gateway has it.
    pub number: u64,
    /// Names the life of its channel: a channel that is opened again under the same number has another.
    pub channel_life: u64,
    pub channel: u16,
    pub tag: ShortStr,
    pub queue: Arc<LiveQueue>,
    pub no_ack: bool,
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i32,
    pub arguments: FieldTable,
    /// Its own prefetch window. Not used without acknowledgements.
    pub window: Window,
    pub channel_window: Arc<ChannelWindow>,
    pub outbox: Arc<Outbox>,
    pub connection_id: u64,
}

/// The window that the consumers of a channel share, and whom to wake when there is a place in it.
#[derive(Debug, Default)]
pub struct ChannelWindow {
    pub window: Window,
    queues: parking_lot::Mutex<Vec<(u64, Arc<LiveQueue>)>>,
}

impl ChannelWindow {
    pub fn join(&self, consumer: &Arc<Consumer>) {
        self.queues.lock().push((consumer.number, consumer.queue.clone()));
    }

    pub fn leave(&self, number: u64) {
        self.queues.lock().retain(|(other, _)| *other != number);
    }

    pub fn set_limit(&self, limit: u32) {
        if self.window.set_limit(limit) {
            self.wake();
        }
    }

    pub fn give(&self, places: u32) {
        if self.window.give(places) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.queues.lock().iter().for_each(|(_, queue)| queue.wake());
    }
}

impl Consumer {
    /// How many messages it can take now. If none, the dispatcher is woken when it can.
    pub fn demand(&self) -> u32 {
        if !self.outbox.has_room(self.queue.waker()) {
            return 0;
        }
        match self.no_ack {
            // It takes no place, but waits while all of the channel's are taken.
            true if self.channel_window.window.free() == 0 => 0,
            true => u32::MAX,
            // Both are asked, so that both know that somebody waits.
            false => self.channel_window.window.free().min(self.window.free()),
        }
    }

    /// Takes a message of so many bytes, if it can.
    pub fn takes(&self, bytes: usize) -> bool {
        if self.no_ack {
            return !self.channel_window.window.is_full() && self.outbox.take_room(bytes);
        }
        if !self.channel_window.window.take() {
            return false;
        }
        if !self.window.take() {
            self.channel_window.give(1);
            return false;
        }
        let taken = self.outbox.take_room(bytes);
        if !taken {
            self.give_places(1);
        }
        taken
    }

    /// So many of its messages are settled, or were not delivered after all.
    pub fn give_places(&self, places: u32) {
        if self.window.give(places) {
            self.queue.wake();
        }
        self.channel_window.give(places);
    }
}
