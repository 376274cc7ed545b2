//! What gateways say to each other: direct replies that are published at another gateway than their requester's, and questions
//! (`asking`).
//!
//! ```text
//!  a reply at gateway 2 to an address of gateway 1 ─► append to gateway 1's inbox ─► gateway 1 reads it, and delivers
//! ```
//! An address says which gateway gave it. Where there are several, each has an inbox: a topic kept in memory, called by the gateway's
//! number and incarnation, in a namespace that is no vhost's. What was read is trimmed. Whether the requester is still
//! there only its own gateway knows: a reply for one that has gone ends in the inbox, as one does in RabbitMQ that crosses its
//! requester's end. Inboxes of gateways that are gone are deleted by those that live.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_amqp::{PropertyList, ShortStr};
use codec_record::amqp_message::{MessageView, batch_of};
use codec_record::translate::amqp_messages;
use core_rpc::{
    Append, AppendRequest, Core, Durability, FetchError, FetchPartition, FetchRequest, Isolation, MetaEntry,
    PartitionId, Topic, TopicCreate, TopicError, TopicSettings, TrimRequest,
};
use gateway_runtime::membership::Member;
use gateway_runtime::{Membership, Mirror};
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;

use super::asking::{Asking, Question};
use super::reply::Replies;
use crate::now_ms;
use crate::state::topology::records::QueueRecord;
use crate::state::topology::{Effective, Queue};

/// A `%` and what is neither `default` nor another `%`: no vhost is called so (`translate::names`).
const NAMESPACE: &str = "%replies";

/// How long one fetch waits; it is made again at once.
const READ_WAIT: Duration = Duration::from_secs(30);
const READ_BYTES_MAX: u32 = 1 << 20;
/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long to wait for the inbox of a gateway that has asked something: its making may not have been seen yet.
const ASKER_SEEN_WITHIN: Duration = Duration::from_secs(1);
/// An inbox that is younger may be one of a gateway that is not seen yet, ms.
const YOUNG_MS: i64 = 60_000;

/// The inboxes of all gateways. Cheap to clone; every clone is the same.
pub struct ReplyInboxes<C> {
    core: C,
    membership: Membership,
    replies: Arc<Replies>,
    /// By the topics' keys, each as a queue to which one publishes.
    inboxes: Mirror<Arc<Queue>>,
    own: Arc<OnceCell<()>>,
    asking: Arc<Asking>,
    stop: CancellationToken,
}

