//! One partition as its readers and its shard's writer see it.
//!
//! The writer assigns offsets and remembers producers; what is published is under one mutex, held for moments
//! and never over I/O: bounds, the recent batches, where the others are, and who waits for more.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec_record::Batch;
use core_rpc::{AbortedTransaction, Bounds, FetchError, Isolation, PartitionId};
use parking_lot::{Mutex, MutexGuard};

use crate::pack::Pack;
use crate::pack::index::{IndexEntry, IndexPart};
use crate::producers::Producers;
use crate::transactions::Visible;
use crate::wait::{Waiter, Waiting};

pub struct Partition {
    pub id: PartitionId,
    /// The number of its shard.
    pub shard: u32,
    /// The offset the next batch gets. Only the shard's writer uses it.
    pub next: AtomicU64,
    /// Changed only by the shard's writer and the cleaner; may be ahead of what is published.
    pub producers: Mutex<Producers>,
    state: Mutex<State>,
}

/// What is published.
#[derive(Default)]
pub struct State {
    pub start: u64,
    pub end: u64,
    /// The topic is gone: nothing is to be published any more.
    pub removed: bool,
    /// The last batches, without gaps up to `end`.
    pub cached: VecDeque<Batch>,
    /// Where the batches are that lie in packs with an index, oldest first.
    pub sealed: VecDeque<Segment>,
    /// Where the batches are whose pack is being written or has no index yet, oldest first.
    pub open: VecDeque<OpenSegment>,
    /// Bytes published since the engine opened.
    pub published_bytes: u64,
    pub transactions: Visible,
    waiting: Vec<Waiting>,
}

/// A partition's batches in one sealed pack.
#[derive(Clone)]
pub struct Segment {
    pub pack: Arc<Pack>,
    pub first: u64,
    pub next: u64,
    pub max_time_ms: i64,
    /// Its entries in the pack's index.
    pub from: u32,
    pub count: u32,
    pub bytes: u64,
    /// Compacted by key: offsets may be missing before its first batch and between them.
    pub compacted: bool,
}

/// A partition's batches in one pack that has no index file yet.
pub struct OpenSegment {
    pub pack: Arc<Pack>,
    /// In offset order. Only ever grown while the pack is written; shared when its index is made.
    pub entries: Arc<Vec<IndexEntry>>,
    pub max_time_ms: i64,
    pub bytes: u64,
}

