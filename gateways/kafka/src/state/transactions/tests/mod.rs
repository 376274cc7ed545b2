//! What may be asked of a transactional id in each state, and what never happens whatever is asked.

mod model;

use core_rpc::{Outcome, PartitionId, TopicId};

use super::record::{NO_EPOCH, NO_ID};
use super::*;

const CONFIG: TransactionConfig =
    TransactionConfig { timeout_ms_max: 900_000, id_expiration: std::time::Duration::from_secs(600) };

/// One id, whose decisions are carried out when the test says so.
struct Id {
    record: Option<TransactionRecord>,
    next_producer_id: i64,
    now_ms: i64,
}

fn addition(index: u32) -> Addition {
    Addition { partitions: vec![PartitionId { topic: TopicId(1), index }], offsets_partition: None }
}

impl Id {
    fn new() -> Self {
        Id { record: None, next_producer_id: 100, now_ms: 1_000 }
    }

    fn ask(&mut self, ask: &Ask) -> Result<ProducerEpoch, TransactionError> {
        let mut fresh_id = None;
        loop {
            match ask.decide(self.record.as_ref(), fresh_id, &CONFIG, self.now_ms)? {
                Change::NeedsProducerId => {
                    fresh_id = Some(self.next_producer_id);
                    self.next_producer_id += 1;
                }
                Change::Keep => break,
                Change::Store(next) => {
                    self.record = Some(TransactionRecord::decode(&next.encode().unwrap()).unwrap());
                    break;
                }
            }
        }
        Ok(self.record.as_ref().map(TransactionRecord::producer).unwrap_or(ProducerEpoch { id: NO_ID, epoch: -1 }))
    }

    fn init(&mut self, expected: Option<ProducerEpoch>) -> Result<ProducerEpoch, TransactionError> {
        self.ask(&Ask::Init { timeout_ms: 10_000, expected })
    }

    fn add(&mut self, producer: ProducerEpoch, index: u32) -> Result<(), TransactionError> {
        self.ask(&Ask::Add { producer, addition: addition(index) }).map(drop)
    }

    fn begin(&mut self, producer: ProducerEpoch, index: u32) -> Result<(), TransactionError> {
        self.ask(&Ask::Begin { producer, addition: addition(index) }).map(drop)
    }

    fn verify(&mut self, producer: ProducerEpoch, index: u32) -> Result<(), TransactionError> {
        self.ask(&Ask::Verify { producer, addition: addition(index) }).map(drop)
    }

    fn end(
        &mut self,
        producer: ProducerEpoch,
        outcome: Outcome,
        raise: bool,
    ) -> Result<ProducerEpoch, TransactionError> {
        self.ask(&Ask::End { producer, outcome, raise })
    }

    fn complete(&mut self) -> ProducerEpoch {
        self.record = self.record.as_ref().unwrap().completed(self.now_ms);
        self.record.as_ref().unwrap().producer()
    }

    fn state(&self) -> TransactionState {
        self.record.as_ref().unwrap().state
    }

    fn set_epoch(&mut self, epoch: i16) -> ProducerEpoch {
        self.record.as_mut().unwrap().epoch = epoch;
        self.record.as_ref().unwrap().producer()
    }
}

use Outcome::{Abort, Commit};
use TransactionError as E;

