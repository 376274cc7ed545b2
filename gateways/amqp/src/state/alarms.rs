//! Reasons for which nobody may publish: memory or disk run short. Publishers are told (`connection.blocked`) and not
//! listened to until it is over, as RabbitMQ does it.
//!
//! That a disk is full the core says, of an append. It is over when the core takes something as large where that was refused: in a
//! topic that is there for the moment, and lies where the queues of that vhost do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_record::amqp_message::{MessageView, Properties, ShortStr, Writer};
use core_rpc::{
    Append, AppendError, AppendRequest, Core, PartitionId, Topic, TopicCreate, TopicError, TopicId, TopicSettings,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the process's memory is looked at, and a full disk tried again.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Where it is tried whether the disk takes something, and how much: a disk that takes less is full again at once.
const PROBE_TOPIC: &str = "__amqp_disk_probe";
const PROBE_BYTES: usize = 1 << 20;

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
    /// The namespace where something was refused last.
    refused_in: Arc<Mutex<Arc<str>>>,
}

impl Default for Alarms {
    fn default() -> Self {
        Alarms { short: Arc::new(watch::Sender::new(Short::default())), refused_in: Arc::new(Mutex::new("".into())) }
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

    /// The core said so, of queues in this namespace.
    pub fn disk_is_full(&self, namespace: &Arc<str>) {
        *self.refused_in.lock() = namespace.clone();
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
                let namespace = self.refused_in.lock().clone();
                self.set_disk(is_full(core, &namespace).await);
            }
        }
    }
}

/// Whether a namespace's disk takes no more than it did.
async fn is_full<C: Core>(core: &C, namespace: &str) -> bool {
    let topic = match probe_topic(core, namespace).await {
        Ok(topic) => topic,
        // Whoever publishes will hear it again.
        Err(error) => return error == TopicError::DiskFull,
    };
    let partition = PartitionId { topic, index: 0 };
    let Some(batch) = probe() else { return false };
    let appended = core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await;
    // If it stays, the next one is tried in it.
    let _ = core.topic_delete(namespace.to_owned(), PROBE_TOPIC.into()).await;
    matches!(appended.first(), Some(Err(AppendError::DiskFull)))
}

async fn probe_topic<C: Core>(core: &C, namespace: &str) -> Result<TopicId, TopicError> {
    let create = TopicCreate {
        namespace: namespace.to_owned(),
        name: PROBE_TOPIC.into(),
        partitions: 1,
        settings: TopicSettings { together: true, ..TopicSettings::default() },
        labels: Default::default(),
    };
    match core.topic_create(create).await {
        Ok(topic) => Ok(topic.id),
        Err(TopicError::Exists) => {
            let found = core.meta_get(Topic::key(namespace, PROBE_TOPIC)).await;
            let topic = found.ok().flatten().as_ref().and_then(Topic::from_entry);
            topic.map(|topic| topic.id).ok_or(TopicError::Unavailable)
        }
        Err(error) => Err(error),
    }
}

fn probe() -> Option<codec_record::Batch> {
    let body = Bytes::from(vec![0; PROBE_BYTES]);
    let name = ShortStr::default();
    let message = MessageView::arrived(crate::now_ms(), name.clone(), name, Properties::default(), body).ok()?;
    let mut writer = Writer::new();
    writer.append(&message);
    writer.take()
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
