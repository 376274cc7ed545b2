//! What is measured beside the messages: time, processor time, limits.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since this was first asked.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// User and system time of the processes so far, seconds. A process that is gone has none.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| ticks(&format!("/proc/{pid}/stat"))).sum::<u64>() as f64 / ticks_per_second()
}

/// Of this process.
pub fn own_cpu_seconds() -> f64 {
    ticks("/proc/self/stat").unwrap_or(0) as f64 / ticks_per_second()
}

fn ticks(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn ticks_per_second() -> f64 {
    // SAFETY: it takes a number and answers one.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// A connection is a file: as many as the system allows.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a structure that lives as long as they do.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
