//! Reading a pack from its start, entry by entry, to rebuild what is in memory.

use std::io;

use codec_record::{BatchHeader, HEADER_BYTES};

use super::entry::{ENTRY_BYTES, EntryHead, Kind};
use crate::disk::DiskFile;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a scan ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// After the seal: the journal goes on in the next pack.
    Sealed,
    /// Before bytes that are not an entry: a torn tail, or damage.
    Bad { position: u64 },
}

/// What to do with an entry: (position, head, body).
pub type Visit<'a> = &'a mut dyn FnMut(u64, &EntryHead, &[u8]);

/// Visits the entries from `from` on, until the seal or the first that is not whole. `run` is the run of the entry before,
/// None if that is not known; afterwards the last one's. With `verify_payloads` a batch whose payload is bad is not
/// whole.
pub fn scan(
    file: &dyn DiskFile,
    pack: u32,
    run: &mut Option<u32>,
    from: u64,
    verify_payloads: bool,
    visit: Visit<'_>,
) -> io::Result<ScanEnd> {
    let mut window = Window::new(file)?;
    let mut position = from;
    loop {
        let Some(head) = window.get(position, ENTRY_BYTES)?.and_then(EntryHead::read) else {
            return Ok(ScanEnd::Bad { position });
        };
        let bad = Ok(ScanEnd::Bad { position });
        let of_this_run = match *run {
            None => true,
            Some(run) if head.kind == Kind::Start as u8 => head.run > run,
            Some(run) => head.run == run,
        };
        if head.pack != pack || !of_this_run || !window.reaches(position, ENTRY_BYTES + head.length as usize) {
            return bad;
        }
        // The checked part first: the length of an entry that is not one may ask for the whole file.
        match window.get(position, ENTRY_BYTES + head.checked_bytes())? {
            Some(bytes) if head.matches(bytes) => {}
            _ => return bad,
        }
        let Some(bytes) = window.get(position, ENTRY_BYTES + head.length as usize)? else { return bad };
        let body = &bytes[ENTRY_BYTES..];
        if head.kind == Kind::Batch as u8 && !batch_is_whole(body, verify_payloads) {
            return bad;
        }
        visit(position, &head, body);
        *run = Some(head.run);
        if head.kind == Kind::Seal as u8 {
            return Ok(ScanEnd::Sealed);
        }
        position += (ENTRY_BYTES + head.length as usize) as u64;
    }
}

/// Visits all entries of a sealed pack that can be found from `from` on, over damaged places too; payloads are not
/// verified. Returns whether there were damaged places.
pub fn scan_sealed(file: &dyn DiskFile, pack: u32, mut from: u64, visit: Visit<'_>) -> io::Result<bool> {
    let mut damaged = false;
    loop {
        match scan(file, pack, &mut None, from, false, visit)? {
            ScanEnd::Sealed => return Ok(damaged),
            ScanEnd::Bad { position } => {
                damaged = true;
                match next_entry(file, pack, position + 1)? {
                    Some(next) => from = next,
                    None => return Ok(damaged),
                }
            }
        }
    }
}

/// The next position from which on there is an entry of this pack.
pub fn next_entry(file: &dyn DiskFile, pack: u32, from: u64) -> io::Result<Option<u64>> {
    let mut window = Window::new(file)?;
    let mut position = from;
    while let Some(head) = window.get(position, ENTRY_BYTES)?.and_then(EntryHead::read) {
        if head.pack == pack
            && window.reaches(position, ENTRY_BYTES + head.length as usize)
            && window.get(position, ENTRY_BYTES + head.checked_bytes())?.is_some_and(|bytes| head.matches(bytes))
        {
            return Ok(Some(position));
        }
        position += 1;
    }
    Ok(None)
}

fn batch_is_whole(body: &[u8], verify_payload: bool) -> bool {
    let Ok(header) = BatchHeader::decode(body) else { return false };
    let payload = &body[HEADER_BYTES..];
    payload.len() == header.payload_length as usize
        && header.count > 0
        && (!verify_payload || crc32c::crc32c(payload) == header.payload_crc)
}

/// A part of a file in memory that moves forward.
pub struct Window<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Window { file, len: file.len()?, begin: 0, bytes: Vec::new() })
    }

    /// Whether the file has `length` bytes from `position` on.
    pub fn reaches(&self, position: u64, length: usize) -> bool {
        position.checked_add(length as u64).is_some_and(|end| end <= self.len)
    }

    /// The `length` bytes from `position` on. None if the file ends before.
    pub fn get(&mut self, position: u64, length: usize) -> io::Result<Option<&[u8]>> {
        if !self.reaches(position, length) {
            return Ok(None);
        }
        let end = self.begin + self.bytes.len() as u64;
        if position < self.begin || position + length as u64 > end {
            let wanted = length.max(WINDOW_BYTES).min((self.len - position) as usize);
            // Not kept over a failed read: the window would claim bytes it does not have.
            self.bytes.clear();
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(wanted, 0);
            self.file.read_at(position, &mut bytes)?;
            self.bytes = bytes;
            self.begin = position;
        }
        let at = (position - self.begin) as usize;
        Ok(Some(&self.bytes[at..at + length]))
    }
}
