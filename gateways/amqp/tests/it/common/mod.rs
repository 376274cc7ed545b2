//! A whole gateway on a real core in a temporary directory, and clients for it.
#![allow(dead_code)]

mod gated_core;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp_gateway::{Config, Handle};
use bytes::BytesMut;
use codec_amqp::frame::{PROTOCOL_HEADER, split};
use codec_amqp::{FieldTable, Frame, Method, Outgoing, ShortStr, connection};
use core_log::LocalCore;
use core_rpc::AnyCore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use gated_core::{Gate, GatedCore};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

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

    /// One whose transfers go through a gate.
    pub async fn gated(config: Config) -> (Broker, Gate) {
        let (broker, gate, _) = Broker::with_gates(config).await;
        (broker, gate)
    }

    /// One whose transfers go through a gate, and new queues through another.
    pub async fn with_gates(config: Config) -> (Broker, Gate, Gate) {
        let (directory, core) = Broker::core();
        let (gated, gate, creates) = GatedCore::new(core.clone());
        let gateway = amqp_gateway::start(AnyCore::new(gated), config).await.expect("a gateway");
        (Broker { directory, core, gateway }, gate, creates)
    }

    fn core() -> (Arc<TempDir>, LocalCore) {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let core = LocalCore::open_directory(core_log::Config::default(), directory.path(), formats()).expect("a core");
        (directory, core)
    }

    pub async fn with(config: Config) -> Broker {
        let (directory, core) = Broker::core();
        let gateway = amqp_gateway::start(core.clone(), config).await.expect("a gateway");
        Broker { directory, core, gateway }
    }

    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.gateway.address())
    }

    /// A client that we did not write.
    pub async fn lapin(&self) -> lapin::Connection {
        self.lapin_at(&self.uri()).await.expect("a connection")
    }

    pub async fn lapin_at(&self, uri: &str) -> lapin::Result<lapin::Connection> {
        within(lapin::Connection::connect(uri, lapin::ConnectionProperties::default())).await
    }

    /// A client of frames.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.gateway.address()).await
    }

    pub async fn stop(self) {
        self.gateway.stop().await;
        self.core.stop();
    }
}

fn formats() -> codec_record::Formats {
    codec_record::Formats::all()
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub fn short(text: &str) -> ShortStr {
    ShortStr::try_from(text).expect("a short string")
}

/// The frames of a publish of a body that fits one, to a queue by the default exchange.
pub fn publish_frames(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = |kind: u8, payload: &[u8]| {
        bytes.push(kind);
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xCE);
    };
    let mut method = vec![0, 60, 0, 40, 0, 0, 0, queue.len() as u8];
    method.extend(queue.as_bytes());
    method.push(0);
    frame(1, &method);
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0, 0]);
    frame(2, &header);
    frame(3, body);
    bytes
}

/// A client that says what it is told to, byte by byte.
pub struct Raw {
    pub stream: TcpStream,
    pub input: BytesMut,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw { stream: TcpStream::connect(address).await.expect("a connection"), input: BytesMut::new() }
    }

    pub async fn send(&mut self, channel: u16, method: impl Into<Method>) {
        let mut out = Outgoing::new();
        out.put_method(channel, &method.into());
        within(self.stream.write_all_buf(&mut out)).await.expect("sent");
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("sent");
    }

    /// The next frame but heartbeats; None: the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = split(&mut self.input, 0).expect("a frame") {
                return Some(frame);
            }
            if within(self.stream.read_buf(&mut self.input)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn method(&mut self) -> (u16, Method) {
        let frame = self.frame().await.expect("a frame before the end");
        (frame.channel, Method::decode(&frame.payload).expect("a method"))
    }

    /// Reads everything until the peer closes.
    pub async fn end(&mut self) {
        while self.frame().await.is_some() {}
    }

    /// Up to connection.tune.
    pub async fn log_in(&mut self, name: &str, password: &str) -> Method {
        self.send_bytes(&PROTOCOL_HEADER).await;
        assert!(matches!(self.method().await, (0, Method::ConnectionStart(_))));
        let capabilities = FieldTable::from([
            ("authentication_failure_close", true.into()),
            ("connection.blocked", true.into()),
            ("consumer_cancel_notify", true.into()),
        ]);
        let client_properties = FieldTable::from([("capabilities", codec_amqp::FieldValue::Table(capabilities))]);
        let response = format!("\0{name}\0{password}").into_bytes().into();
        self.send(
            0,
            connection::StartOk {
                client_properties,
                mechanism: ShortStr::from_static("PLAIN"),
                response,
                locale: ShortStr::from_static("en_US"),
            },
        )
        .await;
        self.method().await.1
    }

    /// The whole handshake.
    pub async fn open(&mut self, heartbeat: u16) {
        assert!(matches!(self.log_in("guest", "guest").await, Method::ConnectionTune(_)));
        self.send(0, connection::TuneOk { channel_max: 0, frame_max: 0, heartbeat }).await;
        self.send(0, connection::Open { virtual_host: ShortStr::from_static("/") }).await;
        assert_eq!(self.method().await, (0, connection::OpenOk {}.into()));
    }

    pub async fn open_channel(&mut self, number: u16) {
        self.send(number, codec_amqp::channel::Open {}).await;
        assert_eq!(self.method().await, (number, codec_amqp::channel::OpenOk {}.into()));
    }
}
