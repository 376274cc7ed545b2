//! The memory that decoding takes: this is the allocator of the tests that include it. For those of other codecs, too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what the current thread has allocated, and the most it ever had.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // While the thread ends there is no counter any more.
    let _ = ALLOCATED.try_with(|allocated| {
        let (now, peak) = allocated.get();
        allocated.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: everything is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `run` returns, and the most that it had allocated at once.
pub fn with_peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = ALLOCATED.get();
    ALLOCATED.set((before, before));
    let result = run();
    (result, (ALLOCATED.get().1 - before) as usize)
}
