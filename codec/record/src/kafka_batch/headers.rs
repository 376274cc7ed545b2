//! A record's headers, kept in their encoded form: a record may have millions of tiny ones, which as a list of pairs
//! would take thirty times the memory of the bytes they came in.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::varint::{Cursor, put_nullable_bytes};

/// Headers in order; a key may occur more than once. Well-formed by construction.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    count: i32,
    encoded: Bytes,
}

impl Headers {
    /// What a walk over `encoded` found to be `count` well-formed headers.
    pub(super) fn from_checked(count: i32, encoded: Bytes) -> Self {
        Headers { count, encoded }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value of each, in order, without a copy. Keys are UTF-8 in what clients send, but nothing checks it.
    pub fn iter(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        iter(&self.encoded, self.count)
            .map(|(key, value)| (self.encoded.slice_ref(key), value.map(|value| self.encoded.slice_ref(value))))
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// Key and value of each of `count` well-formed headers.
pub(super) fn iter(encoded: &[u8], count: i32) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut cursor = Cursor { rest: encoded };
    (0..count).map_while(move |_| header(&mut cursor))
}

/// Reads one header, or `None` if it is malformed.
pub(super) fn header<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = cursor.nullable_bytes()??;
    Some((key, cursor.nullable_bytes()?))
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(headers: I) -> Self {
        let mut encoded = BytesMut::new();
        let mut count = 0;
        for (key, value) in headers {
            put_nullable_bytes(&mut encoded, Some(key.as_ref()));
            put_nullable_bytes(&mut encoded, value.as_ref().map(AsRef::as_ref));
            count += 1;
        }
        Headers { count, encoded: encoded.freeze() }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_nulls_are_kept() {
        let headers: Headers = [("a", Some("1")), ("a", None), ("", Some(""))].into_iter().collect();
        let pairs: Vec<_> = headers.iter().collect();
        let bytes = Bytes::from_static;
        assert_eq!(pairs, [(bytes(b"a"), Some(bytes(b"1"))), (bytes(b"a"), None), (bytes(b""), Some(bytes(b"")))]);
        assert_eq!(headers.len(), 3);
    }
}
