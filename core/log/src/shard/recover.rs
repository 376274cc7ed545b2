//! Opening a shard: the newest snapshot, then the journal from there.
//!
//! A pack that is whole up to its seal is sealed. One that is not was torn by a power cut, or is damaged. A later
//! pack tells, by an entry that is only written when all packs before it are synced: then what is damaged is lost, and reads
//! of it say so, but recovery goes on behind. Without such an entry the pack is the active one: it is cut at the first
//! entry that is not whole, because only what was not synced can be torn; nobody was promised what comes behind, and the
//! packs there are removed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_record::{BatchFlags, BatchHeader, Producer};
use core_rpc::{GroupName, PartitionId};

use super::Shard;
use super::housekeeper::{Fill, Job, SealJob};
use super::writer::Writer;
use crate::cursors::Cursors;
use crate::engine::{Inner, OpenError};
use crate::leases::Leases;
use crate::pack::entry::{CursorBody, ENTRY_BYTES, EndBody, EntryHead, FenceBody, Kind, PendingBody, read_numbered};
use crate::pack::index::{IndexEntry, PackIndex};
use crate::pack::scan::{ScanEnd, next_entry, scan, scan_sealed};
use crate::pack::{Pack, index_name, is_begun, log_name, number_in};
use crate::partition::Partition;
use crate::producers::Producers;
use crate::shard::Next;
use crate::snapshot::{self, Place, Snapshot};

/// Opens a shard and begins a run. The topics are known.
pub fn recover(inner: &Arc<Inner>, shard: &Arc<Shard>) -> Result<Writer, OpenError> {
    let disk = &*inner.disk;
    disk.create_directory(&shard.directory)?;
    let found = tidy(inner, shard)?;
    let numbers = &found.packs;
    let snapshot = snapshot::read_newest(disk, &shard.directory)?;
    let mut recovery = Recovery {
        inner,
        shard,
        run: 0,
        touched: Vec::new(),
        place: Place { pack: 1, position: 0 },
        handed_out: Vec::new(),
        refused: None,
    };
    if let Some(snapshot) = snapshot {
        recovery.restore(snapshot);
    }
    let place = recovery.place;
    let oldest = snapshot::places(disk, &shard.directory)?.first().map_or(0, |place| place.pack);
    shard.snapshot_pack.store(oldest, Ordering::Release);
    // The newest first: it has what became of what the older ones hold.
    for number in found.kept.iter().rev() {
        inner.open_kept(shard, *number)?;
    }
    for number in numbers.iter().copied().take_while(|number| *number < place.pack) {
        recovery.open_indexed(number)?;
    }
    let (active, position) = match recovery.replay(numbers)? {
        Some(found) => found,
        None if numbers.is_empty() => {
            let pack = inner.prepare(shard, 1, inner.config.pack_bytes_first, Fill::Zeros)?;
            let pack = Arc::new(pack);
            shard.packs.lock().insert(1, pack.clone());
            (pack, 0)
        }
        None => return Err(OpenError::PackMissing { shard: shard.number, pack: place.pack }),
    };
    // What a run knew at its end holds if none was begun since.
    let is_last = (active.number, position) == (place.pack, u64::from(place.position));
    let known = recovery.handed_out.drain(..).filter(|_| is_last);
    let known: HashMap<_, _> = known.map(|(group, partition, before)| ((group, partition), before)).collect();
    for slot in shard.leases.all() {
        if let Some(partition) = inner.partition(slot.partition) {
            let end = partition.lock().end;
            let known = known.get(&(slot.group.clone(), slot.partition));
            slot.lock().map.recovered(known.map_or(end, |before| end.min(*before)));
        }
    }
    for partition in inner.partitions_of(shard.number) {
        partition.forget_compacted_markers()?;
    }
    let (run, touched) = (recovery.run + 1, recovery.touched);
    let mut writer = Writer::new(inner.clone(), shard.clone(), active, position, run, touched);
    writer.start()?;
    inner.reclaim(shard);
    Ok(writer)
}

/// Numbers of the files that are there, rising.
#[derive(Default)]
struct Found {
    packs: Vec<u32>,
    kept: Vec<u32>,
}

