//! Queues, exchanges and bindings through a whole gateway, asked for by a client that we did not write.

use crate::common::{Broker, within};
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

async fn channel(connection: &Connection) -> Channel {
    within(connection.create_channel()).await.expect("a channel")
}

async fn declare(
    channel: &Channel,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<String, String> {
    let declared = within(channel.queue_declare(name.into(), options, arguments)).await;
    declared.map(|queue| queue.name().to_string()).map_err(|error| error.to_string())
}

/// What a refused request says, without what the client says around it.
fn says(refused: Result<String, String>, text: &str) {
    let error = refused.expect_err("refused");
    assert!(error.contains(text), "{error}\n instead of\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_again_must_be_the_same() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let first = channel(&connection).await;
    assert_eq!(declare(&first, "q", durable(), FieldTable::default()).await.as_deref(), Ok("q"));
    assert_eq!(declare(&first, "q", durable(), FieldTable::default()).await.as_deref(), Ok("q"));
    says(
        declare(&first, "q", QueueDeclareOptions::default(), FieldTable::default()).await,
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
    );
    let second = channel(&connection).await;
    says(
        declare(&second, "q", durable(), table(&[("x-max-length", AMQPValue::LongInt(5))])).await,
        "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '5' of type 'signedint' but current is none",
    );
    let third = channel(&connection).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    says(declare(&third, "nothing", passive, FieldTable::default()).await, "no queue 'nothing' in vhost '/'");
    let fourth = channel(&connection).await;
    says(
        declare(&fourth, "amq.mine", durable(), FieldTable::default()).await,
        "queue name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    let fifth = channel(&connection).await;
    let named = declare(&fifth, "", QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    assert!(named.starts_with("amq.gen-") && named.len() > 20, "{named}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_queue_is_its_connections() {
    let broker = Broker::start().await;
    let (one, other) = (broker.lapin().await, broker.lapin().await);
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let own = channel(&one).await;
    declare(&own, "mine", exclusive, FieldTable::default()).await.unwrap();
    declare(&own, "mine", exclusive, FieldTable::default()).await.unwrap();
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'";
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    for options in [exclusive, passive, QueueDeclareOptions::default()] {
        says(declare(&channel(&other).await, "mine", options, FieldTable::default()).await, locked);
    }
    let deleted = within(channel(&other).await.queue_delete("mine".into(), QueueDeleteOptions::default())).await;
    assert!(deleted.unwrap_err().to_string().contains(locked));
    within(own.queue_delete("mine".into(), QueueDeleteOptions::default())).await.unwrap();
    declare(&channel(&other).await, "mine", exclusive, FieldTable::default()).await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_are_declared_bound_and_deleted() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let own = channel(&connection).await;
    let lasting = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let vanishing = ExchangeDeclareOptions { auto_delete: true, ..lasting };
    let made = own.exchange_declare("x".into(), ExchangeKind::Topic, lasting, FieldTable::default());
    within(made).await.unwrap();
    let made = own.exchange_declare("y".into(), ExchangeKind::Fanout, vanishing, FieldTable::default());
    within(made).await.unwrap();
    declare(&own, "q", durable(), FieldTable::default()).await.unwrap();
    let bound = own.queue_bind("q".into(), "y".into(), "k".into(), QueueBindOptions::default(), FieldTable::default());
    within(bound).await.unwrap();
    let bound =
        own.exchange_bind("y".into(), "x".into(), "a.#".into(), ExchangeBindOptions::default(), FieldTable::default());
    within(bound).await.unwrap();
    let in_use = ExchangeDeleteOptions { if_unused: true, ..ExchangeDeleteOptions::default() };
    let refused = within(channel(&connection).await.exchange_delete("x".into(), in_use)).await;
    assert!(refused.unwrap_err().to_string().contains("exchange 'x' in vhost '/' in use"));
    // With its last binding the one vanishes that is to.
    within(own.queue_delete("q".into(), QueueDeleteOptions::default())).await.unwrap();
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let gone = channel(&connection).await;
    let gone = gone.exchange_declare("y".into(), ExchangeKind::Fanout, passive, FieldTable::default());
    assert!(within(gone).await.unwrap_err().to_string().contains("no exchange 'y' in vhost '/'"));
    // Nothing is left of the binding that led there.
    within(own.exchange_delete("x".into(), in_use)).await.unwrap();
    let system =
        within(channel(&connection).await.exchange_delete("amq.topic".into(), ExchangeDeleteOptions::default())).await;
    assert!(
        system.unwrap_err().to_string().contains("deletion of system exchange 'amq.topic' in vhost '/' not allowed")
    );
    let unknown = channel(&connection).await;
    let unknown =
        unknown.exchange_declare("z".into(), ExchangeKind::Custom("x-odd".into()), lasting, FieldTable::default());
    assert!(within(unknown).await.unwrap_err().to_string().contains("unknown exchange type 'x-odd'"));
    let nowhere = channel(&connection).await;
    let nowhere = nowhere.queue_bind(
        "no".into(),
        "amq.topic".into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    assert!(within(nowhere).await.unwrap_err().to_string().contains("no queue 'no' in vhost '/'"));
    let purged = within(channel(&connection).await.queue_purge("no".into(), QueuePurgeOptions::default())).await;
    assert!(purged.unwrap_err().to_string().contains("no queue 'no' in vhost '/'"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_there_for_another_gateway_and_after_a_restart() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let own = channel(&connection).await;
    declare(&own, "q", durable(), table(&[("x-max-priority", AMQPValue::LongInt(3))])).await.unwrap();
    let other = amqp_gateway::start(broker.core.clone(), crate::common::config()).await.unwrap();
    let uri = format!("amqp://guest:guest@{}/%2f", other.address());
    let connection = broker.lapin_at(&uri).await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    declare(&channel(&connection).await, "q", passive, FieldTable::default()).await.unwrap();
    says(
        declare(&channel(&connection).await, "q", durable(), FieldTable::default()).await,
        "inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '3' of type 'signedint'",
    );
    other.stop().await;
    broker.stop().await;
}
