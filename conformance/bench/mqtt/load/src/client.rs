//! A connection: its socket, what it has received and not read yet, and the handshake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::packets::{self, Frame};

/// Room for what one read may bring.
const READ_BYTES: usize = 256 << 10;
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Connections from one address to one port are at most as many as there are ephemeral ports.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;

/// Bytes that were received, as frames.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    read_to: usize,
}

impl Inbox {
    /// The next frame that is whole.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        let Some((_, length)) = packets::frame(&self.bytes[self.read_to..])? else {
            self.bytes.drain(..self.read_to);
            self.read_to = 0;
            return Ok(None);
        };
        let from = self.read_to;
        self.read_to += length;
        Ok(packets::frame(&self.bytes[from..])?.map(|(frame, _)| frame))
    }

    /// Reads what there is, at least something.
    pub async fn fill(&mut self, stream: &mut (impl AsyncReadExt + Unpin)) -> Result<()> {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES / 4 {
            self.bytes.reserve(READ_BYTES);
        }
        ensure!(stream.read_buf(&mut self.bytes).await? > 0, "the broker has closed the connection");
        Ok(())
    }
}

/// A connection whose CONNECT was accepted.
pub struct Client {
    pub stream: TcpStream,
    pub inbox: Inbox,
    pub protocol: u8,
}

impl Client {
    /// `number` is the connection's of this program: many need several addresses of their own.
    pub async fn connect(
        to: SocketAddr,
        protocol: u8,
        client_id: &str,
        keep_alive: u16,
        number: usize,
    ) -> Result<Self> {
        let stream = open(to, number).await.with_context(|| format!("connecting to {to}"))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, inbox: Inbox::default(), protocol };
        client.stream.write_all(&packets::connect(protocol, client_id, keep_alive)).await?;
        client.expect(packets::CONNACK, 1).await.context("CONNECT")?;
        Ok(client)
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<()> {
        self.stream.write_all(&packets::subscribe(self.protocol, filter, qos)).await?;
        let reason_at = if self.protocol == 5 { 3 } else { 2 };
        self.expect(packets::SUBACK, reason_at).await.context("SUBSCRIBE")
    }

    /// Waits for a packet, whose byte `reason_at` is below 0x80.
    async fn expect(&mut self, kind: u8, reason_at: usize) -> Result<()> {
        loop {
            if let Some(frame) = self.inbox.next()? {
                ensure!(frame.kind() == kind, "answered with a packet of the kind {}", frame.kind());
                let reason = frame.body.get(reason_at).copied().unwrap_or(0);
                ensure!(reason < 0x80 && (kind != packets::CONNACK || reason == 0), "refused with {reason:#x}");
                return Ok(());
            }
            let Ok(filled) = timeout(ANSWER_MAX, self.inbox.fill(&mut self.stream)).await else {
                bail!("no answer within {} s", ANSWER_MAX.as_secs());
            };
            filled?;
        }
    }

    pub async fn disconnect(mut self) -> Result<()> {
        self.stream.write_all(&packets::DISCONNECTS).await?;
        Ok(())
    }
}

async fn open(to: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let place = number / CONNECTIONS_PER_ADDRESS;
    if to.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && place > 0 {
        let own = Ipv4Addr::new(127, 0, (1 + place / 250) as u8, (1 + place % 250) as u8);
        socket.bind(SocketAddr::new(IpAddr::V4(own), 0))?;
    }
    Ok(socket.connect(to).await?)
}
