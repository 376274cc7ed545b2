//! Quorum queues: how often a message was delivered, and when that is enough.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

use super::support::*;
use crate::common::{Broker, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_counted_up_to_the_limit() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(2));
    declare(&channel, "q", arguments).await;
    put(&broker.core, "q", 0, &numbers(0..1)).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    for failures in 0i64..3 {
        let delivery = next(&mut deliveries).await;
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let count = headers.inner().get("x-delivery-count").cloned();
        assert_eq!(count, (failures > 0).then_some(AMQPValue::LongLongInt(failures)));
        assert_eq!(delivery.redelivered, failures > 0);
        within(channel.basic_nack(delivery.delivery_tag, BasicNackOptions { requeue: true, ..Default::default() }))
            .await
            .unwrap();
    }
    counted(&broker.core, "q", (0, 0)).await;
    broker.stop().await;
}
