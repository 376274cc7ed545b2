//! From a request to the core's verb and back to an answer.

use std::sync::Arc;
use std::time::Duration;

use codec_record::Batch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::wire::message::{AcquiredHead, Answer, FetchedHead, Request};
use crate::wire::{ANSWER_BYTES_MAX, FRAME_BYTES_MAX, LONG_POLL_WAIT_MAX, budget_kib};
use crate::*;

/// Room that a fetch's answer leaves for heads, and for batches' headers beyond the bytes asked for.
const FETCH_BYTES_MAX: u32 = (FRAME_BYTES_MAX - (16 << 20)) as u32;

pub struct Answered {
    pub answer: Answer,
    pub batches: Vec<Batch>,
    /// The answer's share of what may wait for a slow reader.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl From<Answer> for Answered {
    fn from(answer: Answer) -> Self {
        Answered { answer, batches: Vec::new(), permit: None }
    }
}

/// `cancelled`: nobody waits for an acquire any more.
pub async fn answer(
    core: &impl Core,
    request: Request,
    batches: Vec<Batch>,
    budget: &Arc<Semaphore>,
    cancelled: &CancellationToken,
) -> Answered {
    let answer = match request {
        // The connection answers these itself.
        Request::Ping | Request::Cancel { .. } => Answer::Ping,
        Request::Append(partitions) => Answer::Append(append(core, partitions, batches).await),
        Request::Fetch(request) => return fetch(core, request, budget).await,
        Request::Offsets(request) => Answer::Offsets(core.offsets(request).await),
        Request::Trim(request) => Answer::Trim(core.trim(request).await),
        Request::Inspect(partitions) => Answer::Inspect(core.inspect(partitions).await),
        Request::Commit(request) => Answer::Commit(core.commit(request).await),
        Request::Committed(group, partitions) => Answer::Committed(core.committed(group, partitions).await),
        Request::Cursors(group) => Answer::Cursors(core.cursors(group).await),
        Request::Groups(namespace) => Answer::Groups(core.groups(namespace).await),
        Request::Forget(group, partitions) => Answer::Forget(core.forget(group, partitions).await),
        Request::Acquire(request) => return acquire(core, request, budget, cancelled).await,
        Request::Settle(request) => Answer::Settle(core.settle(request).await),
        Request::Renew(request) => Answer::Renew(core.renew(request).await),
        Request::Release(request) => Answer::Release(core.release(request).await),
        Request::LeaseSeek(request) => Answer::LeaseSeek(core.lease_seek(request).await),
        Request::Peek(request) => Answer::Peek(core.peek(request).await),
        Request::LeaseGroups(namespace) => Answer::LeaseGroups(core.lease_groups(namespace).await),
        Request::LeaseForget(group, partitions) => Answer::LeaseForget(core.lease_forget(group, partitions).await),
        Request::TopicCreate(create) => Answer::TopicCreate(core.topic_create(create).await),
        Request::TopicAlter(namespace, name, alter) => {
            Answer::TopicAlter(core.topic_alter(namespace, name, alter).await)
        }
        Request::TopicDelete(namespace, name) => Answer::TopicDelete(core.topic_delete(namespace, name).await),
        Request::MetaGet(key) => Answer::MetaGet(core.meta_get(key).await),
        Request::MetaList(prefix) => Answer::MetaList(core.meta_list(prefix).await),
        Request::MetaPut(put) => Answer::MetaPut(core.meta_put(put).await),
        Request::MetaDelete(key, condition) => Answer::MetaDelete(core.meta_delete(key, condition).await),
        Request::MetaWatch(mut watch) => {
            watch.wait = watch.wait.min(LONG_POLL_WAIT_MAX);
            Answer::MetaWatch(core.meta_watch(watch).await)
        }
        Request::SessionOpen(time_to_live) => Answer::SessionOpen(core.session_open(time_to_live).await),
        Request::SessionRenew(session) => Answer::SessionRenew(core.session_renew(session).await),
        Request::SessionClose(session) => Answer::SessionClose(core.session_close(session).await),
        Request::TransactionEnd { producer_id, epoch, ended_epoch_max, decision, outcome } => {
            let end = |marker| TransactionEnd { producer_id, epoch, ended_epoch_max, decision, outcome, marker };
            Answer::TransactionEnd(match batches.into_iter().next().map(end) {
                Some(end) if end.marker_is_valid() => core.transaction_end(end).await,
                _ => Err(TransactionError::Marker),
            })
        }
        Request::Transfer { group, holder, session, settles, appends } => {
            let appends = appends.into_iter().zip(batches);
            let appends: Vec<_> = appends.map(|(partition, batch)| Append { partition, batch }).collect();
            let corrupt = appends.iter().position(|append| !append.batch.payload_is_intact());
            Answer::Transfer(match corrupt {
                Some(at) => Err(TransferError::Append { at: at as u32, error: AppendError::Corrupt }),
                None => core.transfer(TransferRequest { group, holder, session, settles, appends }).await,
            })
        }
        Request::Discard(request) => Answer::Discard(core.discard(request).await),
        Request::TransactionsOpen(producer_id) => Answer::TransactionsOpen(core.transactions_open(producer_id).await),
    };
    answer.into()
}

