//! Groups of the consumer protocol: every answer is there at once, and waits only until what changed is stored.

use std::sync::Arc;

use core_rpc::Core;
use tokio::sync::oneshot;

use super::Groups;
use super::coordinated::Coordinated;
use super::slot::{Beat, Loaded, Locked, Slot};
use crate::state::consumer_groups::{
    Beaten, Committing, ConsumerGroupDescription, ConsumerSettings, ConsumerTimes, Departure, HeartbeatRequest,
};
use crate::state::groups::effect::Effect;
use crate::state::groups::error::GroupError;

/// Who reads offsets.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// None: a client without membership.
    pub member_id: Option<&'a str>,
    /// Negative: a client without membership.
    pub epoch: i32,
}

impl<C: Core> Groups<C> {
    /// What is configured for all consumer groups.
    pub(super) fn consumer_settings(&self) -> ConsumerSettings {
        let config = &self.shared.config;
        ConsumerSettings {
            session_timeout_ms: config.consumer_session_timeout_ms,
            heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
            members_max: config.members_max,
        }
    }

    /// A member of the consumer protocol joins or is alive. The first one turns a classic group into a consumer group.
    /// `times`: what is set for this group.
    pub async fn consumer_heartbeat(
        &self,
        group: &str,
        times: ConsumerTimes,
        request: HeartbeatRequest,
    ) -> Result<Beaten, GroupError> {
        self.check_id(group)?;
        // While this member hears from us that all is well, another gateway may be giving its partitions away.
        self.check_sure_owner(group)?;
        let slot = self.slot(group);
        let beaten = self.beat(&slot, times, request).await;
        self.remove_if_vacant(slot);
        beaten
    }

