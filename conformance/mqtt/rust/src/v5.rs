//! rumqttc's client for 5.

use std::sync::Arc;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, Publish, SubscribeReasonCode, UnsubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::client::{Control, Options, PACKET_SIZE_MAX, RECONNECT_AFTER, REQUESTS_MAX, SESSION_EXPIRY_SECONDS};
use crate::seen::{Message, Seen};

pub fn qos(number: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(number)]
}

pub fn open(host: &str, port: u16, options: Options) -> (AsyncClient, EventLoop) {
    let mut wanted = MqttOptions::new(options.id, host, port);
    wanted.set_clean_start(options.clean).set_manual_acks(options.manual);
    wanted.set_max_packet_size(Some(PACKET_SIZE_MAX)).set_receive_maximum(options.receive_maximum);
    if !options.clean {
        wanted.set_session_expiry_interval(Some(SESSION_EXPIRY_SECONDS));
    }
    if let Some((topic, text)) = options.will {
        let properties = LastWillProperties {
            delay_interval: None,
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("text/plain".into()),
            response_topic: None,
            correlation_data: None,
            user_properties: vec![("of".into(), "a will".into())],
        };
        wanted.set_last_will(LastWill::new(topic, text, QoS::AtLeastOnce, false, Some(properties)));
    }
    AsyncClient::new(wanted, REQUESTS_MAX)
}

/// What rumqttc wants to acknowledge a message by.
pub fn acknowledged(message: &Message) -> Publish {
    let mut found = Publish::new(message.topic.clone(), qos(message.qos), Vec::new(), None);
    found.pkid = message.identifier;
    found
}

/// Polls the event loop, until the client is gone or has left.
pub async fn drive(mut events: EventLoop, seen: Arc<Seen>, mut control: UnboundedReceiver<Control>) {
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            said = control.recv() => match said {
                Some(Control::Cut) => events.clean(),
                Some(Control::Leave) => leaving = true,
                None => return,
            },
            event = events.poll() => match event {
                Ok(Event::Incoming(packet)) => take(&seen, packet),
                Ok(Event::Outgoing(Outgoing::PubAck(_))) => seen.change(|state| state.acknowledgements += 1),
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    seen.change(|state| state.faults.push(error.to_string()));
                    if leaving {
                        return;
                    }
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
            },
        }
    }
}

fn take(seen: &Seen, packet: Incoming) {
    seen.change(|state| match packet {
        Incoming::ConnAck(answer) => state.connections.push(answer.session_present),
        Incoming::Publish(publish) => state.messages.push(Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            duplicate: publish.dup,
            identifier: publish.pkid,
            properties: publish.properties,
        }),
        Incoming::SubAck(answer) => state
            .subscribed
            .push(answer.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)))),
        Incoming::UnsubAck(answer) => {
            state.unsubscribed += usize::from(answer.reasons.iter().all(|reason| *reason == UnsubAckReason::Success))
        }
        Incoming::PubAck(_) | Incoming::PubComp(_) => state.acknowledged += 1,
        _ => {}
    });
}
