//! Transactions of several producers over partitions and shards, against a model, with restarts, power cuts and disks that
//! get full.
//!
//! The model coordinates as a gateway would: it decides how a transaction ends, keeps the decision (which survives
//! everything), and asks for the end until it is answered. After each recovery, once what was decided is ended:
//! committed readers see every batch of the committed transactions and none of the others, in the log's order, and
//! a group has the cursors that were committed, and never an aborted one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec_record::BatchFlags;
use core_log::disk::{FaultyDisk, MemoryDisk, Operation};
use core_log::{Config, Engine};
use core_rpc::*;

use crate::common::*;
use crate::model::{PARTITIONS, Random, partition_id, topics};

const PRODUCERS: i64 = 3;

fn id_of(producer: usize) -> i64 {
    100 + producer as i64
}

/// The group that a producer commits cursors of, so that no other's come in between.
fn group_of(producer: usize) -> String {
    format!("of {producer}")
}

#[derive(Default)]
struct Model {
    producers: [ProducerModel; PRODUCERS as usize],
    /// By the number of a batch: whose it is.
    sent: BTreeMap<u64, Sent>,
    /// Transactions by number.
    transactions: Vec<Transaction>,
    number_last: u64,
    /// Batches for which there was no room.
    refused_count: u64,
}

#[derive(Default)]
struct ProducerModel {
    epoch: i16,
    sequences: BTreeMap<u32, i32>,
    /// The transaction it is in: open, or decided and not known to be ended.
    current: Option<usize>,
    /// What its group has on each partition: one of these.
    cursors: BTreeMap<u32, BTreeSet<Option<u64>>>,
    /// The last end of its is known to all shards: none has crashed since.
    is_fenced: bool,
    /// The last end that was asked for, and the last that was answered.
    asked: Option<TransactionEnd>,
    ended: Option<TransactionEnd>,
}

struct Sent {
    partition: u32,
    /// None: no transaction's.
    transaction: Option<usize>,
    is_answered: bool,
}

#[derive(Default)]
struct Transaction {
    outcome: Option<Outcome>,
    is_ended: bool,
    /// A crash came while it was open: what was relaxed may be lost.
    has_crashed: bool,
    /// By partition: what was committed last and answered, and what was tried since.
    cursors: BTreeMap<u32, (Option<u64>, Vec<u64>)>,
}

