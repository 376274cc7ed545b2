//! Power cuts while transactions go on in a partition that is compacted. After each recovery, once what was decided is ended:
//! committed readers find the last committed record of each key, nothing that was aborted, and nothing that a compaction or
//! a crash had taken before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codec_record::{BatchFlags, Producer};
use core_log::Engine;
use core_log::disk::{FaultyDisk, MemoryDisk};
use core_rpc::*;

use crate::common::*;
use crate::compaction::{Record, keyed_batch, records, runs};
use crate::compaction_transactions::{read_committed, setup};
use crate::model::Random;

const KEYS: u64 = 8;

#[derive(Default)]
struct Model {
    producers: [ProducerModel; 3],
    /// By number.
    transactions: Vec<Transaction>,
    /// What may be there, by the number of the record.
    sent: BTreeMap<u64, Sent>,
    number_last: u64,
    now_ms: i64,
    /// What is answered is on the disk.
    is_synced: bool,
}

#[derive(Default)]
struct ProducerModel {
    epoch: i16,
    sequence: i32,
    /// The transaction it is in: open, or decided and not known to be ended.
    current: Option<usize>,
}

#[derive(Default)]
struct Transaction {
    outcome: Option<Outcome>,
    is_ended: bool,
}

#[derive(Clone, Copy)]
struct Sent {
    record: Record,
    transaction: Option<usize>,
    /// None: it was not answered.
    offset: Option<u64>,
}

impl Model {
    fn new(durability: Durability) -> Model {
        Model { now_ms: 2_000_000, is_synced: durability == Durability::Fsync, ..Model::default() }
    }

    /// Asks for one thing. False: the engine takes no more.
    async fn step(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let producer = random.below(self.producers.len() as u64) as usize;
        match random.below(14) {
            0 | 1 => {
                self.end(engine, producer, if random.below(3) == 0 { Outcome::Abort } else { Outcome::Commit }).await
            }
            2 => {
                // Markers of aborted transactions stay for a minute.
                self.now_ms += random.below(50_000) as i64;
                engine.clean(self.now_ms).await;
                true
            }
            3 => self.append(engine, None, random).await,
            _ => self.append(engine, Some(producer), random).await,
        }
    }

    async fn append(&mut self, engine: &Engine, producer: Option<usize>, random: &mut Random) -> bool {
        let list: Vec<Record> = (0..1 + random.below(3) as u32)
            .map(|position| {
                self.number_last += 1;
                Record { position, time_ms: 1, kind: 1, key: random.below(KEYS) as u8, number: self.number_last }
            })
            .collect();
        let mut batch = keyed_batch(&list);
        let mut transaction = None;
        if let Some(at) = producer {
            let state = &mut self.producers[at];
            let current = *state.current.get_or_insert_with(|| {
                self.transactions.push(Transaction::default());
                self.transactions.len() - 1
            });
            transaction = Some(current);
            batch.header.flags = BatchFlags::TRANSACTIONAL;
            batch.header.producer =
                Some(Producer { id: 100 + at as i64, epoch: state.epoch, sequence: state.sequence });
            state.sequence += list.len() as i32;
        }
        for record in &list {
            self.sent.insert(record.number, Sent { record: *record, transaction, offset: None });
        }
        let Ok(appended) = append(engine, partition(0), batch).await else { return false };
        for record in &list {
            let offset = appended.base_offset + u64::from(record.position);
            self.sent.get_mut(&record.number).unwrap().offset = Some(offset);
        }
        true
    }

