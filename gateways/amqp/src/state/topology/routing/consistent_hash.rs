//! The bindings of an `x-consistent-hash` exchange: each has as many buckets as its routing key says, in the order in which
//! they were made; a hash picks a bucket by jump consistent hashing (Lamping and Veach, 2014), so that a new binding takes
//! messages from the others without moving any between them.

use std::sync::Arc;

use gateway_runtime::hash::fnv1a;

use super::Binding;

/// The most buckets of one binding, as RabbitMQ has it.
pub const WEIGHT_MAX: u32 = 10_000;

#[derive(Debug, Default)]
pub struct Ring {
    /// By the order in which they were made; of one destination only the first counts.
    bindings: Vec<Arc<Binding>>,
    /// (the number of the bucket after its last one, place in `bindings`), rising.
    ends: Vec<(u32, usize)>,
}

impl Ring {
    pub fn add(&mut self, binding: Arc<Binding>) {
        let at = self.bindings.partition_point(|other| other.version < binding.version);
        self.bindings.insert(at, binding);
        self.count();
    }

    pub fn remove(&mut self, binding: &Arc<Binding>) {
        self.bindings.retain(|other| !Arc::ptr_eq(other, binding));
        self.count();
    }

    fn count(&mut self) {
        self.ends.clear();
        let mut end = 0;
        for (at, binding) in self.bindings.iter().enumerate() {
            let is_first = self.bindings[..at]
                .iter()
                .all(|other| (other.kind, &other.destination) != (binding.kind, &binding.destination));
            let weight = binding.routing_key.parse::<u32>().unwrap_or(0).min(WEIGHT_MAX);
            if is_first && weight > 0 {
                end += weight;
                self.ends.push((end, at));
            }
        }
    }

    /// The binding for what is hashed.
    pub fn choose(&self, hashed: &[u8]) -> Option<&Arc<Binding>> {
        let (buckets, _) = *self.ends.last()?;
        let bucket = jump(hash(hashed), buckets);
        let at = self.ends.partition_point(|(end, _)| *end <= bucket);
        self.ends.get(at).map(|(_, binding)| &self.bindings[*binding])
    }
}

/// FNV-1a with a finishing mix: the same in every gateway and in every version.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = fnv1a(bytes.iter().copied());
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The bucket of a key among `buckets`, which are at least one.
fn jump(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0_i64, 0_i64);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
    }
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::super::binding;
    use super::*;

    fn counts(ring: &Ring) -> std::collections::BTreeMap<String, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..10_000 {
            let chosen = ring.choose(format!("key {number}").as_bytes()).unwrap();
            *counts.entry(chosen.destination.to_string()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn messages_are_spread_by_weight() {
        let mut ring = Ring::default();
        assert!(ring.choose(b"x").is_none());
        ring.add(binding("a", "1", Default::default()));
        ring.add(binding("b", "3", Default::default()));
        ring.add(binding("b", "5", Default::default()));
        let counts = counts(&ring);
        assert!((2_200..2_800).contains(&counts["a"]), "{counts:?}");
        assert_eq!(counts["a"] + counts["b"], 10_000);
    }

    #[test]
    fn a_new_binding_moves_nothing_between_the_others() {
        let mut ring = Ring::default();
        for name in ["a", "b", "c"] {
            ring.add(binding(name, "2", Default::default()));
        }
        let before: Vec<_> = (0..1_000_u32).map(|n| ring.choose(&n.to_be_bytes()).unwrap().clone()).collect();
        ring.add(binding("d", "2", Default::default()));
        let moved = (0..1_000_u32).zip(&before).filter(|(n, before)| {
            let now = ring.choose(&n.to_be_bytes()).unwrap();
            assert!(Arc::ptr_eq(now, before) || &*now.destination == "d");
            !Arc::ptr_eq(now, before)
        });
        assert!((150..350).contains(&moved.count()));
    }
}
