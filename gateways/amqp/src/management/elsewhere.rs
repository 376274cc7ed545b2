//! What belongs to one gateway (connections, channels, consumers), asked of all of them.
//!
//! ```text
//! GET /api/connections ─► our own ─┐
//!     └─► each other gateway, the same for the same user ─► its own ─┴─► one list
//! ```
//! Whoever is asked answers of its own only ([`Call::is_asked`]). One that does not answer in time is left out: it is about to be taken for
//! dead, or has more to do.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use core_rpc::Core;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::call::{Call, Failure, Reply};
use super::{Shared, route};
use crate::Gateway;
use crate::state::access::User;
use crate::state::queues::Question;
use crate::state::registry::Load;

/// How long a list waits for the others.
const LIST_WAIT: Duration = Duration::from_secs(2);

/// How long a connection that may be one too many does: not longer than its handshake may take.
const LOAD_WAIT: Duration = Duration::from_secs(5);

/// What is asked, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    method: String,
    path: Vec<String>,
    user: String,
    tags: Vec<String>,
}

/// What is answered: a status of HTTP, and what the API would say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub status: u16,
    pub value: Value,
}

/// How many connections of a vhost, and of a user, the other gateways have.
pub(crate) async fn load_elsewhere<C: Core>(gateway: &Gateway<C>, vhost: &str, user: &str) -> Load {
    let nobody = User { name: String::new(), tags: Vec::new() };
    let answers = ask(gateway, &nobody, Method::GET, &["load", vhost, user], LOAD_WAIT).await;
    answers.iter().fold(Load::default(), |load, answer| {
        let number = |at: usize| answer.value[at].as_u64().unwrap_or(0);
        load.and(Load { of_vhost: number(0), of_user: number(1) })
    })
}

async fn ask<C: Core>(
    gateway: &Gateway<C>,
    user: &User,
    method: Method,
    path: &[&str],
    wait: Duration,
) -> Vec<Answered> {
    let asked = Asked {
        method: method.as_str().into(),
        path: path.iter().map(|part| (*part).to_owned()).collect(),
        user: user.name.clone(),
        tags: user.tags.clone(),
    };
    let answers = gateway.reply_inboxes.ask(&Bytes::from(json!(asked).to_string()), wait).await;
    answers.iter().filter_map(|answer| serde_json::from_slice(answer).ok()).collect()
}

impl<C: Core> Call<C> {
    /// The same asked of the other gateways, for the same user. Nobody, if this call is such a question itself.
    pub(super) async fn elsewhere(&self, method: Method, path: &[&str]) -> Vec<Answered> {
        if self.is_asked {
            return Vec::new();
        }
        ask(self.gateway(), &self.user, method, path, LIST_WAIT).await
    }

    /// What the lists of the other gateways have.
    pub(super) async fn listed_elsewhere(&self, path: &[&str]) -> Vec<Value> {
        let answers = self.elsewhere(Method::GET, path).await.into_iter();
        answers
            .filter_map(|answer| match answer {
                Answered { status: 200, value: Value::Array(items) } => Some(items),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// What that gateway says that has what is asked for.
    pub(super) async fn found_elsewhere(&self, path: &[&str]) -> Result<Reply, Failure> {
        let answers = self.elsewhere(self.method.clone(), path).await;
        match answers.into_iter().find(|answer| answer.status != 404) {
            Some(Answered { status: 200, value: Value::Array(items) }) => Ok(Reply::List(items)),
            Some(Answered { status: 200, value }) => Ok(Reply::Json(value)),
            Some(Answered { status: 204, .. }) => Ok(Reply::NoContent),
            Some(Answered { status, value }) => Err(Failure::told(status, value)),
            None => Err(Failure::not_found()),
        }
    }
}

/// Answers what other gateways ask, until this one stops.
pub(super) async fn answer<C: Core>(shared: Arc<Shared<C>>, mut questions: mpsc::Receiver<Question>) {
    let stop = shared.gateway.stop.clone();
    loop {
        let question = tokio::select! {
            () = stop.cancelled() => return,
            question = questions.recv() => question,
        };
        let Some(question) = question else { return };
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(asked) = serde_json::from_slice::<Asked>(&question.body) else { return };
            let gateway = shared.gateway.clone();
            let answered = json!(reply(shared, asked).await);
            gateway.reply_inboxes.answer(&question, &Bytes::from(answered.to_string())).await;
        });
    }
}

async fn reply<C: Core>(shared: Arc<Shared<C>>, asked: Asked) -> Answered {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let user = Arc::new(User { name: asked.user, tags: asked.tags });
    let method = Method::from_bytes(asked.method.as_bytes()).unwrap_or_default();
    let gateway = shared.gateway.clone();
    let call = Call { shared, user, method, query: Default::default(), body: Bytes::new(), is_asked: true };
    let replied = match (&call.method, path.as_slice()) {
        (&Method::GET, ["load", vhost, user]) => {
            let load = gateway.registry.load(vhost, user);
            Ok(Reply::Json(json!([load.of_vhost, load.of_user])))
        }
        (&Method::GET, ["consumed"]) => Ok(Reply::Json(json!(super::consumers::consumed(&gateway)))),
        // Who asks has deleted it, and was allowed to.
        (&Method::DELETE, ["vhosts", vhost]) => {
            super::vhosts::close_connections(&gateway, vhost);
            Ok(Reply::NoContent)
        }
        (&Method::DELETE, ["users", user]) => {
            super::users::close_connections(&gateway, user);
            Ok(Reply::NoContent)
        }
        (_, ["connections" | "channels" | "consumers", ..])
        | (&Method::GET, ["vhosts", _, "connections" | "channels"]) => route(&call, &path).await,
        _ => Err(Failure::not_found()),
    };
    match replied {
        Ok(Reply::Json(value)) => Answered { status: 200, value },
        Ok(Reply::List(items)) => Answered { status: 200, value: items.into() },
        Ok(_) => Answered { status: 204, value: Value::Null },
        Err(failure) => failure.tell(),
    }
}