    /// Puts a heartbeat to the others that wait for the group. Whoever gets the group first sees to all of them: while
    /// one record is being stored those gather whose changes the next will have.
    async fn beat(
        &self,
        slot: &Arc<Slot>,
        times: ConsumerTimes,
        request: HeartbeatRequest,
    ) -> Result<Beaten, GroupError> {
        let (answer, mut answered) = oneshot::channel();
        slot.beats.lock().push(Beat { request, answer });
        let locked = tokio::select! {
            biased;
            beaten = &mut answered => return beaten.unwrap_or(Err(GroupError::CoordinatorNotAvailable)),
            locked = self.lock(slot) => locked,
        };
        match locked {
            Ok(locked) => {
                let (groups, slot) = (self.clone(), slot.clone());
                // A connection that ends meanwhile must not leave the others waiting.
                tokio::spawn(async move { groups.answer_beats(slot, locked, times).await });
            }
            Err(error) => {
                answered.close();
                slot.beats.lock().retain(|beat| !beat.answer.is_closed());
                // Whoever had the group before may have answered it.
                return answered.try_recv().unwrap_or(Err(error));
            }
        }
        answered.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// Sees to all heartbeats that wait, stores what they changed once, and answers them.
    async fn answer_beats(&self, slot: Arc<Slot>, mut locked: Locked, times: ConsumerTimes) {
        let mut beats = std::mem::take(&mut *slot.beats.lock());
        // Who went away while it waited has not been heard.
        beats.retain(|beat| !beat.answer.is_closed());
        let Some(loaded) = locked.as_mut() else { return };
        let settings = self.consumer_settings().with(times);
        let (requests, answers): (Vec<_>, Vec<_>) = beats.into_iter().map(|beat| (beat.request, beat.answer)).unzip();
        let (beaten, effects) = self.heartbeats_in(loaded, requests, &settings, self.shared.clock.now_ms());
        let stored = self.settle(&slot, locked, effects).await;
        // Whoever is answered may find the slot vacant, and remove it.
        drop(slot);
        for (answer, beaten) in answers.into_iter().zip(beaten) {
            // A failed send is a connection that ended.
            let _gone = answer.send(stored.and(beaten));
        }
    }

    fn heartbeats_in(
        &self,
        loaded: &mut Loaded,
        requests: Vec<HeartbeatRequest>,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> (Vec<Result<Beaten, GroupError>>, Vec<Effect>) {
        let mut requests = requests.into_iter();
        let (mut beaten, mut effects) = (Vec::new(), Vec::new());
        // One by one, until one of them turns the group over.
        while !matches!(loaded.group, Coordinated::Consumer(_)) {
            let Some(request) = requests.next() else { break };
            let (answer, follow) = self.heartbeat_in(loaded, request, settings, now_ms);
            beaten.push(answer);
            effects.extend(follow);
        }
        if let Coordinated::Consumer(group) = &mut loaded.group {
            beaten.extend(group.heartbeats(requests.collect(), &*self.shared.topics, settings, now_ms));
        }
        (beaten, effects)
    }

    fn heartbeat_in(
        &self,
        loaded: &mut Loaded,
        request: HeartbeatRequest,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> (Result<Beaten, GroupError>, Vec<Effect>) {
        let image = &*self.shared.topics;
        let is_vacant = loaded.is_vacant();
        let classic = match &mut loaded.group {
            Coordinated::Consumer(group) => return (group.heartbeat(request, image, settings, now_ms), Vec::new()),
            Coordinated::Classic(group) => group,
        };
        if request.epoch != 0 {
            let error = if is_vacant { GroupError::GroupNotFound } else { GroupError::NotAConsumerGroup };
            return (Err(error), Vec::new());
        }
        // Tried on the side first: a member that is refused must not have turned the group over.
        let upgraded = classic.to_consumer_group(image, settings.members_max, now_ms);
        let beaten = upgraded.and_then(|mut group| Ok((group.heartbeat(request, image, settings, now_ms)?, group)));
        match beaten {
            Ok((beaten, group)) => {
                tracing::info!(group = group.id(), "is now of the consumer protocol");
                let effects = classic.dissolve();
                loaded.group = Coordinated::Consumer(Box::new(group));
                (Ok(beaten), effects)
            }
            Err(error) => (Err(error), Vec::new()),
        }
    }

    /// A member of the consumer protocol leaves.
    pub async fn consumer_leave(&self, group: &str, departure: &Departure) -> Result<(), GroupError> {
        self.check_id(group)?;
        self.with_group(group, |loaded, _| {
            let is_vacant = loaded.is_vacant();
            let left = match &mut loaded.group {
                Coordinated::Consumer(group) => group.leave(departure),
                Coordinated::Classic(_) if is_vacant => Err(GroupError::GroupNotFound),
                Coordinated::Classic(_) => Err(GroupError::NotAConsumerGroup),
            };
            (left, Vec::new())
        })
        .await?
    }

    pub async fn describe_consumer_group(&self, group: &str) -> Result<ConsumerGroupDescription, GroupError> {
        let described = self.with_group(group, |loaded, _| {
            let described = match &loaded.group {
                Coordinated::Consumer(group) => Ok(group.describe()),
                Coordinated::Classic(_) if loaded.is_vacant() => Err(GroupError::GroupNotFound),
                Coordinated::Classic(_) => Err(GroupError::NotAConsumerGroup),
            };
            (described, Vec::new())
        });
        match described.await? {
            Err(GroupError::GroupNotFound) if self.has_offsets(group).await? => Err(GroupError::NotAConsumerGroup),
            described => described,
        }
    }

    /// Whether offsets may be read: of consumer groups members only read with their current epoch.
    pub async fn check_read(&self, group: &str, reader: Reader<'_>) -> Result<(), GroupError> {
        if reader.member_id.is_none() && reader.epoch < 0 {
            return Ok(());
        }
        self.with_group(group, |loaded, _| {
            let committing = Committing { member_id: reader.member_id, epoch: reader.epoch };
            let checked = match &loaded.group {
                Coordinated::Consumer(group) => group.check_read(committing),
                Coordinated::Classic(_) => Ok(()),
            };
            (checked, Vec::new())
        })
        .await?
    }
}
