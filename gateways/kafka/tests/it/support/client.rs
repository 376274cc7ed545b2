//! A client of one connection: typed requests in, typed responses out, and raw bytes where a test wants them.

use bytes::{Buf, Bytes, BytesMut};
use codec_kafka::Reader;
use codec_kafka::api::{Message, Request};
use codec_kafka::frame::{DEFAULT_FRAME_BYTES_MAX, decode_response_header, encode_request, split};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(address: std::net::SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        Client { stream, buffer: BytesMut::new(), correlation_id: 0 }
    }

    /// Sends a request without waiting for its answer; returns its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let mut frame = encode_request(request, version, self.correlation_id, Some("test")).unwrap();
        while frame.has_remaining() {
            self.stream.write_buf(&mut frame).await.unwrap();
        }
        self.correlation_id
    }

    /// The next frame; None if the connection was closed.
    pub async fn next_frame(&mut self) -> Option<Bytes> {
        timeout(PATIENCE, async {
            loop {
                if let Some(frame) = split(&mut self.buffer, DEFAULT_FRAME_BYTES_MAX).unwrap() {
                    return Some(frame);
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
        .expect("the gateway answers")
    }

    pub async fn receive<M: Message>(&mut self, version: i16, correlation_id: i32) -> M {
        let frame = self.next_frame().await.expect("the connection is open");
        let mut reader = Reader::new(frame);
        assert_eq!(decode_response_header(&mut reader, M::API, version).unwrap(), correlation_id);
        let response = Message::decode(&mut reader, version).unwrap();
        assert_eq!(reader.remaining(), 0);
        response
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation_id = self.send(version, request).await;
        self.receive(version, correlation_id).await
    }
}

impl Client {
    /// Reads and forgets; false once the connection is closed.
    pub async fn next_frame_or_garbage(&mut self) -> bool {
        self.buffer.clear();
        timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("the gateway closes").unwrap_or(0) > 0
    }
}
