//! The publishing side of one channel: confirm numbers, the message that is coming in, and the routes that were looked up.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use codec_amqp::{Properties, ShortStr, SyntaxError};
use core_rpc::Core;

use crate::Gateway;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::registry::Connection;
use crate::state::topology::{Exchange, KeyOnly, Queue, Resource, Routes};
use crate::translate::round::{Target, Way};

/// Routes that one channel remembers. More are looked up again.
const ROUTES_MAX: usize = 256;

/// The publishing side of a channel.
#[derive(Debug, Default)]
pub struct Publishing {
    pub is_confirming: bool,
    /// Of the last publish.
    last_number: u64,
    /// The message of which the method has come.
    pub(crate) incoming: Option<Incoming>,
    /// Of that message: its properties, and what has come of its body. Kept for their memory.
    pub(crate) properties: Vec<u8>,
    pub(crate) body: BytesMut,
    routes: Vec<Route>,
    /// By exchange and routing key.
    route_at: HashMap<(ShortStr, ShortStr), usize>,
    facts: Facts,
}

/// A message that is coming in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    /// In the remembered routes.
    pub route: usize,
    pub mandatory: bool,
    pub immediate: bool,
    /// Of the whole body, once the header has come.
    pub body_bytes: Option<u64>,
}

/// Where messages of one exchange and routing key go.
#[derive(Debug)]
pub(crate) struct Route {
    pub exchange_name: ShortStr,
    pub routing_key: ShortStr,
    generation: u64,
    access_generation: u64,
    pub found: Found,
}

#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing was looked up yet.
    Stale,
    Refused(Refusal),
    /// The default exchange, with the address of a direct reply.
    Reply,
    /// Whatever the message's headers are.
    Queues {
        ways: Ways,
    },
    /// It depends on the message: headers, delays.
    Each {
        exchange: Arc<Exchange>,
    },
}

/// The ways of a route, one for each priority that its queues tell apart.
#[derive(Debug)]
pub(crate) struct Ways {
    queues: Routes,
    /// (priority, way)
    of_priority: Vec<(u8, Way)>,
    /// The highest priority that makes a difference.
    priority_max: u8,
}

impl Ways {
    fn new(queues: Routes) -> Ways {
        let partitions = queues.iter().map(|queue| queue.partition_count).max().unwrap_or(1);
        Ways {
            queues,
            of_priority: Vec::new(),
            priority_max: u8::try_from(partitions.saturating_sub(1)).unwrap_or(u8::MAX),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub fn of_priority(&mut self, priority: u8) -> &mut Way {
        let priority = priority.min(self.priority_max);
        let at = self.of_priority.iter().position(|(of, _)| *of == priority).unwrap_or_else(|| {
            self.of_priority.push((priority, way(&self.queues, priority)));
            self.of_priority.len() - 1
        });
        &mut self.of_priority[at].1
    }
}

/// The way of messages of this priority to these queues.
pub(crate) fn way(queues: &[Arc<Queue>], priority: u8) -> Way {
    let target = |queue: &Arc<Queue>| Target {
        queue: queue.clone(),
        partition: queue.partition_of_priority(priority),
        is_limited: queue.config().is_limited(),
    };
    Way::new(queues.iter().map(target).collect())
}

/// What a publish needs to know of properties. Of messages that follow each other they are often the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub properties: Properties,
    pub priority: u8,
    pub delivery_mode: u8,
    pub expiration: Option<Bytes>,
    pub expires_after_ms: Option<u64>,
    pub user_id: Option<Bytes>,
    pub reply_to: Option<Bytes>,
    /// There are headers that name further routing keys.
    pub has_copies: bool,
}

impl Facts {
    fn read(raw: &[u8]) -> Result<Facts, SyntaxError> {
        let properties = Properties::parse(Bytes::copy_from_slice(raw))?;
        Ok(Facts {
            priority: properties.priority().unwrap_or(0),
            delivery_mode: properties.delivery_mode().unwrap_or(0),
            expiration: properties.expiration(),
            expires_after_ms: properties.expiration_ms().and_then(Result::ok),
            user_id: properties.user_id(),
            reply_to: properties.reply_to(),
            has_copies: properties.has_headers()
                && (properties.header("CC").is_some() || properties.header("BCC").is_some()),
            properties,
        })
    }
}

impl Publishing {
    /// The number of the next publish; 0 where they are not confirmed.
    pub(crate) fn next_number(&mut self) -> u64 {
        if !self.is_confirming {
            return 0;
        }
        self.last_number += 1;
        self.last_number
    }

    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Finds the remembered route, or remembers a new one.
    pub(crate) fn route(&mut self, exchange: &[u8], routing_key: &[u8]) -> Result<usize, SyntaxError> {
        // The usual case first: the same as before.
        if let Some(incoming) = self.routes.first()
            && incoming.exchange_name.as_bytes() == exchange
            && incoming.routing_key.as_bytes() == routing_key
        {
            return Ok(0);
        }
        let name = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(ShortStr::truncated(text)),
            Err(_) => Err(SyntaxError::MalformedUtf8),
        };
        let key = (name(exchange)?, name(routing_key)?);
        if let Some(at) = self.route_at.get(&key) {
            return Ok(*at);
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
            self.route_at.clear();
        }
        let (exchange_name, routing_key) = key.clone();
        self.routes.push(Route {
            exchange_name,
            routing_key,
            generation: 0,
            access_generation: 0,
            found: Found::Stale,
        });
        self.route_at.insert(key, self.routes.len() - 1);
        Ok(self.routes.len() - 1)
    }

