//! The opening handshake (RFC 6455 section 4): an HTTP request in, `101 Switching Protocols` or a refusal out.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest request, bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What a key is hashed with (section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The subprotocols, the better first: [MQTT-6.0.0-3], and what clients of version 3.1 say.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// The status line behind `HTTP/1.1`, and headers that belong to it.
    status: &'static str,
    what: &'static str,
}

const fn refused(status: &'static str, what: &'static str) -> Refused {
    Refused { status, what }
}

const BAD_REQUEST: &str = "400 Bad Request";

/// What the request asks for, and the answer to its key.
#[derive(Debug, PartialEq, Eq)]
struct Upgrade {
    accept: String,
    subprotocol: &'static str,
}

/// Reads the request and answers it. Returns what the client sent behind it.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, path: Option<&str>) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(1024);
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if read.len() >= REQUEST_BYTES_MAX {
            return refuse(stream, refused("431 Request Header Fields Too Large", "the request is too large")).await;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    match parse(&read[..end], path) {
        Ok(upgrade) => {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
                upgrade.accept, upgrade.subprotocol
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            Ok(read.split_off(end))
        }
        Err(refusal) => refuse(stream, refusal).await,
    }
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, refusal: Refused) -> io::Result<Vec<u8>> {
    let Refused { status, what } = refusal;
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{what}\n",
        what.len() + 1
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, refusal))
}

fn parse(request: &[u8], path: Option<&str>) -> Result<Upgrade, Refused> {
    let text = std::str::from_utf8(request).map_err(|_| refused(BAD_REQUEST, "the request is no text"))?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (first.next(), first.next(), first.next());
    if version != Some("HTTP/1.1") || first.next().is_some() {
        return Err(refused(BAD_REQUEST, "not a request of HTTP/1.1"));
    }
    if method != Some("GET") {
        return Err(refused("405 Method Not Allowed\r\nAllow: GET", "only GET"));
    }
    // Also an absolute URI, without its query.
    let target = target.unwrap_or_default();
    let target = target.split_once("://").map_or(target, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let target = target.split('?').next().unwrap_or_default();
    if path.is_some_and(|path| path != target) {
        return Err(refused("404 Not Found", "MQTT is not at this path"));
    }
    let lines: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let values = |name: &'static str| {
        lines.iter().filter(move |(named, _)| named.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let tokens = |name| values(name).flat_map(|value| value.split(',')).map(str::trim);
    if !tokens("Upgrade").any(|token| token.eq_ignore_ascii_case("websocket"))
        || !tokens("Connection").any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        return Err(refused("426 Upgrade Required\r\nUpgrade: websocket", "here speaks MQTT over WebSocket"));
    }
    if !values("Sec-WebSocket-Version").any(|version| version == "13") {
        let status = "426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket";
        return Err(refused(status, "only version 13 of WebSocket"));
    }
    let key = values("Sec-WebSocket-Key").next().unwrap_or_default();
    if STANDARD.decode(key).ok().is_none_or(|key| key.len() != 16) {
        return Err(refused(BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes"));
    }
    let is_offered = |known: &&&str| tokens("Sec-WebSocket-Protocol").any(|offered| offered == **known);
    let Some(subprotocol) = SUBPROTOCOLS.iter().find(is_offered) else {
        return Err(refused(BAD_REQUEST, "the client has to offer the subprotocol mqtt"));
    };
    let hashed = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{KEY_SUFFIX}").as_bytes());
    Ok(Upgrade { accept: STANDARD.encode(hashed), subprotocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    /// The key and the answer are the example of RFC 6455, section 1.3.
    #[test]
    fn the_example_of_the_rfc() {
        let upgrade = parse(REQUEST.as_bytes(), Some("/mqtt")).unwrap();
        assert_eq!((upgrade.accept.as_str(), upgrade.subprotocol), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "mqtt"));
        let old = REQUEST.replace("chat, mqtt", "mqttv3.1");
        assert_eq!(parse(old.as_bytes(), None).unwrap().subprotocol, "mqttv3.1");
        let both = REQUEST.replace("chat, mqtt", "mqttv3.1\r\nsec-websocket-protocol:mqtt");
        assert_eq!(parse(both.as_bytes(), None).unwrap().subprotocol, "mqtt");
        for target in ["/mqtt?token=1", "ws://host:80/mqtt"] {
            let other = REQUEST.replace("/mqtt ", &format!("{target} "));
            assert!(parse(other.as_bytes(), Some("/mqtt")).is_ok(), "{target}");
        }
    }

    #[test]
    fn other_requests_are_refused() {
        for (from, to, status) in [
            ("GET", "POST", "405"),
            ("/mqtt ", "/ ", "404"),
            ("HTTP/1.1", "HTTP/1.0", "400"),
            ("Upgrade: websocket", "Upgrade: h2c", "426"),
            ("keep-alive, Upgrade", "keep-alive", "426"),
            ("Version: 13", "Version: 8", "426"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", "400"),
            ("chat, mqtt", "chat", "400"),
            ("Sec-WebSocket-Protocol", "X", "400"),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            let refusal = parse(request.as_bytes(), Some("/mqtt")).unwrap_err();
            assert!(refusal.status.starts_with(status), "{from} {to} {refusal:?}");
        }
    }

    #[tokio::test]
    async fn what_comes_behind_the_request_is_kept_and_refusals_are_answered() {
        let (mut client, mut server) = tokio::io::duplex(4096);
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        client.write_all(b"more").await.unwrap();
        assert_eq!(run(&mut server, Some("/mqtt")).await.unwrap(), b"more");

        let (mut client, mut server) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(run(&mut server, None).await.is_err());
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 426 ") && answer.ends_with("WebSocket\n"), "{answer}");

        let (mut client, mut server) = tokio::io::duplex(64 << 10);
        client.write_all(&[b'a'; REQUEST_BYTES_MAX + 1]).await.unwrap();
        assert!(run(&mut server, None).await.is_err());
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
