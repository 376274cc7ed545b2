//! Everything that is declared, in memory: changed entry by entry as meta tells of it, and asked where a message goes. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use core_rpc::{MetaEntry, Topic, TopicId};
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::exchange::{Exchange, built_in};
use super::policy::{self, Policy, Target};
use super::queue::{Effective, Queue, is_hidden};
use super::queue_config::{QueueConfig, QueueType};
use super::records::{
    BindingRecord, DestinationKind, ExchangeRecord, PolicyRecord, QUEUE_LABEL, QueueRecord, VhostRecord,
};
use super::routing::{Binding, Message, Router};
use super::versions::Versions;
use super::{QueueEvent, Routed, keys};
use crate::translate::names;

/// The bindings of one exchange, or those that lead to one destination, by (kind, the name at the other end, properties key).
pub type Bindings = BTreeMap<(DestinationKind, Arc<str>, String), Arc<Binding>>;

/// What is declared in one vhost.
#[derive(Debug)]
pub struct Vhost {
    pub name: Arc<str>,
    /// None: the vhost is not there (any more, or yet), but something of it is.
    pub record: Option<VhostRecord>,
    exchanges: HashMap<Arc<str>, (Arc<Exchange>, Router)>,
    pub queues: HashMap<Arc<str>, Arc<Queue>>,
    /// By source.
    bindings: HashMap<Arc<str>, Bindings>,
    /// By destination; the name in the key is the source's.
    bindings_to: HashMap<(DestinationKind, Arc<str>), Bindings>,
    pub policies: BTreeMap<String, Policy>,
    pub operator_policies: BTreeMap<String, Policy>,
}

impl Vhost {
    fn new(name: &str) -> Vhost {
        let mut vhost = Vhost {
            name: name.into(),
            record: None,
            exchanges: HashMap::new(),
            queues: HashMap::new(),
            bindings: HashMap::new(),
            bindings_to: HashMap::new(),
            policies: BTreeMap::new(),
            operator_policies: BTreeMap::new(),
        };
        for (name, record) in built_in() {
            vhost.put_exchange(name, record);
        }
        vhost
    }

    pub fn exchange(&self, name: &str) -> Option<&Arc<Exchange>> {
        self.exchanges.get(name).map(|(exchange, _)| exchange)
    }

    pub fn exchanges(&self) -> impl Iterator<Item = &Arc<Exchange>> {
        self.exchanges.values().map(|(exchange, _)| exchange)
    }

    fn policies_of(&self, target: Target, name: &str) -> (Option<String>, Option<String>, Map<String, Value>) {
        let own = policy::best(&self.policies, target, name);
        let operators = match target {
            Target::Queue(_) => policy::best(&self.operator_policies, target, name),
            Target::Exchange => None,
        };
        let named = |policy: Option<(&str, &Policy)>| policy.map(|(name, _)| name.to_owned());
        (named(own), named(operators), policy::merged(own.map(|own| own.1), operators.map(|operators| operators.1)))
    }

    fn put_exchange(&mut self, name: &str, record: ExchangeRecord) {
        let (policy, _, definition) = self.policies_of(Target::Exchange, name);
        let exchange = Exchange::new(self.name.clone(), name.into(), record, policy, definition);
        // What keeps its id keeps its bindings: only its policy is another.
        let router = match self.exchanges.remove(name) {
            Some((old, router)) if old.record.id == exchange.record.id && old.record == exchange.record => router,
            _ => {
                let mut router = Router::new(exchange.routing.kind, exchange.routing.hash_on.clone());
                let own = self.bindings.get(name).into_iter().flatten().map(|(_, binding)| binding);
                own.filter(|binding| binding.source_id == exchange.record.id)
                    .for_each(|binding| router.add(binding.clone()));
                router
            }
        };
        self.exchanges.insert(exchange.name.clone(), (Arc::new(exchange), router));
    }