/// Looks what is there, and removes what an earlier run left unfinished.
fn tidy(inner: &Inner, shard: &Shard) -> io::Result<Found> {
    let mut found = Found::default();
    let mut indexes = Vec::new();
    let mut kept_indexes = Vec::new();
    for name in inner.disk.list(&shard.directory)? {
        let path = format!("{}/{name}", shard.directory);
        if name.ends_with(".tmp") {
            inner.disk.remove(&path)?;
        } else if let Some(number) = number_in(&name, "pack-", ".log") {
            found.packs.push(number);
        } else if let Some(number) = number_in(&name, "pack-", ".index") {
            indexes.push((number, path));
        } else if let Some(number) = number_in(&name, "kept-", ".log") {
            found.kept.push(number);
        } else if let Some(number) = number_in(&name, "kept-", ".index") {
            kept_indexes.push((number, path));
        } else if let Some(number) = number_in(&name, "spare-", ".log") {
            let capacity = inner.disk.open(&path)?.len()?;
            shard.spares.lock().push((number, capacity));
        }
    }
    found.packs.sort_unstable();
    found.kept.sort_unstable();
    *shard.kept_last.lock() =
        kept_indexes.iter().map(|(number, _)| *number).chain(found.kept.iter().copied()).max().unwrap_or(0);
    for (number, path) in &indexes {
        if found.packs.binary_search(number).is_err() {
            inner.disk.remove(path)?;
        }
    }
    for (number, path) in &kept_indexes {
        if found.kept.binary_search(number).is_err() {
            inner.disk.remove(path)?;
        }
    }
    Ok(found)
}

struct Recovery<'a> {
    inner: &'a Arc<Inner>,
    shard: &'a Arc<Shard>,
    /// The last run seen.
    run: u32,
    /// Partitions with batches in the pack being read.
    touched: Vec<Arc<Partition>>,
    /// All before it is in the snapshot.
    place: Place,
    /// See [`Snapshot::handed_out`].
    handed_out: Vec<(GroupName, PartitionId, u64)>,
    /// A kind of entry that this version does not know: what it says would be lost.
    refused: Option<u8>,
}

/// The unit that is being read, if one is: it is applied when all of it was found whole.
#[derive(Default)]
struct Unit {
    /// Where it begins and ends.
    range: Option<(u64, u64)>,
    entries: Vec<(u64, EntryHead, Vec<u8>)>,
}

impl Unit {
    /// Takes an entry that belongs to the unit, or begins one. True: it is whole now.
    fn take(&mut self, position: u64, head: &EntryHead, body: &[u8]) -> bool {
        let next = position + (ENTRY_BYTES + head.length as usize) as u64;
        match self.range {
            Some((_, end)) => {
                self.entries.push((position, *head, body[..head.checked_bytes()].to_vec()));
                next >= end
            }
            None if head.kind == Kind::Unit as u8 => {
                let length = body.try_into().map_or(0, u64::from_le_bytes);
                self.range = (length > 0).then_some((position, next + length));
                false
            }
            None => false,
        }
    }

    fn is_open(&self) -> bool {
        self.range.is_some()
    }

    fn begin(&self) -> Option<u64> {
        self.range.map(|(begin, _)| begin)
    }

    /// Hands out what it has of its entries.
    fn finish(&mut self, apply: &mut dyn FnMut(u64, &EntryHead, &[u8])) {
        self.range = None;
        self.entries.drain(..).for_each(|(position, head, body)| apply(position, &head, &body));
    }
}

