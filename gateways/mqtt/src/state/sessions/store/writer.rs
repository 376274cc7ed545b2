//! The one who writes the store's records: one append at a time, and what comes meanwhile shares the next (group commit).
//!
//! So a session's records lie in the log in the order of what they tell, and what is written is as new as can be: it is taken from
//! the session when the append begins. Shared messages that become a session's own are settled with it, those of one share at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_mqtt::{PacketId, Text};
use codec_record::Producer;
use codec_record::mqtt_message::{MessageParts, Writer as BatchWriter};
use core_rpc::{
    Append, AppendRequest, Core, Durability, GroupName, LeaseError, PartitionId, PeekRequest, SessionId, SettleRange,
    SettleRequest, TransferError, TransferRequest,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Shared;
use super::kept::{Kept, Written};
use super::keys::Key;
use crate::state::PublishError;
use crate::state::sessions::Place;
use crate::state::sessions::attempts::new_producer_id;
use crate::state::shares::claim::{Claim, is_settled, settles};

/// Bytes of one append, but for a record that is larger.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// How long to wait before trying again what must be written.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Of a lease map, how many ranges are looked at to see what of it is settled.
const RANGES_MAX: u32 = 1 << 16;

/// What was kept: where each batch begins, and which of the messages that were claimed are others' after all.
type KeptClaims = (Vec<u64>, HashSet<Place>);

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// What the log does not say of a session yet.
    Record(Arc<Kept>),
    /// Only what it has released of what it received.
    Released(Arc<Kept>),
    /// The same as a record, and these shared messages in flight, which it has taken, are its own.
    Claim(Arc<Kept>, Vec<PacketId>, Claim),
    Entry(String, Bytes),
    /// Tombstones of a session, unless it is another gateway's by now.
    End(Text, Vec<(String, Bytes)>),
}

#[derive(Debug)]
struct Ask {
    jobs: Vec<Job>,
    /// None: nobody waits for it, and it is tried until it succeeds.
    done: Option<oneshot::Sender<Result<Ends, PublishError>>>,
}

/// Where an append ended, by partition.
pub(super) type Ends = Arc<Vec<(PartitionId, u64)>>;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    asks: Mutex<VecDeque<Ask>>,
    more: Notify,
    /// Who appends what claims are kept with, and the next sequence: what was asked and not answered is asked again just so, and the
    /// core knows whether it was done.
    producers: Mutex<HashMap<PartitionId, Producer>>,
}

impl Queue {
    /// Returns when it is durable, and where.
    pub async fn write(&self, jobs: Vec<Job>) -> Result<Ends, PublishError> {
        if jobs.is_empty() {
            return Ok(Ends::default());
        }
        let (done, answer) = oneshot::channel();
        self.push(Ask { jobs, done: Some(done) });
        answer.await.unwrap_or(Err(PublishError::Unavailable))
    }

    /// Sees to it that it is written.
    pub fn post(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.push(Ask { jobs, done: None });
        }
    }

    /// Whoever waits is told that nothing is written now.
    fn refuse(&self) {
        let mut asks = self.asks.lock();
        let (waiting, posted) = std::mem::take(&mut *asks).into_iter().partition(|ask| ask.done.is_some());
        *asks = posted;
        let waiting: VecDeque<Ask> = waiting;
        waiting.into_iter().filter_map(|ask| ask.done).for_each(|done| drop(done.send(Err(PublishError::Unavailable))));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.asks.lock().is_empty()
    }

    /// The batches with their producers. Nothing else of these may be under way.
    fn number(&self, appends: Vec<Append>) -> Vec<Append> {
        let mut producers = self.producers.lock();
        let numbered = appends.into_iter().map(|Append { partition, mut batch }| {
            let new = || Producer { id: new_producer_id(), epoch: 0, sequence: 0 };
            let producer = producers.entry(partition).or_insert_with(new);
            if producer.sequence.checked_add_unsigned(batch.header.count).is_none() {
                *producer = new();
            }
            batch.header.producer = Some(*producer);
            Append { partition, batch }
        });
        numbered.collect()
    }

    /// They were kept, or (false) nobody knows.
    fn numbered(&self, appends: &[Append], are_kept: bool) {
        let mut producers = self.producers.lock();
        for Append { partition, batch } in appends {
            let next = producers.get(partition).and_then(|last| {
                let sequence = last.sequence.checked_add_unsigned(batch.header.count)?;
                Some(Producer { sequence, ..*last }).filter(|_| are_kept)
            });
            match next {
                Some(next) => drop(producers.insert(*partition, next)),
                None => drop(producers.remove(partition)),
            }
        }
    }

    fn push(&self, ask: Ask) {
        self.asks.lock().push_back(ask);
        self.more.notify_one();
    }
}