impl Partition {
    pub fn new(id: PartitionId, shard: u32) -> Partition {
        Partition { id, shard, next: AtomicU64::new(0), producers: Mutex::default(), state: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes a batch visible that is as safe as its topic asks for. `transaction` is the first offset of the transaction
    /// that it is part of; committed readers see it when that is ended.
    pub fn publish(&self, pack: &Arc<Pack>, position: u64, batch: &Batch, transaction: Option<u64>) -> Publication {
        let entry = IndexEntry::new(position, &batch.header);
        let mut state = self.state.lock();
        if state.removed {
            return Publication::Gone;
        }
        let new_segment = state.index(pack, entry);
        state.end = entry.next_offset();
        state.cached.push_back(batch.clone());
        let bytes = entry.stored_bytes();
        let before = state.published_bytes;
        if let Some(first_offset) = transaction {
            state.transactions.opened(first_offset, before);
        }
        state.published_bytes += bytes;
        state.tell(|isolation| match isolation {
            Isolation::Committed if state.transactions.first_open().is_some() => 0,
            _ => bytes,
        });
        if new_segment { Publication::FirstInPack } else { Publication::Done }
    }

    /// A transaction is ended that began at `first_offset`: committed readers see what it held back, or that it was aborted.
    pub fn end_transaction(&self, first_offset: u64, aborted: Option<AbortedTransaction>) {
        let mut state = self.state.lock();
        if state.removed {
            return;
        }
        let before = state.visible_bytes(Isolation::Committed);
        state.transactions.closed(first_offset);
        if let Some(aborted) = aborted.filter(|aborted| aborted.last_offset >= state.start) {
            state.transactions.aborted(aborted);
        }
        let bytes = state.visible_bytes(Isolation::Committed) - before;
        state.tell(|isolation| if isolation == Isolation::Committed { bytes } else { 0 });
    }

    /// Puts a recovered batch in its place.
    pub fn recover(&self, pack: &Arc<Pack>, entry: IndexEntry) -> bool {
        let mut state = self.state.lock();
        if entry.next_offset() <= state.start || state.is_covered(entry.next_offset()) {
            return false;
        }
        state.index(pack, entry)
    }

    /// Moves the start offset forward. Returns whether a pack may have nothing left to live for.
    pub fn advance_start(&self, start: u64) -> bool {
        let mut state = self.state.lock();
        if start <= state.start || state.removed {
            return false;
        }
        state.start = start;
        while state.cached.front().is_some_and(|batch| batch.header.next_offset() <= start) {
            state.cached.pop_front();
        }
        state.transactions.advance_start(start);
        let freed = state.drop_segments();
        for waiting in &state.waiting {
            waiting.waiter.wake(waiting.slot);
        }
        freed
    }

    /// Forgets everything: the topic is gone. Returns whether a pack may have nothing left to live for.
    pub fn remove(&self) -> bool {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.start = u64::MAX;
        let freed = state.drop_segments();
        *state = State { removed: true, ..State::default() };
        *self.producers.lock() = Producers::default();
        waiting.iter().for_each(|waiting| waiting.waiter.wake(waiting.slot));
        freed
    }

    /// Drops recent batches from memory, up to the one that begins at `base_offset`.
    pub fn evict(&self, base_offset: u64) {
        let mut state = self.state.lock();
        while state.cached.front().is_some_and(|batch| batch.header.base_offset <= base_offset) {
            state.cached.pop_front();
        }
        if state.cached.is_empty() {
            state.cached = VecDeque::new();
        }
    }

    /// The entries of a pack that is sealed but has no index yet. None if the partition has none there (any more).
    pub fn open_entries(&self, pack: u32) -> Option<Arc<Vec<IndexEntry>>> {
        let state = self.state.lock();
        state.open.iter().find(|segment| segment.pack.number == pack).map(|segment| segment.entries.clone())
    }

    /// The pack has its index: the entries need not stay in memory.
    pub fn sealed(&self, part: &IndexPart, pack: &Arc<Pack>) {
        let mut state = self.state.lock();
        if let Some(at) = state.open.iter().position(|segment| segment.pack.number == pack.number)
            && let Some(open) = state.open.remove(at)
        {
            // Its beginning may have been compacted while the index was written.
            let segment = Segment { first: open.first(), bytes: open.bytes, ..Segment::new(pack.clone(), part) };
            // Nearly always the last. Not after a recovery that had to make an older pack's index again.
            let at = state.sealed.partition_point(|segment| segment.next < part.next_offset);
            state.sealed.insert(at, segment);
        }
    }

    /// Adds a segment found in a pack's index when the engine opens; `pack` lives for it from now on. Of what several
    /// packs have of the same offsets, that which is found first is taken: kept packs are opened first, newest first.
    pub fn recover_sealed(&self, part: &IndexPart, pack: &Arc<Pack>) -> io::Result<()> {
        let mut state = self.state.lock();
        if part.next_offset <= state.start || state.is_covered(part.next_offset) {
            return Ok(());
        }
        let mut segment = Segment::new(pack.clone(), part);
        let at = state.sealed.partition_point(|other| other.next < part.next_offset);
        let before = at.checked_sub(1).and_then(|at| state.sealed.get(at)).map_or(0, |before| before.next);
        if segment.first < before {
            // What lies before was rewritten into another pack, from the middle of this one on.
            segment.first = before;
            segment.bytes = 0;
            let mut bytes = 0;
            segment.entries(self.id, before, &mut |entry| {
                bytes += entry.stored_bytes();
                true
            })?;
            segment.bytes = bytes;
        }
        pack.hold();
        state.sealed.insert(at, segment);
        Ok(())
    }

    /// The segment's batches have been copied: from now on they are read there. Not if they were trimmed meanwhile.
    pub fn exchange(&self, old: &Segment, part: &IndexPart, pack: &Arc<Pack>) {
        let mut state = self.state.lock();
        let place =
            state.sealed.iter_mut().find(|segment| Arc::ptr_eq(&segment.pack, &old.pack) && segment.next == old.next);
        if let Some(place) = place {
            pack.hold();
            let old = std::mem::replace(place, Segment::new(pack.clone(), part));
            old.pack.release();
        }
    }

    /// The batches from the part's first offset on were rewritten up to its next: from now on they are read there. Of the
    /// segment in which that range ends, `bytes_taken` are in it; the transactions whose markers lay at `markers_gone` are
    /// forgotten. Not if all of it was trimmed meanwhile.
    pub fn replace(&self, part: &IndexPart, bytes_taken: u64, markers_gone: &HashSet<u64>, pack: &Arc<Pack>) {
        let mut state = self.state.lock();
        let (first, next) = (part.first_offset, part.next_offset);
        if state.removed || next <= state.start {
            return;
        }
        let begin = state.sealed.partition_point(|segment| segment.next <= first);
        while state.sealed.get(begin).is_some_and(|segment| segment.next <= next) {
            if let Some(old) = state.sealed.remove(begin) {
                old.pack.release();
            }
        }
        match state.sealed.get_mut(begin) {
            Some(cut) if cut.first < next => {
                cut.first = next;
                cut.bytes = cut.bytes.saturating_sub(bytes_taken);
            }
            _ => {}
        }
        let mut open = std::mem::take(&mut state.open);
        open.retain_mut(|segment| !segment.cut(next));
        state.open = open;
        if !markers_gone.is_empty() {
            state.transactions.forget(|aborted| markers_gone.contains(&aborted.last_offset));
        }
        // Recent batches are whole in memory: readers are to see what is left of them.
        while state.cached.front().is_some_and(|batch| batch.header.base_offset < next) {
            state.cached.pop_front();
        }
        pack.hold();
        state.sealed.insert(begin, Segment::new(pack.clone(), part));
    }

    /// Forgets the aborted transactions whose markers were compacted away, which a snapshot may not know yet.
    pub fn forget_compacted_markers(&self) -> io::Result<()> {
        let mut gone = HashSet::new();
        let mut state = self.state.lock();
        for aborted in state.transactions.all_aborted() {
            let marker = aborted.last_offset;
            let at = state.sealed.partition_point(|segment| segment.next <= marker);
            let Some(segment) = state.sealed.get(at).filter(|segment| segment.compacted && segment.first <= marker)
            else {
                continue;
            };
            let mut is_there = false;
            segment.entries(self.id, marker, &mut |entry| {
                is_there = entry.base_offset <= marker;
                false
            })?;
            if !is_there {
                gone.insert(marker);
            }
        }
        if !gone.is_empty() {
            state.transactions.forget(|aborted| gone.contains(&aborted.last_offset));
        }
        Ok(())
    }

    pub fn bounds(&self) -> Result<Bounds, FetchError> {
        self.state.lock().bounds()
    }

    /// Registers a waiter, and tells it at once what was published after `seen_bytes`.
    pub fn wait(&self, waiter: &Arc<Waiter>, slot: u32, isolation: Isolation, seen_bytes: u64) {
        let mut state = self.state.lock();
        let visible_bytes = state.visible_bytes(isolation);
        if state.removed {
            waiter.wake(slot);
        } else if visible_bytes > seen_bytes {
            waiter.published(slot, visible_bytes - seen_bytes);
        }
        state.waiting.push(Waiting { waiter: waiter.clone(), slot, isolation });
    }

    pub fn unwait(&self, waiter: &Arc<Waiter>) {
        let mut state = self.state.lock();
        if let Some(at) = state.waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.waiter, waiter)) {
            state.waiting.swap_remove(at);
        }
    }

