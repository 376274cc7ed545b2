//! What must be true of an engine after a crash: a model that knows what was asked and what was answered.
//!
//! An answered append, trim or commit must be there; one that was not answered may be there whole or not at all. After each
//! recovery the model reads everything, and from then on what it saw is settled: it must stay, and what was not there
//! must never come.

use std::collections::{BTreeMap, HashMap};

use codec_record::{Batch, FormatId, Producer};
use core_log::Engine;
pub use core_log::disk::Random;
use core_rpc::*;

use crate::common::*;

pub const PARTITIONS: u32 = 4;

/// A topic that syncs before it answers, and one that does not: (id, durability), with half of the partitions each.
pub fn topics() -> Vec<Topic> {
    let relaxed = TopicId(0x2222);
    vec![
        topic(TOPIC, PARTITIONS / 2, settings(Durability::Fsync)),
        topic(relaxed, PARTITIONS / 2, settings(Durability::Relaxed)),
    ]
}

pub fn partition_id(at: u32) -> PartitionId {
    let id = if at < PARTITIONS / 2 { TOPIC } else { TopicId(0x2222) };
    PartitionId { topic: id, index: at % (PARTITIONS / 2) }
}

fn is_synced(at: u32) -> bool {
    at < PARTITIONS / 2
}

#[derive(Default)]
pub struct Model {
    partitions: [PartitionModel; PARTITIONS as usize],
    /// What a cursor may be, by (group, partition): the last answered, and all asked for since.
    cursors: BTreeMap<(u8, u32), CursorModel>,
    producer: ProducerModel,
    number_last: u64,
    /// Nothing is asked for the moment that needs a sync.
    pub relaxed_only: bool,
    /// Only processes die, not machines: what was answered is there, synced or not.
    pub power_stays: bool,
}

#[derive(Default)]
struct PartitionModel {
    /// Must be there, unless trimmed: offset → number and count.
    kept: BTreeMap<u64, (u64, u32)>,
    /// May be there, once: number → count, and the offset if one was answered.
    open: HashMap<u64, (u32, Option<u64>)>,
    start_min: u64,
    start_max: u64,
}

/// A producer that appends to the first partition, one batch at a time, and sends it again until it is answered.
#[derive(Default)]
struct ProducerModel {
    sequence: i32,
    in_flight: Option<Sent>,
    answered: Option<(Sent, u64)>,
}

#[derive(Clone, Copy)]
struct Sent {
    sequence: i32,
    count: u32,
    number: u64,
}

impl Sent {
    fn batch(&self) -> Batch {
        let mut batch = Batch::new(FormatId::RAW, self.count, -1, payload(self.number).into());
        batch.header.producer = Some(Producer { id: 7, epoch: 0, sequence: self.sequence });
        batch
    }
}

#[derive(Default)]
struct CursorModel {
    may_be: Vec<Option<u64>>,
    generation: Option<u64>,
}

/// The content of a batch, from its number.
fn payload(number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let length = match random.below(10) {
        0 => 4096 + random.below(3000),
        1..4 => random.below(1500),
        _ => random.below(200),
    };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|at| (number + at) as u8));
    bytes
}

impl Model {
    /// Asks for one thing and notes the answer. False: the engine takes no more.
    pub async fn step(&mut self, engine: &Engine, random: &mut Random) -> bool {
        if self.relaxed_only {
            return self.append(engine, random).await;
        }
        match random.below(12) {
            0 => self.trim(engine, random).await,
            3 if random.below(4) == 0 => {
                // Rewrites sparse packs.
                engine.clean(0).await;
                true
            }
            1 | 2 => self.commit(engine, random).await,
            _ => self.append(engine, random).await,
        }
    }

