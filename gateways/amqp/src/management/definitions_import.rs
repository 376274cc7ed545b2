//! Importing definitions, as RabbitMQ exports them: users with their password hashes, vhosts, permissions, parameters,
//! policies, exchanges, queues, bindings; in this order, so that each finds what it needs. What is there stays, and must be
//! the same; the first that cannot be done ends the import. Of one kind many are done at once, so that they share commits: there
//! may be tens of thousands.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use core_rpc::{Core, MetaCondition};
use serde_json::{Map, Value};

use super::call::{Call, Failure, integer, needed};
use crate::state::topology::{DestinationKind, keys};

/// So many are under way.
const AT_ONCE: usize = 64;

/// `into`: the vhost for which the definitions are; None: for all that they name.
pub(super) async fn import<C: Core>(
    call: &Call<C>,
    into: Option<&Arc<str>>,
    said: &Map<String, Value>,
) -> Result<(), Failure> {
    if into.is_none() {
        for user in list(said, "users")? {
            let name = needed(user, "name")?;
            super::users::put(call, name, user).await.map_err(|failure| failure.about("user", name))?;
            if let Some(Value::Object(limits)) = user.get("limits") {
                put_limits(call, "user-limit", name, limits).await?;
            }
        }
        for vhost in list(said, "vhosts")? {
            let name = needed(vhost, "name")?;
            super::vhosts::put(call, name, vhost).await.map_err(|failure| failure.about("vhost", name))?;
        }
        for permission in list(said, "permissions")? {
            let (vhost, user) = (needed(permission, "vhost")?, needed(permission, "user")?);
            let put = super::permissions::put(call, vhost, user, permission).await;
            put.map_err(|failure| failure.about("permission of", user))?;
        }
        for permission in list(said, "topic_permissions")? {
            let (vhost, user) = (needed(permission, "vhost")?, needed(permission, "user")?);
            let put = super::permissions::put_topic(call, vhost, user, permission).await;
            put.map_err(|failure| failure.about("topic permission of", user))?;
        }
        for parameter in list(said, "global_parameters")? {
            let value = parameter.get("value").cloned().unwrap_or_default();
            super::parameters::put_global(call, needed(parameter, "name")?, &value).await?;
        }
    }
    for parameter in list(said, "parameters")? {
        put_parameter(call, &vhost_of(call, into, parameter)?, parameter).await?;
    }
    for policy in list(said, "policies")? {
        let (vhost, name) = (vhost_of(call, into, policy)?, needed(policy, "name")?);
        let put = super::policies::put(call, &vhost, name, policy, false).await;
        put.map_err(|failure| failure.about("policy", name))?;
    }
    at_once(list(said, "exchanges")?, |exchange| async move {
        let (vhost, name) = (vhost_of(call, into, exchange)?, needed(exchange, "name")?);
        // Those that every vhost has.
        if name.is_empty() || name.starts_with("amq.") {
            return Ok(());
        }
        let declared = super::exchanges::declare(call, &vhost, name, exchange).await;
        declared.map(drop).map_err(|failure| failure.about("exchange", name))
    })
    .await?;
    at_once(list(said, "queues")?, |queue| async move {
        let (vhost, name) = (vhost_of(call, into, queue)?, needed(queue, "name")?);
        if name.starts_with("amq.") {
            return Ok(());
        }
        let declared = super::queues::declare(call, &vhost, name, queue).await;
        declared.map(drop).map_err(|failure| failure.about("queue", name))
    })
    .await?;
    at_once(list(said, "bindings")?, |binding| async move {
        let vhost = vhost_of(call, into, binding)?;
        let (source, destination) = (needed(binding, "source")?, needed(binding, "destination")?);
        if source.is_empty() {
            return Ok(());
        }
        let kind = match needed(binding, "destination_type")? {
            "queue" => DestinationKind::Queue,
            "exchange" => DestinationKind::Exchange,
            other => return Err(Failure::bad_request(format!("unknown destination type {other}"))),
        };
        let bound = super::bindings::bind(call, &vhost, source, kind, destination, binding).await;
        bound.map(drop).map_err(|failure| failure.about("binding to", destination))
    })
    .await
}

/// Does the work for each, many at once. The first error ends it; what is under way then may be done or not.
async fn at_once<'s, F: Future<Output = Result<(), Failure>>>(
    items: Vec<&'s Map<String, Value>>,
    mut work: impl FnMut(&'s Map<String, Value>) -> F,
) -> Result<(), Failure> {
    let mut items = items.into_iter();
    let mut under_way: Vec<Pin<Box<F>>> = Vec::with_capacity(AT_ONCE);
    loop {
        under_way.extend(items.by_ref().take(AT_ONCE - under_way.len()).map(|item| Box::pin(work(item))));
        if under_way.is_empty() {
            return Ok(());
        }
        poll_fn(|context| {
            let (before, mut failed) = (under_way.len(), None);
            under_way.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(failure)) => {
                    failed.get_or_insert(failure);
                    false
                }
            });
            match failed {
                Some(failure) => Poll::Ready(Err(failure)),
                None if under_way.len() < before => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        })
        .await?;
    }
}

/// The objects of a list; none where there is no such list.
fn list<'s>(said: &'s Map<String, Value>, name: &str) -> Result<Vec<&'s Map<String, Value>>, Failure> {
    match said.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            let object = |item: &'s Value| {
                item.as_object().ok_or_else(|| Failure::bad_request(format!("{name} must be objects")))
            };
            items.iter().map(object).collect()
        }
        Some(_) => Err(Failure::bad_request(format!("{name} must be a list"))),
    }
}

fn vhost_of<C: Core>(call: &Call<C>, into: Option<&Arc<str>>, said: &Map<String, Value>) -> Result<Arc<str>, Failure> {
    match into {
        Some(vhost) => Ok(vhost.clone()),
        None => {
            let name = needed(said, "vhost")?;
            call.known_vhost(name).map_err(|_| Failure::bad_request(format!("vhost '{name}' does not exist")))
        }
    }
}

/// Some components' parameters are kept as what they are.
async fn put_parameter<C: Core>(call: &Call<C>, vhost: &Arc<str>, said: &Map<String, Value>) -> Result<(), Failure> {
    let (component, name) = (needed(said, "component")?, needed(said, "name")?);
    let value = said.get("value").cloned().unwrap_or_default();
    match (component, &value) {
        ("vhost-limits", Value::Object(limits)) => put_limits(call, "limit", vhost, limits).await,
        ("operator_policy", Value::Object(policy)) => super::policies::put(call, vhost, name, policy, true).await,
        ("policy", Value::Object(policy)) => super::policies::put(call, vhost, name, policy, false).await,
        _ => super::parameters::put(call, component, vhost, name, &value).await,
    }
}

async fn put_limits<C: Core>(call: &Call<C>, kind: &str, of: &str, limits: &Map<String, Value>) -> Result<(), Failure> {
    for (name, value) in limits {
        let Some(value) = integer(Some(value)) else { continue };
        call.gateway().topology.put(keys::key(kind, &[of, name]), &value, MetaCondition::Always).await?;
    }
    Ok(())
}
