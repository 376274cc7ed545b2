//! [`with_verbs`](crate::with_verbs): the verbs of [`Core`](crate::Core) as a list, for what stands between a caller and a core.

/// Calls a macro with all verbs, each as `verb(argument: Type, ...) -> Answer;`. Its caller has `core_rpc::*` and `std::time::Duration`
/// in scope.
#[macro_export]
macro_rules! with_verbs {
    ($then:ident) => {
        $then! {
            append(request: AppendRequest) -> AppendAnswer;
            fetch(request: FetchRequest) -> FetchAnswer;
            offsets(request: OffsetsRequest) -> OffsetsAnswer;
            trim(request: TrimRequest) -> TrimAnswer;
            inspect(partitions: Vec<PartitionId>) -> InspectAnswer;
            transaction_end(end: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError>;
            transactions_open(producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError>;
            commit(request: CommitRequest) -> CommitAnswer;
            committed(group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError>;
            cursors(group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError>;
            groups(namespace: String) -> Result<Vec<String>, CursorError>;
            forget(group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError>;
            acquire(request: AcquireRequest) -> AcquireAnswer;
            settle(request: SettleRequest) -> SettleAnswer;
            renew(request: RenewRequest) -> SettleAnswer;
            release(request: ReleaseRequest) -> Result<(), LeaseError>;
            transfer(request: TransferRequest) -> TransferAnswer;
            discard(request: DiscardRequest) -> DiscardAnswer;
            lease_seek(request: SeekRequest) -> SeekAnswer;
            peek(request: PeekRequest) -> Result<PeekAnswer, LeaseError>;
            lease_groups(namespace: String) -> Result<Vec<String>, LeaseError>;
            lease_forget(group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError>;
            topic_create(create: TopicCreate) -> Result<Topic, TopicError>;
            topic_alter(namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError>;
            topic_delete(namespace: String, name: String) -> Result<(), TopicError>;
            meta_get(key: String) -> Result<Option<MetaEntry>, MetaError>;
            meta_list(prefix: String) -> Result<MetaList, MetaError>;
            meta_put(put: MetaPut) -> Result<u64, MetaError>;
            meta_delete(key: String, condition: MetaCondition) -> Result<(), MetaError>;
            meta_watch(watch: MetaWatch) -> Result<MetaChanges, MetaError>;
            session_open(time_to_live: Duration) -> Result<SessionId, MetaError>;
            session_renew(session: SessionId) -> Result<(), MetaError>;
            session_close(session: SessionId) -> Result<(), MetaError>;
        }
    };
}
