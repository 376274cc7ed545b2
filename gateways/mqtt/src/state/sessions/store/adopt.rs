//! Sessions that nobody looks after: their keeper has died, or was this gateway in a former life.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::Text;
use core_rpc::{Core, FetchError, OffsetAt, OffsetsRequest, PartitionId};

use super::close::End;
use super::image::{Standing, Why};
use super::kept::{Kept, State};
use super::keys::Key;
use super::turns::Turn;
use super::writer::Job;
use super::{Shared, owner};
use crate::state::sessions::record::Record;

/// Where partitions end.
pub(super) type Ends = HashMap<PartitionId, u64>;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Claims of one ask.
const CHUNK: usize = 1000;

impl Shared {
    /// Takes on what the members have left that are no more, whenever that changes.
    pub(super) async fn follow_members(self: Arc<Self>) {
        let mut members = self.membership.changes();
        let mut were_alone = true;
        loop {
            let is_alone = self.live().len() == 1;
            if were_alone && !is_alone {
                self.announce_all();
            }
            were_alone = is_alone;
            self.adopt_orphans().await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = members.changed() => if changed.is_err() { return },
                // What was given up for somebody who then died, or did not wait.
                () = tokio::time::sleep(self.settings.session_timeout / 2) => {}
            }
        }
    }

    /// Makes known to gateways that are new who is connected here: as long as there was none, nobody had to know.
    fn announce_all(&self) {
        let is_unknown = |kept: &Kept| {
            let state = kept.state.lock();
            state.connection.is_some() && !state.is_persistent() && !state.is_claimed
        };
        let unknown: Vec<Arc<Kept>> =
            self.kept.iter().filter(|kept| is_unknown(kept)).map(|kept| kept.value().clone()).collect();
        unknown.chunks(CHUNK).for_each(|chunk| self.announce(chunk.to_vec()));
    }

    pub(super) fn announce(&self, sessions: Vec<Arc<Kept>>) {
        for kept in sessions {
            let mut state = kept.state.lock();
            if !state.is_over && !state.is_claimed {
                state.is_claimed = true;
                // While it is locked: what ends it comes behind.
                let key = Key::Claim(self.own, &kept.session.client_id).to_string();
                self.queue.post(vec![Job::Entry(key, Why::Announce.encode())]);
            }
        }
    }

    /// Takes on what is nobody's, as far as it is this gateway's to take.
    pub(super) async fn adopt_orphans(self: &Arc<Self>) {
        if !self.is_certain() {
            return;
        }
        let lives = self.lives();
        let live = self.live();
        let orphans = self.image.lock().orphans(&lives);
        let mine = orphans.into_iter().filter(|client_id| owner::of(live.iter().copied(), client_id) == Some(self.own));
        // Who connects just now takes it himself.
        let turns: Vec<(Text, Turn)> =
            mine.filter_map(|client_id| Some((client_id.clone(), self.turns.try_take(&client_id)?))).collect();
        let turns: Vec<_> = turns.into_iter().filter(|(client_id, _)| !self.kept.contains_key(client_id)).collect();
        if turns.is_empty() {
            return;
        }
        let claims: Vec<Job> = turns
            .iter()
            .map(|(client_id, _)| Job::Entry(Key::Claim(self.own, client_id).to_string(), Why::Adopt.encode()))
            .collect();
        match self.queue.write(claims).await {
            Ok(ends) => self.passed(&ends).await,
            Err(error) => {
                tracing::warn!(%error, "sessions that nobody looks after are not adopted yet");
                // They may be in the log.
                turns.iter().for_each(|(client_id, _)| self.unclaim(client_id));
                return;
            }
        }
        let mut records = Vec::new();
        // Not who lives now: who died meanwhile may have written what is not read yet.
        for (client_id, _) in &turns {
            let known = {
                let image = self.image.lock();
                let is_own = image.standing(client_id, &lives) == Standing::Own;
                image.record(client_id).filter(|_| is_own).cloned()
            };
            let Some(known) = known else {
                self.unclaim(client_id);
                continue;
            };
            match known.record() {
                Ok(record) => records.push((client_id, record, known.has_delta())),
                Err(error) => {
                    tracing::error!(client = %client_id, %error, "a session is lost");
                    self.unclaim(client_id);
                }
            }
        }
        let ends = self.ends_of(records.iter().map(|(_, record, _)| record)).await;
        let mut adopted = Vec::with_capacity(records.len());
        for (client_id, record, has_delta) in records {
            let (kept, missed) = self.restore(client_id, record, &ends);
            {
                let mut state = kept.state.lock();
                (state.is_claimed, state.has_delta) = (true, has_delta);
            }
            adopted.push((kept, missed));
        }
        let now_ms = crate::now_ms();
        let is_over = |kept: &Arc<Kept>| kept.state.lock().expires_ms().is_some_and(|expires_ms| expires_ms <= now_ms);
        let (over, adopted): (Vec<_>, Vec<_>) = adopted.into_iter().partition(|(kept, _)| is_over(kept));
        tracing::info!(sessions = adopted.len(), expired = over.len(), "sessions were adopted");
        for (kept, _) in over {
            self.end(&kept, End::Over).await;
        }
        let routed = adopted.iter().map(|(kept, missed)| (kept.session.clone(), missed.clone())).collect();
        self.router.adopt(routed).await;
        for (kept, _) in adopted {
            self.shares.adopt(&kept.session);
            self.kept.insert(kept.session.client_id.clone(), kept.clone());
            // A will may be due already.
            self.schedule(&kept);
        }
    }

    /// Where partitions end that records name.
    pub(super) async fn ends_of<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Ends {
        let (mut named, mut keepers) = (HashSet::new(), HashSet::new());
        for record in records {
            named.extend(record.snapshot.routed.iter().map(|(partition, _)| *partition));
            keepers.extend(record.head.keeper);
        }
        for keeper in keepers {
            named.extend(self.image.lock().positions(keeper).iter().map(|(partition, _)| *partition));
        }
        let mut partitions: Vec<PartitionId> = named.into_iter().collect();
        let mut ends = Ends::new();
        while !partitions.is_empty() {
            let queries = partitions.iter().map(|partition| (*partition, OffsetAt::Latest)).collect();
            let found = self.core.offsets(OffsetsRequest { queries }).await;
            let mut again = Vec::new();
            for (partition, found) in partitions.into_iter().zip(found) {
                match found {
                    Ok(found) => drop(ends.insert(partition, found.offset.unwrap_or(u64::MAX))),
                    Err(FetchError::Unavailable) => again.push(partition),
                    // Its topic is gone, or cannot be read anyway.
                    Err(_) => {}
                }
            }
            partitions = again;
            if !partitions.is_empty() {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        ends
    }

    /// A session as its record says, without a connection, and from where on it has missed what was published.
    pub(super) fn restore(
        &self,
        client_id: &Text,
        record: Record,
        ends: &Ends,
    ) -> (Arc<Kept>, Vec<(PartitionId, u64)>) {
        let Record { head, will, mut snapshot } = record;
        let epoch = head.epoch.wrapping_add(1);
        let filters = snapshot.subscriptions.iter().map(|(filter, _)| filter.as_str());
        let topics = self.router.topics_matching(filters);
        let received = {
            let image = self.image.lock();
            let mut routed: BTreeMap<PartitionId, u64> = snapshot.routed.drain(..).collect();
            if let Some(keeper) = head.keeper.filter(|_| !head.is_catching_up) {
                for &(partition, offset) in image.positions(keeper) {
                    if topics.contains(&partition.topic) {
                        let at = routed.entry(partition).or_default();
                        *at = offset.max(*at);
                    }
                }
            }
            // A log that is not synced may end before what was routed once the machine has failed: what comes there is new.
            let clamped = |(partition, offset): (PartitionId, u64)| {
                (partition, ends.get(&partition).map_or(offset, |end| offset.min(*end)))
            };
            snapshot.routed = routed.into_iter().map(clamped).collect();
            image.received(client_id, head.life)
        };
        snapshot.received = received.iter().filter(|(_, attempt)| attempt.is_none()).map(|(id, _)| *id).collect();
        let missed = snapshot.routed.clone();
        let (session, _) = self.new_session(client_id.clone());
        let session = Arc::new(session.restore(snapshot, topics));
        for (packet_id, attempt) in &received {
            attempt.iter().for_each(|attempt| session.doubt(*packet_id, *attempt));
        }
        let mut state = State::new(head.version(), epoch);
        state.expiry_s = head.expiry_s;
        // Its connection ended with its keeper.
        state.disconnected_ms = if head.disconnected_ms > 0 { head.disconnected_ms } else { crate::now_ms() };
        state.will = will;
        state.is_in_log = true;
        state.told = received.into_iter().map(|(packet_id, _)| packet_id).collect();
        (Kept::new(session, head.life, state), missed)
    }

    /// Whether a session's time is over.
    pub(super) fn is_expired(&self, record: &Record) -> bool {
        let head = &record.head;
        let ended_ms = if head.disconnected_ms > 0 { head.disconnected_ms } else { crate::now_ms() };
        head.expiry_s != u32::MAX && ended_ms.saturating_add(i64::from(head.expiry_s) * 1000) <= crate::now_ms()
    }
}
