//! Declaring, deleting and emptying queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core_rpc::{
    Core, DiscardRequest, Durability, MetaCondition, MetaError, OffsetAt, SeekTo, TopicAlter, TopicCreate, TopicError,
    TopicSettings,
};
use gateway_runtime::identity::random_16_bytes;
use serde_json::Map;

use super::arguments::{Argument, Arguments};
use super::queue::{QUEUE_GROUP, Queue, locked};
use super::queue_config::{QueueConfig, QueueType};
use super::records::{DestinationKind, QUEUE_LABEL, QueueRecord};
use super::validate::{self, Resource, known_arguments};
use super::{Topology, equivalence, keys};
use crate::errors::Refusal;
use crate::translate::names;

/// The arguments of a quorum queue or stream that must be the same when it is declared again.
const ATTEMPTS: usize = 16;

/// Names that clients cannot give.
const RESERVED_PREFIX: &str = "amq.";

/// The longest prefix of a server-named queue that a client may ask for, bytes.
const NAME_PREFIX_BYTES_MAX: usize = 64;

/// What `queue.declare` says, and who says it.
#[derive(Clone, Debug)]
pub struct QueueDeclare<'d> {
    pub vhost: &'d str,
    /// Not empty: see [`Topology::queue_name`].
    pub name: &'d str,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: Arguments,
    /// The connection's `holder_prefix`; empty: no connection's (management).
    pub connection: &'d str,
    pub user: &'d str,
}

/// What `queue.delete` says, and who says it.
#[derive(Clone, Copy, Debug)]
pub struct QueueDelete<'d> {
    pub vhost: &'d str,
    pub name: &'d str,
    /// Only if it has none of these consumers.
    pub if_unused: bool,
    pub consumers: usize,
    pub if_empty: bool,
    /// As in [`QueueDeclare`].
    pub connection: &'d str,
}

impl<C: Core> Topology<C> {
    /// The name of a queue that is declared: what the client says, which must not be reserved, or a new one.
    pub fn queue_name(&self, vhost: &str, named: &str, arguments: &Arguments) -> Result<String, Refusal> {
        if named.is_empty() {
            let queue_type = arguments.text("x-queue-type").unwrap_or_default();
            if QueueType::of(queue_type).is_some_and(|queue_type| queue_type != QueueType::Classic) {
                return Err(Refusal::precondition_failed(format!(
                    "Cannot declare a server-named queue for type rabbit_{queue_type}_queue"
                )));
            }
            let prefix = arguments.text("x-name-prefix").unwrap_or("amq.gen");
            if prefix.len() > NAME_PREFIX_BYTES_MAX {
                return Err(Refusal::precondition_failed(format!(
                    "Queue name prefix '{prefix}' exceeds the 64-byte limit"
                )));
            }
            let random = random_16_bytes().map_err(|error| Refusal::internal_error(error.to_string()))?;
            return Ok(format!("{prefix}-{}", URL_SAFE_NO_PAD.encode(random)));
        }
        if named.starts_with(RESERVED_PREFIX) {
            let _ = vhost;
            return Err(Refusal::access_refused(format!("queue name '{named}' contains reserved prefix 'amq.*'")));
        }
        Ok(named.to_owned())
    }

    /// The queue, or RabbitMQ's 404.
    pub fn known_queue(&self, vhost: &str, name: &str) -> Result<Arc<Queue>, Refusal> {
        self.queue(vhost, name).ok_or_else(|| no(Resource::Queue(vhost, name)))
    }

    /// The queue, if this connection may use it: 404 or 405 if not.
    pub fn usable_queue(&self, vhost: &str, name: &str, connection: &str) -> Result<Arc<Queue>, Refusal> {
        let queue = self.known_queue(vhost, name)?;
        queue.check_owner(connection)?;
        Ok(queue)
    }

