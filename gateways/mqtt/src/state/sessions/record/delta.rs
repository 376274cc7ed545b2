//! What has changed of a session since a record of it: pure, bytes ↔ values.
//!
//! ```text
//! delta        version u8 = 1 │ number of the record │ Head │ Since │ Body       in postcard
//! ```
//! A session with a large backlog, or with thousands of subscriptions, would be written whole for every few messages that it is sent.
//! So it is written whole only when the deltas since have taken as many bytes as that did; a delta says how many of the messages that
//! waited then are gone from the front, and in full what came behind them, what is in flight and which subscriptions changed. Each
//! delta stands for all before it, under a key of its own.

use bytes::Bytes;
use codec_mqtt::Text;
use serde::{Deserialize, Serialize};

use super::{Head, Record, Run, Snapshot, StoredWill, Unreadable, put_body, take_body};
use crate::state::sessions::session::Changed;

const DELTA_VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    pub head: Head,
    pub will: Option<StoredWill>,
    pub changed: Changed,
}

#[derive(Serialize, Deserialize)]
struct Since<'a> {
    taken: u64,
    #[serde(borrow)]
    unsubscribed: Vec<&'a str>,
}

impl Delta {
    pub fn encode(&self) -> Result<Bytes, Unreadable> {
        let Changed { taken, unsubscribed, snapshot } = &self.changed;
        let since = Since { taken: *taken, unsubscribed: unsubscribed.iter().map(Text::as_str).collect() };
        let begin = postcard::to_extend(&(snapshot.number, &self.head, since), vec![DELTA_VERSION])?;
        put_body(begin, self.will.as_ref(), snapshot)
    }

    pub fn decode(delta: &[u8]) -> Result<Delta, Unreadable> {
        let (number, head, rest) = begin(delta)?;
        let (since, rest) = postcard::take_from_bytes::<Since<'_>>(rest)?;
        let unsubscribed = since.unsubscribed.iter().map(|filter| Text::new(*filter).ok_or(Unreadable));
        let unsubscribed = unsubscribed.collect::<Result<_, _>>()?;
        let (will, snapshot) = take_body(rest)?;
        let changed = Changed { taken: since.taken, unsubscribed, snapshot: Snapshot { number, ..snapshot } };
        Ok(Delta { head, will, changed })
    }

    /// The number of its record, and who looked after the session.
    pub fn decode_head(delta: &[u8]) -> Result<(u32, Head), Unreadable> {
        let (number, head, _) = begin(delta)?;
        Ok((number, head))
    }
}

fn begin(delta: &[u8]) -> Result<(u32, Head, &[u8]), Unreadable> {
    let Some((&DELTA_VERSION, rest)) = delta.split_first() else { return Err(Unreadable) };
    let (number, rest) = postcard::take_from_bytes(rest)?;
    let (head, rest) = postcard::take_from_bytes(rest)?;
    Ok((number, head, rest))
}

impl Record {
    /// What the session is with what has changed since. `delta` is of this record.
    pub fn with(self, delta: Delta) -> Record {
        let Record { mut snapshot, .. } = self;
        let Delta { head, will, changed: Changed { mut taken, unsubscribed, snapshot: changed } } = delta;
        snapshot.subscriptions.retain(|(filter, _)| !unsubscribed.contains(filter));
        for (filter, subscribed) in changed.subscriptions {
            match snapshot.subscriptions.iter_mut().find(|(known, _)| *known == filter) {
                Some((_, known)) => *known = subscribed,
                None => snapshot.subscriptions.push((filter, subscribed)),
            }
        }
        let mut waiting: Vec<Run> = Vec::with_capacity(snapshot.waiting.len());
        for run in snapshot.waiting {
            let gone = taken.min(run.count.into());
            taken -= gone;
            waiting.extend(run.without(gone));
        }
        changed.waiting.into_iter().for_each(|run| run.join(&mut waiting));
        let snapshot = Snapshot { subscriptions: snapshot.subscriptions, waiting, ..changed };
        Record { head, will, snapshot }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{at, head, snapshot};
    use super::*;

    proptest! {
        #[test]
        fn a_delta_is_read_as_it_was_written(snapshot in snapshot(), taken: u64, filter in "[a-z/+#]{1,9}") {
            let changed = Changed { taken, unsubscribed: vec![Text::new(filter).unwrap()], snapshot };
            let delta = Delta { head: head(), will: None, changed };
            let bytes = delta.encode().unwrap();
            prop_assert_eq!(Delta::decode_head(&bytes).unwrap(), (7, head()));
            prop_assert_eq!(Delta::decode(&bytes).unwrap(), delta);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, snapshot in snapshot(), at: usize, byte: u8) {
            bytes.insert(0, DELTA_VERSION);
            let _ = (Delta::decode(&bytes), Delta::decode_head(&bytes));
            let delta = Delta { head: head(), will: None, changed: Changed { taken: 9, unsubscribed: Vec::new(), snapshot } };
            let mut damaged = delta.encode().unwrap().to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            if let Ok(delta) = Delta::decode(&damaged) {
                let _ = Record { head: head(), will: None, snapshot: Snapshot::default() }.with(delta);
            }
        }
    }

    #[test]
    fn what_is_gone_is_the_first_and_what_came_is_the_last() {
        let runs = |runs: &[(u64, u32)]| -> Vec<Run> {
            runs.iter().map(|(first, count)| Run { first: at(*first), count: *count }).collect()
        };
        let record =
            |waiting| Record { head: head(), will: None, snapshot: Snapshot { waiting, ..Snapshot::default() } };
        for (taken, expected) in
            [(0, vec![(0, 5), (9, 3)]), (3, vec![(3, 2), (9, 3)]), (6, vec![(10, 2)]), (7, vec![(11, 1)])]
        {
            let snapshot = Snapshot { waiting: runs(&[(11, 1)]), ..Snapshot::default() };
            let delta =
                Delta { head: head(), will: None, changed: Changed { taken, unsubscribed: Vec::new(), snapshot } };
            assert_eq!(record(runs(&[(0, 5), (9, 2)])).with(delta).snapshot.waiting, runs(&expected));
        }
    }
}