    /// Where the writer's next batch goes.
    pub fn next_offset(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

/// What publishing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    Done,
    /// As [`Publication::Done`], and it is the partition's first batch in this pack.
    FirstInPack,
    /// The topic was removed in the meantime.
    Gone,
}

impl Segment {
    fn new(pack: Arc<Pack>, part: &IndexPart) -> Segment {
        Segment {
            pack,
            first: part.first_offset,
            next: part.next_offset,
            max_time_ms: part.max_time_ms,
            from: part.from,
            count: part.count,
            bytes: part.bytes,
            compacted: part.compacted,
        }
    }
}

impl Segment {
    /// The index entries in offset order, from the first that ends after `offset` on, until `visit` says stop.
    pub fn entries(
        &self,
        partition: PartitionId,
        offset: u64,
        visit: &mut dyn FnMut(&IndexEntry) -> bool,
    ) -> io::Result<()> {
        let range = self.from..self.from.saturating_add(self.count);
        self.pack.entries(partition, range, offset.max(self.first), self.next, visit)
    }
}

impl OpenSegment {
    /// Drops the entries before an offset. True: there are no others, and the pack is released.
    fn cut(&mut self, next: u64) -> bool {
        let gone = self.entries.partition_point(|entry| entry.next_offset() <= next);
        if gone == self.entries.len() {
            self.pack.release();
            return true;
        }
        if gone > 0 {
            self.bytes -= self.entries[..gone].iter().map(IndexEntry::stored_bytes).sum::<u64>();
            Arc::make_mut(&mut self.entries).drain(..gone);
        }
        false
    }