    /// Declares a queue: makes it, or finds it as it is said to be. True: it is new.
    pub async fn declare_queue(&self, mut declare: QueueDeclare<'_>) -> Result<(Arc<Queue>, bool), Refusal> {
        declare.durable &= !declare.exclusive;
        declare.arguments.0.remove("x-name-prefix");
        self.name_type(&mut declare)?;
        for _ in 0..ATTEMPTS {
            match self.queue(declare.vhost, declare.name) {
                Some(queue) if queue.is_adopted => {
                    if let Some(queue) = self.adopt(&queue, &declare).await? {
                        return Ok((queue, false));
                    }
                }
                Some(queue) => {
                    check_equivalent(&queue, &declare)?;
                    return Ok((queue, false));
                }
                None => {
                    if let Some(queue) = self.create_queue(&declare).await? {
                        return Ok((queue, true));
                    }
                }
            }
        }
        Err(Refusal::internal_error("the queue is changed by others all the time"))
    }

    /// Says the type of a queue that is declared without one: the vhost's default where that fits it.
    fn name_type(&self, declare: &mut QueueDeclare<'_>) -> Result<(), Refusal> {
        let image = self.image();
        let Some(vhost) = image.vhost(declare.vhost) else {
            return Err(Refusal::not_found(format!("no vhost '{}'", declare.vhost)));
        };
        if declare.arguments.get("x-queue-type").is_none() {
            let fits = declare.durable && !declare.exclusive && !declare.auto_delete;
            let default = vhost.record.as_ref().and_then(|record| record.default_queue_type.as_deref());
            let name = default.and_then(QueueType::of).filter(|name| fits || *name == QueueType::Classic);
            declare.arguments.insert("x-queue-type", Argument::Text(name.unwrap_or_default().name().to_owned()));
        }
        Ok(())
    }

    /// None: somebody else made one of this name meanwhile.
    async fn create_queue(&self, declare: &QueueDeclare<'_>) -> Result<Option<Arc<Queue>>, Refusal> {
        let resource = Resource::Queue(declare.vhost, declare.name);
        let QueueDeclare { durable, exclusive, auto_delete, .. } = *declare;
        let queue_type = validate::queue(resource, durable, exclusive, auto_delete, &declare.arguments)?;
        self.check_queue_limit(declare.name, declare.vhost)?;
        let namespace = names::namespace(declare.vhost);
        let record = QueueRecord {
            durable,
            auto_delete,
            exclusive: exclusive.then(|| declare.connection.to_owned()),
            arguments: declare.arguments.clone(),
            incarnation: if durable || exclusive { None } else { self.incarnation() },
            user: declare.user.to_owned(),
        };
        let create = TopicCreate {
            namespace: namespace.to_string(),
            name: declare.name.to_owned(),
            partitions: QueueConfig::of(&declare.arguments, &Map::new()).partitions(),
            settings: settings(&record, queue_type),
            labels: BTreeMap::from([(QUEUE_LABEL.to_owned(), to_label(&record)?)]),
        };
        if exclusive {
            self.own(declare).await?;
        }
        match self.core().topic_create(create).await {
            Ok(topic) => {
                self.change(|image| image.put_own_topic(&topic));
                // Somebody may have deleted it already; the client still gets what it declared.
                let made = self.queue_by_topic(topic.id);
                let gone = || Arc::new(Queue::new(declare.vhost.into(), &topic, record, Default::default()));
                Ok(Some(made.unwrap_or_else(gone)))
            }
            Err(error) => {
                if exclusive {
                    self.remove(&keys::exclusive(declare.vhost, declare.name)).await?;
                }
                if error != TopicError::Exists {
                    return Err(error.into());
                }
                self.refresh_topic(&namespace, declare.name).await?;
                match self.queue(declare.vhost, declare.name) {
                    Some(_) => Ok(None),
                    None => Err(Refusal::precondition_failed(format!(
                        "a topic of this name with several partitions exists; it cannot be {resource}"
                    ))),
                }
            }
        }
    }

    fn check_queue_limit(&self, name: &str, vhost: &str) -> Result<(), Refusal> {
        let Some(limit) = self.vhost_limit(vhost, "max-queues") else { return Ok(()) };
        let queues = self.image().vhost(vhost).map_or(0, |vhost| vhost.queues.len() as u64);
        if queues < limit {
            return Ok(());
        }
        Err(Refusal::precondition_failed(format!(
            "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
        )))
    }

