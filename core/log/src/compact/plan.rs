//! Whether a partition is to be compacted now, and how far.

use std::cell::Cell;
use std::ops::ControlFlow;

use core_rpc::{Compaction, FetchError};

use crate::cold::walk;
use crate::pack::index::IndexEntry;
use crate::partition::{Partition, Segment, State};

/// What is to be done with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From here on nothing was compacted yet; before, each key occurs once.
    pub dirty: u64,
    /// Up to here it may be compacted.
    pub until: u64,
}

/// None: nothing is to be done yet.
pub fn plan(partition: &Partition, settings: &Compaction, now_ms: i64) -> Result<Option<Plan>, FetchError> {
    let (dirty, stable, clean_bytes) = {
        let state = partition.lock();
        let bounds = state.bounds()?;
        let (dirty, bytes) = compacted_part(&state);
        (dirty.max(bounds.start_offset), bounds.stable_offset, bytes)
    };
    if dirty >= stable {
        return Ok(None);
    }
    let until = match settings.lag_ms_min {
        0 => stable,
        lag_ms => stable.min(too_young(partition, dirty, now_ms.saturating_sub_unsigned(lag_ms))?.unwrap_or(stable)),
    };
    if dirty >= until {
        return Ok(None);
    }
    let dirty_bytes = bytes_between(partition, dirty, until)?;
    let wanted = u128::from(settings.dirty_ppm_min) * u128::from(clean_bytes + dirty_bytes);
    let due = dirty_bytes > 0 && u128::from(dirty_bytes) * 1_000_000 >= wanted;
    let overdue = match settings.lag_ms_max {
        Some(lag_ms) if !due => first_time(partition, dirty)? < Some(now_ms.saturating_sub_unsigned(lag_ms)),
        _ => false,
    };
    Ok((due || overdue).then_some(Plan { dirty, until }))
}

/// Where the part that was compacted ends, and how many bytes it has.
fn compacted_part(state: &State) -> (u64, u64) {
    let compacted = state.sealed.iter().take_while(|segment| segment.compacted);
    compacted.fold((0, 0), |(_, bytes), segment| (segment.next, bytes + segment.bytes))
}

/// The first batch from an offset on whose time is after `limit_ms`.
fn too_young(partition: &Partition, from: u64, limit_ms: i64) -> Result<Option<u64>, FetchError> {
    let young = |entry: &IndexEntry| match entry.max_time_ms > limit_ms {
        true => ControlFlow::Break(entry.base_offset),
        false => ControlFlow::Continue(()),
    };
    walk(partition, from, |segment| segment.max_time_ms <= limit_ms, young)
}

fn bytes_between(partition: &Partition, from: u64, until: u64) -> Result<u64, FetchError> {
    let bytes = Cell::new(0);
    let whole = |segment: &Segment| {
        let whole = segment.next <= until;
        if whole {
            bytes.set(bytes.get() + segment.bytes);
        }
        whole
    };
    walk(partition, from, whole, |entry| {
        if entry.base_offset >= until {
            return ControlFlow::Break(());
        }
        bytes.set(bytes.get() + entry.stored_bytes());
        ControlFlow::Continue(())
    })?;
    Ok(bytes.get())
}

/// The time of the first batch from an offset on. None if there is none.
fn first_time(partition: &Partition, from: u64) -> Result<Option<i64>, FetchError> {
    walk(partition, from, |_| false, |entry| ControlFlow::Break(entry.max_time_ms))
}