#[test]
fn a_producer_that_keeps_its_epoch() {
    let mut id = Id::new();
    assert_eq!(id.add(ProducerEpoch { id: 1, epoch: 0 }, 0), Err(E::InvalidProducerIdMapping));
    let one = id.init(None).unwrap();
    assert_eq!(one, ProducerEpoch { id: 100, epoch: 0 });
    assert_eq!(id.end(one, Commit, false), Err(E::InvalidState));
    assert_eq!(id.end(one, Abort, false), Err(E::InvalidState));
    assert_eq!(id.verify(one, 0), Err(E::NotInTransaction));
    id.add(one, 0).unwrap();
    id.add(one, 1).unwrap();
    assert_eq!(id.state(), TransactionState::Ongoing);
    assert_eq!(id.verify(one, 1), Ok(()));
    assert_eq!(id.verify(one, 2), Err(E::NotInTransaction));
    assert_eq!(id.end(ProducerEpoch { epoch: 1, ..one }, Commit, false), Err(E::ProducerFenced));
    assert_eq!(id.end(ProducerEpoch { id: 7, ..one }, Commit, false), Err(E::InvalidProducerIdMapping));
    assert_eq!(id.end(one, Commit, false), Ok(one));
    assert_eq!((id.state(), id.record.as_ref().unwrap().ending_epoch), (TransactionState::PrepareCommit, 0));
    assert_eq!(id.end(one, Commit, false), Err(E::Concurrent));
    assert_eq!(id.end(one, Abort, false), Err(E::InvalidState));
    assert_eq!(id.add(one, 0), Err(E::Concurrent));
    assert_eq!(id.init(None), Err(E::Concurrent));
    assert_eq!(id.complete(), one);
    // Asked again, as the answer was lost.
    assert_eq!(id.end(one, Commit, false), Ok(one));
    assert_eq!(id.end(one, Abort, false), Err(E::InvalidState));
    assert_eq!(id.verify(one, 0), Err(E::NotInTransaction));
    id.add(one, 3).unwrap();
    assert_eq!(id.end(one, Abort, false), Ok(one));
    assert_eq!(id.complete(), one);
    assert_eq!(id.state(), TransactionState::CompleteAbort);
}

#[test]
fn a_producer_whose_epoch_is_raised_with_each_end() {
    let mut id = Id::new();
    let one = id.init(None).unwrap();
    id.begin(one, 0).unwrap();
    // Once begun, no more is stored.
    let before = id.record.clone();
    id.begin(one, 1).unwrap();
    assert_eq!(id.record, before);
    let two = id.end(one, Commit, true).unwrap();
    assert_eq!(two, ProducerEpoch { id: 100, epoch: 1 });
    assert_eq!(id.record.as_ref().unwrap().ending_epoch, 0);
    // In its new epoch it has nothing to end yet; in the old one it asks again.
    assert_eq!(id.end(two, Commit, true), Err(E::ProducerFenced));
    assert_eq!(id.end(one, Commit, true), Err(E::Concurrent));
    assert_eq!(id.end(one, Abort, true), Err(E::InvalidState));
    assert_eq!(id.complete(), two);
    assert_eq!(id.end(one, Commit, true), Ok(two));
    assert_eq!(id.end(one, Abort, true), Err(E::InvalidState));
    assert_eq!(id.begin(one, 0), Err(E::ProducerFenced));
    // An abort of nothing raises too; a commit of nothing is a mistake.
    assert_eq!(id.end(two, Commit, true), Err(E::InvalidState));
    let three = id.end(two, Abort, true).unwrap();
    assert_eq!((three.epoch, id.complete()), (2, three));
    assert_eq!(id.end(two, Abort, true), Ok(three));
    id.begin(three, 0).unwrap();
    assert_eq!(id.end(two, Abort, true), Err(E::ProducerFenced));
}

#[test]
fn a_new_producer_fences_the_old_one() {
    let mut id = Id::new();
    let one = id.init(None).unwrap();
    id.begin(one, 0).unwrap();
    // What is open is aborted in an epoch that nobody is given.
    assert_eq!(id.init(None).unwrap().epoch, 1);
    assert_eq!((id.state(), id.record.as_ref().unwrap().ending_epoch), (TransactionState::PrepareAbort, 0));
    id.complete();
    // The fenced one does not pass for one whose answer was lost.
    assert_eq!(id.end(one, Abort, true), Err(E::ProducerFenced));
    assert_eq!(id.end(one, Commit, true), Err(E::ProducerFenced));
    assert_eq!(id.init(Some(one)), Err(E::ProducerFenced));
    let two = id.init(None).unwrap();
    assert_eq!(two.epoch, 2);
    assert_eq!(id.add(one, 0), Err(E::ProducerFenced));
    assert_eq!(id.end(one, Abort, true), Err(E::ProducerFenced));
    id.add(two, 0).unwrap();
    assert_eq!(id.init(Some(one)), Err(E::ProducerFenced));
    assert_eq!(id.state(), TransactionState::Ongoing);
}

