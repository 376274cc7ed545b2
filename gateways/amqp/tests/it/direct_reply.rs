//! Direct reply-to: requests and answers without a queue between them.

use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};

use crate::common::{Broker, within};
use crate::consume::support::{Deliveries, body, consume_with, next};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

async fn requester(channel: &Channel) -> Deliveries {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    consume_with(channel, REPLY_TO, "replies", options, FieldTable::default()).await.unwrap()
}

async fn publish(channel: &Channel, key: &str, body: &str, properties: BasicProperties) -> Confirmation {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = within(channel.basic_publish("".into(), key.into(), options, body.as_bytes(), properties)).await;
    within(sent.unwrap()).await.unwrap()
}

async fn confirming(connection: &lapin::Connection) -> Channel {
    let channel = within(connection.create_channel()).await.unwrap();
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    channel
}

/// Asks through the queue `requests`; returns the address at which the answer is waited for.
async fn ask(client: &Channel, server: &Channel) -> String {
    let properties = BasicProperties::default().with_reply_to(REPLY_TO.into());
    assert!(matches!(publish(client, "requests", "?", properties).await, Confirmation::Ack(None)));
    let got = within(server.basic_get("requests".into(), BasicGetOptions { no_ack: true })).await.unwrap().unwrap();
    let Delivery { properties, .. } = got.delivery;
    properties.reply_to().as_ref().expect("an address").to_string()
}

async fn is_there(channel: &Channel, address: &str) -> Result<(), String> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = within(channel.queue_declare(address.into(), passive, FieldTable::default())).await;
    declared.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_gone_is_not_there() {
    let broker = Broker::start().await;
    let (one, other) = (broker.lapin().await, broker.lapin().await);
    let (client, server) = (confirming(&one).await, confirming(&other).await);
    let made = server.queue_declare("requests".into(), QueueDeclareOptions::default(), FieldTable::default());
    within(made).await.unwrap();
    let mut replies = requester(&client).await;
    let address = ask(&client, &server).await;
    assert_eq!((is_there(&server, &address).await, is_there(&server, REPLY_TO).await), (Ok(()), Ok(())));
    let answer = BasicProperties::default().with_correlation_id("7".into());
    assert!(matches!(publish(&server, &address, "!", answer).await, Confirmation::Ack(None)));
    let reply = next(&mut replies).await;
    assert_eq!((body(&reply).as_str(), reply.routing_key.as_str()), ("!", address.as_str()));
    assert_eq!(reply.properties.correlation_id().as_ref().map(|id| id.as_str()), Some("7"));

    within(client.close(200, "bye".into())).await.unwrap();
    let late = publish(&server, &address, "too late", BasicProperties::default()).await;
    let Confirmation::Ack(Some(returned)) = late else { panic!("{late:?}") };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    let error = is_there(&server, &address).await.unwrap_err();
    assert!(error.contains(&format!("NOT_FOUND - no queue '{address}' in vhost '/'")), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_find_their_way_from_another_gateway() {
    let broker = Broker::start().await;
    let other_gateway = amqp_gateway::start(broker.core.clone(), crate::common::config()).await.unwrap();
    let one = broker.lapin_at(&format!("amqp://guest:guest@{}/%2f", other_gateway.address())).await.unwrap();
    let other = broker.lapin().await;
    let (client, server) = (confirming(&one).await, confirming(&other).await);
    let made = server.queue_declare("requests".into(), QueueDeclareOptions::default(), FieldTable::default());
    within(made).await.unwrap();
    // So that the other gateway certainly knows it.
    let known = client.queue_declare("requests".into(), QueueDeclareOptions::default(), FieldTable::default());
    within(known).await.unwrap();
    let mut replies = requester(&client).await;
    let address = ask(&client, &server).await;
    assert_eq!(is_there(&server, &address).await, Ok(()));
    for number in 0..50 {
        let properties = BasicProperties::default().with_correlation_id(number.to_string().into());
        let answer = publish(&server, &address, &format!("answer {number}"), properties).await;
        assert!(matches!(answer, Confirmation::Ack(None)), "{answer:?}");
    }
    for number in 0..50 {
        let reply = next(&mut replies).await;
        assert_eq!((body(&reply), reply.routing_key.as_str()), (format!("answer {number}"), address.as_str()));
        let id = reply.properties.correlation_id().as_ref().map(|id| id.to_string());
        assert_eq!(id, Some(number.to_string()));
    }
    // With its gateway the requester has gone, for all to see.
    other_gateway.stop().await;
    let until = tokio::time::Instant::now() + crate::common::PATIENCE;
    loop {
        match publish(&server, &address, "too late", BasicProperties::default()).await {
            Confirmation::Ack(Some(returned)) => break assert_eq!(returned.reply_code, 312),
            other => assert!(tokio::time::Instant::now() < until, "{other:?}"),
        }
    }
    assert!(is_there(&server, &address).await.unwrap_err().contains("NOT_FOUND"));
    broker.stop().await;
}