    pub fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.base_offset)
    }

    /// The offset after its last.
    pub fn next(&self) -> u64 {
        self.entries.last().map_or(0, IndexEntry::next_offset)
    }
}

impl State {
    pub fn bounds(&self) -> Result<Bounds, FetchError> {
        if self.removed {
            return Err(FetchError::UnknownPartition);
        }
        // What lies before the start is nobody's concern any more, open or not.
        let stable_offset = self.transactions.first_open().map_or(self.end, |(offset, _)| offset.max(self.start));
        Ok(Bounds { start_offset: self.start, stable_offset, end_offset: self.end })
    }

    /// Of the bytes published since the engine opened, those that such a reader may see.
    pub fn visible_bytes(&self, isolation: Isolation) -> u64 {
        match (isolation, self.transactions.first_open()) {
            (Isolation::Committed, Some((_, bytes_before))) => bytes_before,
            _ => self.published_bytes,
        }
    }

    /// What a reader who got these batches must know of aborted transactions.
    pub fn aborted_among(&self, isolation: Isolation, batches: &[Batch]) -> Vec<AbortedTransaction> {
        match (isolation, batches) {
            (Isolation::Committed, [first, ..]) => {
                let until = batches.last().map_or(0, |last| last.header.next_offset());
                self.transactions.aborted_between(first.header.base_offset, until)
            }
            _ => Vec::new(),
        }
    }

    /// Tells those who wait how many more bytes they may see.
    fn tell(&self, bytes: impl Fn(Isolation) -> u64) {
        for waiting in &self.waiting {
            match bytes(waiting.isolation) {
                0 => {}
                bytes => waiting.waiter.published(waiting.slot, bytes),
            }
        }
    }

    /// Whether a segment is known already that has the batch or segment that ends here, or what compaction left of it.
    fn is_covered(&self, next: u64) -> bool {
        let at = self.sealed.partition_point(|segment| segment.next < next);
        self.sealed.get(at).is_some_and(|segment| segment.first < next)
    }

    /// Adds to the last open segment, or begins one (true).
    fn index(&mut self, pack: &Arc<Pack>, entry: IndexEntry) -> bool {
        match self.open.back_mut() {
            Some(segment) if segment.pack.number == pack.number => {
                Arc::make_mut(&mut segment.entries).push(entry);
                segment.max_time_ms = segment.max_time_ms.max(entry.max_time_ms);
                segment.bytes += entry.stored_bytes();
                false
            }
            _ => {
                pack.hold();
                self.open.push_back(OpenSegment {
                    pack: pack.clone(),
                    entries: Arc::new(vec![entry]),
                    max_time_ms: entry.max_time_ms,
                    bytes: entry.stored_bytes(),
                });
                true
            }
        }
    }

    /// Drops the segments that lie before the start. Returns whether one was its pack's last.
    fn drop_segments(&mut self) -> bool {
        let mut freed = false;
        while self.sealed.front().is_some_and(|segment| segment.next <= self.start) {
            freed |= self.sealed.pop_front().is_some_and(|segment| segment.pack.release());
        }
        while self.open.front().is_some_and(|segment| segment.next() <= self.start) {
            freed |= self.open.pop_front().is_some_and(|segment| segment.pack.release());
        }
        freed
    }
}
