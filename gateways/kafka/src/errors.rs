//! The only place that knows Kafka's error codes, and which of them each of the core's errors becomes.
//!
//! Codes and their meaning: Kafka's protocol guide, "Error Codes".

use core_rpc::{AppendError, CursorError, FetchError, LeaseError, MetaError, TopicError};

use crate::state::fetch_sessions::SessionError;
use crate::state::groups::GroupError;
use crate::state::quotas::Exceeded;
use crate::state::security::Resource;
use crate::state::share_groups::group::HeartbeatError;
use crate::state::share_groups::sessions::ShareSessionError;
use crate::state::transactions::TransactionError;

macro_rules! error_codes {
    ($($name:ident = $code:literal $message:literal)*) => {
        /// What goes wrong, as the wire has it. Written to a response by `.code()`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $name = $code,)*
        }

        impl ErrorCode {
            /// In words, for the responses that have an error message; None for no error.
            pub fn message(self) -> Option<&'static str> {
                match self {
                    ErrorCode::None => None,
                    $(#[allow(unreachable_patterns)] ErrorCode::$name => Some($message),)*
                }
            }

            #[cfg(test)]
            const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];
        }
    };
}

error_codes! {
    UnknownServerError = -1 "the server experienced an unexpected error"
    None = 0 "no error"
    OffsetOutOfRange = 1 "the requested offset is not within the range of offsets kept"
    CorruptMessage = 2 "a record batch has a wrong CRC, an invalid size or is otherwise corrupt"
    UnknownTopicOrPartition = 3 "this server does not host this topic-partition"
    InvalidFetchSize = 4 "the requested fetch size is invalid"
    LeaderNotAvailable = 5 "there is no leader for this topic-partition as yet"
    NotLeaderOrFollower = 6 "this is not the leader of the partition"
    RequestTimedOut = 7 "the request timed out"
    ReplicaNotAvailable = 9 "the replica is not available"
    MessageTooLarge = 10 "the request contains a batch larger than the topic's max.message.bytes"
    OffsetMetadataTooLarge = 12 "the metadata of an offset commit is too large"
    NetworkException = 13 "the server disconnected before an answer"
    CoordinatorLoadInProgress = 14 "the coordinator is loading"
    CoordinatorNotAvailable = 15 "the coordinator is not available"
    NotCoordinator = 16 "this is not the coordinator"
    InvalidTopicException = 17 "the topic name is invalid"
    RecordListTooLarge = 18 "the request contains more record batches than allowed"
    NotEnoughReplicas = 19 "there are fewer replicas in sync than are required"
    InvalidRequiredAcks = 21 "acks must be 0, 1 or -1"
    IllegalGeneration = 22 "the group generation is not valid"
    InconsistentGroupProtocol = 23 "the member's protocol type or protocols do not fit the group's"
    InvalidGroupId = 24 "the group id is invalid"
    UnknownMemberId = 25 "the coordinator does not know this member"
    InvalidSessionTimeout = 26 "the session timeout is outside the allowed range"
    RebalanceInProgress = 27 "the group is rebalancing, a rejoin is needed"
    InvalidCommitOffsetSize = 28 "the commit offset is not valid"
    TopicAuthorizationFailed = 29 "topic authorization failed"
    GroupAuthorizationFailed = 30 "group authorization failed"
    ClusterAuthorizationFailed = 31 "cluster authorization failed"
    InvalidTimestamp = 32 "the timestamp of a record is out of the acceptable range"
    UnsupportedSaslMechanism = 33 "the SASL mechanism is not supported"
    IllegalSaslState = 34 "the request is not valid in the current SASL state"
    UnsupportedVersion = 35 "the version of the API is not supported"
    TopicAlreadyExists = 36 "a topic of this name exists already"
    InvalidPartitions = 37 "the number of partitions is invalid"
    InvalidReplicationFactor = 38 "the replication factor is below 1 or above the number of brokers"
    InvalidReplicaAssignment = 39 "the replica assignment is invalid"
    InvalidConfig = 40 "the configuration is invalid"
    NotController = 41 "this is not the controller"
    InvalidRequest = 42 "the request is malformed or not allowed"
    UnsupportedForMessageFormat = 43 "the record format does not support this"
    PolicyViolation = 44 "the request violates a policy"
    OutOfOrderSequenceNumber = 45 "the producer's sequence number is out of order"
    DuplicateSequenceNumber = 46 "the producer's sequence number was seen already"
    InvalidProducerEpoch = 47 "the producer's epoch is old"
    InvalidTxnState = 48 "the transaction's state does not allow this"
    InvalidProducerIdMapping = 49 "the producer id is not that of the transactional id"
    InvalidTransactionTimeout = 50 "the transaction timeout is too long"
    ConcurrentTransactions = 51 "the producer has another operation under way"
    TransactionCoordinatorFenced = 52 "the transaction coordinator is fenced"
    TransactionalIdAuthorizationFailed = 53 "transactional id authorization failed"
    SecurityDisabled = 54 "security features are disabled"
    OperationNotAttempted = 55 "the operation was not attempted"
    KafkaStorageError = 56 "the storage cannot be written or read"
    LogDirNotFound = 57 "there is no such log directory"
    SaslAuthenticationFailed = 58 "SASL authentication failed"
    UnknownProducerId = 59 "the producer id is not known"
    NonEmptyGroup = 68 "the group is not empty"
    GroupIdNotFound = 69 "there is no such group"
    FetchSessionIdNotFound = 70 "there is no such fetch session"
    InvalidFetchSessionEpoch = 71 "the fetch session epoch is invalid"
    ListenerNotFound = 72 "there is no such listener"
    TopicDeletionDisabled = 73 "topic deletion is disabled"
    FencedLeaderEpoch = 74 "the leader epoch in the request is older than the partition's"
    UnknownLeaderEpoch = 75 "the leader epoch in the request is newer than the partition's"
    UnsupportedCompressionType = 76 "the compression type is not supported by this version of the API"
    OffsetNotAvailable = 78 "the offset is not available yet"
    MemberIdRequired = 79 "the member must join again with the member id it was given"
    GroupMaxSizeReached = 81 "the group has its greatest size"
    FencedInstanceId = 82 "another member has joined with this group instance id"
    ElectionNotNeeded = 84 "the leader is the one that would be elected"
    NoReassignmentInProgress = 85 "the partition is not being moved"
    GroupSubscribedToTopic = 86 "the group is subscribed to the topic"
    InvalidRecord = 87 "a record is invalid"
    UnstableOffsetCommit = 88 "there are unstable offsets"
    ThrottlingQuotaExceeded = 89 "a quota is exceeded"
    ProducerFenced = 90 "another producer with this transactional id is active"
    ResourceNotFound = 91 "there is no such resource"
    DuplicateResource = 92 "the resource was named twice"
    UnacceptableCredential = 93 "the credential does not meet the requirements"
    InvalidUpdateVersion = 95 "the feature cannot have this version"
    UnknownTopicId = 100 "this server does not host this topic id"
    BrokerIdNotRegistered = 102 "no broker of this id is registered"
    InconsistentTopicId = 103 "the topic id is not that of the log"
    InconsistentClusterId = 104 "the cluster id is not this cluster's"
    TransactionalIdNotFound = 105 "there is no such transactional id"
    FetchSessionTopicIdError = 106 "the fetch session uses topic ids inconsistently"
    FencedMemberEpoch = 110 "the member's epoch is fenced"
    UnreleasedInstanceId = 111 "the group instance id is still in use"
    UnsupportedAssignor = 112 "no assignor of the member is supported"
    StaleMemberEpoch = 113 "the member's epoch is stale"
    MismatchedEndpointType = 114 "the request was sent to an endpoint of the wrong type"
    UnsupportedEndpointType = 115 "this endpoint type is not supported"
    TransactionAbortable = 120 "the transaction cannot go on but can be aborted"
    InvalidRecordState = 121 "the records are not in a state that allows this"
    ShareSessionNotFound = 122 "there is no such share session"
    InvalidShareSessionEpoch = 123 "the share session epoch is invalid"
    InvalidRegularExpression = 128 "the regular expression is not valid"
    ShareSessionLimitReached = 133 "there are too many share sessions"
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// As an owned string, for the fields of responses.
    pub fn text(self) -> Option<String> {
        self.message().map(str::to_owned)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.code()
    }
}

