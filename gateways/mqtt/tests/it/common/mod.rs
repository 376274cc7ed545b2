//! A whole gateway on a real core in a temporary directory, and a client that says what it is told to.
#![allow(dead_code)]

pub mod far_core;
pub mod faulty_core;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use codec_mqtt::{
    Acknowledgement, Connack, Connect, Delivery, Disconnect, PACKET_BYTES_MAX, Packet, PacketId, Properties, Property,
    Publish, QoS, Reason, Sender, Suback, Subscribe, Subscription, Text, Version, Will, split,
};
use core_log::LocalCore;
use mqtt_gateway::{Config, Handle};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to look for something that must not come.
pub const QUIET: Duration = Duration::from_millis(150);

pub struct Broker {
    pub directory: Arc<TempDir>,
    pub core: LocalCore,
    pub gateway: Handle,
}

pub fn config() -> Config {
    Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() }
}

impl Broker {
    pub async fn start() -> Broker {
        Broker::with(config()).await
    }

    pub async fn with(config: Config) -> Broker {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let core = open_core(&directory);
        let gateway = mqtt_gateway::start(core.clone(), config).await.expect("a gateway");
        Broker { directory, core, gateway }
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// A connection that has said nothing.
    pub async fn raw(&self, version: Version) -> Client {
        Client::raw(self.address(), version).await
    }

    /// A client with a clean session.
    pub async fn client(&self, version: Version, client_id: &str) -> Client {
        self.client_with(connect(version, client_id)).await
    }

    pub async fn client_with(&self, connect: Connect) -> Client {
        let mut client = self.raw(connect.version).await;
        let connack = client.connect(connect).await;
        assert_eq!(connack.reason, Reason::Success);
        client
    }

    /// Gateway and core are stopped, and others started on what they have left.
    pub async fn restart(self, config: Config) -> Broker {
        let Broker { directory, core, gateway } = self;
        gateway.stop().await;
        core.stop();
        drop(core);
        let core = reopen_core(&directory).await;
        let gateway = mqtt_gateway::start(core.clone(), config).await.expect("a gateway");
        Broker { directory, core, gateway }
    }

    pub async fn stop(self) {
        self.gateway.stop().await;
        self.core.stop();
    }
}

pub fn open_core(directory: &TempDir) -> LocalCore {
    let formats = codec_record::Formats::all();
    LocalCore::open_directory(core_log::Config::default(), directory.path(), formats).expect("a core")
}

/// A core on what one that was stopped has left.
pub async fn reopen_core(directory: &TempDir) -> LocalCore {
    within(async {
        loop {
            let formats = codec_record::Formats::all();
            match LocalCore::open_directory(core_log::Config::default(), directory.path(), formats) {
                Ok(core) => break core,
                // Tasks that end have it still.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub fn text(text: &str) -> Text {
    Text::new(text).expect("a text")
}

pub fn id(id: u16) -> PacketId {
    NonZeroU16::new(id).expect("an identifier")
}

/// With a clean session and without a keep alive.
pub fn connect(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id: text(client_id),
        will: None,
        user_name: None,
        password: None,
    }
}

/// Of a session that stays.
pub fn persistent(version: Version, client_id: &str) -> Connect {
    let expiry = (version == Version::Mqtt5).then_some(Property::SessionExpiryInterval(3600));
    Connect { clean_start: false, properties: properties(expiry), ..connect(version, client_id) }
}

pub fn properties(properties: impl IntoIterator<Item = Property>) -> Properties {
    Properties::new(properties).expect("properties")
}

pub fn will(topic: &str, payload: &[u8], qos: QoS) -> Will {
    let payload = codec_mqtt::Binary::new(Bytes::copy_from_slice(payload)).expect("a payload");
    Will { qos, retain: false, properties: Properties::default(), topic: text(topic), payload }
}

pub fn delivery(qos: QoS, packet_id: u16) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id(packet_id)),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id(packet_id)),
    }
}

