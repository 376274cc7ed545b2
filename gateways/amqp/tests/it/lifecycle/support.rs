//! A broker (a real core and the gateway) in the test's process, and a client that says things shortly.

use std::time::{Duration, Instant};

use amqp_gateway::{Config, Handle, start};
use core_log::LocalCore;
use lapin::message::BasicGetMessage;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

/// How long anything may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A core and a gateway.
pub struct Broker {
    directory: tempfile::TempDir,
    core: LocalCore,
    gateway: Handle,
}

pub async fn broker() -> Broker {
    Broker::start(tempfile::tempdir().unwrap()).await
}

impl Broker {
    async fn start(directory: tempfile::TempDir) -> Broker {
        // A lock of the one before may still be let go.
        let until = Instant::now() + PATIENCE;
        let core = loop {
            match LocalCore::open_directory(core_log::Config::default(), directory.path(), Default::default()) {
                Ok(core) => break core,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let gateway = start(core.clone(), config()).await.unwrap();
        Broker { directory, core, gateway }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.gateway).await
    }

    /// Ends both, and starts both again on the same disk.
    pub async fn restart(self) -> Broker {
        let Broker { directory, core, gateway } = self;
        gateway.stop().await;
        core.stop();
        // The last of it: the directory is another's now.
        drop(core);
        Broker::start(directory).await
    }

    pub async fn stop(self) {
        self.gateway.stop().await;
        self.core.stop();
    }

    /// A topic as other protocols' gateways make them.
    pub async fn make_topic(&self, name: &str) {
        let create = core_rpc::TopicCreate {
            namespace: "default".into(),
            name: name.into(),
            partitions: 1,
            settings: Default::default(),
            labels: Default::default(),
        };
        core_rpc::Core::topic_create(&self.core, create).await.unwrap();
    }

    /// Sets a policy for all queues of the vhost `/`, as the management API stores it.
    pub async fn put_policy(&self, name: &str, definition: serde_json::Value) {
        let record =
            serde_json::json!({"pattern": ".*", "apply-to": "queues", "definition": definition, "priority": 0});
        let put = core_rpc::MetaPut {
            key: format!("amqp/policy/%2F/{name}"),
            value: record.to_string().into(),
            condition: core_rpc::MetaCondition::Always,
            session: None,
        };
        core_rpc::Core::meta_put(&self.core, put).await.unwrap();
    }
}

fn config() -> Config {
    let listen = "127.0.0.1:0".parse().unwrap();
    // Clients of the test that ended are not waited for.
    Config { listen, drain: Duration::from_millis(100), ..Config::default() }
}

pub struct Client {
    pub connection: Connection,
    pub channel: Channel,
}

/// A message as the tests look at it.
#[derive(Debug)]
pub struct Got {
    pub body: String,
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    pub properties: BasicProperties,
    pub tag: u64,
}

impl Client {
    pub async fn connect(broker: &Handle) -> Client {
        Client::at(&format!("amqp://guest:guest@{}/%2f", broker.address())).await
    }

    pub async fn at(uri: &str) -> Client {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Client { connection, channel }
    }

    /// A durable queue with these arguments.
    pub async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        self.queue_with(name, QueueDeclareOptions { durable: true, ..Default::default() }, arguments).await;
    }

    pub async fn queue_with(&self, name: &str, options: QueueDeclareOptions, arguments: &[(&str, AMQPValue)]) {
        self.channel.queue_declare(name.into(), options, table(arguments)).await.unwrap();
    }