impl From<&AppendError> for ErrorCode {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            AppendError::TransactionOpen => ErrorCode::InvalidTxnState,
            AppendError::SequenceGap => ErrorCode::OutOfOrderSequenceNumber,
            // Not DUPLICATE_SEQUENCE_NUMBER, which clients take for success: a batch that was refused (a full disk) and is sent
            // again behind its successor would be lost without a word. Kafka answers the same.
            AppendError::SequenceForgotten => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::Corrupt => ErrorCode::CorruptMessage,
            // Retriable: the client asks for the leader again and tries again.
            AppendError::DiskFull | AppendError::StorageFailed => ErrorCode::KafkaStorageError,
            AppendError::Unavailable => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<&FetchError> for ErrorCode {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            FetchError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            // The batch at rest is bad. Clients tell their application of this one, which may go on behind it; a storage error they
            // would try again for ever without a word.
            FetchError::Corrupt => ErrorCode::CorruptMessage,
            FetchError::StorageFailed => ErrorCode::KafkaStorageError,
            FetchError::Unavailable => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<&TopicError> for ErrorCode {
    fn from(error: &TopicError) -> Self {
        match error {
            TopicError::Unknown => ErrorCode::UnknownTopicOrPartition,
            TopicError::Exists => ErrorCode::TopicAlreadyExists,
            TopicError::InvalidName => ErrorCode::InvalidTopicException,
            TopicError::PartitionCount { .. } => ErrorCode::InvalidPartitions,
            TopicError::DiskFull | TopicError::StorageFailed => ErrorCode::KafkaStorageError,
            // Clients try these two again.
            TopicError::Conflict => ErrorCode::RequestTimedOut,
            TopicError::Unavailable => ErrorCode::NotController,
        }
    }
}

impl From<&CursorError> for ErrorCode {
    fn from(error: &CursorError) -> Self {
        match error {
            CursorError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            CursorError::Fenced => ErrorCode::IllegalGeneration,
            CursorError::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            CursorError::TransactionOpen => ErrorCode::InvalidTxnState,
            CursorError::DiskFull | CursorError::StorageFailed | CursorError::Unavailable => {
                ErrorCode::CoordinatorNotAvailable
            }
        }
    }
}

impl From<&LeaseError> for ErrorCode {
    fn from(error: &LeaseError) -> Self {
        match error {
            LeaseError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            LeaseError::NotHeld | LeaseError::Passed => ErrorCode::InvalidRecordState,
            LeaseError::Invalid => ErrorCode::InvalidRequest,
            LeaseError::Corrupt | LeaseError::DiskFull | LeaseError::StorageFailed => ErrorCode::KafkaStorageError,
            // Nothing of Kafka's is leased to a session.
            LeaseError::UnknownSession | LeaseError::Unavailable => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<HeartbeatError> for ErrorCode {
    fn from(error: HeartbeatError) -> Self {
        match error {
            HeartbeatError::UnknownGroup | HeartbeatError::UnknownMember => ErrorCode::UnknownMemberId,
            HeartbeatError::FencedEpoch => ErrorCode::FencedMemberEpoch,
            HeartbeatError::GroupFull => ErrorCode::GroupMaxSizeReached,
        }
    }
}

impl From<ShareSessionError> for ErrorCode {
    fn from(error: ShareSessionError) -> Self {
        match error {
            ShareSessionError::NotFound => ErrorCode::ShareSessionNotFound,
            ShareSessionError::InvalidEpoch => ErrorCode::InvalidShareSessionEpoch,
            ShareSessionError::LimitReached => ErrorCode::ShareSessionLimitReached,
        }
    }
}

impl From<&MetaError> for ErrorCode {
    fn from(error: &MetaError) -> Self {
        match error {
            MetaError::Conflict(_) | MetaError::UnknownSession | MetaError::Unavailable => {
                ErrorCode::CoordinatorNotAvailable
            }
            MetaError::InvalidKey | MetaError::TooLarge => ErrorCode::InvalidRequest,
            MetaError::DiskFull | MetaError::StorageFailed => ErrorCode::KafkaStorageError,
        }
    }
}

impl From<GroupError> for ErrorCode {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::GroupNotFound => ErrorCode::GroupIdNotFound,
            GroupError::GroupNotEmpty => ErrorCode::NonEmptyGroup,
            GroupError::GroupFull => ErrorCode::GroupMaxSizeReached,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
            GroupError::UnknownMember => ErrorCode::UnknownMemberId,
            GroupError::FencedInstance => ErrorCode::FencedInstanceId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::NotAConsumerGroup | GroupError::NotAClassicGroup => ErrorCode::GroupIdNotFound,
            GroupError::FencedEpoch => ErrorCode::FencedMemberEpoch,
            GroupError::StaleEpoch => ErrorCode::StaleMemberEpoch,
            GroupError::UnreleasedInstance => ErrorCode::UnreleasedInstanceId,
            GroupError::InvalidRegex => ErrorCode::InvalidRegularExpression,
            GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            // As Kafka, whose record of a group is bounded too.
            GroupError::RecordTooLarge => ErrorCode::UnknownServerError,
            GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(_: Exceeded) -> Self {
        ErrorCode::ThrottlingQuotaExceeded.into()
    }
}

impl From<SessionError> for ErrorCode {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
            SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionError::TopicNaming => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

impl From<TransactionError> for ErrorCode {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::InvalidId => ErrorCode::InvalidRequest,
            TransactionError::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
            TransactionError::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
            TransactionError::ProducerFenced => ErrorCode::ProducerFenced,
            TransactionError::InvalidState => ErrorCode::InvalidTxnState,
            TransactionError::Concurrent => ErrorCode::ConcurrentTransactions,
            TransactionError::NotInTransaction => ErrorCode::TransactionAbortable,
            TransactionError::UnknownId => ErrorCode::TransactionalIdNotFound,
            TransactionError::NotCoordinator => ErrorCode::NotCoordinator,
            TransactionError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            TransactionError::RecordTooLarge => ErrorCode::UnknownServerError,
        }
    }
}

impl Resource<'_> {
    /// What a client is told that may not use the resource.
    pub fn refusal(self) -> ErrorCode {
        match self {
            Resource::Topic(_) => ErrorCode::TopicAuthorizationFailed,
            Resource::Group(_) => ErrorCode::GroupAuthorizationFailed,
            Resource::TransactionalId(_) => ErrorCode::TransactionalIdAuthorizationFailed,
            Resource::Cluster => ErrorCode::ClusterAuthorizationFailed,
        }
    }
}

impl From<&core_rpc::TransactionError> for ErrorCode {
    fn from(error: &core_rpc::TransactionError) -> Self {
        use core_rpc::TransactionError as E;
        match error {
            E::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            E::Outdated => ErrorCode::InvalidProducerEpoch,
            E::Marker => ErrorCode::UnknownServerError,
            E::DiskFull | E::StorageFailed => ErrorCode::KafkaStorageError,
            E::Unavailable => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl ErrorCode {
    /// The error of a coordinator's request in a version that does not know PRODUCER_FENCED (before KIP-588).
    pub fn before_producer_fenced(self) -> Self {
        match self {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            other => other,
        }
    }

    /// A refusal to take part in a transaction, as those expect it who append or commit and do not talk to the coordinator
    /// themselves. `abortable`: the version knows TRANSACTION_ABORTABLE; `implicit`: it announces nothing (KIP-890).
    pub fn of_admission(error: TransactionError, abortable: bool, implicit: bool) -> Self {
        match ErrorCode::from(error) {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if !abortable => ErrorCode::InvalidTxnState,
            // Older clients know no such error there. This one they try again.
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorNotAvailable if !implicit => {
                ErrorCode::NotEnoughReplicas
            }
            ErrorCode::CoordinatorNotAvailable => ErrorCode::ConcurrentTransactions,
            other => other,
        }
    }
}

/// An error and what to tell the user about it: what most admin requests fail with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Refusal::new(code, code.message().unwrap_or_default())
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        Refusal::new(error.into(), error.to_string())
    }
}

impl From<&TopicError> for Refusal {
    fn from(error: &TopicError) -> Self {
        Refusal::new(error.into(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_words() {
        let silent: Vec<_> = ErrorCode::ALL.iter().filter(|code| code.message().is_none()).collect();
        assert_eq!(silent, [&ErrorCode::None]);
        assert_eq!(ErrorCode::UnknownTopicId.code(), 100);
    }
}
