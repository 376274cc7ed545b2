//! The health check: the gateway's greeting, as a client would begin.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use codec_amqp::frame::{PROTOCOL_HEADER, split};
use codec_amqp::{Method, connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest greeting that is looked at, bytes.
const FRAME_BYTES_MAX: usize = 128 << 10;

/// Fails unless a gateway answers at this address within five seconds.
pub async fn run(address: &str) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, ask(address)).await.context("no answer in time")?
}

async fn ask(address: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.write_all(&PROTOCOL_HEADER).await?;
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = split(&mut buffer, FRAME_BYTES_MAX)? {
            return match Method::decode(&frame.payload)? {
                Method::ConnectionStart(connection::Start { version_major: 0, version_minor: 9, .. }) => Ok(()),
                other => bail!("answered with {}", other.name()),
            };
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("the connection was closed");
        }
    }
}