impl Recovery<'_> {
    fn restore(&mut self, snapshot: Snapshot) {
        self.place = snapshot.place;
        self.run = snapshot.run;
        self.handed_out = snapshot.handed_out;
        for kept in snapshot.partitions {
            let Some(partition) = self.inner.partition(kept.id) else { continue };
            *partition.producers.lock() = Producers::from_entries(kept.producers);
            partition.next.store(kept.end, Ordering::Relaxed);
            let mut state = partition.lock();
            (state.start, state.end) = (kept.start, kept.end);
        }
        let mut cursors = self.shard.cursors.lock();
        for (group, partition, kept) in snapshot.cursors {
            if self.inner.partition(partition).is_some() {
                cursors.restore(group, partition, kept);
            }
        }
        let older = snapshot.leases.into_iter().map(|(group, partition, kept)| (group, partition, kept.into()));
        for (group, partition, image) in older.chain(snapshot.maps) {
            if self.inner.partition(partition).is_some() {
                self.shard.leases.restore(&group, partition, image);
            }
        }
        for (group, partition, pending) in snapshot.pending {
            if self.inner.partition(partition).is_some() {
                cursors.restore_pending(group, partition, pending);
            }
        }
        let mut transactions = self.shard.transactions.lock();
        for (id, fence) in snapshot.fences {
            transactions.raise(id, fence.epoch, fence.time_ms);
        }
        for (id, decision) in snapshot.decisions {
            transactions.carried_out(id, Some(decision));
        }
        for (id, partition, open) in snapshot.open {
            let Some(partition) = self.inner.partition(partition) else { continue };
            transactions.restore(id, partition.id, Some(open));
            if let Some(first_offset) = open.first_offset {
                partition.lock().transactions.opened(first_offset, 0);
            }
        }
        for (partition, aborted) in snapshot.aborted {
            let Some(partition) = self.inner.partition(partition) else { continue };
            let mut state = partition.lock();
            aborted.into_iter().for_each(|aborted| state.transactions.aborted(aborted));
        }
    }

    fn open_pack(&self, number: u32) -> io::Result<Arc<Pack>> {
        let pack = Arc::new(Pack::open(&*self.inner.disk, &self.shard.directory, number)?);
        self.shard.packs.lock().insert(number, pack.clone());
        Ok(pack)
    }

    /// A pack whose state is in the snapshot: only its index is needed.
    fn open_indexed(&mut self, number: u32) -> Result<(), OpenError> {
        let pack = self.open_pack(number)?;
        match PackIndex::open(&*self.inner.disk, &index_name(&self.shard.directory, number), number) {
            Ok((index, parts)) => {
                pack.set_index(index);
                for part in parts {
                    if let Some(partition) = self.inner.partition(part.partition) {
                        partition.recover_sealed(&part, &pack)?;
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(shard = self.shard.number, pack = number, %error, "a pack's index is made again");
                self.read_sealed(&pack)
            }
        }
    }

    /// Reads the journal from the snapshot's place on. Returns the active pack and where it goes on; None if the first
    /// pack is missing.
    fn replay(&mut self, numbers: &[u32]) -> Result<Option<(Arc<Pack>, u64)>, OpenError> {
        let mut number = self.place.pack;
        loop {
            if numbers.binary_search(&number).is_err() {
                return match number == self.place.pack && numbers.is_empty() {
                    true => Ok(None),
                    false => Err(OpenError::PackMissing { shard: self.shard.number, pack: number }),
                };
            }
            let pack = self.open_pack(number)?;
            if let Some(position) = self.read_journal(&pack, numbers)? {
                self.keep_prepared(number, numbers)?;
                return Ok(Some((pack, position)));
            }
            number += 1;
        }
    }

    /// Reads a pack of the journal. Returns where its whole entries end, or None if it is sealed.
    fn read_journal(&mut self, pack: &Arc<Pack>, numbers: &[u32]) -> Result<Option<u64>, OpenError> {
        let synced = if pack.number == self.place.pack { u64::from(self.place.position) } else { 0 };
        let mut run = None;
        let mut from = 0;
        loop {
            let mut unit = Unit::default();
            let end = scan(&*pack.file, pack.number, &mut run, from, true, &mut |position, head, body| {
                if unit.take(position, head, body) {
                    unit.finish(&mut |position, head, body| self.apply(pack, position, head, body));
                } else if !unit.is_open() {
                    self.apply(pack, position, head, body);
                }
            })?;
            self.check_refused()?;
            let ScanEnd::Bad { position } = end else {
                self.seal(pack)?;
                return Ok(None);
            };
            if self.is_sealed(pack, numbers)? {
                unit.finish(&mut |position, head, body| self.apply(pack, position, head, body));
                self.read_damaged(pack, position)?;
                return Ok(None);
            }
            if position >= synced {
                // What is torn of a unit takes the rest of it along.
                return Ok(Some(unit.begin().unwrap_or(position)));
            }
            unit.finish(&mut |position, head, body| self.apply(pack, position, head, body));
            // The snapshot says that more was synced: this is damage, not a torn tail.
            self.say_damaged(pack, position);
            from = next_entry(&*pack.file, pack.number, position + 1)?.map_or(synced, |next| next.min(synced));
            run = None;
        }
    }

    /// Whether a pack with bytes that are no entry is sealed and synced all the same: a later one says so.
    fn is_sealed(&self, pack: &Pack, numbers: &[u32]) -> io::Result<bool> {
        for number in pack.number + 1.. {
            if numbers.binary_search(&number).is_err() {
                break;
            }
            let file = self.inner.disk.open(&log_name(&self.shard.directory, number))?;
            if !is_begun(&*file, number)? {
                break;
            }
            let mut says = false;
            scan(&*file, number, &mut None, 0, false, &mut |_, head, _| {
                says |= Kind::of(head.kind).is_some_and(Kind::follows_sync);
            })?;
            if says {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A pack whose state is in the snapshot, for its index only.
    fn read_sealed(&mut self, pack: &Arc<Pack>) -> Result<(), OpenError> {
        self.read_damaged(pack, 0)
    }

    /// Reads what can be found of a sealed pack from a position on.
    fn read_damaged(&mut self, pack: &Arc<Pack>, from: u64) -> Result<(), OpenError> {
        let damaged = scan_sealed(&*pack.file, pack.number, from, &mut |position, head, body| {
            self.apply(pack, position, head, body);
        })?;
        if damaged || from > 0 {
            self.say_damaged(pack, from);
        }
        self.check_refused()?;
        self.seal(pack)?;
        Ok(())
    }

    fn say_damaged(&self, pack: &Pack, position: u64) {
        tracing::error!(
            shard = self.shard.number,
            pack = pack.number,
            position,
            "a pack is damaged: what was there is lost"
        );
    }

    /// Has the index of a sealed pack made. Whoever wrote the pack may have had no time to sync it.
    fn seal(&mut self, pack: &Arc<Pack>) -> io::Result<()> {
        pack.file.sync_data()?;
        let touched = std::mem::take(&mut self.touched);
        let shard = self.shard.clone();
        let seal = SealJob { shard, pack: pack.clone(), touched, snapshot: None, indexed: false };
        self.inner.housekeep(Job::Seal(Box::new(seal)));
        Ok(())
    }

    /// The next pack, if it was prepared and not used, still can be. What else is behind the active one goes, durably:
    /// what it holds comes behind what was cut, and must not be found when the journal gets there again.
    fn keep_prepared(&self, active: u32, numbers: &[u32]) -> io::Result<()> {
        let mut removed = false;
        for number in numbers.iter().copied().filter(|number| *number > active) {
            let pack = Pack::open(&*self.inner.disk, &self.shard.directory, number)?;
            if number == active + 1 && !is_begun(&*pack.file, number)? {
                *self.shard.next.lock() = Next::Ready(pack);
            } else {
                self.inner.disk.remove(&log_name(&self.shard.directory, number))?;
                removed = true;
            }
        }
        if removed { self.inner.disk.sync_directory(&self.shard.directory) } else { Ok(()) }
    }

    fn check_refused(&self) -> Result<(), OpenError> {
        match self.refused {
            Some(kind) => Err(OpenError::UnknownEntry { kind }),
            None => Ok(()),
        }
    }

    /// Applies one entry. What the snapshot has is only indexed.
    fn apply(&mut self, pack: &Arc<Pack>, position: u64, head: &EntryHead, body: &[u8]) {
        let in_snapshot = Place { pack: pack.number, position: position as u32 } < self.place;
        self.run = self.run.max(head.run);
        let Some(kind) = Kind::of(head.kind) else {
            self.refused = Some(head.kind);
            return;
        };
        let is_mark = matches!(kind, Kind::Start | Kind::Seal | Kind::Synced | Kind::Cover | Kind::Unit);
        if is_mark || (in_snapshot && kind != Kind::Batch) {
            return;
        }
        match kind {
            Kind::End => return self.apply_end(body),
            Kind::Fence => return self.apply_fence(body),
            _ => {}
        }
        let Some(partition) = self.inner.partition(head.partition) else { return };
        match kind {
            Kind::Batch => self.apply_batch(&partition, pack, position, body, in_snapshot),
            Kind::Trim => apply_trim(&partition, body),
            Kind::Cursor | Kind::Forget => apply_cursor(&mut self.shard.cursors.lock(), &partition, kind, body),
            Kind::Pending => self.apply_pending(&partition, body),
            Kind::Start | Kind::Seal | Kind::Synced | Kind::Cover | Kind::Unit | Kind::End | Kind::Fence => {}
            Kind::LeaseSettle | Kind::LeaseSeek | Kind::LeaseForget => {
                apply_lease(&self.shard.leases, &partition, kind, body);
            }
        }
    }

    fn apply_batch(
        &mut self,
        partition: &Arc<Partition>,
        pack: &Arc<Pack>,
        position: u64,
        body: &[u8],
        in_snapshot: bool,
    ) {
        let Ok(header) = codec_record::BatchHeader::decode(body) else { return };
        let entry = IndexEntry::new(position, &header);
        if !in_snapshot {
            let mut state = partition.lock();
            if entry.base_offset < state.end {
                drop(state);
                tracing::error!(partition = ?partition.id, offset = entry.base_offset, "a batch lies where another is: it is left out");
                return;
            }
            state.end = entry.next_offset();
            partition.next.store(state.end, Ordering::Relaxed);
            drop(state);
            if let Some(producer) = header.producer {
                partition.producers.lock().appended(producer, &header);
                self.apply_transactional(partition, producer, &header);
            }
        }
        if partition.recover(pack, entry) {
            self.touched.push(partition.clone());
        }
    }
}

impl Recovery<'_> {
    fn apply_transactional(&self, partition: &Partition, producer: Producer, header: &BatchHeader) {
        if !header.flags.contains(BatchFlags::TRANSACTIONAL) || header.flags.contains(BatchFlags::CONTROL) {
            return;
        }
        let (offset, time_ms) = (header.base_offset, header.append_time_ms);
        let mut transactions = self.shard.transactions.lock();
        let open = transactions.add_batch(producer.id, producer.epoch, partition.id, offset, time_ms);
        if let Some(first_offset) = open.first_offset {
            partition.lock().transactions.opened(first_offset, 0);
        }
    }

    fn apply_pending(&self, partition: &Partition, body: &[u8]) {
        let Ok(body) = postcard::from_bytes::<PendingBody>(body) else { return };
        let (producer, time_ms) = (body.producer, body.time_ms);
        self.shard.transactions.lock().add_cursor(producer.id, producer.epoch, partition.id, time_ms);
        self.shard.cursors.lock().commit_pending(partition.id, body);
    }

    fn apply_fence(&self, body: &[u8]) {
        let Some(body) = read_numbered::<FenceBody>(body) else { return };
        let mut transactions = self.shard.transactions.lock();
        transactions.raise(body.producer_id, body.epoch, body.time_ms);
        transactions.carried_out(body.producer_id, Some(body.decision));
    }

    fn apply_end(&self, body: &[u8]) {
        let Some(body) = read_numbered::<EndBody>(body) else { return };
        let mut transactions = self.shard.transactions.lock();
        transactions.raise(body.producer_id, body.epoch, body.time_ms);
        transactions.carried_out(body.producer_id, body.decision());
        let open: Vec<_> = transactions.of(body.producer_id, body.ended_epoch_max).collect();
        open.iter().for_each(|(partition, _)| transactions.close(body.producer_id, *partition));
        for ended in &body.partitions {
            if let Some(partition) = self.inner.partition(ended.partition) {
                partition.end_transaction(ended.first_offset, body.aborted(ended));
            }
        }
        self.shard.cursors.lock().end(body.producer_id, body.ended_epoch_max, body.outcome);
    }
}

fn apply_trim(partition: &Partition, body: &[u8]) {
    let Ok(bytes) = body.try_into() else { return };
    let start = u64::from_le_bytes(bytes);
    let end = partition.lock().end;
    if start > end {
        // Batches before it were lost to damage.
        partition.lock().end = start;
        partition.next.store(start, Ordering::Relaxed);
    }
    partition.advance_start(start);
}

fn apply_lease(leases: &Leases, partition: &Partition, kind: Kind, body: &[u8]) {
    match kind {
        Kind::LeaseSettle => {
            if let Ok(body) = postcard::from_bytes(body) {
                leases.settle(partition.id, &body);
            }
        }
        Kind::LeaseSeek => {
            if let Ok(body) = postcard::from_bytes(body) {
                leases.seek(partition.id, &body);
            }
        }
        _ => {
            if let Ok(group) = postcard::from_bytes(body) {
                leases.forget(&group, partition.id);
            }
        }
    }
}

fn apply_cursor(cursors: &mut Cursors, partition: &Partition, kind: Kind, body: &[u8]) {
    if kind == Kind::Forget {
        if let Ok(group) = postcard::from_bytes(body) {
            cursors.forget(&group, partition.id);
        }
    } else if let Ok(body) = postcard::from_bytes::<CursorBody>(body) {
        cursors.commit(partition.id, body);
    }
}