    async fn append(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let mut appends = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..=random.below(4) {
            let mut at = random.below(u64::from(PARTITIONS)) as u32;
            if self.relaxed_only {
                at = at % (PARTITIONS / 2) + PARTITIONS / 2;
            }
            let (number, count) = (self.next_number(), 1 + random.below(4) as u32);
            self.partitions[at as usize].open.insert(number, (count, None));
            let batch = Batch::new(FormatId::RAW, count, -1, payload(number).into());
            appends.push(Append { partition: partition_id(at), batch });
            sent.push((at, number, count));
        }
        if !self.relaxed_only && random.below(2) == 0 {
            let produced = self.produce(random);
            appends.push(Append { partition: partition_id(0), batch: produced.batch() });
            sent.push((0, produced.number, produced.count));
        }
        let answers = engine.append(AppendRequest { appends }).await;
        let mut goes_on = true;
        for ((at, number, count), answer) in sent.into_iter().zip(answers) {
            let partition = &mut self.partitions[at as usize];
            match answer {
                Ok(appended) => {
                    // A batch of an earlier life that was not answered is sent again.
                    assert!(!appended.duplicate || self.producer.in_flight.is_some_and(|sent| sent.number == number));
                    let offset = appended.base_offset;
                    if is_synced(at) || self.power_stays {
                        partition.open.remove(&number);
                        partition.kept.insert(offset, (number, count));
                    } else {
                        partition.open.insert(number, (count, Some(offset)));
                    }
                    self.producer.answered(number, offset);
                }
                Err(AppendError::StorageFailed | AppendError::Unavailable) => goes_on = false,
                // Nothing is kept: it must never come.
                Err(AppendError::DiskFull) => {
                    partition.open.remove(&number);
                }
                Err(error) => panic!("{error}"),
            }
        }
        goes_on
    }

    fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    /// The producer's batch: the one that is not answered yet, or a new one.
    fn produce(&mut self, random: &mut Random) -> Sent {
        let number = self.next_number();
        let sequence = self.producer.sequence;
        let new = Sent { sequence, count: 1 + random.below(4) as u32, number };
        let sent = *self.producer.in_flight.get_or_insert(new);
        self.partitions[0].open.insert(sent.number, (sent.count, None));
        sent
    }

