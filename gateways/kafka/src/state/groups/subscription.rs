//! The topics that a member of a consumer group subscribes to, read from its join metadata.
//!
//! ```text
//! Subscription (every version starts so):
//!   version i16 │ topics: count i32, each: length i16, UTF-8 bytes │ …
//! ```

use std::collections::BTreeSet;

use super::group::Group;

/// The protocol type of consumers; the metadata of others is unknown to us.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// None if the bytes are not a subscription.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let mut rest = metadata;
    let _version = i16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
    let count = i32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
    let mut topics = Vec::new();
    for _ in 0..count.max(0) {
        let length = i16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        topics.push(std::str::from_utf8(take(&mut rest, usize::try_from(length).ok()?)?).ok()?);
    }
    Some(topics)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

impl Group {
    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// What all members together subscribe to. None: not known.
    pub(super) fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscribed_topics(&member.metadata(protocol))?.into_iter().map(str::to_owned));
        }
        Some(all)
    }

    /// Whether the group reads a topic, so that its offsets there must stay. A group of consumers whose
    /// subscriptions cannot be read is taken to read everything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_whatever_follows_them() {
        let bytes = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bcuser data";
        assert_eq!(subscribed_topics(bytes), Some(vec!["a", "bc"]));
    }

    #[test]
    fn every_cut_and_a_lying_count_are_refused() {
        let bytes = b"\x00\x00\x00\x00\x00\x02\x00\x01a\x00\x02bc";
        for length in 0..bytes.len() {
            assert_eq!(subscribed_topics(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(subscribed_topics(b"\x00\x00\x7f\xff\xff\xff"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x01\xff\xff"), None);
    }
}
