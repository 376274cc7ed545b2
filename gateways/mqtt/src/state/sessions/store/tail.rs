//! Reads what all gateways write about sessions, into the image, and acts on what concerns this one.

use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::Text;
use codec_record::Batch;
use codec_record::mqtt_message::messages;
use core_rpc::{Core, FetchError, FetchPartition, FetchRequest, Isolation, OffsetAt, OffsetsRequest, PartitionId};

use super::Shared;
use super::image::Seen;
use super::keys::Key;
use crate::state::sessions::record::Incarnation;
use crate::state::topics::{Own, partitions_of};

/// How long one fetch stands; it is renewed at once.
const WAIT: Duration = Duration::from_secs(30);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Read at once.
const FETCH_BYTES_MAX: u32 = 4 << 20;

/// So many records apart it is told how far the reading has come.
const PROGRESS_RECORDS: u64 = 250_000;

impl Shared {
    /// Reads up to where the topic ends now.
    pub(super) async fn read_all(&self) {
        let ends = loop {
            match self.ends().await {
                Some(ends) => break ends,
                None => tokio::time::sleep(RETRY_AFTER).await,
            }
        };
        let (mut records, mut told) = (0, 0);
        loop {
            let is_there = ends.iter().all(|(partition, end)| self.image.lock().passed(partition.index) >= *end);
            if is_there {
                break;
            }
            let (read, _) = self.read(Duration::ZERO, true).await;
            records += read;
            if records - told >= PROGRESS_RECORDS {
                told = records;
                tracing::info!(records, "reading the sessions");
            }
        }
        tracing::debug!(records, "the sessions are read");
    }

    /// Goes on until the gateway stops.
    pub(super) async fn follow_tail(self: Arc<Self>) {
        loop {
            let seen = tokio::select! {
                () = self.stop.cancelled() => return,
                (_, seen) = self.read(WAIT, false) => seen,
            };
            self.seen.send_replace(());
            for seen in seen {
                match seen {
                    Seen::Claimed(client_id) => {
                        if self.kept.contains_key(&client_id) || self.image.lock().is_claimed(&client_id) {
                            tokio::spawn(self.clone().give_up(client_id));
                        }
                    }
                    Seen::Taken(client_id) => self.lose(&client_id),
                    Seen::Outdated(client_id) => self.renew(&client_id),
                    Seen::Nothing => {}
                }
            }
        }
    }

    /// One fetch: how many records came, and what they mean.
    async fn read(&self, wait: Duration, is_start: bool) -> (u64, Vec<Seen>) {
        let topic = self.topics.own(Own::Sessions);
        let partitions: Vec<FetchPartition> = {
            let image = self.image.lock();
            let of = |index| FetchPartition {
                partition: PartitionId { topic: topic.id, index },
                offset: image.passed(index),
                bytes_max: FETCH_BYTES_MAX,
            };
            (0..topic.partitions).map(of).collect()
        };
        let asked = partitions.clone();
        let bytes_min = u32::from(!wait.is_zero());
        let request =
            FetchRequest { partitions, bytes_min, bytes_max: FETCH_BYTES_MAX, wait, isolation: Isolation::All };
        let (mut records, mut all) = (0, Vec::new());
        for (asked, answer) in asked.iter().zip(self.core.fetch(request).await) {
            let index = asked.partition.index;
            match answer {
                Ok(fetched) => {
                    for batch in &fetched.batches {
                        records += self.apply(index, batch, is_start, &mut all);
                    }
                }
                Err(FetchError::OutOfRange(bounds)) => self.image.lock().pass(index, bounds.start_offset),
                Err(FetchError::Corrupt) => {
                    tracing::error!(partition = index, offset = asked.offset, "records of sessions cannot be read");
                    self.image.lock().pass(index, asked.offset + 1);
                }
                Err(error) => {
                    tracing::debug!(%error, "the sessions cannot be read");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        (records, all)
    }

    fn apply(&self, index: u32, batch: &Batch, is_start: bool, all: &mut Vec<Seen>) -> u64 {
        let mut image = self.image.lock();
        let from = image.passed(index);
        let mut records = 0;
        // Of a batch that is damaged, what lies before.
        for view in messages(&batch.payload).map_while(Result::ok) {
            let offset = batch.header.base_offset + u64::from(view.position);
            if offset < from {
                continue;
            }
            records += 1;
            match image.apply(offset, &view.topic, &view.payload) {
                Seen::Nothing => {}
                seen => all.push(seen),
            }
            if !is_start
                && !view.payload.is_empty()
                && let Some(Key::Claim(gateway, _)) = Key::parse(&view.topic)
            {
                self.is_there(gateway);
            }
        }
        image.pass(index, batch.header.next_offset());
        records
    }

    /// A gateway that has claimed something a moment ago.
    fn is_there(&self, gateway: Incarnation) {
        let until_ms = crate::now_ms() + i64::try_from(self.settings.session_timeout.as_millis()).unwrap_or(i64::MAX);
        let mut lives = self.lives.lock();
        if !lives.known.contains(&gateway) && !lives.new.iter().any(|(new, _)| *new == gateway) {
            lives.new.push((gateway, until_ms));
        }
    }

    /// Returns when everything before these offsets is in the image.
    pub(super) async fn passed(&self, ends: &[(PartitionId, u64)]) {
        let mut seen = self.seen.subscribe();
        let is_there = || {
            let image = self.image.lock();
            ends.iter().all(|(partition, end)| image.passed(partition.index) >= *end)
        };
        while !is_there() {
            if seen.changed().await.is_err() {
                return;
            }
        }
    }

    /// None: the core cannot say.
    pub(super) async fn ends(&self) -> Option<Vec<(PartitionId, u64)>> {
        let partitions: Vec<PartitionId> = partitions_of(self.topics.own(Own::Sessions)).collect();
        let queries = partitions.iter().map(|partition| (*partition, OffsetAt::Latest)).collect();
        let found = self.core.offsets(OffsetsRequest { queries }).await;
        partitions.into_iter().zip(found).map(|(partition, found)| Some((partition, found.ok()?.offset?))).collect()
    }

    /// A record of this gateway's session was written over by an older one, of a gateway that did not know.
    fn renew(&self, client_id: &Text) {
        if let Some(kept) = self.kept(client_id) {
            kept.state.lock().changes += 1;
        }
    }
}
