//! Connections: the handshake, channels, errors, heartbeats, the end.

use crate::common::{Broker, config, within};
use amqp_gateway::errors::ReplyCode;
use codec_amqp::frame::PROTOCOL_HEADER;
use codec_amqp::{Method, ShortStr, channel, connection, queue, tx};
use tokio::io::AsyncReadExt;

fn close_code(method: &Method) -> (u16, &str) {
    match method {
        Method::ConnectionClose(close) => (close.reply_code, &close.reply_text),
        Method::ChannelClose(close) => (close.reply_code, &close.reply_text),
        other => panic!("{} instead of a close", other.name()),
    }
}

#[tokio::test]
async fn lapin_opens_a_channel_and_leaves() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    assert!(channel.status().connected());
    within(channel.close(200, "bye".into())).await.unwrap();
    within(connection.close(200, "bye".into())).await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_vhost_are_told() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    let close = raw.log_in("guest", "wrong").await;
    let text =
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    assert_eq!(close_code(&close), (403, text));
    raw.end().await;

    let mut raw = broker.raw().await;
    raw.log_in("guest", "guest").await;
    raw.send(0, connection::TuneOk { channel_max: 0, frame_max: 0, heartbeat: 0 }).await;
    raw.send(0, connection::Open { virtual_host: ShortStr::from_static("nowhere") }).await;
    let (_, close) = raw.method().await;
    assert_eq!(close_code(&close).0, ReplyCode::NotAllowed.code());
    broker.stop().await;
}

#[tokio::test]
async fn the_first_user_is_the_one_of_the_settings() {
    let first_user = amqp_gateway::FirstUser { name: "ann".into(), password: "secret".into() };
    let broker = Broker::with(amqp_gateway::Config { first_user, ..config() }).await;
    let address = broker.gateway.address();
    let connection = broker.lapin_at(&format!("amqp://ann:secret@{address}/%2f")).await.unwrap();
    within(connection.close(200, "bye".into())).await.unwrap();
    assert!(broker.lapin_at(&broker.uri()).await.is_err(), "there is no guest");
    broker.stop().await;
}

#[tokio::test]
async fn what_connections_did_is_counted_after_they_are_gone() {
    let broker = Broker::start().await;
    let source = broker.gateway.metrics();
    let value = |series: &str| {
        let mut metrics = gateway_runtime::admin::Metrics::default();
        source(&mut metrics);
        let line = metrics.text().lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series}")).parse::<f64>().unwrap()
    };
    let connection = broker.lapin().await;
    for _ in 0..2 {
        let channel = within(connection.create_channel()).await.unwrap();
        let publish = channel.basic_publish("".into(), "nowhere".into(), Default::default(), b"x", Default::default());
        within(publish).await.unwrap();
        within(channel.close(200, "bye".into())).await.unwrap();
    }
    assert_eq!(value("polymq_amqp_published_messages_total"), 2.0);
    assert_eq!(value("polymq_amqp_connections{listener=\"plain\"}"), 1.0);
    let received = value("polymq_amqp_received_bytes_total");
    within(connection.close(200, "bye".into())).await.unwrap();
    let closed = async {
        while value("polymq_amqp_connections{listener=\"plain\"}") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    within(closed).await;
    assert_eq!(value("polymq_amqp_published_messages_total"), 2.0);
    assert_eq!(value("polymq_amqp_unroutable_messages_total"), 2.0);
    assert!(value("polymq_amqp_received_bytes_total") >= received && received > 0.0);
    broker.stop().await;
}