impl Model {
    /// Asks for one thing. False: the engine takes no more.
    async fn step(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let producer = random.below(PRODUCERS as u64) as usize;
        match random.below(16) {
            0 => self.append_plain(engine, random).await,
            1 => self.append_late(engine, producer, random).await,
            2..5 => self.commit(engine, producer, random).await,
            5 | 6 => self.end(engine, producer, random).await,
            7 => self.end_late(engine, producer).await,
            _ => self.append(engine, producer, random).await,
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    /// The open transaction of a producer, or a new one. None: its last is not ended.
    fn begin(&mut self, producer: usize) -> Option<usize> {
        let current = *self.producers[producer].current.get_or_insert_with(|| {
            self.transactions.push(Transaction::default());
            self.transactions.len() - 1
        });
        self.transactions[current].outcome.is_none().then_some(current)
    }

    async fn append(&mut self, engine: &Engine, producer: usize, random: &mut Random) -> bool {
        let Some(transaction) = self.begin(producer) else { return true };
        let mut appends = Vec::new();
        let mut numbers = Vec::new();
        for _ in 0..=random.below(3) {
            let (partition, number) = (random.below(u64::from(PARTITIONS)) as u32, self.next_number());
            let state = &mut self.producers[producer];
            let sequence = state.sequences.entry(partition).or_default();
            let payload = [&number.to_le_bytes()[..], &vec![0; random.below(700) as usize][..]].concat();
            let batch = transactional(id_of(producer), state.epoch, *sequence, payload);
            *sequence += 1;
            appends.push(Append { partition: partition_id(partition), batch });
            self.sent.insert(number, Sent { partition, transaction: Some(transaction), is_answered: false });
            numbers.push((partition, number));
        }
        let answer = engine.append(AppendRequest { appends });
        // Sometimes the end follows at once, perhaps in the same group. Not of a producer that raises no epochs: what is not
        // answered when it asks for the end may come after it.
        let ended = match random.below(4) {
            0 if producer != 2 => Some(self.ask_end(engine, producer, random)),
            _ => None,
        };
        let mut goes_on = true;
        let mut refused = BTreeSet::new();
        for ((partition, number), answer) in numbers.into_iter().zip(answer.await) {
            match answer {
                Ok(appended) => {
                    assert!(!appended.duplicate);
                    self.sent.get_mut(&number).unwrap().is_answered = true;
                }
                Err(AppendError::StorageFailed) => goes_on = false,
                Err(AppendError::Unavailable) => {
                    refused.insert(partition);
                    goes_on = false;
                }
                // It must never come. The producer sends the next with its sequence.
                Err(AppendError::DiskFull) => {
                    self.refused(producer, partition, number, &mut refused);
                }
                // The one before it was refused: there was no next pack for it. This one was smaller and had room, but
                // must not be kept without the other: it must never come.
                Err(AppendError::SequenceGap) if refused.contains(&partition) => {
                    self.refused(producer, partition, number, &mut refused);
                }
                // The end came before it: it must never come.
                Err(AppendError::ProducerFenced) if ended.is_some() => {
                    self.sent.remove(&number);
                }
                Err(error) => panic!("{error}"),
            }
        }
        match ended {
            Some((bump, ended)) => self.ended(producer, bump, ended.await) && goes_on,
            None => goes_on,
        }
    }

    /// A batch was refused. None behind it in the same request can have been kept, so that the sequence goes back by each.
    fn refused(&mut self, producer: usize, partition: u32, number: u64, refused: &mut BTreeSet<u32>) {
        self.sent.remove(&number);
        *self.producers[producer].sequences.entry(partition).or_default() -= 1;
        refused.insert(partition);
        self.refused_count += 1;
    }

    async fn append_plain(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let (partition, number) = (random.below(u64::from(PARTITIONS)) as u32, self.next_number());
        self.sent.insert(number, Sent { partition, transaction: None, is_answered: false });
        match append(engine, partition_id(partition), batch(1, number.to_le_bytes().to_vec())).await {
            Ok(_) => {
                self.sent.get_mut(&number).unwrap().is_answered = true;
                true
            }
            Err(AppendError::DiskFull) => {
                self.sent.remove(&number);
                true
            }
            Err(_) => false,
        }
    }

    /// A zombie, of before the last end.
    async fn append_late(&mut self, engine: &Engine, producer: usize, random: &mut Random) -> bool {
        let state = &self.producers[producer];
        if !state.is_fenced || state.epoch == 0 {
            return true;
        }
        let partition = partition_id(random.below(u64::from(PARTITIONS)) as u32);
        let (id, epoch) = (id_of(producer), state.epoch - 1);
        let late = append(engine, partition, transactional(id, epoch, random.below(3) as i32, vec![0; 8])).await;
        let pending = commit_pending(engine, &group_of(producer), (id, epoch), partition, 1).await;
        match (late, pending) {
            (
                Err(AppendError::ProducerFenced | AppendError::DiskFull),
                Err(CursorError::ProducerFenced | CursorError::DiskFull),
            ) => true,
            (Err(AppendError::StorageFailed | AppendError::Unavailable), _) => false,
            (_, Err(CursorError::StorageFailed | CursorError::Unavailable)) => false,
            other => panic!("{other:?}"),
        }
    }

    async fn commit(&mut self, engine: &Engine, producer: usize, random: &mut Random) -> bool {
        let Some(transaction) = self.begin(producer) else { return true };
        let (partition, offset) = (random.below(u64::from(PARTITIONS)) as u32, self.next_number());
        let (answered, tried) = self.transactions[transaction].cursors.entry(partition).or_default();
        tried.push(offset);
        let of = (id_of(producer), self.producers[producer].epoch);
        match commit_pending(engine, &group_of(producer), of, partition_id(partition), offset).await {
            Ok(()) => {
                (*answered, *tried) = (Some(offset), Vec::new());
                true
            }
            Err(CursorError::DiskFull) => {
                tried.pop();
                true
            }
            Err(CursorError::StorageFailed | CursorError::Unavailable) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn end(&mut self, engine: &Engine, producer: usize, random: &mut Random) -> bool {
        if self.producers[producer].current.is_none() {
            return true;
        }
        let (bump, asked) = self.ask_end(engine, producer, random);
        self.ended(producer, bump, asked.await)
    }

    /// Decides how a transaction ends, unless that is decided, and asks for it. The third producer raises no epochs.
    fn ask_end(
        &mut self,
        engine: &Engine,
        producer: usize,
        random: &mut Random,
    ) -> (i16, impl Future<Output = Result<Vec<PartitionId>, TransactionError>> + 'static) {
        let state = &self.producers[producer];
        let transaction = &mut self.transactions[state.current.unwrap()];
        let chosen = if random.below(3) == 0 { Outcome::Abort } else { Outcome::Commit };
        let outcome = *transaction.outcome.get_or_insert(chosen);
        let bump = if producer == 2 && !transaction.has_crashed { 0 } else { 1 };
        let decision = state.current.map(|current| current as u64 + 1);
        let end = TransactionEnd { decision, ..end_with(id_of(producer), state.epoch, state.epoch + bump, outcome) };
        self.producers[producer].asked = Some(end.clone());
        (bump, engine.transaction_end(end))
    }

    /// The last end again, of a coordinator that does not know that it was answered: what is open now it must leave.
    async fn end_late(&mut self, engine: &Engine, producer: usize) -> bool {
        let Some(end) = self.producers[producer].ended.clone() else { return true };
        match engine.transaction_end(end).await {
            Ok(ended) => assert_eq!(ended, []),
            Err(TransactionError::Outdated | TransactionError::ProducerFenced | TransactionError::DiskFull) => {}
            Err(TransactionError::StorageFailed | TransactionError::Unavailable) => return false,
            Err(error) => panic!("{error}"),
        }
        true
    }

    fn ended(&mut self, producer: usize, bump: i16, answer: Result<Vec<PartitionId>, TransactionError>) -> bool {
        match answer {
            Ok(_) => {}
            // It is asked for again.
            Err(TransactionError::DiskFull) => return true,
            Err(TransactionError::StorageFailed | TransactionError::Unavailable) => return false,
            Err(error) => panic!("{error}"),
        }
        let state = &mut self.producers[producer];
        state.ended = state.asked.take();
        let transaction = &mut self.transactions[state.current.take().unwrap()];
        transaction.is_ended = true;
        if bump > 0 {
            state.epoch += bump;
            state.sequences.clear();
            state.is_fenced = true;
        }
        if transaction.outcome == Some(Outcome::Commit) {
            for (partition, (answered, tried)) in &transaction.cursors {
                let may_be = state.cursors.entry(*partition).or_insert_with(|| BTreeSet::from([None]));
                if answered.is_some() {
                    may_be.clear();
                }
                may_be.extend([*answered].into_iter().flatten().chain(tried.iter().copied()).map(Some));
            }
        }
        true
    }

    /// The engine is gone. What was open is decided now: a producer that does not know what was kept goes no further.
    fn crashed(&mut self) {
        for state in &mut self.producers {
            state.is_fenced = false;
            if let Some(current) = state.current {
                let transaction = &mut self.transactions[current];
                let commits = current.is_multiple_of(3) && transaction.outcome.is_none();
                transaction.outcome.get_or_insert(if commits { Outcome::Commit } else { Outcome::Abort });
                transaction.has_crashed = true;
            }
        }
    }

    /// Ends what is decided and not known to be ended. There is room, but a disk that was full is not tried again at once.
    async fn end_decided(&mut self, engine: &Engine) {
        let (mut random, begun) = (Random(0), Instant::now());
        for producer in 0..PRODUCERS as usize {
            let decided = self.producers[producer].current.is_some_and(|at| self.transactions[at].outcome.is_some());
            if decided {
                let (bump, answer) = loop {
                    let (bump, asked) = self.ask_end(engine, producer, &mut random);
                    let answer = asked.await;
                    if answer != Err(TransactionError::DiskFull) || begun.elapsed() > Duration::from_secs(10) {
                        break (bump, answer);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                };
                assert!(answer.is_ok(), "{answer:?}");
                self.ended(producer, bump, answer);
            }
        }
    }

    /// How many transactions are decided and not known to be ended.
    fn ends_open(&self) -> usize {
        let current = self.producers.iter().filter_map(|producer| producer.current);
        current.filter(|at| self.transactions[*at].outcome.is_some()).count()
    }

    /// Compares what readers see. `settled`: what was decided has ended; else a committed transaction may be seen in part.
    async fn check(&mut self, engine: &Engine, settled: bool) {
        let mut found = BTreeSet::new();
        for partition in 0..PARTITIONS {
            self.check_partition(engine, partition, settled, &mut found).await;
        }
        if !settled {
            return;
        }
        for (number, sent) in &self.sent {
            let crashed = sent.transaction.is_some_and(|at| self.transactions[at].has_crashed);
            // Of relaxed topics, what was answered can be lost while the transaction is open; plain batches at any time.
            let must_be =
                sent.is_answered && (sent.partition < PARTITIONS / 2 || sent.transaction.is_some() && !crashed);
            assert!(!must_be || found.contains(number), "{number} is lost");
        }
        // What is not there now never comes.
        self.sent.retain(|number, _| found.contains(number));
        for (at, state) in self.producers.iter_mut().enumerate() {
            let open = state.current.map(|current| &self.transactions[current].cursors);
            for partition in 0..PARTITIONS {
                let may_be = state.cursors.entry(partition).or_insert_with(|| BTreeSet::from([None]));
                let committed = engine.committed(&group(&group_of(at)), &[partition_id(partition)]).unwrap().remove(0);
                let offset = committed.cursor.map(|cursor| cursor.offset);
                assert!(may_be.contains(&offset), "{offset:?} is none of {may_be:?}");
                *may_be = BTreeSet::from([offset]);
                if open.is_none() {
                    assert!(!committed.pending);
                }
            }
            for (partition, (answered, _)) in open.into_iter().flatten() {
                let committed = engine.committed(&group(&group_of(at)), &[partition_id(*partition)]).unwrap().remove(0);
                assert!(committed.pending || answered.is_none());
            }
        }
        let open: BTreeSet<i64> = engine.transactions_open(None).iter().map(|open| open.producer_id).collect();
        let current = |producer: &usize| self.producers[*producer].current.is_some();
        assert!(open.iter().all(|id| current(&((id - 100) as usize))), "{open:?} are open");
    }

    async fn check_partition(&self, engine: &Engine, partition: u32, settled: bool, found: &mut BTreeSet<u64>) {
        let all = read_all(engine, partition_id(partition), 2000).await.unwrap();
        let bounds = fetch_bounds(engine, partition_id(partition)).await.unwrap();
        let mut stable = bounds.end_offset;
        let mut visible = Vec::new();
        for batch in all.iter().filter(|batch| !batch.header.flags.contains(BatchFlags::CONTROL)) {
            let number = u64::from_le_bytes(batch.payload[..8].try_into().unwrap());
            assert!(found.insert(number), "{number} is there twice");
            let sent = self.sent.get(&number).expect("nobody may have sent this");
            assert_eq!(sent.partition, partition);
            let transaction = sent.transaction.map(|at| &self.transactions[at]);
            let is_open = transaction.is_some_and(|transaction| !transaction.is_ended);
            if is_open {
                stable = stable.min(batch.header.base_offset);
            }
            if !is_open && transaction.is_none_or(|transaction| transaction.outcome == Some(Outcome::Commit)) {
                visible.push((batch.header.base_offset, number));
            }
        }
        let delivered = read_committed(engine, partition_id(partition), 1500).await;
        let number = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().unwrap());
        if settled {
            assert_eq!(bounds.stable_offset, stable);
            visible.retain(|(offset, _)| *offset < stable);
            let delivered: Vec<_> =
                delivered.iter().map(|batch| (batch.header.base_offset, number(&batch.payload))).collect();
            assert_eq!(delivered, visible);
            return;
        }
        for batch in delivered {
            let at = self.sent[&number(&batch.payload)].transaction;
            let outcome = at.map_or(Some(Outcome::Commit), |at| self.transactions[at].outcome);
            assert_eq!(outcome, Some(Outcome::Commit), "only what is committed is seen");
        }
    }
}

fn setup(shards: u32, seed: u64, background: bool) -> Setup {
    let config = Config {
        shards: Some(shards),
        pack_bytes: 24 << 10,
        pack_bytes_first: 12 << 10,
        cache_bytes: if seed.is_multiple_of(2) { 0 } else { 16 << 10 },
        background,
        ..config()
    };
    Setup { config, topics: topics(), ..Setup::default() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Works until the power goes out in the n-th operation, or `steps` are done and the engine is stopped. Returns the disk as it
/// is found afterwards, and the number of operations.
async fn live(disk: &MemoryDisk, model: &mut Model, seed: u64, crash_in: u64, steps: u64) -> (MemoryDisk, u64) {
    let faulty = FaultyDisk::over(disk.clone());
    faulty.crash_in(crash_in);
    if let Ok(engine) = setup(1, seed, false).open(Arc::new(faulty.clone())) {
        let mut random = Random(seed);
        for _ in 0..steps {
            if !model.step(&engine, &mut random).await {
                assert!(faulty.crashed(), "only a crash stops the engine");
                break;
            }
        }
        engine.stop();
    } else {
        assert!(faulty.crashed(), "only a crash keeps the engine from opening");
    }
    model.crashed();
    (disk.crash(seed ^ crash_in), faulty.changes())
}

async fn recover(disk: &MemoryDisk, model: &mut Model, seed: u64) {
    let engine = setup(1, seed, false).open(Arc::new(disk.clone())).unwrap();
    model.check(&engine, false).await;
    model.end_decided(&engine).await;
    model.check(&engine, true).await;
    engine.stop();
    // And it lasts.
    let engine = setup(1, seed, false).open(Arc::new(disk.clone())).unwrap();
    model.check(&engine, true).await;
    engine.stop();
}

fn runs(usual: u64) -> u64 {
    let factor = std::env::var("POLYMQ_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok());
    usual * factor.unwrap_or(1)
}

#[test]
fn a_crash_at_every_operation() {
    block_on(async {
        for seed in 0..runs(3) {
            let (_, operations) = live(&MemoryDisk::new(), &mut Model::default(), seed, u64::MAX, 70).await;
            assert!(operations > 100, "{operations}");
            for crash_in in 1..=operations {
                let mut model = Model::default();
                let (disk, _) = live(&MemoryDisk::new(), &mut model, seed, crash_in, 70).await;
                recover(&disk, &mut model, seed).await;
            }
        }
    });
}

#[test]
fn many_crashes_of_one_disk() {
    block_on(async {
        for seed in 0..runs(60) {
            let mut random = Random(seed);
            let mut model = Model::default();
            let mut disk = MemoryDisk::new();
            for life in 0..6 {
                let soon = random.below(3) == 0;
                let crash_in = 1 + random.below(if soon { 20 } else { 300 });
                (disk, _) = live(&disk, &mut model, seed * 100 + life, crash_in, 20 + random.below(100)).await;
                // The engine may crash again before what was decided is ended.
                if random.below(3) > 0 {
                    recover(&disk, &mut model, seed).await;
                }
            }
            recover(&disk, &mut model, seed).await;
        }
    });
}

#[tokio::test]
async fn restarts_over_several_shards() {
    for seed in 0..runs(30) {
        let mut random = Random(seed);
        let mut model = Model::default();
        let disk = MemoryDisk::new();
        for _ in 0..4 {
            let engine = setup(1 + seed as u32 % 4, seed, seed.is_multiple_of(3)).open(Arc::new(disk.clone())).unwrap();
            for _ in 0..60 {
                assert!(model.step(&engine, &mut random).await);
            }
            model.end_decided(&engine).await;
            model.check(&engine, true).await;
            engine.stop();
        }
    }
}

/// Until there is room again what was refused is refused whole: no batch of it, no cursor, no half of an end.
#[tokio::test]
async fn a_full_disk_refuses_and_nothing_of_it_comes() {
    let (mut refused, mut ends_refused, mut shards_failed) = (0, 0, 0);
    for seed in 0..runs(60) {
        let mut random = Random(seed);
        let mut model = Model::default();
        let disk = MemoryDisk::new();
        let shards = 1 + seed as u32 % 2;
        for _ in 0..3 {
            let faulty = FaultyDisk::over(disk.clone());
            let engine = setup(shards, seed, seed.is_multiple_of(3)).open(Arc::new(faulty.clone())).unwrap();
            let mut goes_on = true;
            for _ in 0..3 {
                disk.set_capacity(Some(disk.used_bytes() + random.below(40 << 10)));
                // As on a file system that copies on write, where blocks that are there can find no room either.
                if random.below(3) == 0 {
                    faulty.fail(Operation::Write, 1 + random.below(30), ErrorKind::StorageFull);
                }
                for _ in 0..50 {
                    goes_on = goes_on && model.step(&engine, &mut random).await;
                }
                disk.set_capacity(None);
                faulty.mend();
                if !goes_on {
                    break;
                }
                ends_refused += model.ends_open();
                model.end_decided(&engine).await;
                model.check(&engine, true).await;
            }
            if !goes_on {
                shards_failed += 1;
                model.crashed();
            }
            engine.stop();
            drop(engine);
            let engine = setup(shards, seed, false).open(Arc::new(disk.clone())).unwrap();
            model.check(&engine, false).await;
            model.end_decided(&engine).await;
            model.check(&engine, true).await;
            engine.stop();
        }
        refused += model.refused_count;
    }
    println!("{refused} batches and {ends_refused} ends refused, {shards_failed} shards failed");
    assert!(refused > 100 && ends_refused > 20, "{refused} {ends_refused}");
}
