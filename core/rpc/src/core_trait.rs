//! The [`Core`] trait: every verb a gateway may use.

use std::future::Future;
use std::time::Duration;

use crate::*;

/// A log core, in this process or another. Cheap to clone; every clone is the same core.
///
/// Dropping a returned future never undoes what was asked; it only gives up the answer. A call begins when its
/// future is first polled, and appends to one partition are kept in the order in which they began.
pub trait Core: Clone + Send + Sync + 'static {
    // Log.
    fn append(&self, request: AppendRequest) -> impl Future<Output = AppendAnswer> + Send;
    fn fetch(&self, request: FetchRequest) -> impl Future<Output = FetchAnswer> + Send;
    fn offsets(&self, request: OffsetsRequest) -> impl Future<Output = OffsetsAnswer> + Send;
    fn trim(&self, request: TrimRequest) -> impl Future<Output = TrimAnswer> + Send;
    fn inspect(&self, partitions: Vec<PartitionId>) -> impl Future<Output = InspectAnswer> + Send;

    // Log: transactions.
    /// Ends a producer's transaction everywhere. Returns the partitions in which this call ended it.
    fn transaction_end(
        &self,
        end: TransactionEnd,
    ) -> impl Future<Output = Result<Vec<PartitionId>, TransactionError>> + Send;
    /// The open transactions of one producer, or of all (None), one for each partition.
    fn transactions_open(
        &self,
        producer_id: Option<i64>,
    ) -> impl Future<Output = Result<Vec<OpenTransaction>, TransactionError>> + Send;

    // Groups: cursors.
    fn commit(&self, request: CommitRequest) -> impl Future<Output = CommitAnswer> + Send;
    /// The cursors of a group on these partitions, in order.
    fn committed(
        &self,
        group: GroupName,
        partitions: Vec<PartitionId>,
    ) -> impl Future<Output = Result<Vec<Committed>, CursorError>> + Send;
    /// All cursors of a group, and where it has only pending ones.
    fn cursors(
        &self,
        group: GroupName,
    ) -> impl Future<Output = Result<Vec<(PartitionId, Committed)>, CursorError>> + Send;
    /// The groups of a namespace that have a cursor, or a pending one.
    fn groups(&self, namespace: String) -> impl Future<Output = Result<Vec<String>, CursorError>> + Send;
    /// Removes a group's cursors on these partitions, or all (None), durably; pending ones too.
    fn forget(
        &self,
        group: GroupName,
        partitions: Option<Vec<PartitionId>>,
    ) -> impl Future<Output = Result<(), CursorError>> + Send;

    // Groups: lease maps.
    /// Dropping the future gives back what it has leased.
    fn acquire(&self, request: AcquireRequest) -> impl Future<Output = AcquireAnswer> + Send;
    fn settle(&self, request: SettleRequest) -> impl Future<Output = SettleAnswer> + Send;
    fn renew(&self, request: RenewRequest) -> impl Future<Output = SettleAnswer> + Send;
    fn release(&self, request: ReleaseRequest) -> impl Future<Output = Result<(), LeaseError>> + Send;
    /// Settles in some partitions and appends to others, all of it or nothing.
    fn transfer(&self, request: TransferRequest) -> impl Future<Output = TransferAnswer> + Send;
    fn discard(&self, request: DiscardRequest) -> impl Future<Output = DiscardAnswer> + Send;
    fn lease_seek(&self, request: SeekRequest) -> impl Future<Output = SeekAnswer> + Send;
    fn peek(&self, request: PeekRequest) -> impl Future<Output = Result<PeekAnswer, LeaseError>> + Send;
    /// The groups of a namespace that have a lease map.
    fn lease_groups(&self, namespace: String) -> impl Future<Output = Result<Vec<String>, LeaseError>> + Send;
    /// Removes a group's lease maps on these partitions, or all (None), durably.
    fn lease_forget(
        &self,
        group: GroupName,
        partitions: Option<Vec<PartitionId>>,
    ) -> impl Future<Output = Result<(), LeaseError>> + Send;

    // Topics.
    fn topic_create(&self, create: TopicCreate) -> impl Future<Output = Result<Topic, TopicError>> + Send;
    fn topic_alter(
        &self,
        namespace: String,
        name: String,
        alter: TopicAlter,
    ) -> impl Future<Output = Result<Topic, TopicError>> + Send;
    fn topic_delete(&self, namespace: String, name: String) -> impl Future<Output = Result<(), TopicError>> + Send;

    // Meta.
    fn meta_get(&self, key: String) -> impl Future<Output = Result<Option<MetaEntry>, MetaError>> + Send;
    fn meta_list(&self, prefix: String) -> impl Future<Output = Result<MetaList, MetaError>> + Send;
    /// Returns the entry's new version.
    fn meta_put(&self, put: MetaPut) -> impl Future<Output = Result<u64, MetaError>> + Send;
    /// Deleting what is not there is no error under `MetaCondition::Always`.
    fn meta_delete(&self, key: String, condition: MetaCondition) -> impl Future<Output = Result<(), MetaError>> + Send;
    fn meta_watch(&self, watch: MetaWatch) -> impl Future<Output = Result<MetaChanges, MetaError>> + Send;

    // Sessions.
    fn session_open(&self, time_to_live: Duration) -> impl Future<Output = Result<SessionId, MetaError>> + Send;
    fn session_renew(&self, session: SessionId) -> impl Future<Output = Result<(), MetaError>> + Send;
    /// Ends the session at once; its keys vanish.
    fn session_close(&self, session: SessionId) -> impl Future<Output = Result<(), MetaError>> + Send;
}