    fn put_binding(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        self.remove_binding(&binding.source, binding.kind, &binding.destination, &binding.properties_key);
        let key = |name: &Arc<str>| (binding.kind, name.clone(), binding.properties_key.clone());
        let source = self.bindings.entry(binding.source.clone()).or_default();
        source.insert(key(&binding.destination), binding.clone());
        let destination = self.bindings_to.entry((binding.kind, binding.destination.clone())).or_default();
        destination.insert(key(&binding.source), binding.clone());
        if let Some((exchange, router)) = self.exchanges.get_mut(&binding.source)
            && exchange.record.id == binding.source_id
        {
            router.add(binding);
        }
    }

    fn remove_binding(
        &mut self,
        source: &Arc<str>,
        kind: DestinationKind,
        destination: &Arc<str>,
        properties_key: &str,
    ) {
        let key = |name: &Arc<str>| (kind, name.clone(), properties_key.to_owned());
        let Some(of_source) = self.bindings.get_mut(source) else { return };
        let Some(binding) = of_source.remove(&key(destination)) else { return };
        if of_source.is_empty() {
            self.bindings.remove(source);
        }
        if let Some(of_destination) = self.bindings_to.get_mut(&(kind, destination.clone())) {
            of_destination.remove(&key(source));
            if of_destination.is_empty() {
                self.bindings_to.remove(&(kind, destination.clone()));
            }
        }
        if let Some((_, router)) = self.exchanges.get_mut(source) {
            router.remove(&binding);
        }
    }

    /// Whether both ends of a binding are those that it was made for.
    fn is_live(&self, binding: &Binding) -> bool {
        let source = self.exchange(&binding.source).is_some_and(|source| source.record.id == binding.source_id);
        source && self.leads_somewhere(binding)
    }

    fn leads_somewhere(&self, binding: &Binding) -> bool {
        match binding.kind {
            DestinationKind::Queue => {
                self.queues.get(&binding.destination).is_some_and(|queue| binding.destination_id == queue.topic.into())
            }
            DestinationKind::Exchange => self
                .exchange(&binding.destination)
                .is_some_and(|exchange| binding.destination_id == exchange.record.id.into()),
        }
    }

    /// The bindings of an exchange that lead somewhere.
    pub fn bindings_of(&self, source: &str) -> impl Iterator<Item = &Arc<Binding>> {
        let all = self.bindings.get(source).into_iter().flatten().map(|(_, binding)| binding);
        all.filter(|binding| self.is_live(binding))
    }

    /// The bindings that lead to a queue or an exchange, without that of the default exchange.
    pub fn bindings_to(&self, kind: DestinationKind, destination: &str) -> impl Iterator<Item = &Arc<Binding>> {
        let all = self.bindings_to.get(&(kind, destination.into())).into_iter().flatten().map(|(_, binding)| binding);
        all.filter(|binding| self.is_live(binding))
    }

