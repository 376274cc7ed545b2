//! The verbs of [`Core`] as calls over the RPC.

use std::time::Duration;

use codec_record::Batch;
use tokio::time::Instant;

use super::RemoteCore;
use super::calls::{Broken, CallResult, OnBreak};
use super::own_producers::Own;
use crate::wire::FRAME_BYTES_MAX;
use crate::wire::message::{AcquiredHead, Answer, Request};
use crate::*;

/// Room for an append's message beside its batches in one frame.
const APPEND_ROOM_BYTES: usize = 16 << 20;

/// Makes a call and takes its answer out of the variant that belongs to it; anything else is `$unavailable`.
macro_rules! answer {
    ($result:expr, $variant:ident, $unavailable:expr) => {
        match $result {
            Ok((Answer::$variant(answer), _)) => answer,
            Ok((answer, _)) => {
                tracing::error!(?answer, "the core gave an answer that does not belong to the call");
                $unavailable
            }
            Err(Broken) => $unavailable,
        }
    };
}

impl Core for RemoteCore {
    async fn append(&self, request: AppendRequest) -> AppendAnswer {
        // Most requests fit one frame; larger ones go as several, one after another, which keeps their order.
        let mut answers = Vec::with_capacity(request.appends.len());
        let mut rest = request.appends.into_iter().peekable();
        while rest.peek().is_some() {
            let mut part = Vec::new();
            let mut bytes = APPEND_ROOM_BYTES;
            while let Some(append) = rest.next_if(|append| {
                let fits = bytes + append.batch.stored_bytes() <= FRAME_BYTES_MAX;
                fits && append.batch.payload.len() <= BATCH_BYTES_MAX as usize
            }) {
                bytes += append.batch.stored_bytes();
                part.push(append);
            }
            if !part.is_empty() {
                answers.extend(self.append_frame(part).await);
            } else if rest.next().is_some() {
                answers.push(Err(AppendError::TooLarge { bytes_max: BATCH_BYTES_MAX }));
            }
        }
        answers
    }

