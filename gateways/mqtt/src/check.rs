//! The health check: a ping's worth of connection, as a client would begin.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use codec_mqtt::{Connect, Packet, Reason, Sender, Text, Version, split};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Version 3.1.1's.
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// The largest answer that is looked at, bytes.
const PACKET_BYTES_MAX: usize = 64 << 10;

/// Fails unless a gateway answers at this address within five seconds.
pub async fn run(address: &str) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, ask(address)).await.context("no answer in time")?
}

async fn ask(address: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let connect = Connect {
        version: Version::Mqtt311,
        bridge: false,
        clean_start: true,
        keep_alive_s: 10,
        properties: Default::default(),
        client_id: Text::default(),
        will: None,
        user_name: None,
        password: None,
    };
    let mut out = BytesMut::new();
    connect.encode(&mut out)?;
    stream.write_all_buf(&mut out).await?;
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = split(&mut buffer, PACKET_BYTES_MAX)? {
            return match Packet::decode(frame, Version::Mqtt311, Sender::Server)? {
                // Whoever is refused for its missing password has been answered, too.
                Packet::Connack(connack)
                    if matches!(
                        connack.reason,
                        Reason::Success | Reason::NotAuthorized | Reason::BadUserNameOrPassword
                    ) =>
                {
                    // A goodbye, so that nothing is logged of it; who was refused is not listened to.
                    let _ = stream.write_all(&DISCONNECT).await;
                    Ok(())
                }
                other => bail!("answered with {other:?}"),
            };
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("the connection was closed");
        }
    }
}
