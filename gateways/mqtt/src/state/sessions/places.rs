//! References: a message that waits for a session without its bytes, in 16 bytes.
//!
//! ```text
//! partition (4, an index into the gateway's table) │ ids (4: qos 2 bits, retain 1 bit, index of identifiers 29 bits) │ offset (8)
//! ```

use std::collections::HashMap;

use codec_mqtt::QoS;
use core_rpc::PartitionId;
use parking_lot::RwLock;

use super::delivery::{Place, SubscriptionIds};

/// Where a message lies that waits, and how it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    partition: u32,
    how: u32,
    pub offset: u64,
}

const RETAIN: u32 = 1 << 2;
const IDS_SHIFT: u32 = 3;

impl Reference {
    /// The index of its subscription identifiers ([`IdTable`]).
    pub fn ids(self) -> u32 {
        self.how >> IDS_SHIFT
    }

    pub fn qos(self) -> QoS {
        QoS::of((self.how & 3) as u8).unwrap_or_default()
    }

    pub fn retain(self) -> bool {
        self.how & RETAIN != 0
    }
}

/// The partitions that references of this gateway name.
#[derive(Debug, Default)]
pub struct Places {
    state: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_index: Vec<PartitionId>,
    by_id: HashMap<PartitionId, u32>,
}

impl Places {
    pub fn reference(&self, place: Place, qos: QoS, retain: bool, ids: u32) -> Reference {
        let how = qos as u32 | if retain { RETAIN } else { 0 } | ids << IDS_SHIFT;
        Reference { partition: self.index(place.partition), how, offset: place.offset }
    }

    pub fn place(&self, reference: Reference) -> Place {
        // Every reference was made here, and nothing is ever taken out.
        Place { partition: self.state.read().by_index[reference.partition as usize], offset: reference.offset }
    }

    fn index(&self, partition: PartitionId) -> u32 {
        if let Some(&index) = self.state.read().by_id.get(&partition) {
            return index;
        }
        let mut state = self.state.write();
        let next = state.by_index.len() as u32;
        let index = *state.by_id.entry(partition).or_insert(next);
        if index == next {
            state.by_index.push(partition);
        }
        index
    }
}

/// The lists of subscription identifiers that a session's references have. A client uses few.
#[derive(Debug, Default)]
pub struct IdTable {
    lists: Vec<SubscriptionIds>,
    by_list: HashMap<SubscriptionIds, u32>,
}

/// So many lists a reference can tell apart; what is more goes without identifiers.
const LISTS_MAX: usize = 1 << 20;

impl IdTable {
    /// 0 is none.
    pub fn index(&mut self, ids: &SubscriptionIds) -> u32 {
        if *ids == SubscriptionIds::None {
            return 0;
        }
        if let Some(&index) = self.by_list.get(ids) {
            return index;
        }
        if self.lists.len() >= LISTS_MAX {
            return 0;
        }
        self.lists.push(ids.clone());
        let index = self.lists.len() as u32;
        self.by_list.insert(ids.clone(), index);
        index
    }

    pub fn list(&self, index: u32) -> SubscriptionIds {
        match index {
            0 => SubscriptionIds::None,
            more => self.lists.get(more as usize - 1).cloned().unwrap_or_default(),
        }
    }
}
