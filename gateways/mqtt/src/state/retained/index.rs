//! Names and what is retained under them, in order. Pure.
//!
//! An ordered map of whole names, not a trie: 1,000,000 names take about as much either way, but here a walk can be left
//! and taken up again by a name, which is what a slow subscriber to `#` needs, whatever changes meanwhile; a prefix is a range; and a filter
//! with `+` leaps from match to match ([`super::scan`]).
//!
//! The messages themselves are kept too while they fit a budget; of the others only the place in the log is known.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::scan::{Scan, Step};

/// How many names are passed one by one before the map is asked for the next: asking costs as much as passing a dozen.
const PASSED_MAX: usize = 8;

/// How many names a walk may look at for each that it may find: so long it keeps others waiting.
const LOOKS_PER_MATCH: usize = 16;

/// A message that is retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Of the topic of retained messages.
    pub partition: u32,
    pub offset: u64,
    /// When it is over, ms since the Unix epoch. None: never.
    pub expires_ms: Option<i64>,
    pub body: Body,
}

impl Retained {
    /// Whether its time is over.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }
}

/// The stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    InMemory(Bytes),
    /// It is to be fetched.
    InLog,
}

/// One name's, as small as can be.
#[derive(Debug)]
struct Entry {
    offset: u64,
    /// `i64::MAX`: never.
    expires_ms: i64,
    body: Option<Arc<[u8]>>,
    partition: u32,
    /// Of the message as it is stored, wherever that is.
    stored_bytes: u32,
}

impl Entry {
    fn retained(&self) -> Retained {
        let body = self.body.clone().map_or(Body::InLog, |body| Body::InMemory(Bytes::from_owner(body)));
        let expires_ms = self.expires().then_some(self.expires_ms);
        Retained { partition: self.partition, offset: self.offset, expires_ms, body }
    }

    fn expires(&self) -> bool {
        self.expires_ms != i64::MAX
    }

    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.len())
    }
}

/// Where a walk goes on: at the first name that is not before this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

/// A part of what a filter matches.
#[derive(Debug, Default)]
pub struct Chunk {
    /// By name.
    pub found: Vec<(Box<str>, Retained)>,
    /// None: that was all.
    pub next: Option<Cursor>,
}

#[derive(Debug)]
pub struct RetainedIndex {
    names: BTreeMap<Box<str>, Entry>,
    /// How many of them expire.
    expiring: usize,
    /// Of all messages, stored.
    stored_bytes: u64,
    /// Of those that are in memory.
    bytes: usize,
    bytes_max: usize,
}

impl RetainedIndex {
    /// An index that keeps messages of at most `bytes_max` bytes in memory.
    pub fn new(bytes_max: usize) -> RetainedIndex {
        RetainedIndex { names: BTreeMap::new(), expiring: 0, stored_bytes: 0, bytes: 0, bytes_max }
    }

    /// Retains a message, whose stored form is `body`. What is older than what is known (of the same partition) changes nothing.
    pub fn put(&mut self, name: &str, partition: u32, offset: u64, expires_ms: Option<i64>, body: &[u8]) {
        let expires_ms = expires_ms.unwrap_or(i64::MAX);
        let stored_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let fresh = Entry { offset, expires_ms, body: None, partition, stored_bytes };
        let (entry, old) = match self.names.get_mut(name) {
            Some(known) if known.partition == partition && known.offset > offset => return,
            Some(known) => {
                let old = std::mem::replace(known, fresh);
                (known, Some(old))
            }
            None => (self.names.entry(name.into()).or_insert(fresh), None),
        };
        if let Some(old) = old {
            self.bytes -= old.bytes();
            self.stored_bytes -= u64::from(old.stored_bytes);
            self.expiring -= usize::from(old.expires());
        }
        self.stored_bytes += u64::from(stored_bytes);
        self.expiring += usize::from(entry.expires());
        if self.bytes + body.len() <= self.bytes_max {
            // Copied: a slice of the batch would keep all of the batch.
            entry.body = Some(body.into());
            self.bytes += body.len();
        }
    }