#[test]
fn a_producer_that_goes_on_keeps_others_out() {
    let mut id = Id::new();
    let one = id.init(None).unwrap();
    let two = id.init(Some(one)).unwrap();
    assert_eq!(two.epoch, 1);
    // Asked again, it is told the same.
    assert_eq!(id.init(Some(one)), Ok(two));
    let three = id.init(None).unwrap();
    assert_eq!(three.epoch, 2);
    assert_eq!(id.init(Some(two)), Err(E::ProducerFenced));
    assert_eq!(id.init(Some(ProducerEpoch { id: 5, epoch: 2 })), Err(E::ProducerFenced));
    // An id that was forgotten begins anew, whatever the producer had.
    id.record = None;
    assert_eq!(id.init(Some(three)), Ok(ProducerEpoch { id: 101, epoch: 0 }));
}

#[test]
fn epochs_that_run_out_bring_a_new_id() {
    let mut id = Id::new();
    id.init(None).unwrap();
    let last = id.set_epoch(i16::MAX - 1);
    let next = id.init(Some(last)).unwrap();
    assert_eq!(next, ProducerEpoch { id: 101, epoch: 0 });
    assert_eq!(id.init(Some(last)), Ok(next));

    let last = id.set_epoch(i16::MAX - 1);
    id.begin(last, 0).unwrap();
    assert_eq!(id.end(last, Commit, true).unwrap(), ProducerEpoch { id: 101, epoch: i16::MAX });
    assert_eq!(id.complete(), ProducerEpoch { id: 102, epoch: 0 });
    assert_eq!(id.end(last, Commit, true), Ok(ProducerEpoch { id: 102, epoch: 0 }));
    assert_eq!(id.end(last, Abort, true), Err(E::InvalidState));

    // A fenced one uses the last epoch; the next producer gets another id.
    let last = id.set_epoch(i16::MAX - 1);
    id.add(last, 0).unwrap();
    assert_eq!(id.init(None).unwrap().epoch, i16::MAX);
    id.complete();
    assert_eq!(id.init(None), Ok(ProducerEpoch { id: 103, epoch: 0 }));
    assert_eq!(id.record.as_ref().unwrap().previous_epoch, NO_EPOCH);
}

#[test]
fn an_abandoned_transaction_is_aborted() {
    let mut id = Id::new();
    let one = id.init(None).unwrap();
    id.now_ms = 5_000;
    id.begin(one, 0).unwrap();
    id.now_ms = 15_000;
    id.ask(&Ask::AbortAbandoned).unwrap();
    assert_eq!(id.state(), TransactionState::Ongoing);
    id.now_ms = 15_001;
    assert_eq!(id.ask(&Ask::AbortAbandoned).unwrap().epoch, 1);
    assert_eq!(id.state(), TransactionState::PrepareAbort);
    id.complete();
    assert_eq!(id.end(one, Commit, true), Err(E::ProducerFenced));
    assert_eq!(id.end(one, Commit, false), Err(E::ProducerFenced));
}

#[test]
fn timeouts_have_bounds() {
    let mut id = Id::new();
    for (timeout_ms, is_good) in [(0, false), (-1, false), (1, true), (900_000, true), (900_001, false)] {
        let result = id.ask(&Ask::Init { timeout_ms, expected: None });
        assert_eq!(result.is_ok(), is_good, "{timeout_ms}");
    }
}

#[test]
fn groups_belong_to_the_partitions_that_kafka_gives_them() {
    // As `Utils.abs("…".hashCode) % 50` says.
    for (group, partition) in [("", 0), ("a", 47), ("test-group", 12), ("polygenelubricants", 0)] {
        assert_eq!(offsets_partition(group), partition, "{group}");
    }
}
