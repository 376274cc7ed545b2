//! A slot holds one group: its lock, the requests it has parked, and what is known of its stored record.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use core_rpc::Core;
use tokio::sync::{Mutex, OwnedMutexGuard, RwLock, oneshot};

use super::Groups;
use super::coordinated::{Coordinated, Record};
use crate::state::consumer_groups::{Beaten, HeartbeatRequest};
use crate::state::groups::effect::{Effect, JoinRefused, Joined, Synced, Ticket};
use crate::state::groups::error::{GroupError, StoreError};

pub(super) struct Slot {
    pub(super) id: String,
    /// None: not loaded yet, or given up to another gateway.
    pub(super) state: Arc<Mutex<Option<Loaded>>>,
    /// Commits hold this shared while they are under way, so that whoever removes offsets (who holds it alone) cannot
    /// remove one that was just acknowledged.
    pub(super) offsets: RwLock<()>,
    /// Heartbeats of the consumer protocol that wait for the group.
    pub(super) beats: parking_lot::Mutex<Vec<Beat>>,
}

/// A heartbeat that waits.
pub(super) struct Beat {
    pub(super) request: HeartbeatRequest,
    pub(super) answer: oneshot::Sender<Result<Beaten, GroupError>>,
}

pub(super) struct Loaded {
    pub(super) group: Coordinated,
    /// Of the stored record. None: there is none.
    pub(super) version: Option<u64>,
    /// The stored record.
    pub(super) stored: Option<Bytes>,
    /// A record whose storing failed; it may be there all the same.
    pub(super) attempted: Option<Bytes>,
    pub(super) parked: HashMap<Ticket, Parked>,
    /// The earliest entry in the timer for this slot.
    pub(super) timer_at_ms: Option<i64>,
}

pub(super) enum Parked {
    Join(oneshot::Sender<Result<Joined, JoinRefused>>),
    Sync(oneshot::Sender<Result<Synced, GroupError>>),
}

impl Loaded {
    /// `stored`: version and value of the record.
    pub(super) fn new(group: Coordinated, stored: Option<(u64, Bytes)>) -> Self {
        let (version, stored) = stored.unzip();
        Loaded { group, version, stored, attempted: None, parked: HashMap::new(), timer_at_ms: None }
    }

    /// Nobody is in it, and nothing is stored of it: as if it had never been asked for.
    pub(super) fn is_vacant(&self) -> bool {
        self.version.is_none() && self.attempted.is_none() && self.group.is_idle()
    }

    /// Sends the answers; returns the record to store, if there is one.
    pub(super) fn answer(&mut self, effects: Vec<Effect>) -> Option<Record> {
        let mut to_store = None;
        for effect in effects {
            // A failed send is a connection that ended; its request is answered all the same.
            match effect {
                Effect::JoinAnswer(ticket, result) => {
                    if let Some(Parked::Join(answer)) = self.parked.remove(&ticket) {
                        let _gone = answer.send(result);
                    }
                }
                Effect::SyncAnswer(ticket, result) => {
                    if let Some(Parked::Sync(answer)) = self.parked.remove(&ticket) {
                        let _gone = answer.send(result);
                    }
                }
                Effect::Store(record) => to_store = Some(Record::Classic(record)),
            }
        }
        to_store.or_else(|| self.group.take_changed())
    }
}

pub(super) type Locked = OwnedMutexGuard<Option<Loaded>>;

impl<C: Core> Groups<C> {
    pub(super) fn slot(&self, id: &str) -> Arc<Slot> {
        // Most lookups find it, and then the name need not be copied.
        if let Some(slot) = self.shared.slots.get(id) {
            return slot.clone();
        }
        self.shared.slots.entry(id.to_owned()).or_insert_with(|| Arc::new(Slot::new(id.to_owned()))).clone()
    }