    async fn trim(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let at = random.below(u64::from(PARTITIONS)) as u32;
        let Ok(bounds) = fetch_bounds(engine, partition_id(at)).await else { return false };
        let before = bounds.start_offset + random.below(bounds.end_offset - bounds.start_offset + 1);
        let partition = &mut self.partitions[at as usize];
        partition.start_max = partition.start_max.max(before);
        match engine.trim(TrimRequest { trims: vec![(partition_id(at), Some(before))] }).await.remove(0) {
            Ok(start) => {
                assert_eq!(start, before.max(bounds.start_offset));
                partition.start_min = partition.start_min.max(start);
                true
            }
            // No room; a later one may work.
            Err(FetchError::Unavailable) => true,
            Err(FetchError::StorageFailed) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn commit(&mut self, engine: &Engine, random: &mut Random) -> bool {
        let (name, at) = (random.below(2) as u8, random.below(u64::from(PARTITIONS)) as u32);
        let cursor =
            self.cursors.entry((name, at)).or_insert_with(|| CursorModel { may_be: vec![None], generation: None });
        if random.below(8) == 0 {
            cursor.may_be.push(None);
            let forgotten = engine.forget(group(&name.to_string()), Some(vec![partition_id(at)])).await;
            if forgotten.is_ok() {
                *cursor = CursorModel { may_be: vec![None], generation: None };
            }
            return !matches!(forgotten, Err(CursorError::StorageFailed | CursorError::Unavailable));
        }
        self.number_last += 1;
        let offset = self.number_last;
        cursor.may_be.push(Some(offset));
        match commit(engine, &name.to_string(), Some(offset), partition_id(at), offset).await {
            Ok(()) => {
                *cursor = CursorModel { may_be: vec![Some(offset)], generation: Some(offset) };
                true
            }
            Err(CursorError::DiskFull) => {
                cursor.may_be.pop();
                true
            }
            Err(CursorError::StorageFailed) => false,
            Err(CursorError::Unavailable) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Compares everything with what the engine has, and settles what was open.
    pub async fn check(&mut self, engine: &Engine) {
        for at in 0..PARTITIONS {
            self.partitions[at as usize].check(engine, at).await;
        }
        for ((name, at), cursor) in &mut self.cursors {
            let name = name.to_string();
            let found = engine.committed(&group(&name), &[partition_id(*at)]).unwrap().remove(0);
            let offset = found.cursor.map(|cursor| cursor.offset);
            assert!(cursor.may_be.contains(&offset), "cursor {offset:?} is none of {:?}", cursor.may_be);
            cursor.may_be = vec![offset];
            if offset.is_none() {
                cursor.generation = None;
            }
            if let Some(generation) = cursor.generation {
                let stale = commit(engine, &name, Some(generation - 1), partition_id(*at), 0).await;
                assert_eq!(stale, Err(CursorError::Fenced));
            }
        }
    }

    /// What was answered can be read, though the engine may take no more.
    pub async fn check_kept(&self, engine: &Engine) {
        for at in 0..PARTITIONS {
            for (offset, (number, _)) in &self.partitions[at as usize].kept {
                if *offset >= self.partitions[at as usize].start_max {
                    let fetched = fetch(engine, partition_id(at), *offset, 1).await.unwrap();
                    assert_eq!(fetched.batches[0].payload, payload(*number));
                }
            }
        }
    }

    /// The producer sends again what it sent last: it is recognised if it is there, and appended if it is not.
    pub async fn retry(&mut self, engine: &Engine) {
        let partition = &mut self.partitions[0];
        if let Some(sent) = self.producer.in_flight {
            let there =
                partition.kept.iter().find(|(_, (number, _))| *number == sent.number).map(|(offset, _)| *offset);
            let appended = append(engine, partition_id(0), sent.batch()).await.unwrap();
            assert_eq!(appended.duplicate, there.is_some());
            assert!(there.is_none_or(|offset| offset == appended.base_offset));
            partition.kept.insert(appended.base_offset, (sent.number, sent.count));
            self.producer.answered(sent.number, appended.base_offset);
        }
        if let Some((sent, offset)) = self.producer.answered {
            let appended = append(engine, partition_id(0), sent.batch()).await.unwrap();
            assert_eq!((appended.duplicate, appended.base_offset), (true, offset));
        }
    }
}

impl ProducerModel {
    fn answered(&mut self, number: u64, offset: u64) {
        if let Some(sent) = self.in_flight.take_if(|sent| sent.number == number) {
            self.sequence += sent.count as i32;
            self.answered = Some((sent, offset));
        }
    }
}

impl PartitionModel {
    async fn check(&mut self, engine: &Engine, at: u32) {
        let bounds = fetch_bounds(engine, partition_id(at)).await.unwrap();
        assert!(bounds.start_offset >= self.start_min, "{bounds:?} went behind the trim to {}", self.start_min);
        assert!(bounds.start_offset <= self.start_max, "{bounds:?} was never trimmed beyond {}", self.start_max);
        self.start_min = bounds.start_offset;
        self.start_max = bounds.start_offset;
        let mut found = BTreeMap::new();
        for batch in read_all(engine, partition_id(at), 3000).await.unwrap() {
            let header = batch.header;
            let number = u64::from_le_bytes(batch.payload[..8].try_into().unwrap());
            assert_eq!(batch.payload, payload(number));
            match self.kept.get(&header.base_offset) {
                Some(kept) => assert_eq!(*kept, (number, header.count)),
                None => {
                    let (count, offset) = self.open.remove(&number).expect("nobody may have sent this");
                    assert_eq!(header.count, count);
                    assert!(offset.is_none_or(|offset| offset == header.base_offset));
                }
            }
            found.insert(header.base_offset, (number, header.count));
        }
        for (offset, (number, count)) in &self.kept {
            let trimmed = offset + u64::from(*count) <= bounds.start_offset;
            assert!(trimmed || found.contains_key(offset), "{number} at {offset} of {at} is lost: {bounds:?}");
        }
        self.kept = found;
        self.open.clear();
    }
}
