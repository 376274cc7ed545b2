//! Groups as operators see them: listed and described.

use core_rpc::Core;

use super::coordinated::Coordinated;
use super::{CLASSIC, Groups};
use crate::state::groups::describe::GroupDescription;
use crate::state::groups::error::GroupError;
use crate::state::groups::state::GroupState;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub id: String,
    /// Empty where no member ever joined.
    pub protocol_type: String,
    /// The name of its state.
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub group_type: &'static str,
}

impl<C: Core> Groups<C> {
    /// The groups that this gateway coordinates, by name: those with members or a record, and those that only have offsets.
    pub async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let with_offsets = self.shared.core.groups(self.shared.namespace.clone()).await;
        let mut with_offsets = with_offsets.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        let mut listed = Vec::new();
        let slots: Vec<_> = self.shared.slots.iter().map(|entry| entry.value().clone()).collect();
        for slot in slots {
            let state = slot.state.lock().await;
            // A slot that is vacant has just been asked for, or has only offsets.
            let Some(loaded) = state.as_ref().filter(|loaded| !loaded.is_vacant()) else { continue };
            listed.push(ListedGroup {
                id: slot.id.clone(),
                protocol_type: loaded.group.protocol_type().to_owned(),
                state: loaded.group.state_name(),
                group_type: loaded.group.type_name(),
            });
        }
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        with_offsets.retain(|id| self.coordinates(id));
        with_offsets.retain(|id| listed.binary_search_by(|group| group.id.cmp(id)).is_err());
        listed.extend(with_offsets.into_iter().map(|id| ListedGroup {
            id,
            protocol_type: String::new(),
            state: GroupState::Empty.name(),
            group_type: CLASSIC,
        }));
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    pub async fn describe(&self, group: &str) -> Result<GroupDescription, GroupError> {
        let described = self.with_group(group, |loaded, _| {
            let described = match &loaded.group {
                Coordinated::Classic(group) => Ok((group.describe(), loaded.is_vacant())),
                Coordinated::Consumer(_) => Err(GroupError::NotAClassicGroup),
            };
            (described, Vec::new())
        });
        let (description, is_vacant) = described.await??;
        if is_vacant && !self.has_offsets(group).await? {
            return Err(GroupError::GroupNotFound);
        }
        Ok(description)
    }
}
