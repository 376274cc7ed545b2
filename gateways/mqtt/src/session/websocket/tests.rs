//! A WebSocket over an in-memory stream, against a client that is written here.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::inbound::client_frame;
use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Both ends, the client's behind its handshake; `early` is sent with the request.
async fn pair(bytes_max: usize, early: &[u8]) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (mut client, server) = tokio::io::duplex(bytes_max);
    let asking = async {
        client.write_all(&[REQUEST.as_bytes(), early].concat()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        client
    };
    let (client, accepted) = tokio::join!(asking, WebSocket::accept(server, Some("/mqtt")));
    (client, accepted.unwrap())
}

/// A frame of the server's: its first byte and its payload.
async fn frame(client: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let first = client.read_u8().await.unwrap();
    let length = match client.read_u8().await.unwrap() {
        126 => u64::from(client.read_u16().await.unwrap()),
        127 => client.read_u64().await.unwrap(),
        short => u64::from(short),
    };
    let mut payload = vec![0; length as usize];
    client.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let (mut client, mut server) = pair(1 << 20, &client_frame(0x82, b"early")).await;
    assert!(!server.early.is_empty());
    client.write_all(&client_frame(0x02, b"two ")).await.unwrap();
    client.write_all(&client_frame(0x80, b"frames")).await.unwrap();
    let mut read = vec![0; 15];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(read, b"earlytwo frames");

    for length in [1, 125, 126, 65_535, 65_536] {
        server.write_all(&vec![7; length]).await.unwrap();
        assert_eq!(frame(&mut client).await, (BINARY, vec![7; length]));
    }
    let slices = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"tail")];
    assert_eq!(server.write_vectored(&slices).await.unwrap(), 8);
    assert_eq!(frame(&mut client).await, (BINARY, b"headtail".to_vec()));
}

#[tokio::test]
async fn more_slices_than_a_write_takes_are_written_in_turn() {
    let (mut client, mut server) = pair(1 << 20, b"").await;
    let slices: Vec<_> = (0..200).map(|_| IoSlice::new(b"ab")).collect();
    let written = server.write_vectored(&slices).await.unwrap();
    assert_eq!(written, 2 * (SLICES_MAX - 1));
    assert_eq!(frame(&mut client).await, (BINARY, b"ab".repeat(SLICES_MAX - 1)));
}

/// A stream that takes a few bytes at a time: frames are torn at every place.
#[tokio::test]
async fn torn_writes_keep_frames_whole() {
    for room in [1, 2, 3, 7, 100] {
        let (client, server) = pair(1 << 16, b"").await;
        let (mut near, far) = tokio::io::duplex(room);
        let (mut server, _old) = (WebSocket { stream: far, ..rebuilt(server) }, client);
        let sent: Vec<u8> = (0..5_000u32).map(|number| number as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            for chunk in sent.chunks(700) {
                server.write_all(chunk).await.unwrap();
            }
            server.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        loop {
            match frame(&mut near).await {
                (BINARY, payload) => got.extend(payload),
                (first, payload) => {
                    assert_eq!((first, payload), (CLOSE, NORMAL.to_be_bytes().to_vec()));
                    break;
                }
            }
        }
        assert_eq!(got, expected, "{room}");
        writing.await.unwrap();
    }
}

fn rebuilt(server: WebSocket<DuplexStream>) -> WebSocket<DuplexStream> {
    let (stream, _) = tokio::io::duplex(1);
    WebSocket { stream, ..server }
}

#[tokio::test]
async fn pings_are_answered_while_nothing_else_goes_on() {
    let (mut client, mut server) = pair(1 << 16, b"").await;
    let reading = tokio::spawn(async move {
        let mut read = vec![0; 4];
        server.read_exact(&mut read).await.unwrap();
        (read, server)
    });
    client.write_all(&client_frame(0x89, b"are you there")).await.unwrap();
    assert_eq!(frame(&mut client).await, (PONG, b"are you there".to_vec()));
    client.write_all(&client_frame(0x8a, b"unasked")).await.unwrap();
    client.write_all(&client_frame(0x82, b"data")).await.unwrap();
    assert_eq!(reading.await.unwrap().0, b"data");
}

#[tokio::test]
async fn a_ping_within_a_frame_of_ours_is_answered_behind_it() {
    let (near, far) = tokio::io::duplex(8);
    let (_client, server) = pair(1 << 16, b"").await;
    let mut server = WebSocket { stream: far, ..rebuilt(server) };
    let (mut client_read, mut client_write) = tokio::io::split(near);
    // Of the frame, only 6 bytes of payload have room; the rest has to wait.
    assert_eq!(server.write(b"0123456789").await.unwrap(), 6);
    client_write.write_all(&client_frame(0x89, b"")).await.unwrap();
    let mut byte = [0];
    let polled = std::future::poll_fn(|context| {
        let read = Pin::new(&mut server).poll_read(context, &mut ReadBuf::new(&mut byte));
        Poll::Ready(read.is_pending())
    });
    assert!(polled.await, "a ping is no data");
    let writing = tokio::spawn(async move {
        server.write_all(b"6789").await.unwrap();
        server.flush().await.unwrap();
    });
    assert_eq!(frame(&mut client_read).await, (BINARY, b"0123456789".to_vec()));
    assert_eq!(frame(&mut client_read).await, (PONG, Vec::new()));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_close_is_answered_and_is_the_end() {
    let (mut client, mut server) = pair(1 << 16, b"").await;
    let mut close = client_frame(0x88, &[3, 233, b'b', b'y', b'e']);
    close.extend(client_frame(0x82, b"late"));
    client.write_all(&close).await.unwrap();
    let mut read = Vec::new();
    assert_eq!(server.read_to_end(&mut read).await.unwrap(), 0);
    assert_eq!(frame(&mut client).await, (CLOSE, vec![3, 233]));
    assert!(server.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_text_frame_closes_the_connection() {
    let (mut client, mut server) = pair(1 << 16, b"").await;
    client.write_all(&client_frame(0x82, b"ok")).await.unwrap();
    client.write_all(&client_frame(0x81, b"text")).await.unwrap();
    let mut read = Vec::new();
    let error = server.read_to_end(&mut read).await.unwrap_err();
    assert!(error.to_string().contains("MQTT-6.0.0-1"), "{error}");
    assert_eq!(frame(&mut client).await, (CLOSE, 1003u16.to_be_bytes().to_vec()));
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end() {
    let (client, mut server) = pair(1 << 16, b"").await;
    drop(client);
    let mut read = Vec::new();
    assert_eq!(server.read_to_end(&mut read).await.unwrap(), 0);
}
