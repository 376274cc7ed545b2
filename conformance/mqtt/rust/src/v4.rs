//! rumqttc's client for 3.1.1.

use std::sync::Arc;

use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, Publish, QoS, SubscribeReasonCode,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::client::{Control, Options, PACKET_SIZE_MAX, RECONNECT_AFTER, REQUESTS_MAX};
use crate::seen::{Message, Seen};

/// As many of QoS 1 and 2 as may be unacknowledged.
const IN_FLIGHT_MAX: u16 = 500;

pub fn qos(number: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(number)]
}

pub fn open(host: &str, port: u16, options: Options) -> (AsyncClient, EventLoop) {
    let mut wanted = MqttOptions::new(options.id, host, port);
    wanted.set_clean_session(options.clean).set_manual_acks(options.manual).set_inflight(IN_FLIGHT_MAX);
    wanted.set_max_packet_size(PACKET_SIZE_MAX as usize, PACKET_SIZE_MAX as usize);
    if let Some((topic, text)) = options.will {
        wanted.set_last_will(LastWill::new(topic, text, QoS::AtLeastOnce, false));
    }
    AsyncClient::new(wanted, REQUESTS_MAX)
}

/// What rumqttc wants to acknowledge a message by.
pub fn acknowledged(message: &Message) -> Publish {
    let mut found = Publish::new(message.topic.clone(), qos(message.qos), Vec::new());
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
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            duplicate: publish.dup,
            identifier: publish.pkid,
            properties: None,
        }),
        Incoming::SubAck(answer) => state
            .subscribed
            .push(answer.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)))),
        Incoming::UnsubAck(_) => state.unsubscribed += 1,
        Incoming::PubAck(_) | Incoming::PubComp(_) => state.acknowledged += 1,
        _ => {}
    });
}
