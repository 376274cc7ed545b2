//! What a frame's head says: requests and answers, one variant for each verb of [`crate::Core`].
//!
//! Postcard numbers the variants in their order here, so new ones go at the end; anything else takes a new version
//! of the RPC. Batches are not in the message: they follow it in the frame, in the message's order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::*;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Asks for a sign of life.
    Ping,
    /// The asker of this long poll has gone. Only an acquire is answered all the same: with what it had leased until
    /// then, or with `Unavailable` if that is nothing.
    Cancel {
        call: u64,
    },
    /// The partition of each batch.
    Append(Vec<PartitionId>),
    Fetch(FetchRequest),
    Offsets(OffsetsRequest),
    Trim(TrimRequest),
    Inspect(Vec<PartitionId>),
    Commit(CommitRequest),
    Committed(GroupName, Vec<PartitionId>),
    Cursors(GroupName),
    Groups(String),
    Forget(GroupName, Option<Vec<PartitionId>>),
    TopicCreate(TopicCreate),
    TopicAlter(String, String, TopicAlter),
    TopicDelete(String, String),
    MetaGet(String),
    MetaList(String),
    MetaPut(MetaPut),
    MetaDelete(String, MetaCondition),
    MetaWatch(MetaWatch),
    SessionOpen(Duration),
    SessionRenew(SessionId),
    SessionClose(SessionId),
    /// The marker is the frame's only batch.
    TransactionEnd {
        producer_id: i64,
        epoch: i16,
        ended_epoch_max: i16,
        decision: Option<u64>,
        outcome: Outcome,
    },
    TransactionsOpen(Option<i64>),
    Acquire(AcquireRequest),
    Settle(SettleRequest),
    Renew(RenewRequest),
    Release(ReleaseRequest),
    LeaseSeek(SeekRequest),
    Peek(PeekRequest),
    LeaseGroups(String),
    LeaseForget(GroupName, Option<Vec<PartitionId>>),
    /// A [`TransferRequest`]: `appends` is the partition of each batch.
    Transfer {
        group: GroupName,
        holder: String,
        session: Option<SessionId>,
        settles: Vec<(PartitionId, Vec<SettleRange>)>,
        appends: Vec<PartitionId>,
    },
    Discard(DiscardRequest),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Ping,
    /// The server is stopping: the call was not made, or what became of it is not known.
    Unavailable,
    Append(AppendAnswer),
    Fetch(Vec<Result<FetchedHead, FetchError>>),
    Offsets(OffsetsAnswer),
    Trim(TrimAnswer),
    Inspect(InspectAnswer),
    Commit(CommitAnswer),
    Committed(Result<Vec<Committed>, CursorError>),
    Cursors(Result<Vec<(PartitionId, Committed)>, CursorError>),
    Groups(Result<Vec<String>, CursorError>),
    Forget(Result<(), CursorError>),
    TopicCreate(Result<Topic, TopicError>),
    TopicAlter(Result<Topic, TopicError>),
    TopicDelete(Result<(), TopicError>),
    MetaGet(Result<Option<MetaEntry>, MetaError>),
    MetaList(Result<MetaList, MetaError>),
    MetaPut(Result<u64, MetaError>),
    MetaDelete(Result<(), MetaError>),
    MetaWatch(Result<MetaChanges, MetaError>),
    SessionOpen(Result<SessionId, MetaError>),
    SessionRenew(Result<(), MetaError>),
    SessionClose(Result<(), MetaError>),
    TransactionEnd(Result<Vec<PartitionId>, TransactionError>),
    TransactionsOpen(Result<Vec<OpenTransaction>, TransactionError>),
    Acquire(Vec<Result<AcquiredHead, LeaseError>>),
    Settle(SettleAnswer),
    Renew(SettleAnswer),
    Release(Result<(), LeaseError>),
    LeaseSeek(SeekAnswer),
    Peek(Result<PeekAnswer, LeaseError>),
    LeaseGroups(Result<Vec<String>, LeaseError>),
    LeaseForget(Result<(), LeaseError>),
    Transfer(TransferAnswer),
    Discard(DiscardAnswer),
}

/// A partition's answer to a fetch, without its batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedHead {
    pub bounds: Bounds,
    /// How many of the frame's batches are this partition's.
    pub batches: u32,
    pub aborted: Vec<AbortedTransaction>,
}

/// A partition's answer to an acquire, without its batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquiredHead {
    pub ranges: Vec<AcquiredRange>,
    /// How many of the frame's batches are this partition's.
    pub batches: u32,
    pub uncounted_before: u64,
}

impl Request {
    /// Whether it may stay unanswered until something happens.
    pub fn is_long_poll(&self) -> bool {
        match self {
            Request::Fetch(fetch) => !fetch.wait.is_zero(),
            Request::Acquire(acquire) => !acquire.wait.is_zero(),
            Request::MetaWatch(_) => true,
            _ => false,
        }
    }
}