    /// Ends a producer's transaction; this way, unless that is decided. False: nobody knows whether it is ended.
    async fn end(&mut self, engine: &Engine, producer: usize, outcome: Outcome) -> bool {
        let state = &mut self.producers[producer];
        let Some(current) = state.current else { return true };
        let transaction = &mut self.transactions[current];
        let outcome = *transaction.outcome.get_or_insert(outcome);
        let decision = Some(current as u64 + 1);
        let end = TransactionEnd { decision, ..end_of(100 + producer as i64, state.epoch, outcome) };
        match engine.transaction_end(end).await {
            Ok(_) => {
                transaction.is_ended = true;
                *state = ProducerModel { epoch: state.epoch + 1, sequence: 0, current: None };
                true
            }
            Err(TransactionError::StorageFailed | TransactionError::Unavailable) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The engine is gone: what was open is decided now.
    fn crashed(&mut self) {
        for current in self.producers.iter().filter_map(|state| state.current) {
            let outcome = if current.is_multiple_of(2) { Outcome::Commit } else { Outcome::Abort };
            self.transactions[current].outcome.get_or_insert(outcome);
        }
    }

    /// The engine has just been opened again: answered records behind the log's end are lost, where that is allowed.
    async fn lose(&mut self, engine: &Engine) {
        let end = fetch_bounds(engine, partition(0)).await.unwrap().end_offset;
        let (is_synced, transactions) = (self.is_synced, &self.transactions);
        self.sent.retain(|number, sent| {
            let is_lost = sent.offset.is_some_and(|offset| offset >= end);
            let was_ended = sent.transaction.is_some_and(|at| transactions[at].is_ended);
            assert!(!is_lost || !(is_synced || was_ended), "{number} at {:?} is lost, the end is {end}", sent.offset);
            !is_lost
        });
    }

    async fn end_all(&mut self, engine: &Engine) {
        for producer in 0..self.producers.len() {
            assert!(self.end(engine, producer, Outcome::Abort).await);
        }
    }

    fn is_committed(&self, sent: &Sent) -> bool {
        sent.transaction.is_none_or(|at| self.transactions[at].outcome == Some(Outcome::Commit))
    }

    /// Compares what committed readers see. `settled`: nothing is open, so that what is not seen now never comes.
    async fn check(&mut self, engine: &Engine, settled: bool) {
        let bounds = fetch_bounds(engine, partition(0)).await.unwrap();
        let (found, _) = read_committed(engine).await;
        let mut numbers = BTreeSet::new();
        for (offset, record) in &found {
            assert!(numbers.insert(record.number), "{record:?} is there twice");
            let sent = self.sent.get_mut(&record.number).unwrap_or_else(|| panic!("{record:?} at {offset} came back"));
            assert_eq!((*record, *offset), (sent.record, *sent.offset.get_or_insert(*offset)));
            let sent = *sent;
            assert!(self.is_committed(&sent), "{record:?} at {offset} was not committed");
        }
        let ended = |sent: &&Sent| sent.transaction.is_none_or(|at| self.transactions[at].is_ended);
        for sent in self.sent.values().filter(ended).filter(|sent| self.is_committed(sent)) {
            let Some(offset) = sent.offset.filter(|offset| *offset < bounds.stable_offset) else { continue };
            let key = sent.record.key;
            let is_there = found.range(offset..).any(|(_, record)| record.key == key);
            assert!(is_there, "{:?} at {offset} is lost, and nothing later has its key", sent.record);
        }
        if settled {
            assert_eq!(bounds.stable_offset, bounds.end_offset, "nothing is open");
            self.sent.retain(|number, _| numbers.contains(number));
        }
    }

    /// As [`Model::check`], after a compaction of everything: nothing else is left.
    async fn check_compacted(&mut self, engine: &Engine) {
        self.now_ms += 1;
        engine.clean(self.now_ms).await;
        self.check(engine, true).await;
        let (found, _) = read_committed(engine).await;
        let keys: BTreeSet<u8> = found.values().map(|record| record.key).collect();
        assert_eq!(keys.len(), found.len(), "one of each key");
        let all = fetch(engine, partition(0), 0, u32::MAX).await.unwrap().batches;
        let data = all.iter().filter(|batch| !batch.header.flags.contains(BatchFlags::CONTROL));
        assert_eq!(
            data.map(|batch| records(&batch.payload).len()).sum::<usize>(),
            found.len(),
            "no aborted record is left"
        );
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn durability(seed: u64) -> Durability {
    if seed.is_multiple_of(3) { Durability::Relaxed } else { Durability::Fsync }
}

fn open(disk: Arc<dyn core_log::disk::Disk>, seed: u64) -> Result<Engine, core_log::OpenError> {
    let mut setup = setup(seed);
    setup.config.background = false;
    setup.topics[0].settings.durability = durability(seed);
    setup.open(disk)
}

/// Works until the power goes out in the n-th operation, or `steps` are done and the engine is stopped. Returns the disk as it
/// is found afterwards, and the number of operations.
async fn live(disk: &MemoryDisk, model: &mut Model, seed: u64, crash_in: u64, steps: u64) -> (MemoryDisk, u64) {
    let faulty = FaultyDisk::over(disk.clone());
    faulty.crash_in(crash_in);
    match open(Arc::new(faulty.clone()), seed) {
        Ok(engine) => {
            model.lose(&engine).await;
            let mut random = Random(seed);
            for _ in 0..steps {
                // Who was cut off ends what it had decided, before anything else.
                let decided = |at: &usize| {
                    let current = model.producers[*at].current;
                    current.is_some_and(|current| model.transactions[current].outcome.is_some())
                };
                let goes_on = match (0..model.producers.len()).find(decided) {
                    Some(producer) => model.end(&engine, producer, Outcome::Abort).await,
                    None => model.step(&engine, &mut random).await,
                };
                if !goes_on {
                    assert!(faulty.crashed(), "only a crash stops the engine");
                    break;
                }
            }
            engine.stop();
        }
        Err(_) => assert!(faulty.crashed(), "only a crash keeps the engine from opening"),
    }
    model.crashed();
    (disk.crash(seed ^ crash_in), faulty.changes())
}

async fn recover(disk: &MemoryDisk, model: &mut Model, seed: u64) {
    let engine = open(Arc::new(disk.clone()), seed).unwrap();
    model.lose(&engine).await;
    model.check(&engine, false).await;
    model.end_all(&engine).await;
    model.check(&engine, true).await;
    model.check_compacted(&engine).await;
    engine.stop();
    // And it lasts.
    let engine = open(Arc::new(disk.clone()), seed).unwrap();
    model.check_compacted(&engine).await;
    engine.stop();
}

#[test]
fn a_crash_at_every_operation() {
    block_on(async {
        for seed in [1, 2, 3].into_iter().chain(4..3 + runs(1)) {
            let model = || Model::new(durability(seed));
            let (_, operations) = live(&MemoryDisk::new(), &mut model(), seed, u64::MAX, 150).await;
            assert!(operations > 100, "{operations}");
            for crash_in in 1..=operations {
                let mut model = model();
                let (disk, _) = live(&MemoryDisk::new(), &mut model, seed, crash_in, 150).await;
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
            let mut model = Model::new(durability(seed));
            let mut disk = MemoryDisk::new();
            for life in 0..8 {
                let soon = random.below(3) == 0;
                let crash_in = 1 + random.below(if soon { 20 } else { 600 });
                // Of all lives one durability.
                let of_life = seed + 3 * (life + 1) * 1000;
                (disk, _) = live(&disk, &mut model, of_life, crash_in, 40 + random.below(200)).await;
                if random.below(3) == 0 {
                    recover(&disk, &mut model, seed).await;
                }
            }
            recover(&disk, &mut model, seed).await;
        }
    });
}

#[test]
fn killed_processes_lose_nothing() {
    block_on(async {
        for seed in 0..runs(30) {
            let mut random = Random(seed);
            // What is with the operating system survives.
            let mut model = Model { is_synced: true, ..Model::new(durability(seed)) };
            let disk = MemoryDisk::new();
            for life in 0..6 {
                live(&disk, &mut model, seed + 3 * (life + 1) * 1000, 1 + random.below(600), 250).await;
                recover(&disk, &mut model, seed).await;
            }
        }
    });
}