    /// Nothing is retained under the name any more, as of this place in the log. False: nothing was, or something newer is.
    pub fn remove(&mut self, name: &str, partition: u32, offset: u64) -> bool {
        if self.names.get(name).is_none_or(|known| known.partition == partition && known.offset > offset) {
            return false;
        }
        self.take_out(name);
        true
    }

    fn take_out(&mut self, name: &str) {
        if let Some(known) = self.names.remove(name) {
            self.bytes -= known.bytes();
            self.stored_bytes -= u64::from(known.stored_bytes);
            self.expiring -= usize::from(known.expires());
        }
    }

    pub fn get(&self, name: &str) -> Option<Retained> {
        self.names.get(name).map(Entry::retained)
    }

    /// Up to `max` of those whose names the filter matches, by name; from the cursor on if there is one. It looks at a bounded number of
    /// names, so there may be fewer, or none, though it is not the end.
    pub fn matching_after(&self, filter: &str, cursor: Option<&Cursor>, max: usize) -> Chunk {
        let mut chunk = Chunk::default();
        if !filter.contains(['+', '#']) {
            let found = self.names.get_key_value(filter).filter(|_| cursor.is_none());
            chunk.found.extend(found.map(|(name, entry)| (name.clone(), entry.retained())));
            return chunk;
        }
        let max = max.max(1);
        let scan = Scan::new(filter);
        let mut bound = cursor.map_or_else(String::new, |cursor| cursor.0.clone());
        let mut looks = max.saturating_mul(LOOKS_PER_MATCH);
        'seek: loop {
            let from = (Bound::Included(bound.as_str()), Bound::Unbounded);
            let mut passed = 0;
            let names = self.names.range::<str, _>(from);
            // What is before `bound` is passed or leapt over; it is where this round began until a leap moves it.
            let mut next_bound = String::new();
            for (name, entry) in names {
                if looks == 0 || chunk.found.len() >= max {
                    chunk.next = Some(Cursor(name.to_string()));
                    return chunk;
                }
                looks -= 1;
                if **name < *next_bound {
                    passed += 1;
                    if passed > PASSED_MAX {
                        bound = next_bound;
                        continue 'seek;
                    }
                    continue;
                }
                passed = 0;
                match scan.step(name, &mut next_bound) {
                    Step::Match => chunk.found.push((name.clone(), entry.retained())),
                    Step::Next | Step::Leap => {}
                    Step::End => return chunk,
                }
            }
            return chunk;
        }
    }

    /// Calls `visit` with all whose names the filter matches, by name.
    pub fn matching(&self, filter: &str, visit: &mut impl FnMut(&str, Retained)) {
        let mut cursor = None;
        loop {
            let chunk = self.matching_after(filter, cursor.as_ref(), 1024);
            chunk.found.into_iter().for_each(|(name, retained)| visit(&name, retained));
            cursor = chunk.next;
            if cursor.is_none() {
                return;
            }
        }
    }

    /// Removes what is over among up to `max` names, from the cursor on, and says of what partition each was. Returns where to
    /// go on; None: from the beginning.
    pub fn sweep(
        &mut self,
        cursor: Option<&Cursor>,
        max: usize,
        now_ms: i64,
        visit: &mut impl FnMut(u32),
    ) -> Option<Cursor> {
        if self.expiring == 0 {
            return None;
        }
        let from = (Bound::Included(cursor.map_or("", |cursor| cursor.0.as_str())), Bound::Unbounded);
        let mut over = Vec::new();
        let mut next = None;
        for (at, (name, entry)) in self.names.range::<str, _>(from).enumerate() {
            if at == max {
                next = Some(Cursor(name.to_string()));
                break;
            }
            if entry.expires_ms <= now_ms {
                visit(entry.partition);
                over.push(name.clone());
            }
        }
        over.iter().for_each(|name| self.take_out(name));
        next
    }

    /// Names under which something is retained; what is over is among them until somebody removes it.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Of the messages that are kept in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of all messages, as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }
}
