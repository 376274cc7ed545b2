//! The core is started anew under a living gateway: what connections held is others' now, and they are told.

use std::path::Path;
use std::time::Duration;

use codec_amqp::{Method, ShortStr, basic, queue};
use core_log::LocalCore;
use core_rpc::{Address, Core, Listener, RemoteCore, server};
use lapin::options::*;
use lapin::types::FieldTable;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::support::*;
use crate::common::{Raw, config, within};

/// A core behind the RPC.
struct Served {
    core: LocalCore,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    async fn start(directory: &Path) -> Served {
        let formats = codec_record::Formats::all();
        let data = directory.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let core = LocalCore::open_directory(core_log::Config::default(), &data, formats).expect("a core");
        let listener = Listener::bind(&address(directory)).await.expect("listens");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server::serve(core.clone(), listener, stop.clone()));
        Served { core, stop, serving }
    }

    async fn stop(self) {
        self.stop.cancel();
        within(self.serving).await.unwrap();
        self.core.stop();
    }
}

fn address(directory: &Path) -> Address {
    Address::Unix(directory.join("core.sock"))
}

async fn gateway(directory: &TempDir) -> amqp_gateway::Handle {
    let core = RemoteCore::new(address(directory.path()));
    let config = amqp_gateway::Config { session_timeout: Duration::from_millis(900), ..config() };
    amqp_gateway::start(core, config).await.expect("a gateway")
}

async fn connect(gateway: &amqp_gateway::Handle) -> Raw {
    let mut raw = Raw::connect(gateway.address()).await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw
}

/// Reads until the connection is closed by the gateway. Returns with which code.
async fn closed(raw: &mut Raw) -> u16 {
    while let Some(frame) = raw.frame().await {
        if let Ok(Method::ConnectionClose(close)) = Method::decode(&frame.payload) {
            return close.reply_code;
        }
    }
    panic!("the connection ended without a word");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_held_something_is_told_and_it_comes_again_marked() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(directory.path()).await;
    let gateway = gateway(&directory).await;
    let uri = format!("amqp://guest:guest@{}/%2f", gateway.address());
    let connection = within(lapin::Connection::connect(&uri, lapin::ConnectionProperties::default())).await.unwrap();
    let publisher = within(connection.create_channel()).await.unwrap();
    within(publisher.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    declare(&publisher, "q", FieldTable::default()).await;
    declare(&publisher, "g", FieldTable::default()).await;
    put(&served.core, "q", 0, &numbers(0..5)).await;
    put(&served.core, "g", 0, &numbers(0..1)).await;

    // One consumes, and its window is full; one got a message; one only listens, to a queue of its own.
    let mut consumer = connect(&gateway).await;
    consumer.send(1, basic::Qos { prefetch_size: 0, prefetch_count: 2, global: false }).await;
    consumer.method().await;
    let consume_with_acks = basic::Consume {
        queue: ShortStr::from_static("q"),
        consumer_tag: ShortStr::from_static("c"),
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: codec_amqp::FieldTable::default(),
    };
    consumer.send(1, consume_with_acks).await;
    counted(&served.core, "q", (3, 2)).await;
    let mut getter = connect(&gateway).await;
    getter.send(1, basic::Get { queue: ShortStr::from_static("g"), no_ack: false }).await;
    counted(&served.core, "g", (0, 1)).await;
    let mut owner = connect(&gateway).await;
    let own = ShortStr::from_static("own");
    owner.send(1, queue::Declare { queue: own.clone(), exclusive: true, ..Default::default() }).await;
    assert!(matches!(owner.method().await.1, Method::QueueDeclareOk(_)));

    served.stop().await;
    let served = Served::start(directory.path()).await;
    assert_eq!((closed(&mut consumer).await, closed(&mut getter).await), (320, 320));

    // A publisher goes on, and so does whoever has nothing; the queue that is its own is still there.
    let properties = lapin::BasicProperties::default();
    let publish = publisher.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), b"new", properties);
    let confirm = within(within(publish).await.unwrap()).await.unwrap();
    assert!(confirm.is_ack());
    owner.send(1, queue::Declare { queue: own, passive: true, exclusive: true, ..Default::default() }).await;
    assert!(matches!(owner.method().await.1, Method::QueueDeclareOk(_)));

    let mut deliveries = consume(&publisher, "q", "again").await;
    for expected in 0..5 {
        let delivery = next(&mut deliveries).await;
        // The core was stopped in order: what nobody had had is not marked.
        assert_eq!((body(&delivery), delivery.redelivered), (expected.to_string(), expected < 2));
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("new", false));
    within(delivery.ack(BasicAckOptions { multiple: true })).await.unwrap();
    counted(&served.core, "q", (0, 0)).await;

    // The keys are under another session than the leases: they stayed.
    let keys = served.core.meta_list("amqp/exclusive/".into()).await.unwrap();
    assert_eq!(keys.entries.len(), 1);
    gateway.stop().await;
    served.stop().await;
}