/// What one append has.
#[derive(Default)]
struct Group {
    batches: HashMap<PartitionId, BatchWriter>,
    bytes: usize,
    sessions: Vec<(Arc<Kept>, Written)>,
    claims: Vec<(Arc<Kept>, Vec<PacketId>, Claim)>,
    asks: Vec<Ask>,
}

impl Group {
    /// Whether an ask claims nothing of another share.
    fn takes(&self, ask: &Ask) -> bool {
        let claims = ask.jobs.iter().filter_map(|job| if let Job::Claim(.., claim) = job { Some(claim) } else { None });
        claims.zip(self.claims.first()).all(|(claim, (.., first))| claim.is_with(first))
    }
}

impl Shared {
    /// Writes until the gateway stops.
    pub(super) async fn write_all(self: Arc<Self>) {
        loop {
            let Some(registered) = self.certain_in() else {
                // What it would write may be another's, who would then lose it to what is older.
                self.queue.refuse();
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.certain() => {}
                    () = self.queue.more.notified() => {}
                }
                continue;
            };
            let group = self.gather();
            if group.asks.is_empty() && group.batches.is_empty() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.queue.more.notified() => {}
                }
                continue;
            }
            if let Err(again) = self.append(group, registered).await {
                // In front of what came later: a key's records stay in order.
                {
                    let mut asks = self.queue.asks.lock();
                    again.into_iter().rev().for_each(|ask| asks.push_front(ask));
                }
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            }
        }
    }

    fn gather(&self) -> Group {
        let mut group = Group::default();
        // Those that a session's record was written for. It tells what changed before it was asked for, so only what was asked
        // before this began can share it: what comes meanwhile tells of changes that may have missed it.
        let mut seen: HashSet<*const Kept> = HashSet::new();
        let mut left = self.queue.asks.lock().len();
        while left > 0 && group.bytes < APPEND_BYTES_MAX {
            left -= 1;
            let ask = {
                let mut asks = self.queue.asks.lock();
                asks.front().is_some_and(|ask| group.takes(ask)).then(|| asks.pop_front()).flatten()
            };
            let Some(ask) = ask else { break };
            let mut refused = None;
            for job in &ask.jobs {
                match job {
                    Job::Entry(key, payload) => self.put(&mut group, key, payload),
                    Job::End(client_id, entries) => {
                        let claim = Key::Claim(self.own, client_id).to_string();
                        let is_others = self.is_others(client_id);
                        let own = entries.iter().filter(|(key, _)| !is_others || *key == claim);
                        own.for_each(|(key, payload)| self.put(&mut group, key, payload));
                    }
                    Job::Released(kept) => {
                        if !seen.contains(&Arc::as_ptr(kept)) {
                            let written = kept.write_released();
                            self.put_session(&mut group, kept, written);
                        }
                    }
                    Job::Record(kept) => {
                        if seen.insert(Arc::as_ptr(kept)) {
                            refused = self.put_record(&mut group, kept).err();
                        }
                    }
                    Job::Claim(kept, packet_ids, claim) => {
                        // Also if it is here already: this changes what is to be told.
                        seen.insert(Arc::as_ptr(kept));
                        if kept.session.own(packet_ids) {
                            group.claims.push((kept.clone(), packet_ids.clone(), claim.clone()));
                            refused = self.put_record(&mut group, kept).err();
                        } else {
                            self.shares.release(&kept.session.disown(packet_ids));
                            refused = Some(PublishError::NotHeld);
                        }
                    }
                }
            }
            match (ask.done, refused) {
                (Some(done), Some(error)) => drop(done.send(Err(error))),
                (done, _) => group.asks.push(Ask { done, ..ask }),
            }
        }
        group
    }

    fn put_record(&self, group: &mut Group, kept: &Arc<Kept>) -> Result<(), PublishError> {
        let written = kept.write(self.own, &self.router).map_err(|error| {
            tracing::error!(client = %kept.session.client_id, %error, "it cannot be written");
            PublishError::TooLarge
        })?;
        self.put_session(group, kept, written);
        Ok(())
    }

    fn put_session(&self, group: &mut Group, kept: &Arc<Kept>, written: Written) {
        for (key, payload) in &written.entries {
            self.put(group, key, payload);
        }
        group.sessions.push((kept.clone(), written));
    }

    fn put(&self, group: &mut Group, key: &str, payload: &Bytes) {
        let Some(partition) = Key::parse(key.as_bytes()).map(|key| self.partition(&key)) else { return };
        let parts = MessageParts { topic: key.as_bytes(), payload, ..MessageParts::default() };
        group.bytes += parts.stored_bytes();
        group.batches.entry(partition).or_default().append(&parts);
    }

    /// Err: what must be tried again.
    async fn append(&self, mut group: Group, registered: Option<SessionId>) -> Result<(), Vec<Ask>> {
        let batches = std::mem::take(&mut group.batches).into_iter().filter_map(|(partition, mut writer)| {
            let count = u64::from(writer.count());
            Some((partition, count, writer.take(-1)?))
        });
        let (mut places, mut appends) = (Vec::new(), Vec::new());
        for (partition, count, batch) in batches {
            places.push((partition, count));
            appends.push(Append { partition, batch });
        }
        let mut others = HashSet::new();
        let result: Result<Vec<(PartitionId, u64)>, PublishError> =
            match self.keep(appends, &group.claims, registered).await {
                Ok((bases, lost)) => {
                    others = lost;
                    Ok(places.into_iter().zip(bases).map(|((place, count), base)| (place, base + count)).collect())
                }
                Err(error) => {
                    group.sessions.iter().for_each(|(kept, _)| kept.note_lost());
                    if error == PublishError::NotHeld {
                        return self.refuse_claims(group);
                    }
                    if matches!(error, PublishError::DiskFull | PublishError::TakenForDead) {
                        self.disown_claims(&group.claims, |_| true);
                    }
                    Err(error)
                }
            };
        let result = result.map(Arc::new);
        if result.is_ok() {
            group.sessions.iter().for_each(|(kept, written)| kept.note(written));
            group.claims.iter().for_each(|(.., claim)| claim.kept(&others));
        }
        if !others.is_empty() {
            self.disown_claims(&group.claims, |place| others.contains(&place));
        }
        let is_lost =
            |job: &Job| matches!(job, Job::Claim(.., claim) if claim.places().any(|place| others.contains(&place)));
        let mut again = Vec::new();
        for ask in group.asks {
            match (ask.done, &result) {
                (Some(done), Ok(_)) if ask.jobs.iter().any(is_lost) => drop(done.send(Err(PublishError::NotHeld))),
                // Whoever does not wait any more does not need it.
                (Some(done), result) => drop(done.send(result.clone())),
                (None, Ok(_)) => {}
                (None, Err(error)) => {
                    tracing::warn!(%error, "records of sessions are not kept yet");
                    again.push(Ask { jobs: ask.jobs, done: None });
                }
            }
        }
        if again.is_empty() { Ok(()) } else { Err(again) }
    }

    /// [`PublishError::NotHeld`]: some claim is void, and nothing was kept.
    ///
    /// Claims are tried until it is known what became of them: a session that takes for its own what others may get, or gives up what
    /// was settled for it, is what claims are there against. Whoever waits behind them would not get anywhere either.
    async fn keep(
        &self,
        appends: Vec<Append>,
        claims: &[(Arc<Kept>, Vec<PacketId>, Claim)],
        registered: Option<SessionId>,
    ) -> Result<KeptClaims, PublishError> {
        if claims.is_empty() {
            return Ok((self.append_all(appends, registered).await?, HashSet::new()));
        }
        let mut appends = self.queue.number(appends);
        let kept = loop {
            match self.keep_claims(appends.clone(), claims, registered).await {
                // A disk that was not synced: the core has lost what they had appended.
                Err(PublishError::ProducerLost) => {
                    self.queue.numbered(&appends, false);
                    appends = self.queue.number(appends);
                }
                Err(PublishError::Unavailable) => {
                    tracing::warn!("it is not known yet what became of shared messages that were about to be sent");
                    tokio::select! {
                        () = self.stop.cancelled() => break Err(PublishError::Unavailable),
                        () = tokio::time::sleep(RETRY_AFTER) => {}
                    }
                }
                kept => break kept,
            }
        };
        match &kept {
            Ok(_) => self.queue.numbered(&appends, true),
            Err(PublishError::NotHeld | PublishError::DiskFull | PublishError::TakenForDead) => {}
            Err(_) => self.queue.numbered(&appends, false),
        }
        kept
    }

    /// [`PublishError::Unavailable`]: to be tried again with the same.
    async fn keep_claims(
        &self,
        appends: Vec<Append>,
        claims: &[(Arc<Kept>, Vec<PacketId>, Claim)],
        registered: Option<SessionId>,
    ) -> Result<KeptClaims, PublishError> {
        let Some((.., first)) = claims.first() else { return Ok(KeptClaims::default()) };
        let settles = settles(claims.iter().map(|(.., claim)| claim));
        let (group, holder) = (first.group().clone(), first.holder.clone());
        if !appends.is_empty() {
            let (group, holder, settles) = (group.clone(), holder.clone(), settles.clone());
            let request = TransferRequest { group, holder, session: registered, settles, appends: appends.clone() };
            match self.core.transfer(request).await {
                Ok(appended) => {
                    return Ok((appended.iter().map(|appended| appended.base_offset).collect(), HashSet::new()));
                }
                // A topic that other protocols' clients have made.
                Err(TransferError::NotTogether | TransferError::Invalid) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bases = if appends.is_empty() { Vec::new() } else { self.append_all(appends, registered).await? };
        Ok((bases, self.settle_apart(group, holder, settles).await?))
    }

    /// Settles what sessions have for their own by records that are kept already. Returns what is others' after all.
    ///
    /// Whether it was done when the core was away is to be seen by the maps: nobody else settles all of such a range, unless whoever
    /// was handed its messages when the core was back was done with them before this is asked.
    async fn settle_apart(
        &self,
        group: GroupName,
        holder: String,
        mut open: Vec<(PartitionId, Vec<SettleRange>)>,
    ) -> Result<HashSet<Place>, PublishError> {
        // As safe as the messages themselves.
        let durable = self.topics.durability() == Durability::Fsync;
        let mut others = HashSet::new();
        let mut is_doubted = false;
        loop {
            let (group, holder) = (group.clone(), holder.clone());
            let request = SettleRequest { group: group.clone(), holder, partitions: open.clone(), durable };
            let answers = self.core.settle(request).await;
            let (mut again, mut doubted) = (Vec::new(), Vec::new());
            for ((partition, ranges), answers) in open.into_iter().zip(answers) {
                let (mut unanswered, mut unheld) = (Vec::new(), Vec::new());
                for (range, answer) in ranges.into_iter().zip(answers) {
                    match answer {
                        Ok(()) => {}
                        Err(LeaseError::Unavailable) => unanswered.push(range),
                        Err(LeaseError::StorageFailed | LeaseError::Corrupt) => {
                            return Err(PublishError::StorageFailed);
                        }
                        Err(LeaseError::NotHeld | LeaseError::Passed) if is_doubted => unheld.push(range),
                        Err(_) => others.extend(places_of(partition, &range)),
                    }
                }
                again.extend((!unanswered.is_empty()).then_some((partition, unanswered)));
                doubted.extend((!unheld.is_empty()).then_some((partition, unheld)));
            }
            if !doubted.is_empty() {
                others.extend(self.not_settled(group, &doubted).await);
            }
            if again.is_empty() {
                return Ok(others);
            }
            tracing::warn!(
                "it is not known yet whether shared messages that were about to be sent are their members' own"
            );
            tokio::select! {
                // The log says that they are.
                () = self.stop.cancelled() => return Ok(others),
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
            (open, is_doubted) = (again, true);
        }
    }

    /// What lies in ranges of which not all is settled.
    async fn not_settled(&self, group: GroupName, ranges: &[(PartitionId, Vec<SettleRange>)]) -> Vec<Place> {
        let partitions = ranges.iter().map(|(partition, _)| *partition).collect();
        let request = PeekRequest { group, partitions: Some(partitions), ranges_max: RANGES_MAX };
        let views = loop {
            match self.core.peek(request.clone()).await {
                Ok(views) => break views,
                Err(error) => tracing::debug!(%error, "cannot look at what is settled"),
            }
            tokio::select! {
                () = self.stop.cancelled() => break Vec::new(),
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        };
        let mut places = Vec::new();
        for ((partition, ranges), (_, view)) in ranges.iter().zip(views) {
            // Of a share that is gone nobody else gets anything.
            let Some(view) = view else { continue };
            let open = ranges.iter().filter(|range| !is_settled(&view, range));
            places.extend(open.flat_map(|range| places_of(*partition, range)));
        }
        places
    }

    async fn append_all(&self, appends: Vec<Append>, registered: Option<SessionId>) -> Result<Vec<u64>, PublishError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        if registered.is_some() {
            let group = GroupName { namespace: self.topics.namespace().to_owned(), group: "mqtt".into() };
            let (holder, settles) = ("mqtt".to_owned(), Vec::new());
            let request = TransferRequest { group, holder, session: registered, settles, appends: appends.clone() };
            match self.core.transfer(request).await {
                Ok(appended) => return Ok(appended.iter().map(|appended| appended.base_offset).collect()),
                // More than the core keeps at once.
                Err(TransferError::Invalid) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let answers = self.core.append(AppendRequest { appends }).await;
        answers.into_iter().map(|answer| Ok(answer?.base_offset)).collect()
    }

    /// Somebody else has a message that a session was to have for itself. Which, nobody says: all claims are given up (others get the
    /// messages, perhaps the same sessions), and everything else is written again.
    fn refuse_claims(&self, group: Group) -> Result<(), Vec<Ask>> {
        self.disown_claims(&group.claims, |_| true);
        let mut again = Vec::new();
        for ask in group.asks {
            match ask.done {
                Some(done) if ask.jobs.iter().any(|job| matches!(job, Job::Claim(..))) => {
                    drop(done.send(Err(PublishError::NotHeld)));
                }
                done => again.push(Ask { done, ..ask }),
            }
        }
        if again.is_empty() { Ok(()) } else { Err(again) }
    }

    /// Of these nothing was settled that lies there: it is others'.
    fn disown_claims(&self, claims: &[(Arc<Kept>, Vec<PacketId>, Claim)], is_lost: impl Fn(Place) -> bool) {
        for (kept, packet_ids, claim) in claims {
            let lost = packet_ids.iter().zip(claim.places()).filter(|(_, place)| is_lost(*place));
            let lost: Vec<PacketId> = lost.map(|(packet_id, _)| *packet_id).collect();
            self.shares.release(&kept.session.disown(&lost));
        }
    }
}

fn places_of(partition: PartitionId, range: &SettleRange) -> impl Iterator<Item = Place> {
    (range.first..=range.last).map(move |offset| Place { partition, offset })
}
