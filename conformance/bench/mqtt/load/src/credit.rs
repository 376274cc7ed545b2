//! How much a publisher may send: what keeps a broker from dropping QoS 0, and QoS 1 and 2 inside their window.

use std::cell::Cell;

use tokio::sync::Notify;

/// Of one publisher.
pub struct Credit {
    pub sent: Cell<u64>,
    pub acknowledged: Cell<u64>,
    pub delivered: Cell<u64>,
    /// Deliveries that were given up: the broker has dropped them.
    pub lost: Cell<u64>,
    /// Whether a subscriber has got something of it in what it reads just now.
    pub touched: Cell<bool>,
    waiting: Cell<bool>,
    wake: Notify,
    /// Deliveries of each message.
    copies: u64,
    /// Messages that may be unacknowledged; none: QoS 0.
    window: Option<u64>,
    /// Messages that may be undelivered; none: paced by time alone.
    outstanding: Option<u64>,
}

impl Credit {
    pub fn new(copies: u64, window: Option<u64>, outstanding: Option<u64>) -> Self {
        Self {
            sent: Cell::new(0),
            acknowledged: Cell::new(0),
            delivered: Cell::new(0),
            lost: Cell::new(0),
            touched: Cell::new(false),
            waiting: Cell::new(false),
            wake: Notify::new(),
            copies,
            window,
            outstanding,
        }
    }

    pub fn unacknowledged(&self) -> u64 {
        if self.window.is_some() { self.sent.get().saturating_sub(self.acknowledged.get()) } else { 0 }
    }

    /// Deliveries that are still to come.
    pub fn undelivered(&self) -> u64 {
        (self.sent.get() * self.copies).saturating_sub(self.delivered.get() + self.lost.get())
    }

    /// Messages that may be sent now.
    pub fn room(&self) -> u64 {
        let window = self.window.map_or(u64::MAX, |most| most.saturating_sub(self.unacknowledged()));
        let outstanding =
            self.outstanding.map_or(u64::MAX, |most| most.saturating_sub(self.undelivered().div_ceil(self.copies)));
        window.min(outstanding)
    }

    /// Waits until there is room again: for half of what there can be, so that messages go in batches.
    pub async fn wait(&self) {
        self.waiting.set(true);
        self.wake.notified().await;
    }

    /// Wakes the publisher, if it waits and it is worth it.
    pub fn came(&self) {
        if self.waiting.get() && self.room() >= self.worth() {
            self.waiting.set(false);
            self.wake.notify_one();
        }
    }

    /// Wakes it whatever there is.
    pub fn wake(&self) {
        self.waiting.set(false);
        self.wake.notify_one();
    }

    fn worth(&self) -> u64 {
        let most = self.window.unwrap_or(u64::MAX).min(self.outstanding.unwrap_or(u64::MAX));
        (most / 2).clamp(1, 256)
    }

    /// Nothing has come for long: what is undelivered is lost.
    pub fn give_up(&self) {
        self.lost.set(self.lost.get() + self.undelivered());
    }
}
