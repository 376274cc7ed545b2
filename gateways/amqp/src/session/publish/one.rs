//! One message: what is asked before it is taken, and where it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use codec_amqp::{ContentMethod, FieldTable, FieldValue, Outgoing, Properties, ShortStr};
use codec_record::amqp_message::MessageParts;
use core_rpc::Core;

use crate::errors::{Refusal, ReplyCode};
use crate::state::access::Permission;
use crate::state::channel::Channel;
use crate::state::channel::publishing::{Facts, Found, Incoming, Route, way};
use crate::state::lifecycle::Piece;
use crate::state::queues::PSEUDO_QUEUE;
use crate::state::registry::Connection;
use crate::state::topology::Exchange;
use crate::translate::round::{Held, Origin, Round};
use crate::{Gateway, now_ms};

/// What a transaction may have published, bytes: more could not be one commit.
const TRANSACTION_BYTES_MAX: usize = 64 << 20;

/// Takes a message into the round (in a transaction, into its own), or returns it.
pub(super) fn publish<C: Core>(
    gateway: &Arc<Gateway<C>>,
    connection: &Arc<Connection>,
    channel: &mut Channel,
    round: &mut Round,
    out: &mut Outgoing,
    incoming: Incoming,
    body: &[u8],
) -> Result<(), Refusal> {
    let Channel { publishing, transaction, consuming, info, number, .. } = channel;
    let publish_number = publishing.next_number();
    let origin = Origin { channel: *number, life: consuming.life(), number: publish_number };
    info.counters.publish.add(1);
    if publish_number > 0 {
        info.unconfirmed.fetch_add(1, Ordering::Relaxed);
    }
    let reply_address = consuming.reply_to().map(|reply_to| reply_to.address.clone());
    let (route, facts) = publishing.prepare(incoming.route, gateway, connection)?;
    if let Found::Refused(refusal) = &route.found {
        return Err(refusal.clone());
    }
    if incoming.immediate {
        return Err(Refusal::not_implemented("immediate=true"));
    }
    check(connection, facts)?;
    let changed = changed_properties(facts, reply_address.as_ref())?;
    let properties = changed.as_ref().unwrap_or(&facts.properties);
    let now_ms = now_ms();
    let message = MessageParts {
        time_ms: now_ms,
        expires_ms: facts
            .expires_after_ms
            .map(|after_ms| now_ms.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX))),
        priority: facts.priority,
        delivery_mode: facts.delivery_mode,
        exchange: route.exchange_name.as_bytes(),
        routing_key: route.routing_key.as_bytes(),
        properties: properties.raw(),
        body,
    };
    if transaction.as_ref().is_some_and(|transaction| transaction.round.bytes > TRANSACTION_BYTES_MAX) {
        return Err(Refusal::precondition_failed("the transaction is too large"));
    }
    let sent = Message { gateway, connection, facts, properties, message };
    // In a transaction all waits for its commit; what is returned too, as in RabbitMQ.
    let is_transaction = transaction.is_some();
    let (round, out) = match transaction {
        Some(transaction) => (&mut transaction.round, &mut transaction.returns),
        None => (round, out),
    };
    let is_routed = match &mut route.found {
        Found::Queues { ways } if !facts.has_copies => {
            if !ways.is_empty() {
                round.put(origin, ways.of_priority(facts.priority), &sent.message);
            }
            !ways.is_empty()
        }
        Found::Queues { .. } => sent.put_each(route, None, origin, round)?,
        Found::Each { exchange } => {
            let exchange = exchange.clone();
            sent.put_each(route, Some(&exchange), origin, round)?
        }
        Found::Reply => {
            let (properties, body) = (properties.raw().clone(), Bytes::copy_from_slice(body));
            let is_sent =
                gateway.queues.replies.reply(&route.routing_key, route.exchange_name.clone(), properties, body);
            match gateway.reply_inboxes.of(&route.routing_key).filter(|_| !is_sent) {
                None if is_sent => round.put_nowhere(origin),
                None => {}
                Some(_) if is_transaction => {
                    return Err(Refusal::not_implemented(
                        "a direct reply to another gateway cannot be part of a transaction",
                    ));
                }
                Some(inbox) => {
                    // It does not lie there; whoever asked gets it now or never.
                    let message = MessageParts { expires_ms: None, ..sent.message };
                    round.put(origin, &mut way(&[inbox], 0), &message);
                    return Ok(());
                }
            }
            is_sent
        }
        Found::Stale | Found::Refused(_) => false,
    };
    if is_routed {
        return Ok(());
    }
    if incoming.mandatory {
        info.counters.return_unroutable.add(1);
        let method = ContentMethod::Return {
            reply_code: ReplyCode::NoRoute.code(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange: &route.exchange_name,
            routing_key: &route.routing_key,
        };
        let (raw, body) = (facts.properties.raw(), Bytes::copy_from_slice(body));
        out.put_content(*number, method, raw, &body, connection.negotiated.frame_max as usize);
    } else {
        info.counters.drop_unroutable.add(1);
    }
    if !is_transaction {
        round.put_nowhere(origin);
    }
    Ok(())
}

