//! Binding and unbinding.

use std::collections::BTreeSet;
use std::sync::Arc;

use core_rpc::{Core, MetaCondition, MetaError};

use super::arguments::Arguments;
use super::records::{BindingRecord, DestinationKind, ExchangeKind, Identity, properties_key};
use super::routing::Binding;
use super::{Topology, keys, validate};
use crate::errors::Refusal;

/// Attempts to write a binding that others write too.
const ATTEMPTS: usize = 16;

/// What a bind or unbind says.
#[derive(Clone, Debug)]
pub struct BindRequest<'b> {
    pub vhost: &'b str,
    pub source: &'b str,
    pub kind: DestinationKind,
    pub destination: &'b str,
    pub routing_key: &'b str,
    pub arguments: Arguments,
    /// The connection's `holder_prefix`; empty: no connection's.
    pub connection: &'b str,
}

impl BindRequest<'_> {
    fn key(&self) -> String {
        key(self.vhost, self.source, self.kind, self.destination, &properties_key(self.routing_key, &self.arguments))
    }
}

fn key(vhost: &str, source: &str, kind: DestinationKind, destination: &str, properties_key: &str) -> String {
    keys::key("binding", &[vhost, source, kind.letter(), destination, properties_key])
}

impl<C: Core> Topology<C> {
    /// Binds; a binding that is there stays. Returns its properties key.
    pub async fn bind(&self, bind: &BindRequest<'_>) -> Result<String, Refusal> {
        let mut condition = MetaCondition::Absent;
        for _ in 0..ATTEMPTS {
            let source = self.known_exchange(bind.vhost, bind.source)?;
            let (destination_id, queue_type): (Identity, _) = match bind.kind {
                DestinationKind::Queue => {
                    let queue = self.usable_queue(bind.vhost, bind.destination, bind.connection)?;
                    (queue.topic.into(), Some(queue.queue_type()))
                }
                DestinationKind::Exchange => {
                    (self.known_exchange(bind.vhost, bind.destination)?.record.id.into(), None)
                }
            };
            validate::binding(source.routing.kind, bind.routing_key, &bind.arguments)?;
            if source.routing.kind == ExchangeKind::LocalRandom {
                validate::destination_of_local_random(queue_type)?;
            }
            let record = BindingRecord {
                routing_key: bind.routing_key.to_owned(),
                arguments: bind.arguments.clone(),
                source_id: source.record.id,
                destination_id,
            };
            match self.put(bind.key(), &record, condition).await {
                Ok(_) => return Ok(properties_key(bind.routing_key, &bind.arguments)),
                Err(MetaError::Conflict(Some(entry))) => {
                    if serde_json::from_slice::<BindingRecord>(&entry.value).is_ok_and(|kept| kept == record) {
                        return Ok(properties_key(bind.routing_key, &bind.arguments));
                    }
                    // It was of a queue or exchange that is gone.
                    condition = MetaCondition::Version(entry.version);
                }
                Err(MetaError::Conflict(None)) => condition = MetaCondition::Absent,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::internal_error("the binding is changed by others all the time"))
    }

    /// Unbinds; a binding that is not there is no error.
    pub async fn unbind(&self, unbind: &BindRequest<'_>) -> Result<(), Refusal> {
        if unbind.kind == DestinationKind::Queue
            && let Some(queue) = self.queue(unbind.vhost, unbind.destination)
        {
            queue.check_owner(unbind.connection)?;
        }
        let key = unbind.key();
        if self.image().version(&key).is_none() {
            return Ok(());
        }
        self.remove(&key).await?;
        self.delete_unbound(unbind.vhost, &BTreeSet::from([unbind.source.into()])).await
    }

    /// Removes the bindings of an exchange, or to a queue or exchange, that is gone.
    pub(super) async fn remove_bindings_with(
        &self,
        vhost: &str,
        kind: DestinationKind,
        name: &str,
    ) -> Result<(), Refusal> {
        let bindings = self.image().vhosts.get(vhost).map(|vhost| vhost.bindings_with(kind, name)).unwrap_or_default();
        let of = |binding: &Arc<Binding>| {
            key(vhost, &binding.source, binding.kind, &binding.destination, &binding.properties_key)
        };
        self.remove_all(bindings.iter().map(of).collect()).await?;
        let sources: BTreeSet<Arc<str>> =
            bindings.iter().map(|binding| binding.source.clone()).filter(|source| &**source != name).collect();
        self.delete_unbound(vhost, &sources).await
    }

    /// Deletes those exchanges that are to vanish with their last binding, and have lost it.
    async fn delete_unbound(&self, vhost: &str, sources: &BTreeSet<Arc<str>>) -> Result<(), Refusal> {
        for source in sources {
            let unbound = self.image().vhost(vhost).is_some_and(|vhost| {
                vhost.exchange(source).is_some_and(|exchange| exchange.record.auto_delete)
                    && vhost.bindings_of(source).next().is_none()
            });
            if unbound {
                Box::pin(self.drop_exchange(vhost, source)).await?;
            }
        }
        Ok(())
    }
}