impl<C: Clone> Clone for ReplyInboxes<C> {
    fn clone(&self) -> Self {
        ReplyInboxes {
            core: self.core.clone(),
            membership: self.membership.clone(),
            replies: self.replies.clone(),
            inboxes: self.inboxes.clone(),
            own: self.own.clone(),
            asking: self.asking.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<C: Core> ReplyInboxes<C> {
    /// Begins to look where others have theirs. Waits until the core answers. Returns also where their questions come, to be
    /// answered ([`ReplyInboxes::answer`]).
    pub async fn start(
        core: C,
        membership: Membership,
        replies: Arc<Replies>,
        stop: CancellationToken,
    ) -> anyhow::Result<(ReplyInboxes<C>, mpsc::Receiver<Question>)> {
        let inboxes = Mirror::start(core.clone(), Topic::key_prefix(NAMESPACE), inbox, stop.clone()).await?;
        let own = Arc::new(OnceCell::new());
        let (asking, questions) = Asking::new();
        let all = ReplyInboxes { core, membership, replies, inboxes, own, asking: Arc::new(asking), stop };
        tokio::spawn(all.clone().follow());
        Ok((all, questions))
    }

    /// Asks all other gateways that live, and returns what those say that answer within `wait`.
    pub async fn ask(&self, question: &Bytes, wait: Duration) -> Vec<Bytes> {
        let own = self.membership.own().node_id;
        let live = self.membership.live();
        let inboxes = self.inboxes.content();
        let others = live.iter().filter(|member| member.node_id != own);
        let others: Vec<_> =
            others.filter_map(|member| inboxes.entries.get(&Topic::key(NAMESPACE, &name(member))).cloned()).collect();
        if others.is_empty() {
            return Vec::new();
        }
        self.open().await;
        let expected = self.asking.expect(own);
        let to_each = others.iter().map(|inbox| (inbox, expected.key.as_str(), question));
        let asked = self.post(to_each).await;
        expected.answers(asked, wait).await
    }

    /// Answers another gateway. What it does not get it does not wait for long.
    pub async fn answer(&self, question: &Question, answer: &Bytes) {
        let live = self.membership.live();
        let Some(asker) = live.iter().find(|member| member.node_id == question.from) else { return };
        let key = Topic::key(NAMESPACE, &name(asker));
        let mut inboxes = self.inboxes.changes();
        let seen = inboxes.wait_for(|content| content.entries.contains_key(&key));
        let Ok(Ok(content)) =
            tokio::time::timeout(ASKER_SEEN_WITHIN, seen).await.map(|seen| seen.map(|seen| seen.clone()))
        else {
            return;
        };
        let Some(inbox) = content.entries.get(&key) else { return };
        for (key, part) in question.answer(self.membership.own().node_id, answer) {
            self.post([(inbox, key.as_str(), &part)].into_iter()).await;
        }
    }

    /// Puts messages into inboxes. Returns how many are there.
    async fn post<'m>(&self, messages: impl Iterator<Item = (&'m Arc<Queue>, &'m str, &'m Bytes)>) -> usize {
        let append = |(inbox, key, body): (&Arc<Queue>, &str, &Bytes)| {
            let (exchange, key) = (ShortStr::default(), ShortStr::truncated(key));
            let properties = PropertyList::default().encode();
            let message = MessageView::arrived(now_ms(), exchange, key, properties, body.clone()).ok()?;
            Some(Append { partition: inbox.partition_of_priority(0), batch: batch_of(&message) })
        };
        let appends: Vec<Append> = messages.filter_map(append).collect();
        self.core.append(AppendRequest { appends }).await.iter().filter(|answer| answer.is_ok()).count()
    }

    /// The inbox of the living gateway that gave this address; None: there is none, or it is this one.
    pub fn of(&self, address: &str) -> Option<Arc<Queue>> {
        let node_id = Replies::gateway_of(address).filter(|node_id| *node_id != self.membership.own().node_id)?;
        let live = self.membership.live();
        let member = live.iter().find(|member| member.node_id == node_id)?;
        self.inboxes.content().entries.get(&Topic::key(NAMESPACE, &name(member))).cloned()
    }

    /// Makes this gateway's own inbox, if others live, and reads it from now on. Once; a core that cannot do it is asked again with
    /// the next requester.
    pub async fn open(&self) {
        if self.membership.live().len() < 2 {
            return;
        }
        let opened = self.own.get_or_try_init(|| async {
            let partition = self.create().await?;
            tokio::spawn(self.clone().read(partition));
            Ok::<(), TopicError>(())
        });
        if let Err(error) = opened.await {
            tracing::warn!(%error, "direct replies from other gateways do not arrive here");
        }
    }

    async fn create(&self) -> Result<PartitionId, TopicError> {
        let name = name(self.membership.own());
        let create = TopicCreate {
            namespace: NAMESPACE.into(),
            name: name.clone(),
            partitions: 1,
            settings: TopicSettings { durability: Durability::Memory, ..Default::default() },
            labels: Default::default(),
        };
        let topic = match self.core.topic_create(create).await {
            Ok(topic) => topic.id,
            // A call that was repeated.
            Err(TopicError::Exists) => {
                let entry = self.core.meta_get(Topic::key(NAMESPACE, &name)).await;
                let topic = entry.ok().flatten().and_then(|entry| Topic::from_entry(&entry));
                topic.ok_or(TopicError::Unavailable)?.id
            }
            Err(error) => return Err(error),
        };
        Ok(PartitionId { topic, index: 0 })
    }

    async fn read(self, mut partition: PartitionId) {
        let mut offset = 0;
        loop {
            let request = FetchRequest {
                partitions: vec![FetchPartition { partition, offset, bytes_max: READ_BYTES_MAX }],
                bytes_min: 1,
                bytes_max: READ_BYTES_MAX,
                wait: READ_WAIT,
                isolation: Isolation::Committed,
            };
            let fetched = tokio::select! {
                () = self.stop.cancelled() => return,
                mut answer = self.core.fetch(request) => answer.pop(),
            };
            match fetched {
                Some(Ok(fetched)) => {
                    let Some(last) = fetched.batches.last() else { continue };
                    let end = last.header.next_offset();
                    for batch in &fetched.batches {
                        let messages = amqp_messages(batch, &ShortStr::default()).into_iter().flatten();
                        for message in messages.map_while(Result::ok) {
                            if self.asking.take(&message.routing_key, &message.body) {
                                continue;
                            }
                            let properties = message.properties.raw().clone();
                            // False: the requester has gone, or does not read.
                            self.replies.reply(&message.routing_key, message.exchange, properties, message.body);
                        }
                    }
                    offset = end;
                    // What could not be trimmed now is with the next.
                    let _ = self.core.trim(TrimRequest { trims: vec![(partition, Some(offset))] }).await;
                }
                Some(Err(FetchError::OutOfRange(bounds))) => {
                    offset = offset.clamp(bounds.start_offset, bounds.end_offset.max(bounds.start_offset));
                }
                // Others took this gateway for gone.
                Some(Err(FetchError::UnknownPartition)) => match self.create().await {
                    Ok(made) => (partition, offset) = (made, 0),
                    Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                },
                Some(Err(_)) | None => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Whenever others come or go: opens this gateway's inbox, and deletes those of gateways that are gone. The living one with the
    /// lowest number does that.
    async fn follow(self) {
        let mut members = self.membership.changes();
        loop {
            let live = members.borrow_and_update().clone();
            // Before the first requester comes: the others are to know of it when answers come to them.
            self.open().await;
            let is_first = live.first().is_some_and(|first| first.node_id == self.membership.own().node_id);
            if is_first {
                let names: HashSet<String> = live.iter().map(name).collect();
                for queue in self.inboxes.content().entries.values() {
                    if names.contains(queue.name()) || now_ms() - queue.created_ms < YOUNG_MS {
                        continue;
                    }
                    if let Err(error) = self.core.topic_delete(NAMESPACE.into(), queue.name().into()).await {
                        tracing::debug!(%error, "the inbox of a gateway that is gone was not deleted");
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = members.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn name(member: &Member) -> String {
    format!("{}-{:032x}", member.node_id, u128::from_be_bytes(member.incarnation))
}

fn inbox(entry: &MetaEntry) -> Option<Arc<Queue>> {
    let topic = Topic::from_entry(entry)?;
    Some(Arc::new(Queue::new("".into(), &topic, QueueRecord::adopted(), Effective::default())))
}