/// What RabbitMQ asks of the properties.
fn check(connection: &Connection, facts: &Facts) -> Result<(), Refusal> {
    if let Some(user_id) = &facts.user_id
        && user_id[..] != *connection.user.name.as_bytes()
        && !connection.user.tags.iter().any(|tag| tag == "impersonator")
    {
        return Err(Refusal::precondition_failed(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(user_id),
            connection.user.name
        )));
    }
    if let (Some(expiration), None) = (&facts.expiration, facts.expires_after_ms) {
        return Err(Refusal::precondition_failed(format!(
            "invalid expiration '{}': not a number",
            String::from_utf8_lossy(expiration)
        )));
    }
    Ok(())
}

/// What is stored and delivered where it is not what came: the address of a direct reply in `reply-to`; no BCC.
fn changed_properties(facts: &Facts, reply_address: Option<&ShortStr>) -> Result<Option<Properties>, Refusal> {
    let mut changed = None;
    if facts.reply_to.as_deref().is_some_and(|reply_to| reply_to == PSEUDO_QUEUE.as_bytes()) {
        let address =
            reply_address.ok_or_else(|| Refusal::precondition_failed("fast reply consumer does not exist"))?;
        let mut list = facts.properties.list().map_err(|error| Refusal::syntax_error(error.to_string()))?;
        list.reply_to = Some(address.bytes().clone());
        changed = Some(list.encode());
    }
    if facts.has_copies {
        let properties = changed.as_ref().unwrap_or(&facts.properties);
        if properties.header("BCC").is_some() {
            changed = properties.without_headers(&["BCC"]);
        }
    }
    Ok(changed)
}

struct Message<'a, C> {
    gateway: &'a Arc<Gateway<C>>,
    connection: &'a Connection,
    facts: &'a Facts,
    /// As they are stored.
    properties: &'a Properties,
    message: MessageParts<'a>,
}

impl<C: Core> Message<'_, C> {
    /// Routes a message by what it says itself. Returns whether it goes anywhere.
    fn put_each(
        &self,
        route: &Route,
        exchange: Option<&Arc<Exchange>>,
        origin: Origin,
        round: &mut Round,
    ) -> Result<bool, Refusal> {
        let Message { gateway, connection, facts, properties, message } = self;
        if let Some(exchange) = exchange
            && let Some(due_ms) = gateway.lifecycle.due_ms(exchange, &facts.properties, message.time_ms)
        {
            let piece = Piece {
                exchange: route.exchange_name.bytes().clone(),
                routing_key: route.routing_key.bytes().clone(),
                properties: (*properties).clone(),
                body: Bytes::copy_from_slice(message.body),
                has_died: false,
            };
            round.hold(origin, Held { vhost: connection.vhost.clone(), piece, due_ms });
            return Ok(true);
        }
        let headers = if facts.has_copies { facts.properties.headers() } else { FieldTable::default() };
        let copies = copies(&headers)?;
        let keys: Vec<&str> = [route.routing_key.as_str()].into_iter().chain(copies).collect();
        let vhost = &connection.vhost;
        let name = &route.exchange_name;
        let routed = gateway
            .topology
            .route_keys(vhost, name, &keys, &facts.properties)
            .ok_or_else(|| Refusal::not_found(format!("no exchange '{name}' in vhost '{vhost}'")))?;
        // The routing key itself was asked for when the route was looked up.
        for key in &keys[1..] {
            gateway.access.check_topic(&connection.user.name, vhost, Permission::Write, &routed.exchange, key)?;
        }
        if routed.queues.is_empty() {
            return Ok(false);
        }
        round.put(origin, &mut way(&routed.queues, facts.priority), message);
        Ok(true)
    }
}

/// Further routing keys, of the headers CC and BCC.
fn copies(headers: &FieldTable) -> Result<Vec<&str>, Refusal> {
    let mut keys = Vec::new();
    for name in ["CC", "BCC"] {
        match headers.get(name) {
            None => {}
            Some(FieldValue::Array(values)) => keys.extend(values.iter().filter_map(FieldValue::as_text)),
            Some(other) => {
                return Err(Refusal::precondition_failed(format!(
                    "invalid '{name}' header: an array of strings is wanted, not {}",
                    other.type_name()
                )));
            }
        }
    }
    Ok(keys)
}
