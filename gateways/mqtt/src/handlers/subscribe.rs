//! SUBSCRIBE (3.8): filters for the session. It begins when what the client has published before is kept, and nothing that it
//! sends behind it overtakes it; retained messages come when SUBACK has gone.

use std::sync::Arc;

use codec_mqtt::{QoS, Reason, Suback, Subscribe, Subscription, Text, Version, topic};

use crate::Gateway;
use crate::errors::Refusal;
use crate::session::{Client, Connection, Done, End, Step, copy};
use crate::state::sessions::{Session, Subscribed, Wish};

pub(crate) fn handle(connection: &mut Connection, subscribe: Subscribe) -> Result<(), End> {
    let (gateway, session) = (connection.gateway.clone(), connection.session.clone());
    let asked: Vec<(Text, Wish)> = {
        let id = subscribe.properties.subscription_id();
        let wish = |one: &Subscription| wish(one, id, &connection.client);
        // Copies: the packet's memory must not stay for them.
        subscribe.subscriptions.iter().map(|one| (copy(&one.filter), wish(&one))).collect()
    };
    let packet_id = subscribe.packet_id;
    let subscribing = async move {
        let mut reasons = Vec::with_capacity(asked.len());
        for (filter, wish) in asked {
            match one(&gateway, &session, &filter, wish).await {
                Ok(_) => reasons.push(granted(wish.qos)),
                Err(reason) => reasons.push(reason),
            }
        }
        if session.is_persistent() {
            if let Err(error) = gateway.sessions.record(&session).await {
                return Done::Refused(Refusal::from(error));
            }
        }
        let suback = Suback { packet_id, properties: Default::default(), reasons: reasons.into_iter().collect() };
        Done::Subscribed(suback, None)
    };
    connection.step = Some(Step::Waits(Box::pin(subscribing)));
    Ok(())
}

/// How the client wants what matches.
fn wish(subscription: &Subscription, id: Option<codec_mqtt::SubscriptionId>, client: &Client) -> Wish {
    Wish {
        qos: subscription.qos,
        // A bridge would send back what it has brought.
        no_local: subscription.no_local || client.is_bridge,
        retain_as_published: subscription.retain_as_published || client.is_bridge,
        subscription_id: id.filter(|_| client.version == Version::Mqtt5),
    }
}

/// One filter. True: the session did not have it before.
async fn one(gateway: &Gateway, session: &Arc<Session>, filter: &Text, wish: Wish) -> Result<bool, Reason> {
    match topic::shared(filter) {
        // Only older versions get here with half a shared subscription, which has no code of its own there.
        Err(_) => return Err(Reason::TopicFilterInvalid),
        Ok(Some(_)) => return Err(Reason::SharedSubscriptionsNotSupported),
        Ok(None) => {}
    }
    let old = session.subscribe(filter.clone(), Subscribed { wish });
    gateway.router.subscribe(session, filter, wish).await;
    Ok(old.is_none())
}

fn granted(qos: QoS) -> Reason {
    match qos {
        QoS::AtMostOnce => Reason::Success,
        QoS::AtLeastOnce => Reason::GrantedQoS1,
        QoS::ExactlyOnce => Reason::GrantedQoS2,
    }
}
