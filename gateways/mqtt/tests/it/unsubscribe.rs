//! UNSUBSCRIBE behind what was published.

use codec_mqtt::{Packet, QoS, Unsubscribe, Version};

use crate::common::{Broker, delivery, id, message, text};

/// 3.10.4: nothing *new* comes. What the server has accepted before is not new, though it is matched a moment later.
#[tokio::test]
async fn what_was_published_before_it_still_comes() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "hasty").await;
    for round in 0..50 {
        client.subscribe("hasty/+", QoS::AtMostOnce).await;
        let publish = |payload: String, packet_id| {
            Packet::Publish(message("hasty/a", payload, delivery(QoS::AtLeastOnce, packet_id)))
        };
        let (packet_id, filters) = (id(1), [text("hasty/+")].into());
        let unsubscribe = Packet::Unsubscribe(Unsubscribe { packet_id, properties: Default::default(), filters });
        client.send_all([publish(format!("{round}"), 2), unsubscribe, publish("behind".into(), 3)]).await;
        let mut came = Vec::new();
        for _ in 0..4 {
            match client.packet().await {
                Packet::Publish(publish) => came.push(String::from_utf8_lossy(&publish.payload).into_owned()),
                Packet::Puback(_) | Packet::Unsuback(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, [format!("{round}")]);
    }
    client.silence().await;
    broker.stop().await;
}