    /// All bindings that lead somewhere.
    pub fn all_bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        let all = self.bindings.values().flatten().map(|(_, binding)| binding);
        all.filter(|binding| self.is_live(binding))
    }

    /// Those of an exchange or to a destination, whatever their ends are now: to be removed with it.
    pub fn bindings_with(&self, kind: DestinationKind, name: &str) -> Vec<Arc<Binding>> {
        let of = self.bindings.get(name).filter(|_| kind == DestinationKind::Exchange);
        let to = self.bindings_to.get(&(kind, name.into()));
        of.into_iter().chain(to).flatten().map(|(_, binding)| binding.clone()).collect()
    }

    fn queue_of(&self, topic: &Topic) -> Option<Queue> {
        let record = match topic.labels.get(QUEUE_LABEL) {
            Some(label) => serde_json::from_str::<QueueRecord>(label)
                .inspect_err(|error| tracing::error!(topic = topic.name, %error, "a queue's label cannot be read"))
                .ok()?,
            None if topic.partitions == 1 && !is_hidden(&topic.name) => QueueRecord::adopted(),
            None => return None,
        };
        Some(self.queue_with(topic, record))
    }

    fn queue_with(&self, topic: &Topic, record: QueueRecord) -> Queue {
        let queue_type = QueueConfig::of(&record.arguments, &Map::new()).queue_type;
        let effective = self.effective(&topic.name, queue_type, &record.arguments);
        Queue::new(self.name.clone(), topic, record, effective)
    }

    fn effective(&self, name: &str, queue_type: QueueType, arguments: &Arguments) -> Effective {
        let (policy, operator_policy, definition) = self.policies_of(Target::Queue(queue_type), name);
        Effective { config: QueueConfig::of(arguments, &definition), policy, operator_policy, definition }
    }

    /// The policies have changed: what matches is found anew. Returns the queues that do something else now.
    fn rematch(&mut self) -> Vec<Arc<Queue>> {
        let exchanges: Vec<_> =
            self.exchanges.values().map(|(exchange, _)| (exchange.name.clone(), exchange.record.clone())).collect();
        for (name, record) in exchanges {
            self.put_exchange(&name, record);
        }
        let rematched = |queue: &&Arc<Queue>| {
            queue.set_config(self.effective(&queue.name, queue.queue_type(), &queue.record.arguments))
        };
        self.queues.values().filter(rematched).cloned().collect()
    }

    /// Where a message goes that is published to `exchange`; None: there is none of that name.
    pub fn route(&self, exchange: &str, routing_keys: &[&str], message: &dyn Message) -> Option<Routed> {
        let (first, _) = self.exchanges.get(exchange)?;
        let mut found = Found::default();
        let mut is_by_key = true;
        let mut visited: Vec<&str> = vec![&first.name];
        let mut at = 0;
        while let Some(name) = visited.get(at).copied() {
            at += 1;
            let Some((exchange, router)) = self.exchanges.get(name) else { continue };
            if exchange.name.is_empty() {
                // The default exchange leads to the queue that the routing key names.
                let queues = routing_keys.iter().filter_map(|key| self.queues.get(*key));
                queues.for_each(|queue| found.add(queue));
                continue;
            }
            is_by_key &= router.is_by_key();
            let mut leads_on = false;
            router.route(routing_keys, message, |binding| {
                if !self.leads_somewhere(binding) {
                    return;
                }
                leads_on = true;
                match binding.kind {
                    DestinationKind::Queue => {
                        self.queues.get(&binding.destination).into_iter().for_each(|queue| found.add(queue));
                    }
                    DestinationKind::Exchange => {
                        let next = self.exchanges.get_key_value(&binding.destination).map(|(name, _)| &**name);
                        visited.extend(next.filter(|next| !visited.contains(next)));
                    }
                }
            });
            if !leads_on
                && let Some(alternate) = &exchange.alternate
                && let Some((alternate, _)) = self.exchanges.get_key_value(alternate.as_str())
                && !visited.contains(&&**alternate)
            {
                visited.push(alternate);
            }
        }
        Some(Routed { exchange: first.clone(), queues: found.queues.into(), is_by_key })
    }
}

/// Queues in the order in which they were found, each once.
#[derive(Default)]
struct Found {
    queues: Vec<Arc<Queue>>,
    topics: HashSet<TopicId>,
}

impl Found {
    /// So many are looked through one by one.
    const FEW: usize = 16;

    fn add(&mut self, queue: &Arc<Queue>) {
        if self.queues.len() < Self::FEW {
            if self.queues.iter().any(|other| other.topic == queue.topic) {
                return;
            }
        } else {
            if self.topics.is_empty() {
                self.topics = self.queues.iter().map(|queue| queue.topic).collect();
            }
            if !self.topics.insert(queue.topic) {
                return;
            }
        }
        self.queues.push(queue.clone());
    }
}

