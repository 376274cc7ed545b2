//! Small writes whose sync nobody waits for are done by whoever asks for them, if the writer has nothing else to do: the
//! way to its thread and back costs more than they do.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use core_rpc::Durability;

use super::{Command, Shard};
use crate::leases::staged::LeaseCommand;
use crate::pack::entry::BATCH_ENTRY_BYTES;

/// More than this is left to the thread: the file system may hold up who writes much.
const BYTES_MAX: u64 = 64 << 10;

/// What a settled range takes in the journal, at most; and what an entry has besides.
const RANGE_BYTES: u64 = 48;
const HEAD_BYTES: u64 = 512;

impl Shard {
    /// Does these now, if nothing in them or before them takes long; else they come back.
    pub(super) fn write_here(&self, commands: Vec<Command>) -> Result<(), Vec<Command>> {
        let length = (commands.iter()).try_fold(0, |sum, command| Some(sum + command.quick_bytes()?));
        let Some(length) = length.filter(|length| *length <= BYTES_MAX) else { return Err(commands) };
        let Some(mut seat) = self.writer.try_lock() else { return Err(commands) };
        let Some(writer) = seat.as_mut().filter(|writer| writer.has_room(length)) else { return Err(commands) };
        {
            let queue = self.queue.lock();
            if queue.stopping || !queue.commands.is_empty() {
                return Err(commands);
            }
        }
        let work = AssertUnwindSafe(|| {
            commands.into_iter().for_each(|command| writer.stage(command));
            writer.flush();
        });
        if catch_unwind(work).is_err() {
            // As if the thread had: nothing is written any more, and who waits is told.
            writer.fail("writing", &io::Error::other("it panicked"));
        }
        let due = writer.due();
        let mut queue = self.queue.lock();
        let is_sooner = due.is_some_and(|due| queue.thread_due.is_none_or(|thread_due| due < thread_due));
        if is_sooner {
            queue.thread_due = due;
            self.ready.notify_one();
        }
        Ok(())
    }
}

impl Command {
    /// How many bytes it writes at most. None: it may take long.
    fn quick_bytes(&self) -> Option<u64> {
        match self {
            Command::Append { batch, durability, .. } if *durability != Durability::Fsync => {
                Some((BATCH_ENTRY_BYTES + batch.payload.len()) as u64)
            }
            Command::Lease(LeaseCommand::Settle { ranges, durable: false, .. }) => {
                Some(HEAD_BYTES + ranges.len() as u64 * RANGE_BYTES)
            }
            Command::Transfer(transfer) if !transfer.needs_sync => {
                let settles = transfer.settles.iter().map(|(_, ranges)| HEAD_BYTES + ranges.len() as u64 * RANGE_BYTES);
                let batches =
                    (transfer.appends.iter()).map(|(_, batch, _)| (BATCH_ENTRY_BYTES + batch.payload.len()) as u64);
                Some(HEAD_BYTES + settles.sum::<u64>() + batches.sum::<u64>())
            }
            _ => None,
        }
    }
}
