//! Reasons for which nobody may publish: memory or disk run short. Publishers are told (`connection.blocked`) and not
//! listened to until it is over, as RabbitMQ does it.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, MetaCondition, MetaError, MetaPut};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the process's memory is looked at, and a full disk tried again.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Where it is tried whether the disk takes something.
const PROBE_KEY: &str = "amqp/disk-probe";

/// What runs short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    pub memory: bool,
    pub disk: bool,
}

impl Short {
    pub fn any(self) -> bool {
        self.memory || self.disk
    }

    /// RabbitMQ's reason of `connection.blocked`.
    pub fn reason(self) -> &'static str {
        match (self.memory, self.disk) {
            (true, true) => "low on memory & disk",
            (true, false) => "low on memory",
            _ => "low on disk",
        }
    }
}

/// The alarms of this gateway. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Alarms {
    short: Arc<watch::Sender<Short>>,
}

impl Default for Alarms {
    fn default() -> Self {
        Alarms { short: Arc::new(watch::Sender::new(Short::default())) }
    }
}

impl Alarms {
    /// Watches the process's memory (None: no limit) and, once the core said that its disk is full, the disk, in a task
    /// that ends with `stop`.
    pub fn start<C: Core>(core: C, memory_bytes_max: Option<u64>, stop: CancellationToken) -> Alarms {
        let alarms = Alarms::default();
        // Before the first client comes: who publishes at once is to find the alarm.
        alarms.look_at_memory(memory_bytes_max);
        let looking = alarms.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = looking.look(&core, memory_bytes_max) => {}
            }
        });
        alarms
    }

    /// What runs short now.
    pub fn now(&self) -> Short {
        *self.short.borrow()
    }

    /// To be woken when it changes.
    pub fn changes(&self) -> watch::Receiver<Short> {
        self.short.subscribe()
    }

    /// The core said so.
    pub fn disk_is_full(&self) {
        self.change(|short| short.disk = true);
    }

    pub fn set_memory(&self, is_short: bool) {
        self.change(|short| short.memory = is_short);
    }

    fn set_disk(&self, is_full: bool) {
        self.change(|short| short.disk = is_full);
    }

    fn change(&self, change: impl FnOnce(&mut Short)) {
        self.short.send_if_modified(|short| {
            let before = *short;
            change(short);
            if *short != before {
                tracing::warn!(
                    memory = short.memory,
                    disk = short.disk,
                    "alarms changed; publishers are blocked by any"
                );
            }
            *short != before
        });
    }

    fn look_at_memory(&self, bytes_max: Option<u64>) {
        if let Some(bytes_max) = bytes_max {
            self.set_memory(resident_bytes().is_some_and(|bytes| bytes > bytes_max));
        }
    }

    async fn look<C: Core>(&self, core: &C, memory_bytes_max: Option<u64>) {
        let mut changes = self.changes();
        loop {
            // Without a limit there is nothing to look at until the disk is full.
            if memory_bytes_max.is_none() && !self.now().disk {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            tokio::time::sleep(LOOK_AFTER).await;
            self.look_at_memory(memory_bytes_max);
            if self.now().disk {
                self.set_disk(disk_is_full(core).await);
            }
        }
    }
}

/// Tries to write something.
async fn disk_is_full<C: Core>(core: &C) -> bool {
    let put = MetaPut {
        key: PROBE_KEY.into(),
        value: bytes::Bytes::from_static(b"{}"),
        condition: MetaCondition::Always,
        session: None,
    };
    matches!(core.meta_put(put).await, Err(MetaError::DiskFull))
}

/// The memory that this process has, bytes; None where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_runs_short() {
        assert_eq!(Short { memory: true, disk: true }.reason(), "low on memory & disk");
        assert_eq!(Short { memory: false, disk: true }.reason(), "low on disk");
        assert!(!Short::default().any());
    }

    #[test]
    fn whoever_waits_is_woken_only_by_a_change() {
        let alarms = Alarms::default();
        let mut changes = alarms.changes();
        alarms.set_memory(false);
        assert!(!changes.has_changed().unwrap());
        alarms.set_memory(true);
        assert!(changes.has_changed().unwrap() && changes.borrow_and_update().memory);
    }

    #[test]
    fn the_process_has_memory() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