    /// Does something to a group, and all that follows from it: answers, storing, the timer.
    pub(super) async fn with_group<R>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Loaded, i64) -> (R, Vec<Effect>),
    ) -> Result<R, GroupError> {
        let slot = self.slot(id);
        let result = match self.lock(&slot).await {
            Ok(mut locked) => match locked.as_mut() {
                Some(loaded) => {
                    let (result, effects) = act(loaded, self.shared.clock.now_ms());
                    self.settle(&slot, locked, effects).await.map(|()| result)
                }
                None => Err(GroupError::CoordinatorNotAvailable),
            },
            Err(error) => Err(error),
        };
        self.remove_if_vacant(slot);
        result
    }

    /// Locks a slot whose group is loaded (the option is set).
    pub(super) async fn lock(&self, slot: &Arc<Slot>) -> Result<Locked, GroupError> {
        let mut locked = slot.state.clone().lock_owned().await;
        // Under the lock: who gives the group up takes it too.
        self.check_owner(&slot.id)?;
        if locked.is_none() {
            *locked = Some(self.load(&slot.id).await?);
        }
        Ok(locked)
    }

    /// Carries effects out. Where something is stored, a task of its own does it: a connection that ends meanwhile
    /// must not leave the group half way. An error is one of storing a consumer group, which is then as it was stored
    /// last; the requests of classic groups are answered by effects.
    pub(super) async fn settle(
        &self,
        slot: &Arc<Slot>,
        mut locked: Locked,
        effects: Vec<Effect>,
    ) -> Result<(), GroupError> {
        let Some(loaded) = locked.as_mut() else { return Ok(()) };
        let to_store = self.conclude(loaded, effects);
        if to_store.is_none() && !self.is_due(loaded) {
            self.schedule(slot, loaded);
            return Ok(());
        }
        let (groups, slot) = (self.clone(), slot.clone());
        let task = tokio::spawn(async move { groups.settle_stores(slot, locked, to_store).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the task that stores a group failed");
            Err(GroupError::CoordinatorNotAvailable)
        })
    }

    /// What follows from an event without waiting; what is left to be stored.
    fn conclude(&self, loaded: &mut Loaded, mut effects: Vec<Effect>) -> Option<Record> {
        let now_ms = self.shared.clock.now_ms();
        effects.extend(loaded.group.downgrade(&*self.shared.topics, self.shared.config, now_ms));
        loaded.answer(effects)
    }

    async fn settle_stores(
        self,
        slot: Arc<Slot>,
        mut locked: Locked,
        mut to_store: Option<Record>,
    ) -> Result<(), GroupError> {
        let mut outcome = Ok(());
        loop {
            let Some(loaded) = locked.as_mut() else { return outcome };
            let mut is_overtaken = false;
            let effects = match to_store.take() {
                Some(record) => {
                    let result = self.store(&slot.id, loaded, &record).await;
                    if let Coordinated::Classic(group) = &mut loaded.group {
                        group.stored(result, self.shared.clock.now_ms())
                    } else {
                        if let Err(error) = result {
                            outcome = outcome.and(Err(error.told()));
                            is_overtaken = error == StoreError::Superseded;
                            self.fall_back(&slot.id, loaded);
                        }
                        Vec::new()
                    }
                }
                None if self.is_due(loaded) => loaded.group.tick(self.shared.clock.now_ms()),
                None => {
                    self.schedule(&slot, loaded);
                    return outcome;
                }
            };
            to_store = self.conclude(loaded, effects);
            if is_overtaken || loaded.group.is_dead() {
                // Another gateway wrote the record. Should clients come here again, it is read anew.
                tracing::warn!(group = slot.id, "another gateway has taken over the group");
                *locked = None;
                return outcome;
            }
        }
    }

    /// What was not stored was told to nobody: the group is again as it was stored last.
    fn fall_back(&self, id: &str, loaded: &mut Loaded) {
        loaded.group = match self.decode(id, loaded.stored.as_ref()) {
            Ok(group) => group,
            Err(error) => {
                tracing::error!(group = id, %error, "the group's last record cannot be read");
                self.new_group(id)
            }
        };
    }

    /// Forgets a slot that nobody uses and that holds nothing, so that names asked for once cost no memory.
    pub(super) fn remove_if_vacant(&self, slot: Arc<Slot>) {
        self.shared.slots.remove_if(&slot.id, |_, kept| {
            // The map's and ours: nobody else has it, and under the map's lock nobody can get it.
            Arc::ptr_eq(kept, &slot)
                && Arc::strong_count(kept) == 2
                && kept.state.try_lock().is_ok_and(|state| state.as_ref().is_none_or(Loaded::is_vacant))
        });
    }
}

impl Slot {
    pub(super) fn new(id: String) -> Self {
        Slot { id, state: Arc::default(), offsets: RwLock::new(()), beats: Default::default() }
    }
}