    async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        let count = request.partitions.len();
        let unavailable = || vec![Err(FetchError::Unavailable); count];
        match self.read(Request::Fetch(request)).await {
            Ok((Answer::Fetch(heads), batches)) if heads.len() == count => {
                let mut batches = batches.into_iter();
                heads
                    .into_iter()
                    .map(|head| {
                        head.map(|head| Fetched {
                            bounds: head.bounds,
                            batches: batches.by_ref().take(head.batches as usize).collect(),
                            aborted: head.aborted,
                        })
                    })
                    .collect()
            }
            _ => unavailable(),
        }
    }

    async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        let count = request.queries.len();
        one_each(count, FetchError::Unavailable, answer!(self.read(Request::Offsets(request)).await, Offsets, vec![]))
    }

    async fn trim(&self, request: TrimRequest) -> TrimAnswer {
        let count = request.trims.len();
        one_each(count, FetchError::Unavailable, answer!(self.change(Request::Trim(request)).await, Trim, vec![]))
    }

    async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        let count = partitions.len();
        let answer = answer!(self.read(Request::Inspect(partitions)).await, Inspect, vec![]);
        one_each(count, FetchError::Unavailable, answer)
    }

    async fn transaction_end(&self, end: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError> {
        let TransactionEnd { producer_id, epoch, ended_epoch_max, decision, outcome, marker } = end;
        let request = Request::TransactionEnd { producer_id, epoch, ended_epoch_max, decision, outcome };
        // Ending it twice is ending it.
        let result = self.call_again(request, vec![marker]).await;
        answer!(result, TransactionEnd, Err(TransactionError::Unavailable))
    }

    async fn transactions_open(&self, producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError> {
        let request = Request::TransactionsOpen(producer_id);
        answer!(self.read(request).await, TransactionsOpen, Err(TransactionError::Unavailable))
    }

    async fn commit(&self, request: CommitRequest) -> CommitAnswer {
        let count = request.cursors.len();
        one_each(count, CursorError::Unavailable, answer!(self.change(Request::Commit(request)).await, Commit, vec![]))
    }

    async fn committed(&self, group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        let count = partitions.len();
        let request = Request::Committed(group, partitions);
        let answer = answer!(self.read(request).await, Committed, Err(CursorError::Unavailable));
        answer.and_then(|cursors| if cursors.len() == count { Ok(cursors) } else { Err(CursorError::Unavailable) })
    }

    async fn cursors(&self, group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        answer!(self.read(Request::Cursors(group)).await, Cursors, Err(CursorError::Unavailable))
    }

    async fn groups(&self, namespace: String) -> Result<Vec<String>, CursorError> {
        answer!(self.read(Request::Groups(namespace)).await, Groups, Err(CursorError::Unavailable))
    }

    async fn forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
        answer!(self.change(Request::Forget(group, partitions)).await, Forget, Err(CursorError::Unavailable))
    }

    async fn acquire(&self, request: AcquireRequest) -> AcquireAnswer {
        let count = request.partitions.len();
        // Not made again: what became of the first is not known, and its leases run out by themselves.
        match self.change(Request::Acquire(request)).await {
            Ok((Answer::Acquire(heads), batches)) if heads.len() == count => {
                let mut batches = batches.into_iter();
                let acquired = |head: AcquiredHead| Acquired {
                    ranges: head.ranges,
                    batches: batches.by_ref().take(head.batches as usize).collect(),
                    uncounted_before: head.uncounted_before,
                };
                let mut acquired = acquired;
                heads.into_iter().map(|head| head.map(&mut acquired)).collect()
            }
            _ => vec![Err(LeaseError::Unavailable); count],
        }
    }

    async fn settle(&self, request: SettleRequest) -> SettleAnswer {
        let counts: Vec<usize> = request.partitions.iter().map(|(_, ranges)| ranges.len()).collect();
        each_of_each(counts, answer!(self.change(Request::Settle(request)).await, Settle, vec![]))
    }

    async fn renew(&self, request: RenewRequest) -> SettleAnswer {
        let counts: Vec<usize> = request.partitions.iter().map(|(_, ranges)| ranges.len()).collect();
        // Renewing twice is renewing.
        each_of_each(counts, answer!(self.read(Request::Renew(request)).await, Renew, vec![]))
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), LeaseError> {
        answer!(self.change(Request::Release(request)).await, Release, Err(LeaseError::Unavailable))
    }

    async fn transfer(&self, request: TransferRequest) -> TransferAnswer {
        let TransferRequest { group, holder, session, settles, appends } = request;
        let bytes: usize = appends.iter().map(|append| append.batch.stored_bytes()).sum();
        if APPEND_ROOM_BYTES + bytes > FRAME_BYTES_MAX {
            return Err(TransferError::Invalid);
        }
        // What was settled cannot be settled again; that it was is seen by its batches.
        let on_break = if appends.is_empty() { OnBreak::Fail } else { OnBreak::SendAgain };
        let now = std::time::Instant::now();
        let (owns, partitions, batches) = self.with_own_producers(appends, now);
        let count = partitions.len();
        let request = Request::Transfer { group, holder, session, settles, appends: partitions };
        let result = self.calls.call(&request, batches, on_break).await;
        match answer!(result, Transfer, Err(TransferError::Unavailable)) {
            Ok(mut appended) if appended.len() == count => {
                for (own, appended) in owns.into_iter().zip(&mut appended) {
                    let Some(own) = own else { continue };
                    appended.duplicate = false;
                    self.own.kept(own, now);
                }
                Ok(appended)
            }
            Ok(_) => Err(TransferError::Unavailable),
            // Whoever asked knows of no sequences.
            Err(TransferError::Append { at, error }) if is_of_sequences(&error) => match owns.get(at as usize) {
                Some(Some(_)) => Err(TransferError::Unavailable),
                _ => Err(TransferError::Append { at, error }),
            },
            Err(error) => Err(error),
        }
    }

    async fn discard(&self, request: DiscardRequest) -> DiscardAnswer {
        answer!(self.change(Request::Discard(request)).await, Discard, Err(LeaseError::Unavailable))
    }

    async fn lease_seek(&self, request: SeekRequest) -> SeekAnswer {
        let count = request.seeks.len();
        let answer = answer!(self.change(Request::LeaseSeek(request)).await, LeaseSeek, vec![]);
        one_each(count, LeaseError::Unavailable, answer)
    }

    async fn peek(&self, request: PeekRequest) -> Result<PeekAnswer, LeaseError> {
        answer!(self.read(Request::Peek(request)).await, Peek, Err(LeaseError::Unavailable))
    }

    async fn lease_groups(&self, namespace: String) -> Result<Vec<String>, LeaseError> {
        answer!(self.read(Request::LeaseGroups(namespace)).await, LeaseGroups, Err(LeaseError::Unavailable))
    }

    async fn lease_forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError> {
        let request = Request::LeaseForget(group, partitions);
        answer!(self.change(request).await, LeaseForget, Err(LeaseError::Unavailable))
    }

    async fn topic_create(&self, create: TopicCreate) -> Result<Topic, TopicError> {
        answer!(self.change(Request::TopicCreate(create)).await, TopicCreate, Err(TopicError::Unavailable))
    }

    async fn topic_alter(&self, namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError> {
        let request = Request::TopicAlter(namespace, name, alter);
        answer!(self.change(request).await, TopicAlter, Err(TopicError::Unavailable))
    }

    async fn topic_delete(&self, namespace: String, name: String) -> Result<(), TopicError> {
        answer!(self.change(Request::TopicDelete(namespace, name)).await, TopicDelete, Err(TopicError::Unavailable))
    }

    async fn meta_get(&self, key: String) -> Result<Option<MetaEntry>, MetaError> {
        answer!(self.read(Request::MetaGet(key)).await, MetaGet, Err(MetaError::Unavailable))
    }

    async fn meta_list(&self, prefix: String) -> Result<MetaList, MetaError> {
        answer!(self.read(Request::MetaList(prefix)).await, MetaList, Err(MetaError::Unavailable))
    }

    async fn meta_put(&self, put: MetaPut) -> Result<u64, MetaError> {
        answer!(self.change(Request::MetaPut(put)).await, MetaPut, Err(MetaError::Unavailable))
    }

    async fn meta_delete(&self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        let request = Request::MetaDelete(key, condition);
        answer!(self.change(request).await, MetaDelete, Err(MetaError::Unavailable))
    }

    async fn meta_watch(&self, watch: MetaWatch) -> Result<MetaChanges, MetaError> {
        answer!(self.read(Request::MetaWatch(watch)).await, MetaWatch, Err(MetaError::Unavailable))
    }

    async fn session_open(&self, time_to_live: Duration) -> Result<SessionId, MetaError> {
        answer!(self.change(Request::SessionOpen(time_to_live)).await, SessionOpen, Err(MetaError::Unavailable))
    }

    async fn session_renew(&self, session: SessionId) -> Result<(), MetaError> {
        // Renewing twice is renewing.
        answer!(self.read(Request::SessionRenew(session)).await, SessionRenew, Err(MetaError::Unavailable))
    }

    async fn session_close(&self, session: SessionId) -> Result<(), MetaError> {
        answer!(self.change(Request::SessionClose(session)).await, SessionClose, Err(MetaError::Unavailable))
    }
}

impl RemoteCore {
    async fn append_frame(&self, appends: Vec<Append>) -> AppendAnswer {
        let count = appends.len();
        let now = std::time::Instant::now();
        let (owns, partitions, batches) = self.with_own_producers(appends, now);
        let result = self.calls.call(&Request::Append(partitions), batches, OnBreak::SendAgain).await;
        let mut answers = one_each(count, AppendError::Unavailable, answer!(result, Append, vec![]));
        for (own, answer) in owns.into_iter().zip(&mut answers) {
            let Some(own) = own else { continue };
            match answer {
                Ok(appended) => {
                    // It was sent again, but asked for once.
                    appended.duplicate = false;
                    self.own.kept(own, now);
                }
                // Whoever asked knows of no sequences.
                Err(error) if is_of_sequences(error) => *answer = Err(AppendError::Unavailable),
                Err(_) => {}
            }
        }
        answers
    }

    /// Gives producers to batches that have none. All of it before anything is awaited: appends keep the order in which
    /// they began.
    fn with_own_producers(
        &self,
        appends: Vec<Append>,
        now: std::time::Instant,
    ) -> (Vec<Option<Own>>, Vec<PartitionId>, Vec<Batch>) {
        let mut owns = Vec::with_capacity(appends.len());
        let (partitions, batches) = (appends.into_iter())
            .map(|Append { partition, mut batch }| {
                let header = &mut batch.header;
                let own = header.producer.is_none().then(|| self.own.take(partition, header.count, now));
                header.producer = header.producer.or(own.as_ref().map(|own| own.producer));
                owns.push(own);
                (partition, batch)
            })
            .unzip();
        (owns, partitions, batches)
    }

    /// A call that must not be made twice.
    async fn change(&self, request: Request) -> CallResult {
        self.calls.call(&request, Vec::new(), OnBreak::Fail).await
    }

    /// A call that only reads.
    async fn read(&self, request: Request) -> CallResult {
        self.call_again(request, Vec::new()).await
    }

    /// A call that may be made again: it is, for as long as a call may wait for a connection.
    async fn call_again(&self, mut request: Request, batches: Vec<Batch>) -> CallResult {
        let started = Instant::now();
        let asked_wait = wait_of(&mut request).map(|wait| *wait);
        let mut broke = None;
        loop {
            let result = self.calls.call(&request, batches.clone(), OnBreak::Fail).await;
            let now = Instant::now();
            if result.is_ok() || now - *broke.get_or_insert(now) >= self.calls.options.connection_wait_max {
                return result;
            }
            if let (Some(wait), Some(asked)) = (wait_of(&mut request), asked_wait) {
                *wait = asked.saturating_sub(started.elapsed());
            }
            // A server that is stopping says so until it hangs up.
            tokio::time::sleep(self.calls.options.pause_min).await;
        }
    }
}

/// Whether a batch was refused for its producer's sake.
fn is_of_sequences(error: &AppendError) -> bool {
    matches!(error, AppendError::ProducerFenced | AppendError::SequenceGap | AppendError::SequenceForgotten)
}

fn wait_of(request: &mut Request) -> Option<&mut Duration> {
    match request {
        Request::Fetch(fetch) => Some(&mut fetch.wait),
        Request::MetaWatch(watch) => Some(&mut watch.wait),
        _ => None,
    }
}

/// The answers to settling if there is one for each range, else as many refusals.
fn each_of_each(counts: Vec<usize>, answer: SettleAnswer) -> SettleAnswer {
    if answer.len() == counts.len() && answer.iter().zip(&counts).all(|(answers, count)| answers.len() == *count) {
        return answer;
    }
    counts.into_iter().map(|count| vec![Err(LeaseError::Unavailable); count]).collect()
}

/// The answers if there is one for each thing asked, else as many times the error.
fn one_each<T, E: Clone>(count: usize, error: E, answers: Vec<Result<T, E>>) -> Vec<Result<T, E>> {
    if answers.len() == count { answers } else { (0..count).map(|_| Err(error.clone())).collect() }
}