#[tokio::test]
async fn another_protocol_is_told_which_one_is_spoken() {
    let broker = Broker::start().await;
    for hello in [&b"AMQP\x01\x01\x00\x0a"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut raw = broker.raw().await;
        raw.send_bytes(hello).await;
        let mut answer = Vec::new();
        // The end may be a reset: the peer has sent more than was read.
        let _ = within(raw.stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, PROTOCOL_HEADER);
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_error_ends_the_channel_or_the_connection() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.open_channel(2).await;
    // Soft or hard as the code says: active=false is 540, hard.
    raw.send(2, channel::Flow { active: true }).await;
    assert_eq!(raw.method().await, (2, channel::FlowOk { active: true }.into()));
    raw.send(1, channel::Open {}).await;
    let (on, close) = raw.method().await;
    assert_eq!((on, close_code(&close)), (0, (504, "CHANNEL_ERROR - second 'channel.open' seen")));
    // What comes until the answer is thrown away.
    raw.send(2, channel::Flow { active: true }).await;
    raw.send(0, connection::CloseOk {}).await;
    assert!(raw.frame().await.is_none());
    broker.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_apart() {
    let broker = Broker::start().await;
    let cases: [(&[u8], u16); 5] = [
        // An unknown method; a known one that is cut off; a body before its method; no frame at all; too large a frame.
        (&[1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 99, 0xce], 540),
        (&[1, 0, 1, 0, 0, 0, 5, 0, 60, 0, 80, 0, 0xce], 502),
        (&[3, 0, 1, 0, 0, 0, 1, b'x', 0xce], 505),
        (&[1, 0, 1, 0, 0, 0, 1, b'x', 0xcd], 501),
        (&[3, 0, 1, 0, 2, 0, 0], 501),
    ];
    for (bytes, code) in cases {
        let mut raw = broker.raw().await;
        raw.open(0).await;
        raw.open_channel(1).await;
        raw.send_bytes(bytes).await;
        let (on, close) = raw.method().await;
        assert_eq!((on, close_code(&close).0), (0, code), "{close:?}");
        raw.send(0, connection::CloseOk {}).await;
        raw.end().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_channel_must_be_opened_and_their_number_is_bounded() {
    let broker = Broker::with(amqp_gateway::Config { channel_max: 3, ..crate::common::config() }).await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.send(1, tx::Select {}).await;
    assert_eq!(close_code(&raw.method().await.1), (504, "CHANNEL_ERROR - expected 'channel.open'"));

    let mut raw = broker.raw().await;
    raw.open(0).await;
    for number in 1..=3 {
        raw.open_channel(number).await;
    }
    raw.send(4, channel::Open {}).await;
    assert_eq!(close_code(&raw.method().await.1).0, 530);
    broker.stop().await;
}

#[tokio::test]
async fn a_closed_channel_number_may_be_used_again() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    for _ in 0..3 {
        raw.open_channel(9).await;
        let close = channel::Close { reply_code: 200, reply_text: ShortStr::default(), class_id: 0, method_id: 0 };
        raw.send(9, close).await;
        assert_eq!(raw.method().await, (9, channel::CloseOk {}.into()));
    }
    broker.stop().await;
}

#[tokio::test]
async fn heartbeats_are_sent_and_a_silent_client_is_left() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(1).await;
    let mut heartbeats = 0;
    while let Some(frame) = raw.frame().await {
        assert_eq!(frame.kind, codec_amqp::FrameKind::Heartbeat);
        heartbeats += 1;
    }
    assert!(heartbeats >= 2, "{heartbeats}");
    broker.stop().await;
}

#[tokio::test]
async fn a_stopping_gateway_says_goodbye() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    let stopping = tokio::spawn(broker.stop());
    let (_, close) = raw.method().await;
    assert_eq!(
        close_code(&close),
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")
    );
    raw.send(0, connection::CloseOk {}).await;
    assert!(raw.frame().await.is_none());
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn what_only_a_server_sends_is_refused() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.send(1, queue::PurgeOk { message_count: 1 }).await;
    assert_eq!(close_code(&raw.method().await.1).0, 503);
    broker.stop().await;
}

#[tokio::test]
async fn a_new_secret_is_taken_for_passwords_do_not_expire() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    let update = connection::UpdateSecret { new_secret: "any".into(), reason: ShortStr::from_static("because") };
    raw.send(0, update).await;
    assert_eq!(raw.method().await, (0, connection::UpdateSecretOk {}.into()));
    raw.open_channel(1).await;
    broker.stop().await;
}

/// An alarm that stands from the start is told to whoever publishes first.
#[tokio::test]
async fn the_first_publish_finds_an_alarm() {
    let broker = Broker::with(amqp_gateway::Config { memory_bytes_max: Some(1), ..crate::common::config() }).await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    let mut out = codec_amqp::Outgoing::new();
    let publish =
        codec_amqp::ContentMethod::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false };
    out.put_content(1, publish, &[0, 0], &bytes::Bytes::from_static(b"body"), 0);
    tokio::io::AsyncWriteExt::write_all_buf(&mut raw.stream, &mut out).await.unwrap();
    assert!(matches!(raw.method().await, (0, Method::ConnectionBlocked(_))));
    broker.stop().await;
}
