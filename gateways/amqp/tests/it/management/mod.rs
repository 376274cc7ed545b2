//! The management API over HTTP, as tools use it, on whole gateways.

mod consumers;
mod definitions;
mod elsewhere;
mod health;
pub mod http;
mod limits;
mod messages;
mod permissions;
mod policies;

use std::net::SocketAddr;

use crate::common::{self, Broker};
use http::Http;

/// A broker that listens for HTTP too, and its administrator.
pub async fn broker() -> (Broker, Http) {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = amqp_gateway::Config { management_listen: Some(loopback), ..common::config() };
    let broker = Broker::with(config).await;
    let http = Http::of(&broker, "guest", "guest");
    (broker, http)
}
