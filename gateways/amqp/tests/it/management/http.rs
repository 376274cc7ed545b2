//! A client of HTTP that does what tools do: one request on one connection, JSON both ways.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Broker, PATIENCE, within};

pub struct Http {
    address: SocketAddr,
    credentials: String,
}

impl Http {
    pub fn of(broker: &Broker, user: &str, password: &str) -> Http {
        Http::at(broker.gateway.management_address().expect("a management API"), user, password)
    }

    pub fn at(address: SocketAddr, user: &str, password: &str) -> Http {
        Http { address, credentials: STANDARD.encode(format!("{user}:{password}")) }
    }

    /// The status, and what was answered (null: nothing).
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = format!(
            "{method} /api/{path} HTTP/1.1\r\nHost: broker\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.credentials,
            body.len()
        );
        let mut stream = within(TcpStream::connect(self.address)).await.expect("a connection");
        within(stream.write_all(request.as_bytes())).await.expect("sent");
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect("JSON") };
        (status, value)
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {value}");
        value
    }

    /// What must be done: 201 or 204.
    pub async fn change(&self, method: &str, path: &str, body: Value) {
        let (status, value) = self.call(method, path, (!body.is_null()).then_some(body)).await;
        assert!(matches!(status, 201 | 204), "{method} {path}: {status} {value}");
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (_, value) = self.call("GET", path, None).await;
            if is_so(&value) {
                return value;
            }
            assert!(tokio::time::Instant::now() < until, "not {what}: {value}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