/// Appends the batches whose payload arrived as it was sent; there are as many partitions as batches.
async fn append(core: &impl Core, partitions: Vec<PartitionId>, batches: Vec<Batch>) -> AppendAnswer {
    let mut corrupt = Vec::new();
    let mut appends = Vec::with_capacity(batches.len());
    for (at, (partition, batch)) in partitions.into_iter().zip(batches).enumerate() {
        if batch.payload_is_intact() {
            appends.push(Append { partition, batch });
        } else {
            corrupt.push(at);
        }
    }
    if corrupt.is_empty() {
        return core.append(AppendRequest { appends }).await;
    }
    let mut answers = match appends.is_empty() {
        true => Vec::new(),
        false => core.append(AppendRequest { appends }).await,
    };
    // In rising order, so each lands where it was.
    for at in corrupt {
        answers.insert(at.min(answers.len()), Err(AppendError::Corrupt));
    }
    answers
}

/// Fetches, and bounds what a slow reader makes wait: an answer that finds no room is let go, and fetched again
/// when the room it may need is there.
async fn fetch(core: &impl Core, mut request: FetchRequest, budget: &Arc<Semaphore>) -> Answered {
    request.wait = request.wait.min(LONG_POLL_WAIT_MAX);
    request.bytes_max = request.bytes_max.min(FETCH_BYTES_MAX);
    let again = FetchRequest { wait: Duration::ZERO, ..request.clone() };

    let fetched = core.fetch(request).await;
    if let Ok(permit) = budget.clone().try_acquire_many_owned(budget_kib(fetched_bytes(&fetched), ANSWER_BYTES_MAX)) {
        return fetch_answer(fetched, Some(permit));
    }
    drop(fetched);
    let room = budget_kib(again.bytes_max as usize, ANSWER_BYTES_MAX);
    let permit = budget.clone().acquire_many_owned(room).await.ok();
    fetch_answer(core.fetch(again).await, permit)
}

/// Acquires. What is leased cannot be let go and acquired again like a fetch's batches: the answer waits for its room.
async fn acquire(
    core: &impl Core,
    mut request: AcquireRequest,
    budget: &Arc<Semaphore>,
    cancelled: &CancellationToken,
) -> Answered {
    request.wait = request.wait.min(LONG_POLL_WAIT_MAX);
    request.credit_bytes = request.credit_bytes.min(FETCH_BYTES_MAX);
    // Either it is dropped before it is over, and has given back what it had; or it is answered, and whoever asked gives that back.
    let acquired = tokio::select! {
        biased;
        () = cancelled.cancelled() => return Answer::Unavailable.into(),
        acquired = core.acquire(request) => acquired,
    };
    let bytes = acquired.iter().flatten().flat_map(|acquired| &acquired.batches).map(Batch::stored_bytes).sum();
    let permit = match bytes {
        0 => None,
        bytes => budget.clone().acquire_many_owned(budget_kib(bytes, ANSWER_BYTES_MAX)).await.ok(),
    };
    let mut batches = Vec::new();
    let heads = acquired
        .into_iter()
        .map(|partition| {
            partition.map(|acquired| {
                let Acquired { ranges, uncounted_before, .. } = acquired;
                let head = AcquiredHead { ranges, batches: acquired.batches.len() as u32, uncounted_before };
                batches.extend(acquired.batches);
                head
            })
        })
        .collect();
    Answered { answer: Answer::Acquire(heads), batches, permit }
}

fn fetched_bytes(fetched: &FetchAnswer) -> usize {
    fetched.iter().flatten().flat_map(|fetched| &fetched.batches).map(Batch::stored_bytes).sum()
}

fn fetch_answer(fetched: FetchAnswer, permit: Option<OwnedSemaphorePermit>) -> Answered {
    let mut batches = Vec::new();
    let heads = fetched
        .into_iter()
        .map(|partition| {
            partition.map(|fetched| {
                let head = FetchedHead {
                    bounds: fetched.bounds,
                    batches: fetched.batches.len() as u32,
                    aborted: fetched.aborted,
                };
                batches.extend(fetched.batches);
                head
            })
        })
        .collect();
    Answered { answer: Answer::Fetch(heads), batches, permit }
}
