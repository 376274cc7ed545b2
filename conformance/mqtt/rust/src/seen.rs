//! What a client has seen of its broker, as it comes, and waiting for it.

use std::sync::Mutex;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Whatever went wrong, in words.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What is waited for comes in this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    /// Its packet identifier; 0 with QoS 0.
    pub identifier: u16,
    /// Of version 5 alone.
    pub properties: Option<PublishProperties>,
}

impl Message {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// Everything so far.
#[derive(Default)]
pub struct State {
    /// Each CONNACK: whether it said that the session was present.
    pub connections: Vec<bool>,
    pub messages: Vec<Message>,
    /// Each SUBACK: whether every filter was taken.
    pub subscribed: Vec<bool>,
    pub unsubscribed: usize,
    /// PUBACKs and PUBCOMPs that came.
    pub acknowledged: usize,
    /// PUBACKs that went out.
    pub acknowledgements: usize,
    /// Why connections ended.
    pub faults: Vec<String>,
}

impl State {
    pub fn texts(&self) -> Vec<String> {
        self.messages.iter().map(Message::text).collect()
    }
}

/// Shared by a client and the task that drives its event loop.
#[derive(Default)]
pub struct Seen {
    state: Mutex<State>,
    changed: Notify,
}

impl Seen {
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("nobody panics with it"));
        self.changed.notify_waiters();
    }

    pub fn get<T>(&self, get: impl FnOnce(&State) -> T) -> T {
        get(&self.state.lock().expect("nobody panics with it"))
    }

    /// Waits until it holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) -> Result<(), Fault> {
        let end = Instant::now() + PATIENCE;
        loop {
            let notified = self.changed.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if self.get(&holds) {
                return Ok(());
            }
            if timeout_at(end, notified).await.is_err() {
                let (count, faults) = self.get(|state| (state.messages.len(), state.faults.clone()));
                return Err(format!("not within {PATIENCE:?}: {what}; {count} messages, ended {faults:?}").into());
            }
        }
    }

    /// For a while it does not hold.
    pub async fn never(&self, what: &str, holds: impl Fn(&State) -> bool) -> Result<(), Fault> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if self.get(holds) { Err(format!("it came to pass: {what}").into()) } else { Ok(()) }
    }
}