    /// Whether there is a queue of this name; asked on a channel of its own, which a no would close, and by a binding: a passive
    /// declare would be use.
    pub async fn exists(&self, queue: &str) -> bool {
        let channel = self.connection.create_channel().await.unwrap();
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.into(), "amq.direct".into(), "exists".into(), options, arguments).await.is_ok()
    }

    pub async fn exchange(&self, name: &str, kind: &str, arguments: &[(&str, AMQPValue)]) {
        let kind = ExchangeKind::Custom(kind.into());
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.channel.exchange_declare(name.into(), kind, options, table(arguments)).await.unwrap();
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        self.channel
            .queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default())
            .await
            .unwrap();
    }

    /// Publishes, and waits for the broker's word. False: it said no.
    pub async fn publish_with(&self, exchange: &str, key: &str, body: &str, properties: BasicProperties) -> bool {
        let options = BasicPublishOptions::default();
        let sent = self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        match sent.await.unwrap().await.unwrap() {
            Confirmation::Ack(_) => true,
            Confirmation::Nack(_) => false,
            Confirmation::NotRequested => panic!("the channel has no confirms"),
        }
    }

    /// To a queue, by the default exchange.
    pub async fn publish(&self, queue: &str, body: &str) -> bool {
        self.publish_with("", queue, body, BasicProperties::default()).await
    }

    pub async fn publish_all(&self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            assert!(self.publish(queue, body).await);
        }
    }

    /// The next message, acknowledged by a tag of its own or at once.
    pub async fn get_with(&self, queue: &str, no_ack: bool) -> Option<Got> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack }).await.unwrap()?;
        Some(shown(got))
    }

    pub async fn get(&self, queue: &str) -> Option<Got> {
        self.get_with(queue, true).await
    }

    /// Waits for the next message.
    pub async fn wait_for(&self, queue: &str) -> Got {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(got) = self.get(queue).await {
                return got;
            }
            assert!(Instant::now() < until, "nothing came to {queue}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All bodies that are there now.
    pub async fn bodies(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(got) = self.get(queue).await {
            bodies.push(got.body);
        }
        bodies
    }

    /// How many messages are ready.
    pub async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        declared.message_count()
    }

    pub async fn wait_for_ready(&self, queue: &str, ready: u32) {
        eventually(&format!("{ready} ready in {queue}"), async || self.ready(queue).await == ready).await;
    }

    pub async fn reject(&self, tag: u64) {
        self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await.unwrap();
    }

    pub async fn requeue(&self, tag: u64) {
        self.channel.basic_reject(tag, BasicRejectOptions { requeue: true }).await.unwrap();
    }

    /// A consumer whose messages come out of a channel, and stay unacknowledged.
    pub async fn consume(&self, queue: &str, tag: &str) -> tokio::sync::mpsc::UnboundedReceiver<Got> {
        let options = BasicConsumeOptions::default();
        let consumer =
            self.channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await.unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        consumer.set_delegate(move |delivery: lapin::message::DeliveryResult| {
            let sender = sender.clone();
            async move {
                if let Ok(Some(delivery)) = delivery {
                    let got = Got {
                        body: String::from_utf8_lossy(&delivery.data).into_owned(),
                        exchange: delivery.exchange.to_string(),
                        routing_key: delivery.routing_key.to_string(),
                        redelivered: delivery.redelivered,
                        properties: delivery.properties.clone(),
                        tag: delivery.delivery_tag,
                    };
                    let _ = sender.send(got);
                }
            }
        });
        receiver
    }

    pub async fn cancel(&self, tag: &str) {
        self.channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await.unwrap();
    }

    pub async fn close(self) {
        // A channel of it may be closing.
        let _ = self.connection.close(200, "bye".into()).await;
    }
}

fn shown(message: BasicGetMessage) -> Got {
    let delivery = message.delivery;
    Got {
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        redelivered: delivery.redelivered,
        properties: delivery.properties,
        tag: delivery.delivery_tag,
    }
}

impl Got {
    pub fn header(&self, name: &str) -> Option<AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name).cloned()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The entries of `x-death`, newest first, each as `queue reason count exchange keys`.
    pub fn deaths(&self) -> Vec<String> {
        let Some(AMQPValue::FieldArray(entries)) = self.header("x-death") else { return Vec::new() };
        let shown = |entry: &AMQPValue| {
            let AMQPValue::FieldTable(entry) = entry else { panic!("{entry:?} in x-death") };
            let entry = entry.inner();
            let text = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
                other => panic!("{other:?} in x-death"),
            };
            let AMQPValue::LongLongInt(count) = entry["count"] else { panic!("count is {:?}", entry["count"]) };
            let AMQPValue::Timestamp(seconds) = entry["time"] else { panic!("time is {:?}", entry["time"]) };
            assert!(seconds.abs_diff(now_ms() as u64 / 1000) < 60, "{seconds}");
            let AMQPValue::FieldArray(keys) = &entry["routing-keys"] else { panic!("no keys in {entry:?}") };
            let keys: Vec<String> = keys.as_slice().iter().map(text).collect();
            let expiration = entry.get("original-expiration").map(|ms| format!(" expiration {}", text(ms)));
            format!(
                "{} {} {count} {:?} {}{}",
                text(&entry["queue"]),
                text(&entry["reason"]),
                text(&entry["exchange"]),
                keys.join(","),
                expiration.unwrap_or_default(),
            )
        };
        entries.as_slice().iter().map(shown).collect()
    }
}

pub fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub fn int(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

pub fn texts(values: &[&str]) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(values.iter().map(|value| text(value)).collect::<Vec<_>>()))
}

pub fn with_headers(fields: &[(&str, AMQPValue)]) -> BasicProperties {
    BasicProperties::default().with_headers(table(fields))
}

pub fn expiring(ms: &str) -> BasicProperties {
    BasicProperties::default().with_expiration(ms.into())
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Waits until it is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
