//! Meta's verbs, named as in the `Core` trait.

use std::time::Duration;

use core_rpc::*;
use tokio::time::{Instant, timeout_at};

use super::Meta;

impl Meta {
    pub async fn meta_get(&self, key: String) -> Result<Option<MetaEntry>, MetaError> {
        Ok(self.shared.space.read().get(&key).cloned())
    }

    pub async fn meta_list(&self, prefix: String) -> Result<MetaList, MetaError> {
        Ok(self.shared.space.read().list(&prefix))
    }

    pub async fn meta_put(&self, put: MetaPut) -> Result<u64, MetaError> {
        self.shared.submit(move |transaction| transaction.put(put)).await
    }

    pub async fn meta_delete(&self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        self.shared.submit(move |transaction| transaction.delete(key, condition)).await
    }

    pub async fn meta_watch(&self, watch: MetaWatch) -> Result<MetaChanges, MetaError> {
        let MetaWatch { prefix, mut after_revision, wait } = watch;
        let watcher = self.shared.watchers.add(prefix.clone());
        let deadline = Instant::now().checked_add(wait);
        let mut is_over = wait.is_zero();
        loop {
            let passed = watcher.begin_look().ok_or(MetaError::Unavailable)?;
            {
                let space = self.shared.space.read();
                if let Some(changes) = space.changes(&prefix, after_revision.max(passed)) {
                    return Ok(changes);
                }
                // Looked through: only what comes is of interest.
                after_revision = space.revision();
            }
            if is_over {
                // A time-out that is over already would still take until the timer's next tick, a millisecond.
                return Ok(MetaChanges::Events { events: Vec::new(), revision: after_revision });
            }
            match deadline {
                Some(deadline) => is_over = timeout_at(deadline, watcher.changed()).await.is_err(),
                None => watcher.changed().await,
            }
        }
    }

    pub async fn session_open(&self, time_to_live: Duration) -> Result<SessionId, MetaError> {
        self.shared.submit(move |transaction| Ok(transaction.session_open(time_to_live))).await
    }

    /// Touches no disk: a renewal is forgotten by a restart, which gives every session its whole time anyway.
    pub async fn session_renew(&self, session: SessionId) -> Result<(), MetaError> {
        let now = self.shared.session_clock.elapsed();
        match self.shared.deadlines.lock().renew(session, now) {
            true => Ok(()),
            false => Err(MetaError::UnknownSession),
        }
    }

    pub async fn session_close(&self, session: SessionId) -> Result<(), MetaError> {
        self.shared.submit(move |transaction| transaction.session_end(session)).await
    }

    pub async fn topic_create(&self, create: TopicCreate) -> Result<Topic, TopicError> {
        let (id, now_ms) = (self.shared.new_topic_id(), self.shared.clock.now_ms());
        self.shared.submit(move |transaction| transaction.topic_create(create, id, now_ms)).await
    }

    pub async fn topic_alter(&self, namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError> {
        self.shared.submit(move |transaction| transaction.topic_alter(&namespace, &name, alter)).await
    }

    pub async fn topic_delete(&self, namespace: String, name: String) -> Result<(), TopicError> {
        self.shared.submit(move |transaction| transaction.topic_delete(&namespace, &name)).await
    }
}
