//! Messages that wait for their time beside the queues: those of `x-delayed-message` exchanges, and dead letters without a way.
//!
//! ```text
//!  publish ─► amq.delayed (a topic of the vhost; each batch with not_before) ─► the core hands it out when it is due
//!           ─► route ─► Core::transfer: settle there, append to the queues, in one commit
//! ```
//! The topic is the core's, and so are the times: they outlive every gateway, and nothing is counted down here. One gateway, by
//! rendezvous hashing, moves what is due; when it dies what it had in hand is available again, and another goes on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use codec_amqp::{FieldValue, Properties, ShortStr};
use codec_record::amqp_message::MessageView;
use core_rpc::{
    AcquireMode, AcquireRequest, Acquired, Append, Core, GroupName, Isolation, Lease, MetaCondition, MetaPut, OffsetAt,
    PartitionId, ReleaseRequest, SeekTo, SessionId, Settlement, TopicCreate, TopicError, TopicSettings,
};
use gateway_runtime::Mirror;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::dead_letter::ranges;
use super::deaths::{Deaths, Reason};
use super::post::{Post, held_back};
use super::{Lifecycle, death_headers, delay, owner, read};
use crate::now_ms;
use crate::state::topology::{DELAYED_TOPIC, Exchange, QUEUE_GROUP};
use crate::translate::names;

/// Tells which vhosts have such a topic: `amqp/delayed/<vhost>`.
const PREFIX: &str = "amqp/delayed/";

/// Marks a dead letter that found no way, and is to be sent again.
const PARKED: &str = "x-polymq-parked";

/// How many messages are moved in one commit, and how many bytes are taken at a time.
const MOVE_MESSAGES: u32 = 256;
const MOVE_BYTES: u32 = 4 << 20;

/// How long one acquire stands; it is renewed at once.
const ACQUIRE_WAIT: Duration = Duration::from_secs(30);

const RETRY_AFTER: Duration = Duration::from_millis(100);

/// After what time a way is looked for again, ms.
const NO_WAY_RETRY_MS: i64 = 1000;

/// Who moves what is due in one vhost.
struct Mover {
    task: AbortHandle,
    end: CancellationToken,
}

/// A message as its publisher has it.
#[derive(Clone, Debug)]
pub struct Piece {
    pub exchange: Bytes,
    pub routing_key: Bytes,
    pub properties: Properties,
    pub body: Bytes,
    /// See [`MessageView::has_died`].
    pub has_died: bool,
}

impl Piece {
    /// None: it is no message, which a publisher has seen to.
    fn message(&self) -> Option<MessageView> {
        let short = |bytes: &Bytes| ShortStr::try_from(std::str::from_utf8(bytes).ok()?).ok();
        let (exchange, routing_key) = (short(&self.exchange)?, short(&self.routing_key)?);
        let properties = self.properties.clone();
        let message = MessageView::arrived(now_ms(), exchange, routing_key, properties, self.body.clone()).ok()?;
        Some(MessageView { has_died: self.has_died, ..message })
    }
}

impl<C: Core> Lifecycle<C> {
    /// Whether a message to this exchange is held back, and until when, ms since the Unix epoch.
    pub fn due_ms(&self, exchange: &Exchange, properties: &Properties, now_ms: i64) -> Option<i64> {
        if !exchange.is_delayed() {
            return None;
        }
        Some(now_ms + delay::delay_ms(&properties.headers())?)
    }

    /// The append that holds a message back until `due_ms`: for the publisher to make, and to confirm when it is kept.
    pub async fn hold_back(&self, vhost: &str, piece: &Piece, due_ms: i64) -> Result<Append, TopicError> {
        let waiting = self.waiting_topic(vhost).await?;
        let message = piece.message().ok_or(TopicError::InvalidName)?;
        Ok(held_back(waiting, &message, due_ms))
    }

