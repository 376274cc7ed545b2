//! Queues with messages in them, and clients that get them.

use std::pin::Pin;
use std::time::Duration;

use codec_record::amqp_message::{MessageView, Properties, ShortStr, Writer};
use core_log::LocalCore;
use core_rpc::{Append, AppendRequest, Core, GroupName, PartitionId, PeekRequest, Topic};
use lapin::message::{Delivery, DeliveryResult};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ConsumerDelegate};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::common::{Broker, PATIENCE, within};

/// What a consumer gets. None: it was cancelled.
pub type Deliveries = UnboundedReceiver<Option<Delivery>>;

pub async fn channel(broker: &Broker) -> (lapin::Connection, Channel) {
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.expect("a channel");
    (connection, channel)
}

pub async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    within(channel.queue_declare(queue.into(), options, arguments)).await.expect("a queue");
}

/// Puts messages into a queue, as one batch.
pub async fn put(core: &LocalCore, queue: &str, partition: u32, bodies: &[String]) {
    let mut writer = Writer::new();
    for body in bodies {
        writer.append(&message(queue, body, None));
    }
    append(core, queue, partition, writer).await;
}

pub fn message(queue: &str, body: &str, expires_ms: Option<i64>) -> MessageView {
    let (exchange, key) = (ShortStr::default(), ShortStr::try_from(queue).unwrap());
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let arrived = MessageView::arrived(1, exchange, key, Properties::default(), body).unwrap();
    MessageView { expires_ms, ..arrived }
}

pub async fn append(core: &LocalCore, queue: &str, partition: u32, mut writer: Writer) {
    let batch = writer.take().expect("a message");
    let partition = PartitionId { topic: topic(core, queue).await.id, index: partition };
    let appended = core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await;
    appended[0].as_ref().expect("appended");
}

pub async fn topic(core: &LocalCore, queue: &str) -> Topic {
    let entry = core.meta_get(Topic::key("default", queue)).await.unwrap().expect("a queue");
    Topic::from_entry(&entry).expect("a topic")
}

pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub async fn consume(channel: &Channel, queue: &str, tag: &str) -> Deliveries {
    consume_with(channel, queue, tag, BasicConsumeOptions::default(), FieldTable::default()).await.expect("a consumer")
}

pub async fn consume_with(
    channel: &Channel,
    queue: &str,
    tag: &str,
    options: BasicConsumeOptions,
    arguments: FieldTable,
) -> lapin::Result<Deliveries> {
    let (sender, receiver) = unbounded_channel();
    let consumer = within(channel.basic_consume(queue.into(), tag.into(), options, arguments)).await?;
    consumer.set_delegate(Forward(sender));
    Ok(receiver)
}

/// Passes on what comes, in order.
struct Forward(UnboundedSender<Option<Delivery>>);

impl ConsumerDelegate for Forward {
    fn on_new_delivery(&self, delivery: DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if let Ok(delivery) = delivery {
            // The test may have seen enough.
            let _ = self.0.send(delivery);
        }
        Box::pin(std::future::ready(()))
    }
}

/// The next delivery.
pub async fn next(deliveries: &mut Deliveries) -> Delivery {
    within(deliveries.recv()).await.expect("a consumer").expect("a delivery")
}

/// The bodies of the next deliveries.
pub async fn bodies(deliveries: &mut Deliveries, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.push(body(&next(deliveries).await));
    }
    bodies
}

pub fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.to_vec()).unwrap()
}

/// Ready messages, and those that are out.
pub async fn counts(core: &LocalCore, queue: &str) -> (u64, u64) {
    let topic = topic(core, queue).await;
    let partitions = (0..topic.partitions).map(|index| PartitionId { topic: topic.id, index }).collect();
    let group = GroupName { namespace: "default".into(), group: "queue".into() };
    let peeked = core.peek(PeekRequest { group, partitions: Some(partitions), ranges_max: 0 }).await.unwrap();
    let views = peeked.into_iter().filter_map(|(_, view)| view);
    views.fold((0, 0), |(ready, out), view| (ready + view.available + view.end - view.next, out + view.leased))
}

/// Waits until a queue has so many messages ready and out.
pub async fn counted(core: &LocalCore, queue: &str, expected: (u64, u64)) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while counts(core, queue).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    if waited.await.is_err() {
        panic!("{queue} has {:?}, not {expected:?}", counts(core, queue).await);
    }
}
