//! A disk that is full: publishers are told, and wait until there is room.

use std::sync::Arc;
use std::time::Duration;

use codec_amqp::frame::FrameKind;
use codec_amqp::{Method, confirm, queue};
use core_log::disk::MemoryDisk;
use core_log::meta::{MetaOptions, SteadyClock};
use core_log::{LocalCore, SystemClock};

use crate::common::{Raw, config, publish_frames, short, within};

/// A core on a disk in memory, which can be full.
fn core(disk: &MemoryDisk) -> LocalCore {
    let config =
        core_log::Config { shards: Some(1), pack_bytes_first: 1 << 20, pack_bytes: 4 << 20, ..Default::default() };
    let options = MetaOptions {
        clock: Arc::new(SystemClock),
        session_clock: Arc::new(SteadyClock::default()),
        random: Box::new({
            let mut last = 0;
            move || {
                last += 1;
                (last << 64) | last
            }
        }),
    };
    LocalCore::open(config, Arc::new(disk.clone()), codec_record::Formats::all(), options).expect("a core")
}

/// The next method, whatever channel it is for.
async fn method(raw: &mut Raw) -> Method {
    loop {
        let frame = raw.frame().await.expect("a frame");
        if frame.kind == FrameKind::Method {
            return Method::decode(&frame.payload).expect("a method");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_wait_until_a_full_shard_has_room() {
    let disk = MemoryDisk::new();
    let core = core(&disk);
    let gateway = amqp_gateway::start(core.clone(), config()).await.expect("a gateway");
    let mut raw = Raw::connect(gateway.address()).await;
    raw.open(0).await;
    raw.open_channel(1).await;
    let declare = queue::Declare {
        queue: short("q"),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: Default::default(),
    };
    raw.send(1, declare).await;
    assert!(matches!(raw.method().await, (1, Method::QueueDeclareOk(_))));
    raw.send(1, confirm::Select { no_wait: false }).await;
    assert!(matches!(raw.method().await, (1, Method::ConfirmSelectOk(_))));

    // Room for what is small, and for no further pack: the store of names goes on, the queue's shard does not.
    disk.set_capacity(Some(disk.used_bytes() + (512 << 10)));
    let body = vec![7; 100 << 10];
    let (mut sent, mut kept, mut refused, mut is_told) = (0, 0, 0, false);
    while !is_told {
        // Who does not publish any more is not told.
        if kept + refused == sent {
            raw.send_bytes(&publish_frames(1, "q", &body)).await;
            sent += 1;
        }
        match method(&mut raw).await {
            Method::BasicAck(_) => kept += 1,
            Method::BasicNack(_) => refused += 1,
            Method::ConnectionBlocked(blocked) if &*blocked.reason == "low on disk" => is_told = true,
            other => panic!("{} in answer to a publish", other.name()),
        }
        assert!(kept < 1000, "the disk is not full");
    }
    assert!(refused > 0);
    // It is tried again each second; what is published meanwhile waits, perhaps that by which it was told, too.
    raw.send_bytes(&publish_frames(1, "q", &body)).await;
    sent += 1;
    let told = tokio::time::timeout(Duration::from_millis(2500), raw.frame()).await;
    assert!(told.is_err(), "{told:?} though the disk is full");
    disk.set_capacity(None);
    assert!(matches!(method(&mut raw).await, Method::ConnectionUnblocked(_)));
    let mut acknowledged = 0;
    while acknowledged < sent {
        let Method::BasicAck(ack) = method(&mut raw).await else { panic!("not kept although there is room") };
        acknowledged = ack.delivery_tag;
    }
    // Nothing is left of the attempts.
    let probe = core_rpc::Core::meta_get(&core, core_rpc::Topic::key("default", "__amqp_disk_probe")).await;
    assert!(within(async { probe.unwrap() }).await.is_none());
    drop(raw);
    gateway.stop().await;
    core.stop();
}