    /// Adds a message to what goes out: into the queues to which its exchange leads, or held back. False: nobody takes it.
    pub(super) async fn deliver(
        &self,
        post: &mut Post,
        vhost: &str,
        message: &MessageView,
    ) -> Result<bool, TopicError> {
        let topology = &self.shared.topology;
        let Some(exchange) = topology.exchange(vhost, &message.exchange) else { return Ok(false) };
        if let Some(due_ms) = self.due_ms(&exchange, &message.properties, now_ms()) {
            let waiting = self.waiting_topic(vhost).await?;
            post.hold_back(waiting, message, due_ms);
            return Ok(true);
        }
        let headers = message.properties.headers();
        let copies = death_headers::copies(&headers, "CC").unwrap_or_default();
        let copies = copies.iter().filter_map(|key| std::str::from_utf8(key).ok());
        let keys: Vec<&str> = [&*message.routing_key].into_iter().chain(copies).collect();
        let routed = topology.route_keys(vhost, &message.exchange, &keys, &message.properties);
        let Some(routed) = routed else { return Ok(false) };
        // Nothing goes round without end; what a client rejected may come back to where it was.
        let deaths = if message.has_died { death_headers::read(&headers) } else { Deaths::default() };
        let was_rejected = deaths.0.first().is_some_and(|newest| newest.reason == Reason::Rejected);
        let mut is_sent = false;
        for queue in routed.queues.iter() {
            if !was_rejected && deaths.is_cycle(queue.name().as_bytes()) {
                tracing::debug!(queue = queue.name(), "a dead letter that went round in a circle is dropped");
                // It has come as far as it may.
                is_sent = true;
            } else if self.has_room(queue, post, message.body.len() as u64).await {
                post.put(queue, message);
                is_sent = true;
            }
        }
        Ok(is_sent)
    }

    /// Keeps a dead letter beside the queues, to be sent again.
    pub(super) async fn park(&self, post: &mut Post, vhost: &str, message: &MessageView) -> Result<(), TopicError> {
        let waiting = self.waiting_topic(vhost).await?;
        let marked = message.properties.with_headers(&[(PARKED, FieldValue::Bool(true))]);
        let Some(properties) = marked else { return Ok(()) };
        let message = MessageView { properties, ..message.clone() };
        post.hold_back(waiting, &message, now_ms() + NO_WAY_RETRY_MS);
        Ok(())
    }

    /// The topic of a vhost where messages wait; it is made with the first of them.
    async fn waiting_topic(&self, vhost: &str) -> Result<PartitionId, TopicError> {
        if let Some(waiting) = self.shared.waiting.get(vhost) {
            return Ok(*waiting);
        }
        let namespace = names::namespace(vhost).into_owned();
        let create = TopicCreate {
            namespace: namespace.clone(),
            name: DELAYED_TOPIC.into(),
            partitions: 1,
            settings: TopicSettings { together: true, consumed_by: Some(QUEUE_GROUP.into()), ..Default::default() },
            labels: Default::default(),
        };
        let topic = match self.shared.core.topic_create(create).await {
            Ok(topic) => topic.id,
            Err(TopicError::Exists) => self.find_waiting(&namespace).await?,
            Err(error) => return Err(error),
        };
        let key = format!("{PREFIX}{}", core_rpc::key_part(vhost));
        let put = MetaPut { key, value: Bytes::from_static(b"{}"), condition: MetaCondition::Absent, session: None };
        match self.shared.core.meta_put(put).await {
            Ok(_) | Err(core_rpc::MetaError::Conflict(_)) => {}
            // Without it nobody would move what waits.
            Err(_) => return Err(TopicError::Unavailable),
        }
        let waiting = PartitionId { topic, index: 0 };
        self.shared.waiting.insert(vhost.into(), waiting);
        Ok(waiting)
    }

    async fn find_waiting(&self, namespace: &str) -> Result<core_rpc::TopicId, TopicError> {
        let key = core_rpc::Topic::key(namespace, DELAYED_TOPIC);
        match self.shared.core.meta_get(key).await {
            Ok(entry) => entry
                .and_then(|entry| core_rpc::Topic::from_entry(&entry))
                .map(|topic| topic.id)
                .ok_or(TopicError::Conflict),
            Err(_) => Err(TopicError::Unavailable),
        }
    }

