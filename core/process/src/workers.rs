//! The threads that serve connections. What writes to disks has threads of its own.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of so many threads; None: of one fewer than the machine has cores, and one at least. What wakes another thread costs more
/// than most of what a message makes a broker do, and the log's writers, their syncs and the kernel's share of the network want a core too.
pub fn runtime(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let threads = threads
        .map_or_else(|| default_threads(available_parallelism().map_or(1, NonZeroUsize::get)), NonZeroUsize::get);
    Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// Whether the tasks of the runtime that this is called in take turns on one thread: then who gives way decides what is done first.
pub fn is_one() -> bool {
    Handle::current().metrics().num_workers() == 1
}

fn default_threads(cores: usize) -> usize {
    cores.saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_to_others_where_there_is_more_than_one() {
        assert_eq!([1, 2, 4, 16].map(default_threads), [1, 1, 3, 15]);
        let asked = runtime(NonZeroUsize::new(3)).unwrap();
        assert_eq!(asked.metrics().num_workers(), 3);
        assert!(!asked.block_on(async { is_one() }));
        assert!(runtime(NonZeroUsize::new(1)).unwrap().block_on(async { is_one() }));
    }
}
