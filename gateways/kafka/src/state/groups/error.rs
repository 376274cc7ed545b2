//! Why a group refuses. The wire codes for these are in the gateway's `errors.rs`.

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("no such group")]
    GroupNotFound,
    #[error("the group has members")]
    GroupNotEmpty,
    #[error("the group is full")]
    GroupFull,
    #[error("the session timeout is outside the broker's limits")]
    InvalidSessionTimeout,
    #[error("join again with the member id given")]
    MemberIdRequired,
    #[error("no such member")]
    UnknownMember,
    #[error("another member has taken this instance id")]
    FencedInstance,
    #[error("not the group's current generation")]
    IllegalGeneration,
    #[error("the member's protocols do not fit the group's")]
    InconsistentProtocol,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    #[error("the group is not a consumer group")]
    NotAConsumerGroup,
    #[error("the group is not a classic group")]
    NotAClassicGroup,
    #[error("the member's epoch is not its current one: it must abandon its partitions and join again")]
    FencedEpoch,
    #[error("not the member's current epoch")]
    StaleEpoch,
    #[error("another member has this instance id and has not left")]
    UnreleasedInstance,
    #[error("the regular expression is not valid")]
    InvalidRegex,
    /// Try again, here or elsewhere: the group's record could not be read or written.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// The group has more members, or they say more of themselves, than a record holds.
    #[error("the group is too large to be stored")]
    RecordTooLarge,
    /// Another gateway has written the group's record: it coordinates the group now.
    #[error("another gateway coordinates this group")]
    NotCoordinator,
}

/// Why a record was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may or may not have been written.
    #[error("the record could not be written")]
    Unavailable,
    #[error("the record is too large")]
    TooLarge,
    /// Somebody else wrote the record since this group was loaded.
    #[error("the record was written by somebody else")]
    Superseded,
}

impl StoreError {
    /// What the members are told.
    pub(super) fn told(self) -> GroupError {
        match self {
            StoreError::Unavailable => GroupError::CoordinatorNotAvailable,
            StoreError::TooLarge => GroupError::RecordTooLarge,
            StoreError::Superseded => GroupError::NotCoordinator,
        }
    }
}