/// All vhosts, and what belongs to none: permissions, limits and parameters as they are stored.
#[derive(Debug, Default)]
pub struct Image {
    pub vhosts: HashMap<Arc<str>, Vhost>,
    pub by_topic: HashMap<TopicId, Arc<Queue>>,
    /// By kind, then by the parts of the key.
    others: HashMap<String, BTreeMap<Vec<String>, Arc<Value>>>,
    versions: Versions,
    /// What happened to queues and was not told yet.
    pub events: Vec<QueueEvent>,
    /// Somebody may do more or less than before.
    pub permissions_changed: bool,
}

impl Image {
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        self.vhosts.get(name).filter(|vhost| vhost.record.is_some())
    }

    fn vhost_mut(&mut self, name: &str) -> &mut Vhost {
        if !self.vhosts.contains_key(name) {
            self.vhosts.insert(name.into(), Vhost::new(name));
        }
        self.vhosts.get_mut(name).expect("it was just put there")
    }

    /// The stored values of a kind that is none of vhosts', exchanges', bindings', policies'.
    pub fn others(&self, kind: &str) -> impl Iterator<Item = (&Vec<String>, &Arc<Value>)> {
        self.others.get(kind).into_iter().flatten()
    }

    pub fn other(&self, kind: &str, parts: &[&str]) -> Option<&Arc<Value>> {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        self.others.get(kind)?.get(&parts)
    }

    /// The version of an entry as the image has it.
    pub fn version(&self, key: &str) -> Option<u64> {
        self.versions.of(key)
    }

    /// An entry of meta is this now. False: the image had it, or newer.
    pub fn put(&mut self, entry: &MetaEntry) -> bool {
        if !self.versions.put(&entry.key, entry.version) {
            return false;
        }
        if entry.key.starts_with(core_rpc::TOPIC_PREFIX) {
            match Topic::from_entry(entry) {
                Some(topic) => self.put_topic(&topic),
                None => tracing::error!(key = entry.key, "a topic's entry cannot be read"),
            }
        } else if let Err(error) = self.put_record(entry) {
            tracing::error!(key = entry.key, %error, "an entry cannot be read");
        }
        true
    }

    /// A topic, as this process made or altered it.
    pub fn put_own_topic(&mut self, topic: &Topic) {
        if self.versions.put(&Topic::key(&topic.namespace, &topic.name), topic.version) {
            self.put_topic(topic);
        }
    }

    fn put_topic(&mut self, topic: &Topic) {
        let Some(vhost) = names::vhost(&topic.namespace) else { return };
        let vhost = self.vhost_mut(vhost);
        let queue = vhost.queue_of(topic).map(Arc::new);
        let old = match &queue {
            Some(queue) => vhost.queues.insert(queue.name.clone(), queue.clone()),
            None => vhost.queues.remove(topic.name.as_str()),
        };
        if let Some(old) = old.filter(|old| queue.as_ref().is_none_or(|queue| queue.topic != old.topic)) {
            self.by_topic.remove(&old.topic);
            self.events.push(QueueEvent::Removed(old));
        }
        if let Some(queue) = queue {
            self.by_topic.insert(queue.topic, queue.clone());
            self.events.push(QueueEvent::Put(queue));
        }
    }

    fn put_record(&mut self, entry: &MetaEntry) -> Result<(), serde_json::Error> {
        let Some((kind, parts)) = keys::parse(&entry.key) else { return Ok(()) };
        match (kind, parts.as_slice()) {
            ("vhost", [vhost]) => {
                let record = serde_json::from_slice(&entry.value)?;
                self.vhost_mut(vhost).record = Some(record);
            }
            ("exchange", [vhost, name]) => {
                let record = serde_json::from_slice(&entry.value)?;
                self.vhost_mut(vhost).put_exchange(name, record);
            }
            ("binding", [vhost, source, letter, destination, properties_key]) => {
                let Some(kind) = DestinationKind::of_letter(letter) else { return Ok(()) };
                let record: BindingRecord = serde_json::from_slice(&entry.value)?;
                self.vhost_mut(vhost).put_binding(Binding {
                    source: source.as_str().into(),
                    source_id: record.source_id,
                    kind,
                    destination: destination.as_str().into(),
                    destination_id: record.destination_id,
                    routing_key: record.routing_key,
                    arguments: record.arguments,
                    properties_key: properties_key.clone(),
                    version: entry.version,
                });
            }
            ("policy" | "operator-policy", [vhost, name]) => {
                let record: PolicyRecord = serde_json::from_slice(&entry.value)?;
                let vhost = self.vhost_mut(vhost);
                let policies = if kind == "policy" { &mut vhost.policies } else { &mut vhost.operator_policies };
                policies.insert(name.clone(), Policy::new(record));
                let changed = vhost.rematch();
                self.note_changed(changed);
            }
            // Keys under sessions, which those read who put them.
            ("consumer" | "exclusive" | "incarnation" | "gateway" | "ready", _) => {}
            _ => {
                self.permissions_changed |= is_permission(kind);
                let value = Arc::new(serde_json::from_slice(&entry.value)?);
                self.others.entry(kind.to_owned()).or_default().insert(parts, value);
            }
        }
        Ok(())
    }

    fn note_changed(&mut self, queues: Vec<Arc<Queue>>) {
        self.events.extend(queues.into_iter().map(QueueEvent::Put));
    }

    /// The watch tells that an entry is gone. False: the image has none so old.
    pub fn delete(&mut self, key: &str, revision: u64) -> bool {
        let gone = self.versions.delete(key, revision);
        if gone {
            self.forget(key);
        }
        gone
    }

    /// This process deleted an entry.
    pub fn delete_own(&mut self, key: &str) {
        if self.versions.delete_own(key) {
            self.forget(key);
        }
    }

    /// A list of everything under `prefixes` has come: returns whether anything is another now.
    pub fn relist(&mut self, entries: &[MetaEntry], revision: u64, is_of: impl Fn(&str) -> bool) -> bool {
        let listed: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut changed = false;
        for key in self.versions.missing(&listed, revision, is_of) {
            self.forget(&key);
            changed = true;
        }
        for entry in entries {
            changed |= self.put(entry);
        }
        changed
    }

    fn forget(&mut self, key: &str) {
        if let Some((namespace, name)) = Topic::names_of_key(key) {
            let Some(vhost) = names::vhost(&namespace) else { return };
            if let Some(queue) = self.vhost_mut(vhost).queues.remove(name) {
                self.by_topic.remove(&queue.topic);
                self.events.push(QueueEvent::Removed(queue));
            }
            return;
        }
        let Some((kind, parts)) = keys::parse(key) else { return };
        match (kind, parts.as_slice()) {
            ("vhost", [vhost]) => self.vhost_mut(vhost).record = None,
            ("exchange", [vhost, name]) => drop(self.vhost_mut(vhost).exchanges.remove(name.as_str())),
            ("binding", [vhost, source, letter, destination, properties_key]) => {
                if let Some(kind) = DestinationKind::of_letter(letter) {
                    let (source, destination) = (source.as_str().into(), destination.as_str().into());
                    self.vhost_mut(vhost).remove_binding(&source, kind, &destination, properties_key);
                }
            }
            ("policy" | "operator-policy", [vhost, name]) => {
                let vhost = self.vhost_mut(vhost);
                let policies = if kind == "policy" { &mut vhost.policies } else { &mut vhost.operator_policies };
                policies.remove(name);
                let changed = vhost.rematch();
                self.note_changed(changed);
            }
            _ => {
                self.permissions_changed |= is_permission(kind);
                if let Some(values) = self.others.get_mut(kind) {
                    values.remove(&parts);
                }
            }
        }
    }
}

fn is_permission(kind: &str) -> bool {
    matches!(kind, "permission" | "topic-permission")
}