    /// The route, as it is now, and what the properties of the message that is coming in say.
    pub(crate) fn prepare<C: Core>(
        &mut self,
        at: usize,
        gateway: &Gateway<C>,
        connection: &Connection,
    ) -> Result<(&mut Route, &Facts), Refusal> {
        if self.facts.properties.raw()[..] != self.properties[..] {
            self.facts = Facts::read(&self.properties).map_err(|error| Refusal::syntax_error(error.to_string()))?;
        }
        let route = &mut self.routes[at];
        let (generation, access_generation) = (gateway.topology.generation(), gateway.access.generation());
        if matches!(route.found, Found::Stale)
            || route.generation != generation
            || route.access_generation != access_generation
        {
            (route.generation, route.access_generation) = (generation, access_generation);
            route.found = find(gateway, connection, &route.exchange_name, &route.routing_key);
        }
        Ok((route, &self.facts))
    }
}

fn find<C: Core>(gateway: &Gateway<C>, connection: &Connection, exchange: &ShortStr, routing_key: &ShortStr) -> Found {
    match look_up(gateway, connection, exchange, routing_key) {
        Ok(found) => found,
        Err(refusal) => Found::Refused(refusal),
    }
}

fn look_up<C: Core>(
    gateway: &Gateway<C>,
    connection: &Connection,
    name: &ShortStr,
    routing_key: &ShortStr,
) -> Result<Found, Refusal> {
    let vhost = &connection.vhost;
    let resource = Resource::Exchange(vhost, name);
    gateway.access.check(connection, Permission::Write, resource)?;
    let exchange = gateway
        .topology
        .exchange(vhost, name)
        .ok_or_else(|| Refusal::not_found(format!("no exchange '{name}' in vhost '{vhost}'")))?;
    exchange.check_publish()?;
    gateway.access.check_topic(&connection.user.name, vhost, Permission::Write, &exchange, routing_key)?;
    if name.is_empty() && crate::state::queues::Replies::is_address(routing_key) {
        return Ok(Found::Reply);
    }
    if exchange.is_delayed() {
        return Ok(Found::Each { exchange });
    }
    let routed = gateway
        .topology
        .route(vhost, name, routing_key, &KeyOnly)
        .ok_or_else(|| Refusal::not_found(format!("no exchange '{name}' in vhost '{vhost}'")))?;
    match routed.is_by_key {
        true => Ok(Found::Queues { ways: Ways::new(routed.queues) }),
        false => Ok(Found::Each { exchange }),
    }
}