pub fn message(topic: &str, payload: impl AsRef<[u8]>, delivery: Delivery) -> Publish {
    Publish {
        duplicate: false,
        delivery,
        retain: false,
        topic: text(topic),
        properties: Properties::default(),
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

pub struct Client {
    pub stream: TcpStream,
    pub version: Version,
    input: BytesMut,
    next_id: u16,
}

impl Client {
    pub async fn raw(address: SocketAddr, version: Version) -> Client {
        let stream = within(TcpStream::connect(address)).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, version, input: BytesMut::new(), next_id: 0 }
    }

    pub async fn connect(&mut self, connect: Connect) -> Connack {
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.packet().await {
            Packet::Connack(connack) => connack,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    pub async fn send(&mut self, packet: Packet) {
        self.send_all([packet]).await;
    }

    /// In one write.
    pub async fn send_all(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let mut out = BytesMut::new();
        for packet in packets {
            packet.encode(self.version, &mut out).expect("a packet");
        }
        within(self.stream.write_all(&out)).await.expect("sent");
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("sent");
    }

    /// The next packet; None: the end.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(frame) = split(&mut self.input, PACKET_BYTES_MAX).expect("a frame") {
                return Some(Packet::decode(frame, self.version, Sender::Server).expect("a packet"));
            }
            if within(self.stream.read_buf(&mut self.input)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn packet(&mut self) -> Packet {
        self.next().await.expect("a packet before the end")
    }

    /// The next PUBLISH; nothing but PUBRELs may come before it, which are answered.
    pub async fn publish(&mut self) -> Publish {
        match self.next_but_releases().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    async fn next_but_releases(&mut self) -> Option<Packet> {
        loop {
            match self.next().await {
                Some(Packet::Pubrel(pubrel)) => {
                    self.send(Packet::Pubcomp(Acknowledgement::success(pubrel.packet_id))).await;
                }
                other => return other,
            }
        }
    }

    /// The next message, acknowledged, as text.
    pub async fn message(&mut self) -> (String, String) {
        let publish = self.publish().await;
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => self.send(Packet::Puback(Acknowledgement::success(id))).await,
            // PUBREL comes when it comes.
            Delivery::ExactlyOnce(id) => self.send(Packet::Pubrec(Acknowledgement::success(id))).await,
        }
        (publish.topic.to_string(), String::from_utf8_lossy(&publish.payload).into_owned())
    }

    /// The end, with what was said before it.
    pub async fn end(&mut self) -> Option<Disconnect> {
        let mut told = None;
        while let Some(packet) = self.next().await {
            if let Packet::Disconnect(disconnect) = packet {
                told = Some(disconnect);
            }
        }
        told
    }

    /// Nothing comes.
    pub async fn silence(&mut self) {
        // Whatever was under way is here when the answer to this is.
        self.send(Packet::Pingreq).await;
        assert_eq!(self.next_but_releases().await, Some(Packet::Pingresp));
        if let Ok(packet) = tokio::time::timeout(QUIET, self.next_but_releases()).await {
            panic!("{packet:?} came");
        }
    }

    pub fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Suback {
        self.subscribe_with([Subscription::new(text(filter), qos)], Properties::default()).await
    }

    pub async fn subscribe_with<const N: usize>(
        &mut self,
        subscriptions: [Subscription; N],
        properties: Properties,
    ) -> Suback {
        let packet_id = id(self.id());
        self.send(Packet::Subscribe(Subscribe { packet_id, properties, subscriptions: subscriptions.into() })).await;
        match self.packet().await {
            Packet::Suback(suback) => {
                assert_eq!(suback.packet_id, packet_id);
                suback
            }
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Publishes, up to the last acknowledgement.
    pub async fn publish_to(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) {
        let packet_id = self.id();
        self.publish_all(message(topic, payload, delivery(qos, packet_id))).await;
    }

    /// The same for a whole message.
    pub async fn publish_all(&mut self, publish: Publish) {
        let delivery = publish.delivery;
        self.send(Packet::Publish(publish)).await;
        match delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => {
                assert_eq!(self.packet().await, Packet::Puback(Acknowledgement::success(id)));
            }
            Delivery::ExactlyOnce(id) => {
                assert_eq!(self.packet().await, Packet::Pubrec(Acknowledgement::success(id)));
                self.send(Packet::Pubrel(Acknowledgement::success(id))).await;
                assert_eq!(self.packet().await, Packet::Pubcomp(Acknowledgement::success(id)));
            }
        }
    }

    /// Says goodbye. What comes meanwhile is let pass, but for releases, which are finished first.
    pub async fn disconnect(mut self) {
        self.send(Packet::Pingreq).await;
        while self.next_but_releases().await.expect("a packet before the goodbye") != Packet::Pingresp {}
        self.send(Packet::Disconnect(Disconnect::default())).await;
        while self.next().await.is_some() {}
    }
}
