//! One client of either version, and the task that drives its event loop.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Filter, PublishProperties, SubscribeProperties};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::kit::Version;
use crate::seen::{Fault, Message, Seen};
use crate::{v4, v5};

/// Packets larger than this are not taken.
pub const PACKET_SIZE_MAX: u32 = 2_000_000;
/// Requests that wait for the event loop.
pub const REQUESTS_MAX: usize = 100;
/// Between two attempts to connect.
pub const RECONNECT_AFTER: Duration = Duration::from_millis(50);
/// Of a session that stays, with version 5.
pub const SESSION_EXPIRY_SECONDS: u32 = 600;

/// What is said to the task.
pub enum Control {
    /// Lose the connection, keep what is in flight, connect again.
    Cut,
    /// Do not connect again when the connection ends.
    Leave,
}

pub struct Options {
    pub id: String,
    pub version: Version,
    pub clean: bool,
    /// Topic and text.
    pub will: Option<(String, String)>,
    /// Whether messages are acknowledged by `Client::acknowledge` alone.
    pub manual: bool,
    /// Version 5.
    pub receive_maximum: Option<u16>,
}

impl Options {
    pub fn new(id: String, version: Version) -> Options {
        Options { id, version, clean: true, will: None, manual: false, receive_maximum: None }
    }

    /// The session stays when the connection ends.
    pub fn stays(self) -> Options {
        Options { clean: false, ..self }
    }
}

enum Requests {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// Dropped, it is gone without a DISCONNECT.
pub struct Client {
    requests: Requests,
    control: UnboundedSender<Control>,
    task: JoinHandle<()>,
    pub seen: Arc<Seen>,
}

impl Client {
    /// A client that is connected.
    pub async fn open(address: &str, options: Options) -> Result<Client, Fault> {
        let (host, port) = address.rsplit_once(':').ok_or("HOST:PORT is wanted")?;
        let port = port.parse()?;
        let seen = Arc::new(Seen::default());
        let (control, said) = unbounded_channel();
        let (requests, task) = match options.version {
            Version::V4 => {
                let (client, events) = v4::open(host, port, options);
                (Requests::V4(client), tokio::spawn(v4::drive(events, seen.clone(), said)))
            }
            Version::V5 => {
                let (client, events) = v5::open(host, port, options);
                (Requests::V5(client), tokio::spawn(v5::drive(events, seen.clone(), said)))
            }
        };
        seen.until("CONNACK", |state| !state.connections.is_empty()).await?;
        Ok(Client { requests, control, task, seen })
    }

    /// Subscribes, and waits for SUBACK.
    pub async fn subscribe(&self, filter: &str, qos: u8) -> Result<(), Fault> {
        let before = self.seen.get(|state| state.subscribed.len());
        match &self.requests {
            Requests::V4(client) => client.subscribe(filter, v4::qos(qos)).await?,
            Requests::V5(client) => client.subscribe(filter, v5::qos(qos)).await?,
        }
        self.subscribed(before).await
    }

    /// Subscribes with options of version 5.
    pub async fn subscribe_with(&self, filter: Filter, identifier: Option<usize>) -> Result<(), Fault> {
        let before = self.seen.get(|state| state.subscribed.len());
        let properties = SubscribeProperties { id: identifier, user_properties: Vec::new() };
        self.of_version_5()?.subscribe_many_with_properties([filter], properties).await?;
        self.subscribed(before).await
    }

    async fn subscribed(&self, before: usize) -> Result<(), Fault> {
        self.seen.until("SUBACK", |state| state.subscribed.len() > before).await?;
        if self.seen.get(|state| state.subscribed[before]) { Ok(()) } else { Err("SUBACK says no".into()) }
    }

    /// Unsubscribes, and waits for UNSUBACK.
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), Fault> {
        let before = self.seen.get(|state| state.unsubscribed);
        match &self.requests {
            Requests::V4(client) => client.unsubscribe(filter).await?,
            Requests::V5(client) => client.unsubscribe(filter).await?,
        }
        self.seen.until("UNSUBACK", |state| state.unsubscribed > before).await
    }

    /// Hands a message to the event loop; does not wait for its acknowledgement.
    pub async fn publish(&self, topic: &str, body: impl Into<Vec<u8>>, qos: u8, retain: bool) -> Result<(), Fault> {
        let body: Vec<u8> = body.into();
        match &self.requests {
            Requests::V4(client) => client.publish(topic, v4::qos(qos), retain, body).await?,
            Requests::V5(client) => client.publish(topic, v5::qos(qos), retain, body).await?,
        }
        Ok(())
    }

    /// The same, with properties of version 5.
    pub async fn publish_with(&self, topic: &str, text: &str, properties: PublishProperties) -> Result<(), Fault> {
        let qos = v5::qos(1);
        self.of_version_5()?.publish_with_properties(topic, qos, false, text.to_owned(), properties).await?;
        Ok(())
    }

    /// Waits until so many messages of QoS 1 and 2 have been acknowledged.
    pub async fn acknowledged(&self, count: usize) -> Result<(), Fault> {
        self.seen.until(&format!("{count} acknowledgements"), |state| state.acknowledged >= count).await
    }

    /// Acknowledges a message of QoS 1, where that is manual, and waits until it is said.
    pub async fn acknowledge(&self, message: &Message) -> Result<(), Fault> {
        let before = self.seen.get(|state| state.acknowledgements);
        match &self.requests {
            Requests::V4(client) => client.ack(&v4::acknowledged(message)).await?,
            Requests::V5(client) => client.ack(&v5::acknowledged(message)).await?,
        }
        self.seen.until("PUBACK goes out", |state| state.acknowledgements > before).await
    }

    /// Waits until there are so many messages; they are answered.
    pub async fn wait(&self, count: usize) -> Result<Vec<Message>, Fault> {
        self.seen.until(&format!("{count} messages"), |state| state.messages.len() >= count).await?;
        Ok(self.seen.get(|state| state.messages.clone()))
    }

    /// Waits until there are so many messages; their texts, and nothing has come but them.
    pub async fn texts(&self, count: usize) -> Result<Vec<String>, Fault> {
        Ok(self.wait(count).await?.iter().map(Message::text).collect())
    }

    /// Loses the connection; rumqttc connects again by itself.
    pub fn cut(&self) {
        // Its task ends before the client only when the case is over.
        let _ = self.control.send(Control::Cut);
    }

    /// From now on it does not connect again.
    pub fn stay_away(&self) {
        let _ = self.control.send(Control::Leave);
    }

    /// DISCONNECT, and waits for the end of the connection.
    pub async fn disconnect(self) -> Result<(), Fault> {
        self.stay_away();
        match &self.requests {
            Requests::V4(client) => client.disconnect().await?,
            Requests::V5(client) => client.disconnect().await?,
        }
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .map_err(|_| "the broker keeps the connection")??;
        Ok(())
    }

    /// Waits for the end of a connection that the broker ends.
    pub async fn ends(self) -> Result<String, Fault> {
        self.seen.until("the end of the connection", |state| !state.faults.is_empty()).await?;
        Ok(self.seen.get(|state| state.faults[0].clone()))
    }

    fn of_version_5(&self) -> Result<&rumqttc::v5::AsyncClient, Fault> {
        match &self.requests {
            Requests::V5(client) => Ok(client),
            Requests::V4(_) => Err("only version 5 has this".into()),
        }
    }
}
