//! The health check: one ApiVersions round trip, as a client would begin.

use std::time::Duration;

use anyhow::{Context, bail};
use codec_kafka::frame::{DEFAULT_FRAME_BYTES_MAX, decode_response_header, encode_request, split};
use codec_kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use codec_kafka::{ApiKey, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Fails unless a gateway answers at this address within five seconds.
pub async fn run(address: &str) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, ask(address)).await.context("no answer in time")?
}

async fn ask(address: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let request =
        ApiVersionsRequest { client_software_name: "polymq-check".into(), client_software_version: "1".into() };
    let mut frame = encode_request(&request, 3, 1, Some("polymq-check"))?;
    stream.write_all_buf(&mut frame).await?;
    let mut buffer = bytes::BytesMut::new();
    let frame = loop {
        if let Some(frame) = split(&mut buffer, DEFAULT_FRAME_BYTES_MAX)? {
            break frame;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("the connection was closed");
        }
    };
    let mut reader = Reader::new(frame);
    decode_response_header(&mut reader, ApiKey::ApiVersions, 3)?;
    let response = ApiVersionsResponse::decode(&mut reader, 3)?;
    if response.error_code != 0 || response.api_keys.is_empty() {
        bail!("answered with error code {}", response.error_code);
    }
    Ok(())
}
