//! Where compacted segments go: kept packs that several partitions share, one after the other.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use codec_record::{Batch, BatchHeader};
use parking_lot::MutexGuard;

use crate::engine::Inner;
use crate::pack::Pack;
use crate::pack::index::IndexEntry;
use crate::partition::Partition;
use crate::shard::Shard;
use crate::shard::kept::KeptWriter;

/// A segment that is written, and not read yet.
struct Written {
    partition: Arc<Partition>,
    bytes_taken: u64,
    markers_gone: HashSet<u64>,
}

/// What a shard's compaction writes. Holds the shard's kept packs to itself.
pub struct Output<'a> {
    inner: &'a Inner,
    shard: &'a Shard,
    kept_last: MutexGuard<'a, u32>,
    pack: Option<(KeptWriter<'a>, Vec<Written>)>,
}

/// The segment that is being written.
pub struct SegmentWriter {
    partition: Arc<Partition>,
    /// Its first offset.
    first: u64,
    entries: Vec<IndexEntry>,
    /// What is left of the last batch, if nothing but its offsets is.
    gone: Option<Batch>,
    /// The offsets of the markers of aborted transactions that were left out.
    markers_gone: HashSet<u64>,
    /// The pack that was read last, and how many bytes of it went into this segment.
    source: Option<(Arc<Pack>, u64)>,
}

impl<'a> Output<'a> {
    pub fn new(inner: &'a Inner, shard: &'a Shard) -> Output<'a> {
        Output { inner, shard, kept_last: shard.kept_last.lock(), pack: None }
    }

    /// Whether the pack has all that a pack should have.
    pub fn is_full(&self) -> bool {
        self.pack.as_ref().is_some_and(|(writer, _)| writer.position() >= self.inner.config.pack_bytes)
    }

    /// Makes what was written durable, and has it read from now on.
    pub fn install(&mut self) -> io::Result<()> {
        let Some((writer, written)) = self.pack.take() else { return Ok(()) };
        // Should it fail at the end, the number must not be used again: nobody knows what is there.
        *self.kept_last += 1;
        let (pack, parts) = writer.finish()?;
        for (written, part) in written.iter().zip(&parts) {
            written.partition.replace(part, written.bytes_taken, &written.markers_gone, &pack);
        }
        pack.release();
        drop((written, pack));
        self.inner.reclaim(self.shard);
        Ok(())
    }

    fn writer(&mut self) -> io::Result<&mut (KeptWriter<'a>, Vec<Written>)> {
        if self.pack.is_none() {
            self.pack = Some((KeptWriter::new(self.inner, self.shard, *self.kept_last + 1)?, Vec::new()));
        }
        self.pack.as_mut().ok_or_else(|| io::Error::other("no pack"))
    }
}

impl SegmentWriter {
    pub fn new(partition: Arc<Partition>, first: u64) -> SegmentWriter {
        SegmentWriter { partition, first, entries: Vec::new(), gone: None, markers_gone: HashSet::new(), source: None }
    }

    /// A batch of this pack was read. Called before what becomes of it.
    pub fn read(&mut self, pack: &Arc<Pack>, bytes: u64) {
        match &mut self.source {
            Some((last, read)) if Arc::ptr_eq(last, pack) => *read += bytes,
            source => *source = Some((pack.clone(), bytes)),
        }
    }

    pub fn keep(&mut self, output: &mut Output<'_>, header: &BatchHeader, payload: &[u8]) -> io::Result<()> {
        self.gone = None;
        self.entries.push(output.writer()?.0.batch(self.partition.id, header, payload)?);
        Ok(())
    }

    /// Nothing is kept of a batch, unless it is the last.
    pub fn leave_out(&mut self, rest: Batch, is_marker_of_abort: bool) {
        if is_marker_of_abort {
            self.markers_gone.insert(rest.header.base_offset);
        }
        self.gone = Some(rest);
    }

    /// Ends the segment behind the last batch, and begins the next there.
    pub fn end(&mut self, output: &mut Output<'_>) -> io::Result<()> {
        // Readers that come to the end must be told where it is: an application waits until it has read up to there.
        if let Some(rest) = self.gone.take() {
            self.markers_gone.remove(&rest.header.base_offset);
            self.keep(output, &rest.header, &rest.payload)?;
        }
        let Some(next) = self.entries.last().map(IndexEntry::next_offset) else { return Ok(()) };
        let bytes_taken = self.source.take().map_or(0, |(_, bytes)| bytes);
        let markers_gone = std::mem::take(&mut self.markers_gone);
        let (writer, written) = output.writer()?;
        writer.segment(self.partition.id, self.first, true, std::mem::take(&mut self.entries));
        written.push(Written { partition: self.partition.clone(), bytes_taken, markers_gone });
        self.first = next;
        Ok(())
    }
}
