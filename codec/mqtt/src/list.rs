//! Lists in wire form.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use crate::error::Error;
use crate::reader::Reader;

/// What a list is made of.
pub trait Entry: Sized {
    fn read(reader: &mut Reader) -> Result<Self, Error>;
    fn put(&self, out: &mut BytesMut);
}

/// Entries as they stand in a packet, all of them checked; each is decoded when it is asked for. Take the memory of the
/// packet and none beside it, however many there are.
pub struct List<T> {
    bytes: Bytes,
    len: usize,
    entry: PhantomData<fn() -> T>,
}

/// Over the entries of a [`List`].
pub struct Iter<T> {
    reader: Reader,
    entry: PhantomData<fn() -> T>,
}

impl<T: Entry> List<T> {
    /// Everything that `reader` has left; `check` may refuse an entry.
    pub(crate) fn read(reader: &mut Reader, check: impl Fn(&T) -> Result<(), Error>) -> Result<List<T>, Error> {
        let bytes = reader.rest();
        let mut entries = Reader::new(bytes.clone());
        let mut len = 0;
        while !entries.is_empty() {
            check(&T::read(&mut entries)?)?;
            len += 1;
        }
        Ok(List { bytes, len, entry: PhantomData })
    }

    pub fn iter(&self) -> Iter<T> {
        Iter { reader: Reader::new(self.bytes.clone()), entry: PhantomData }
    }
}

impl<T> List<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Entry> Iterator for Iter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        // All entries have been read before.
        if self.reader.is_empty() { None } else { T::read(&mut self.reader).ok() }
    }
}

impl<T: Entry> IntoIterator for &List<T> {
    type Item = T;
    type IntoIter = Iter<T>;

    fn into_iter(self) -> Iter<T> {
        self.iter()
    }
}

impl<T: Entry> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> List<T> {
        let mut bytes = BytesMut::new();
        let len = entries.into_iter().map(|entry| entry.put(&mut bytes)).count();
        List { bytes: bytes.freeze(), len, entry: PhantomData }
    }
}

impl<T: Entry, const N: usize> From<[T; N]> for List<T> {
    fn from(entries: [T; N]) -> List<T> {
        entries.into_iter().collect()
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> List<T> {
        List { bytes: self.bytes.clone(), len: self.len, entry: PhantomData }
    }
}

impl<T> PartialEq for List<T> {
    fn eq(&self, other: &List<T>) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for List<T> {}

impl<T: Entry + fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
