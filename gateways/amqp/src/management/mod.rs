//! RabbitMQ's management HTTP API: the part that tools use (rabbitmqadmin, both; client libraries; exporters).
//!
//! ```text
//! axum ─► reply: who asks (HTTP basic) ─► the table below ─► one file per resource ─► state, core
//! ```
//! - [`call`]: what a request is, what an answer is, how lists are sorted, cut into pages and columns.
//! - Whoever asks needs one of the tags management, policymaker, monitoring, administrator. What belongs to a vhost is shown to those
//!   with permissions there, and to monitors; it is changed only with the permissions that a connection would need.
//! - Connections, channels and consumers are each gateway's own: the others are asked for theirs ([`elsewhere`]). Queues and their messages are
//!   everybody's. What is only shown of this gateway (rates, memory) is not asked for.

mod bindings;
mod call;
mod channels;
mod connections;
mod consumers;
mod definitions;
mod definitions_import;
mod elsewhere;
mod exchanges;
mod features;
mod health;
mod limits;
mod messages;
mod nodes;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod rates;
mod users;
mod vhosts;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use core_rpc::Core;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::Gateway;
use crate::state::queues::Question;
use call::{Call, Failure, Reply};
pub(crate) use elsewhere::load_elsewhere;
use rates::Rates;

/// The largest body, bytes: definitions of tens of thousands of queues.
const BODY_BYTES_MAX: usize = 128 << 20;

/// What all requests share.
struct Shared<C> {
    gateway: Arc<Gateway<C>>,
    rates: Rates,
}

/// Serves the API, if it is to listen, and answers what other gateways ask, until the gateway stops.
pub fn start<C: Core>(gateway: Arc<Gateway<C>>, listener: Option<TcpListener>, questions: mpsc::Receiver<Question>) {
    let shared = Arc::new(Shared { gateway, rates: Rates::default() });
    tokio::spawn(elsewhere::answer(shared.clone(), questions));
    if let Some(listener) = listener {
        serve(shared, listener);
    }
}

fn serve<C: Core>(shared: Arc<Shared<C>>, listener: TcpListener) {
    let stop = shared.gateway.stop.clone();
    let router = Router::new()
        .fallback(answer::<C>)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
        if let Err(error) = serving.await {
            tracing::error!(%error, "the management API ended");
        }
    });
}

async fn answer<C: Core>(
    State(shared): State<Arc<Shared<C>>>,
    axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match reply(shared, peer, method, &uri, &headers, body).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn reply<C: Core>(
    shared: Arc<Shared<C>>,
    peer: SocketAddr,
    method: Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let segments = call::segments(uri.path())?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["api", path @ ..] = segments.as_slice() else { return Err(Failure::not_found()) };
    let user = call::authenticate(&shared.gateway, peer, headers).await?;
    let method = if method == Method::HEAD { Method::GET } else { method };
    let call = Call { shared, user, method, query: call::query(uri.query()), body, is_asked: false };
    let reply = route(&call, path).await?;
    Ok(reply.into_response(&call))
}

/// THE table: which file answers which paths.
async fn route<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    // Boxed, each: a request needs not keep room for the largest of them.
    match path {
        ["overview"]
        | ["whoami"]
        | ["cluster-name"]
        | ["extensions"]
        | ["version"]
        | ["auth"]
        | ["auth", ..]
        | ["rebalance", "queues"] => Box::pin(overview::handle(call, path)).await,
        ["feature-flags" | "deprecated-features", ..] => Box::pin(features::handle(call, path)).await,
        ["nodes", rest @ ..] => Box::pin(nodes::handle(call, rest)).await,
        ["vhosts", rest @ ..] => Box::pin(vhosts::handle(call, rest)).await,
        ["users", rest @ ..] => Box::pin(users::handle(call, rest)).await,
        ["permissions", rest @ ..] => Box::pin(permissions::handle(call, rest)).await,
        ["topic-permissions", rest @ ..] => Box::pin(permissions::handle_topic(call, rest)).await,
        ["connections", rest @ ..] => Box::pin(connections::handle(call, rest)).await,
        ["channels", rest @ ..] => Box::pin(channels::handle(call, rest)).await,
        ["consumers", rest @ ..] => Box::pin(consumers::handle(call, rest)).await,
        ["exchanges", rest @ ..] => Box::pin(exchanges::handle(call, rest)).await,
        ["queues", rest @ ..] => Box::pin(queues::handle(call, rest)).await,
        ["bindings", rest @ ..] => Box::pin(bindings::handle(call, rest)).await,
        ["policies", rest @ ..] => Box::pin(policies::handle(call, rest, false)).await,
        ["operator-policies", rest @ ..] => Box::pin(policies::handle(call, rest, true)).await,
        ["parameters", rest @ ..] => Box::pin(parameters::handle(call, rest)).await,
        ["global-parameters", rest @ ..] => Box::pin(parameters::handle_global(call, rest)).await,
        ["vhost-limits", rest @ ..] => Box::pin(limits::handle(call, rest, "limit")).await,
        ["user-limits", rest @ ..] => Box::pin(limits::handle(call, rest, "user-limit")).await,
        ["definitions", rest @ ..] | ["all-configuration", rest @ ..] => {
            Box::pin(definitions::handle(call, rest)).await
        }
        ["health", "checks", rest @ ..] => Box::pin(health::handle(call, rest)).await,
        ["healthchecks", "node", ..] => Box::pin(health::handle_node(call)).await,
        ["aliveness-test", vhost] => Box::pin(health::handle_aliveness(call, vhost)).await,
        _ => Err(Failure::not_found()),
    }
}

/// A status by its number; one of ours is always one.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
