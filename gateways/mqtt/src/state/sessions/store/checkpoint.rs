//! What nobody waits for is recorded every few seconds, and then how far the router has come.

use std::sync::Arc;

use codec_mqtt::Text;
use core_rpc::PartitionId;

use super::kept::Kept;
use super::keys::Key;
use super::writer::Job;
use super::{Shared, owner};
use crate::state::sessions::record::encode_positions;

/// Sessions of one ask: the writer sees to the bytes.
const CHUNK: usize = 256;

/// So many checkpoints apart it is looked for what nobody needs any more.
const SWEEP_EVERY: u32 = 30;

impl Shared {
    pub(super) async fn checkpoint_all(self: Arc<Self>) {
        let mut told: Vec<(PartitionId, u64)> = Vec::new();
        for round in 0u32.. {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.checkpoint_interval) => {}
            }
            self.checkpoint_after(&mut told).await;
            if round.is_multiple_of(SWEEP_EVERY) {
                self.sweep();
            }
        }
    }

    /// False: not everything could be recorded.
    pub(super) async fn checkpoint(&self) -> bool {
        self.checkpoint_after(&mut Vec::new()).await
    }

    async fn checkpoint_after(&self, told: &mut Vec<(PartitionId, u64)>) -> bool {
        // Read before: what was routed until here is in a session, and its record is written now if it is not yet.
        let mut positions = self.router.all_positions();
        positions.sort_unstable();
        let dirty: Vec<Arc<Kept>> =
            self.kept.iter().filter(|kept| kept.is_dirty()).map(|kept| kept.value().clone()).collect();
        for chunk in dirty.chunks(CHUNK) {
            let jobs = chunk.iter().map(|kept| Job::Record(kept.clone())).collect();
            if let Err(error) = self.queue.write(jobs).await {
                tracing::debug!(%error, "sessions are not recorded yet");
                return false;
            }
        }
        if positions == *told || !self.kept.iter().any(|kept| kept.state.lock().is_persistent()) {
            return true;
        }
        let Ok(bytes) = encode_positions(&positions) else { return false };
        let entry = Job::Entry(Key::Positions(self.own).to_string(), bytes);
        let is_kept = self.queue.write(vec![entry]).await.is_ok();
        if is_kept {
            *told = positions;
        }
        is_kept
    }

    /// Removes what the dead have left and nobody needs.
    fn sweep(&self) {
        let lives = self.lives();
        let live = self.live();
        let own = self.own;
        let is_mine = |name: &str| owner::of(live.iter().copied(), name) == Some(own);
        let garbage = self.image.lock().garbage(&lives, &is_mine);
        let garbage = garbage.into_iter().filter(|key| match Key::parse(key.as_bytes()) {
            // Somebody opens it just now.
            Some(Key::Received(_, client_id)) => {
                Text::new(client_id).is_some_and(|client_id| !self.kept.contains_key(&client_id))
            }
            _ => true,
        });
        self.queue.post(garbage.map(|key| Job::Entry(key, Default::default())).collect());
    }
}
