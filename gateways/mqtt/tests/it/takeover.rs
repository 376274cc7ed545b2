//! A client that comes while an older connection of it is not gone yet.

use bytes::BytesMut;
use codec_mqtt::{Disconnect, Packet, QoS, Version};

use crate::common::{Broker, connect, will};

fn encoded(packet: Packet) -> BytesMut {
    let mut out = BytesMut::new();
    packet.encode(Version::Mqtt5, &mut out).expect("a packet");
    out
}

/// 3.1.4, 3.14.4: its DISCONNECT lies in the socket when the next connection ends the older one. It has said goodbye, so nothing was
/// taken over, and there is no will.
#[tokio::test]
async fn who_says_goodbye_and_is_back_at_once_leaves_no_will() {
    let broker = Broker::start().await;
    let mut watcher = broker.client(Version::Mqtt5, "watcher").await;
    watcher.subscribe("wills/#", QoS::AtMostOnce).await;
    for _ in 0..20 {
        let mut phone = connect(Version::Mqtt5, "phone");
        phone.will = Some(will("wills/phone", b"gone", QoS::AtMostOnce));
        let mut old = broker.raw(Version::Mqtt5).await;
        old.connect(phone.clone()).await;
        let mut new = broker.raw(Version::Mqtt5).await;
        // Both are waited for by the gateway now.
        watcher.silence().await;
        // No await between: one turn of the gateway finds both, that of the newer connection first.
        let connect = encoded(Packet::Connect(Box::new(phone)));
        assert_eq!(new.stream.try_write(&connect).expect("sent"), connect.len());
        let goodbye = encoded(Packet::Disconnect(Disconnect::default()));
        assert_eq!(old.stream.try_write(&goodbye).expect("sent"), goodbye.len());
        assert!(matches!(new.packet().await, Packet::Connack(_)));
        assert_eq!(old.end().await, None);
        new.disconnect().await;
    }
    watcher.silence().await;
    broker.stop().await;
}
