//! Declaring and deleting exchanges.

use std::sync::Arc;

use core_rpc::{Core, MetaCondition, MetaError};
use gateway_runtime::identity::random_16_bytes;

use super::arguments::Arguments;
use super::exchange::Exchange;
use super::queues::no;
use super::records::{DestinationKind, ExchangeKind, ExchangeRecord};
use super::validate::{self, Resource};
use super::{Topology, equivalence, keys};
use crate::errors::Refusal;

/// What `exchange.declare` says, and who says it.
#[derive(Clone, Debug)]
pub struct ExchangeDeclare<'d> {
    pub vhost: &'d str,
    pub name: &'d str,
    pub kind: ExchangeKind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Arguments,
    pub user: &'d str,
}

/// The default exchange cannot be declared, deleted or bound.
pub fn check_not_default(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::access_refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

impl<C: Core> Topology<C> {
    /// The exchange, or RabbitMQ's 404.
    pub fn known_exchange(&self, vhost: &str, name: &str) -> Result<Arc<Exchange>, Refusal> {
        self.exchange(vhost, name).ok_or_else(|| no(Resource::Exchange(vhost, name)))
    }

    /// Declares an exchange: makes it, or finds it as it is said to be. True: it is new.
    pub async fn declare_exchange(&self, declare: ExchangeDeclare<'_>) -> Result<(Arc<Exchange>, bool), Refusal> {
        check_not_default(declare.name)?;
        if let Some(exchange) = self.exchange(declare.vhost, declare.name) {
            check_equivalent(&exchange, &declare)?;
            return Ok((exchange, false));
        }
        if declare.name.starts_with("amq.") {
            return Err(Refusal::access_refused(format!(
                "exchange name '{}' contains reserved prefix 'amq.*'",
                declare.name
            )));
        }
        if !self.has_vhost(declare.vhost) {
            return Err(Refusal::not_found(format!("no vhost '{}'", declare.vhost)));
        }
        check_arguments(&declare)?;
        let random = random_16_bytes().map_err(|error| Refusal::internal_error(error.to_string()))?;
        let record = ExchangeRecord {
            // Zero is of those that cannot be deleted.
            id: u64::from_be_bytes(random[..8].try_into().unwrap_or_default()).max(1),
            kind: declare.kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.clone(),
            incarnation: if declare.durable { None } else { self.incarnation() },
            user: declare.user.to_owned(),
        };
        let put = self.put(keys::exchange(declare.vhost, declare.name), &record, MetaCondition::Absent).await;
        let is_new = match put {
            Ok(_) => true,
            Err(MetaError::Conflict(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let exchange = self.known_exchange(declare.vhost, declare.name)?;
        check_equivalent(&exchange, &declare)?;
        Ok((exchange, is_new))
    }

    /// Deletes an exchange with its bindings. What is not there is no error.
    pub async fn delete_exchange(&self, vhost: &str, name: &str, if_unused: bool) -> Result<(), Refusal> {
        check_not_default(name)?;
        let resource = Resource::Exchange(vhost, name);
        if name.starts_with("amq.") {
            return Err(Refusal::access_refused(format!("deletion of system {resource} not allowed")));
        }
        if self.exchange(vhost, name).is_none() {
            return Ok(());
        }
        let is_used = || self.image().vhost(vhost).is_some_and(|vhost| vhost.bindings_of(name).next().is_some());
        if if_unused && is_used() {
            return Err(Refusal::precondition_failed(format!("{resource} in use")));
        }
        self.drop_exchange(vhost, name).await
    }

    /// Deletes an exchange with its bindings: for whoever has decided that already.
    pub async fn drop_exchange(&self, vhost: &str, name: &str) -> Result<(), Refusal> {
        self.remove(&keys::exchange(vhost, name)).await?;
        // What it was bound to may have been waiting for that; as deep as exchanges are bound one behind the other.
        Box::pin(self.remove_bindings_with(vhost, DestinationKind::Exchange, name)).await
    }
}

fn check_arguments(declare: &ExchangeDeclare<'_>) -> Result<(), Refusal> {
    let resource = Resource::Exchange(declare.vhost, declare.name);
    if let Some(value) = declare.arguments.get("alternate-exchange").filter(|value| value.as_text().is_none()) {
        return Err(Refusal::precondition_failed(format!(
            "invalid type '{}' for arg 'alternate-exchange' in {resource}",
            value.type_name()
        )));
    }
    validate::exchange(declare.kind, &declare.arguments).map(drop)
}

fn check_equivalent(exchange: &Exchange, declare: &ExchangeDeclare<'_>) -> Result<(), Refusal> {
    let (resource, record) = (exchange.resource(), &exchange.record);
    equivalence::property(resource, "type", record.kind, declare.kind)?;
    equivalence::property(resource, "durable", record.durable, declare.durable)?;
    equivalence::property(resource, "auto_delete", record.auto_delete, declare.auto_delete)?;
    equivalence::property(resource, "internal", record.internal, declare.internal)?;
    let names: &[&str] = match record.kind {
        ExchangeKind::Delayed => &["alternate-exchange", "x-delayed-type"],
        _ => &["alternate-exchange"],
    };
    equivalence::arguments(resource, names, &record.arguments, &declare.arguments)
}