    /// Moves what is due in all vhosts that are this gateway's to look after, until it stops.
    pub(super) async fn move_due(self) -> anyhow::Result<()> {
        let shared = &self.shared;
        let marks = Mirror::start(shared.core.clone(), PREFIX.into(), |_| Some(()), shared.stop.clone()).await?;
        let (mut mark_changes, mut member_changes) = (marks.changes(), shared.membership.changes());
        let mut movers = JoinSet::new();
        let mut moving: HashMap<String, Mover> = HashMap::new();
        loop {
            let members = member_changes.borrow_and_update().clone();
            let content = mark_changes.borrow_and_update().clone();
            let own = shared.membership.own().node_id;
            let vhosts = content.entries.keys().filter_map(|key| key.strip_prefix(PREFIX));
            let mine: HashSet<String> = vhosts
                .map(|part| core_rpc::name_of_key_part(part).into_owned())
                .filter(|vhost| owner::of(&members, owner::key(vhost)) == Some(own))
                .collect();
            moving.retain(|vhost, mover| {
                let stays = mine.contains(vhost);
                if !stays {
                    // Another gateway goes on, with what this one has in hand too.
                    mover.end.cancel();
                }
                stays && !mover.task.is_finished()
            });
            for vhost in mine {
                moving.entry(vhost.clone()).or_insert_with(|| {
                    let end = shared.stop.child_token();
                    Mover { task: movers.spawn(self.clone().move_due_of(vhost, end.clone())), end }
                });
            }
            tokio::select! {
                () = shared.stop.cancelled() => return Ok(()),
                changed = mark_changes.changed() => changed?,
                changed = member_changes.changed() => changed?,
                // One that ended is begun again.
                Some(_) = movers.join_next() => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Moves what is due in one vhost, until `end`, or where that cannot be asked for any more: then it is begun again.
    async fn move_due_of(self, vhost: String, end: CancellationToken) {
        let Ok(waiting) = self.find_waiting(&names::namespace(&vhost)).await else { return };
        let waiting = PartitionId { topic: waiting, index: 0 };
        let session = self.shared.lease_session.id();
        let holder = format!("amqp-delayed-{}", session.0);
        let group = GroupName { namespace: names::namespace(&vhost).into_owned(), group: QUEUE_GROUP.into() };
        let release = ReleaseRequest { group: group.clone(), holder: holder.clone(), partitions: Some(vec![waiting]) };
        // What a mover before this one had in hand when it was broken off.
        if self.shared.core.release(release.clone()).await.is_err() {
            return;
        }
        tokio::select! {
            () = end.cancelled() => {}
            () = self.move_all(&vhost, waiting, session, &holder, &group) => {}
        }
        // Else it would be this gateway's as long as its session lives. Where the core does not hear it, the next mover says it.
        let _ = self.shared.core.release(release).await;
    }

    /// Moves what is due in one vhost, until something goes wrong.
    async fn move_all(&self, vhost: &str, waiting: PartitionId, session: SessionId, holder: &str, group: &GroupName) {
        loop {
            let request = AcquireRequest {
                group: group.clone(),
                partitions: vec![waiting],
                holder: holder.to_owned(),
                lease: Lease::Session(session),
                mode: AcquireMode::Strict,
                credit_messages: MOVE_MESSAGES,
                credit_bytes: MOVE_BYTES,
                bytes_min: 1,
                window_messages: u64::MAX,
                acquisitions_max: None,
                start: SeekTo::At(OffsetAt::Earliest),
                isolation: Isolation::All,
                wait: ACQUIRE_WAIT,
            };
            let acquired = match self.shared.core.acquire(request).await.pop() {
                Some(Ok(acquired)) => acquired,
                Some(Err(error)) => {
                    tracing::debug!(vhost, %error, "what is due cannot be asked for");
                    self.shared.lease_session.doubt(session, error);
                    return;
                }
                None => return,
            };
            let offsets: Vec<u64> = acquired.ranges.iter().flat_map(|range| range.first..=range.last).collect();
            let mut post = Post::default();
            for message in held(&acquired, &offsets) {
                if self.release_one(&mut post, vhost, message).await.is_err() {
                    return;
                }
            }
            if offsets.is_empty() {
                continue;
            }
            let (appends, sent) = post.finish();
            // What cannot be moved now is available again when the mover's session ends, or it is asked for again.
            let settled = ranges(&offsets, Settlement::Accept);
            match self.transfer(group, holder, waiting, settled, appends).await {
                Ok(()) => sent.iter().for_each(|sent| self.arrived(sent)),
                Err(error) => {
                    tracing::warn!(vhost, %error, "what is due was not moved");
                    self.settle(group, holder, waiting, ranges(&offsets, Settlement::Release)).await;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// One message's time has come.
    async fn release_one(&self, post: &mut Post, vhost: &str, message: MessageView) -> Result<(), TopicError> {
        let mut headers = message.properties.headers();
        let is_parked = headers.remove(PARKED).is_some();
        if !is_parked {
            delay::negate(&mut headers);
        }
        let Some(properties) = message.properties.with_header_table(&headers) else { return Ok(()) };
        // It arrives now; what it lives, it lives from now on.
        let now = MessageView::arrived(now_ms(), message.exchange, message.routing_key, properties, message.body);
        let Ok(now) = now else { return Ok(()) };
        let message = MessageView { has_died: message.has_died, ..now };
        if !self.deliver(post, vhost, &message).await? && is_parked {
            self.park(post, vhost, &message).await?;
        }
        Ok(())
    }
}

/// The messages at these offsets among what was acquired.
fn held(acquired: &Acquired, offsets: &[u64]) -> Vec<MessageView> {
    let all = acquired.batches.iter().flat_map(|batch| read::messages(batch, DELAYED_TOPIC));
    all.filter(|stored| offsets.binary_search(&stored.offset).is_ok()).map(|stored| stored.message).collect()
}
