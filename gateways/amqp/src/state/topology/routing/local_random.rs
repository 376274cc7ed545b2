//! The bindings of an `x-local-random` exchange: each message goes to one of the bound queues, whichever chance picks. RabbitMQ asks for queues
//! on the node at which it was published; here every queue is at every gateway.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Binding;

/// What is drawn from: bindings, and a counter whose hashes under a random key pick among them.
#[derive(Debug, Default)]
pub struct Draw {
    bindings: Vec<Arc<Binding>>,
    drawn: AtomicU64,
    key: RandomState,
}

impl Draw {
    pub fn add(&mut self, binding: Arc<Binding>) {
        self.bindings.push(binding);
    }

    pub fn remove(&mut self, binding: &Arc<Binding>) {
        self.bindings.retain(|other| !Arc::ptr_eq(other, binding));
    }

    /// One of the bindings; None if there are none.
    pub fn draw(&self) -> Option<&Arc<Binding>> {
        let mut hasher = self.key.build_hasher();
        hasher.write_u64(self.drawn.fetch_add(1, Ordering::Relaxed));
        let at = hasher.finish().checked_rem(self.bindings.len() as u64)?;
        self.bindings.get(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arguments::Arguments;
    use super::super::binding;
    use super::*;

    #[test]
    fn each_has_its_share_and_who_is_gone_none() {
        let mut draw = Draw::default();
        assert!(draw.draw().is_none());
        let bindings = ["a", "b", "c"].map(|queue| binding(queue, "", Arguments::default()));
        bindings.iter().cloned().for_each(|binding| draw.add(binding));
        let shares = |draw: &Draw| {
            let mut shares = [0; 3];
            for _ in 0..3000 {
                let drawn = draw.draw().unwrap();
                shares[bindings.iter().position(|binding| Arc::ptr_eq(binding, drawn)).unwrap()] += 1;
            }
            shares
        };
        // Twelve standard deviations from the 1000 that each may expect.
        assert!(shares(&draw).iter().all(|share| (690..1310).contains(share)), "{:?}", shares(&draw));
        draw.remove(&bindings[1]);
        assert_eq!(shares(&draw)[1], 0);
    }
}
