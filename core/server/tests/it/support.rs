//! Cores to test, and short ways to ask them.

use std::future::Future;
use std::time::Duration;

use codec_record::{Batch, FormatId, Producer};
use core_rpc::*;
use core_server::{Config, Server};
use tempfile::TempDir;

pub const MINUTE: Duration = Duration::from_secs(60);

/// A core on a directory of its own, and how it is reached.
pub struct World<C> {
    pub core: C,
    server: Option<Server>,
    _folders: Vec<TempDir>,
}

/// The core itself, in this process.
pub async fn local() -> World<core_log::LocalCore> {
    let (server, folder) = start(None).await;
    World { core: server.core.clone(), server: Some(server), _folders: vec![folder] }
}

/// The core behind TCP.
pub async fn remote_tcp() -> World<RemoteCore> {
    let (server, folder) = start(Some("127.0.0.1:0".parse().expect("an address"))).await;
    remote(server, vec![folder])
}

/// The core behind a Unix socket.
pub async fn remote_unix() -> World<RemoteCore> {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("core.sock");
    let (server, data) = start(Some(Address::Unix(socket))).await;
    remote(server, vec![folder, data])
}

fn remote(server: Server, folders: Vec<TempDir>) -> World<RemoteCore> {
    let address = server.address.clone().expect("it listens");
    World { core: RemoteCore::new(address), server: Some(server), _folders: folders }
}

async fn start(listen: Option<Address>) -> (Server, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = core_log::Config { shards: Some(2), pack_bytes_first: 1 << 20, ..core_log::Config::default() };
    let config = Config {
        data: folder.path().join("data"),
        listen,
        ready_file: None,
        admin_listen: None,
        worker_threads: None,
        engine,
    };
    (Server::start(config).await.expect("starts"), folder)
}

impl<C> World<C> {
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            within("the server stops", server.stop()).await;
        }
    }
}

pub async fn topic(core: &impl Core, name: &str, partitions: u32) -> Topic {
    core.topic_create(create(name, partitions)).await.expect("the topic is made")
}

pub fn create(name: &str, partitions: u32) -> TopicCreate {
    TopicCreate {
        namespace: "default".into(),
        name: name.into(),
        partitions,
        settings: TopicSettings::default(),
        labels: [("owner".to_owned(), "suite".to_owned())].into(),
    }
}

pub fn part(topic: &Topic, index: u32) -> PartitionId {
    PartitionId { topic: topic.id, index }
}

pub fn batch(count: u32, time_ms: i64, payload: &[u8]) -> Batch {
    Batch::new(FormatId::RAW, count, time_ms, payload.to_vec().into())
}

pub fn sequenced(payload: &[u8], id: i64, epoch: i16, sequence: i32) -> Batch {
    let mut batch = batch(1, 0, payload);
    batch.header.producer = Some(Producer { id, epoch, sequence });
    batch
}

pub async fn append_one(core: &impl Core, partition: PartitionId, batch: Batch) -> Result<Appended, AppendError> {
    core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await.remove(0)
}

pub fn fetch_request(partition: PartitionId, offset: u64, wait: Duration) -> FetchRequest {
    FetchRequest {
        partitions: vec![FetchPartition { partition, offset, bytes_max: 1 << 20 }],
        bytes_min: 1,
        bytes_max: 1 << 20,
        wait,
        isolation: Isolation::All,
    }
}

/// All batches of a partition from an offset on, without waiting for more.
pub async fn read_all(core: &impl Core, partition: PartitionId, mut offset: u64) -> Vec<Batch> {
    let mut all = Vec::new();
    loop {
        let fetched = core.fetch(fetch_request(partition, offset, Duration::ZERO)).await.remove(0).expect("fetches");
        let Some(last) = fetched.batches.last() else { return all };
        offset = last.header.next_offset();
        all.extend(fetched.batches);
    }
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// By the machine's clock.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}