    /// Says, before the queue is there, that it is this connection's: while the key stays, its owner lives.
    async fn own(&self, declare: &QueueDeclare<'_>) -> Result<(), Refusal> {
        let key = keys::exclusive(declare.vhost, declare.name);
        let session = Some(self.inner.session.id());
        let mut condition = MetaCondition::Absent;
        for _ in 0..ATTEMPTS {
            match self.put_under(key.clone(), &declare.connection, condition, session).await {
                Ok(_) => return Ok(()),
                Err(MetaError::Conflict(entry)) => {
                    let namespace = names::namespace(declare.vhost);
                    self.refresh_topic(&namespace, declare.name).await?;
                    if self.queue(declare.vhost, declare.name).is_some() {
                        return Err(locked(Resource::Queue(declare.vhost, declare.name)));
                    }
                    // What is left of one that was deleted.
                    condition = entry.map_or(MetaCondition::Absent, |entry| MetaCondition::Version(entry.version));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(locked(Resource::Queue(declare.vhost, declare.name)))
    }

    /// Another protocol's topic becomes the queue that is declared, if it can be one like this. None: it is another by now.
    async fn adopt(&self, queue: &Queue, declare: &QueueDeclare<'_>) -> Result<Option<Arc<Queue>>, Refusal> {
        let resource = queue.resource();
        let QueueDeclare { durable, exclusive, auto_delete, .. } = *declare;
        let queue_type = validate::queue(resource, durable, exclusive, auto_delete, &declare.arguments)?;
        equivalence::property(resource, "durable", true, durable)?;
        equivalence::property(resource, "auto_delete", false, auto_delete)?;
        if QueueConfig::of(&declare.arguments, &Map::new()).partitions() != queue.partition_count {
            let priority = declare.arguments.get("x-max-priority");
            let received: Arguments =
                priority.map(|value| ("x-max-priority".to_owned(), value.clone())).into_iter().collect();
            equivalence::arguments(resource, &["x-max-priority"], &Arguments::default(), &received)?;
        }
        let record = QueueRecord {
            arguments: declare.arguments.clone(),
            user: declare.user.to_owned(),
            ..QueueRecord::adopted()
        };
        let _ = queue_type;
        self.relabel(queue, &record).await
    }

    /// Writes a queue's record. None: the queue was changed by somebody else meanwhile.
    async fn relabel(&self, queue: &Queue, record: &QueueRecord) -> Result<Option<Arc<Queue>>, Refusal> {
        let (namespace, name) = (queue.namespace.to_string(), queue.name.to_string());
        let Some(entry) = self.core().meta_get(core_rpc::Topic::key(&namespace, &name)).await? else {
            self.refresh_topic(&namespace, &name).await?;
            return Ok(None);
        };
        let Some(topic) = core_rpc::Topic::from_entry(&entry).filter(|topic| topic.id == queue.topic) else {
            self.refresh_topic(&namespace, &name).await?;
            return Ok(None);
        };
        let mut labels = topic.labels;
        labels.insert(QUEUE_LABEL.into(), to_label(record)?);
        let alter = TopicAlter {
            id: Some(queue.topic),
            labels: Some(labels),
            if_version: Some(topic.version),
            ..TopicAlter::default()
        };
        match self.core().topic_alter(namespace.clone(), name.clone(), alter).await {
            Ok(topic) => {
                self.change(|image| image.put_own_topic(&topic));
                Ok(self.queue_by_topic(queue.topic))
            }
            Err(TopicError::Conflict | TopicError::Unknown) => {
                self.refresh_topic(&namespace, &name).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a queue with its bindings. Returns how many messages were ready; a queue that is not there has none.
    pub async fn delete_queue(&self, delete: QueueDelete<'_>) -> Result<u64, Refusal> {
        let Some(queue) = self.queue(delete.vhost, delete.name) else { return Ok(0) };
        queue.check_owner(delete.connection)?;
        let unsupported = |flag: &str| {
            Err(Refusal::not_implemented(format!(
                "cannot delete {}. queue.delete operations with {flag} flag set are not supported by quorum queues",
                queue.resource()
            )))
        };
        let is_quorum = queue.queue_type() == QueueType::Quorum;
        match (delete.if_unused, delete.if_empty) {
            (true, _) if is_quorum => return unsupported("if-unused"),
            (_, true) if is_quorum => return unsupported("if-empty"),
            _ => {}
        }
        if delete.if_unused && delete.consumers > 0 {
            return Err(Refusal::precondition_failed(format!("{} in use", queue.resource())));
        }
        let counts = self.counts(&queue).await?;
        if delete.if_empty && counts.total() > 0 {
            return Err(Refusal::precondition_failed(format!("{} not empty", queue.resource())));
        }
        self.drop_queue(&queue).await?;
        Ok(counts.ready)
    }

    /// Deletes this queue, not another of its name, with its bindings: for whoever has decided that already.
    pub async fn drop_queue(&self, queue: &Queue) -> Result<(), Refusal> {
        let (namespace, name) = (queue.namespace.to_string(), queue.name.to_string());
        if self.queue_by_topic(queue.topic).is_none() {
            return Ok(());
        }
        match self.core().topic_delete(namespace.clone(), name.clone()).await {
            Ok(()) => self.change(|image| image.delete_own(&core_rpc::Topic::key(&namespace, &name))),
            Err(TopicError::Unknown) => self.refresh_topic(&namespace, &name).await?,
            Err(error) => return Err(error.into()),
        }
        self.remove_bindings_with(&queue.vhost, DestinationKind::Queue, &name).await?;
        if queue.record.exclusive.is_some() {
            self.remove(&keys::exclusive(&queue.vhost, &name)).await?;
        }
        Ok(())
    }

    /// Drops what is ready in a queue; what is handed out stays. Returns how many it were.
    pub async fn purge_queue(&self, queue: &Queue) -> Result<u64, Refusal> {
        if queue.is_stream() {
            return Err(Refusal::not_implemented(format!(
                "queue.purge not supported by stream queues {}",
                queue.resource()
            )));
        }
        let mut purged = 0;
        for partition in queue.partitions() {
            let discard = DiscardRequest {
                group: queue.group(),
                partition,
                start: SeekTo::At(OffsetAt::Earliest),
                messages_max: u64::MAX,
            };
            purged += self.core().discard(discard).await?;
        }
        Ok(purged)
    }
}

/// RabbitMQ's 404.
pub(super) fn no(resource: Resource<'_>) -> Refusal {
    Refusal::not_found(format!("no {resource}"))
}

fn check_equivalent(queue: &Queue, declare: &QueueDeclare<'_>) -> Result<(), Refusal> {
    let resource = queue.resource();
    match &queue.record.exclusive {
        Some(owner) if !declare.exclusive || owner != declare.connection => return Err(locked(resource)),
        None if declare.exclusive => return Err(locked(resource)),
        _ => {}
    }
    equivalence::property(resource, "durable", queue.record.durable, declare.durable)?;
    equivalence::property(resource, "auto_delete", queue.record.auto_delete, declare.auto_delete)?;
    let mut current = queue.record.arguments.clone();
    // Of queues that were declared before types were written down.
    current.0.entry("x-queue-type".into()).or_insert_with(|| Argument::Text(queue.queue_type().name().into()));
    equivalence::arguments(resource, known_arguments(queue.queue_type()), &current, &declare.arguments)
}

fn to_label(record: &QueueRecord) -> Result<String, Refusal> {
    serde_json::to_string(record).map_err(|error| Refusal::internal_error(error.to_string()))
}

/// What the core itself obeys of a queue.
fn settings(record: &QueueRecord, queue_type: QueueType) -> TopicSettings {
    let config = QueueConfig::of(&record.arguments, &Map::new());
    let is_stream = queue_type == QueueType::Stream;
    TopicSettings {
        durability: if record.durable { Durability::Fsync } else { Durability::Memory },
        together: true,
        // What is settled in a queue is gone; a stream keeps what its limits allow.
        consumed_by: (!is_stream).then(|| QUEUE_GROUP.to_owned()),
        retention_ms: config.max_age_ms,
        retention_bytes: config.max_length_bytes.filter(|_| is_stream),
        ..TopicSettings::default()
    }
}
