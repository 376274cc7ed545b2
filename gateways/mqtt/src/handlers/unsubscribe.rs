//! UNSUBSCRIBE (3.10): filters go, when what was published before has been matched against them. What was sent of them
//! already is finished [MQTT-3.10.4-3].

use codec_mqtt::{Reason, Text, Unsuback, Unsubscribe, topic};

use crate::errors::Refusal;
use crate::handlers::admission;
use crate::session::{Connection, Done, End, Step};
use crate::state::shares::Leaving;

pub(crate) fn handle(connection: &mut Connection, unsubscribe: Unsubscribe) -> Result<(), End> {
    let (gateway, session) = (connection.gateway.clone(), connection.session.clone());
    let who = connection.client.who.clone();
    let named = |filter: Text| admission::named(&gateway, &who, &filter);
    let filters: Vec<Text> = unsubscribe.filters.iter().map(named).collect();
    let packet_id = unsubscribe.packet_id;
    let unsubscribing = async move {
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in &filters {
            if session.unsubscribe(filter).is_none() {
                reasons.push(Reason::NoSubscriptionExisted);
                continue;
            }
            match topic::shared(filter) {
                Ok(Some((group, filter))) => {
                    gateway.shares.leave(group, filter, session.key, Leaving::Unsubscribed).await;
                }
                _ => {
                    // What was acknowledged while the filter stood is delivered: only new messages are not [MQTT-3.10.4-1].
                    gateway.router.settled([filter.as_str()]).await;
                    gateway.router.unsubscribe(&session, filter);
                }
            }
            admission::unsubscribed(&gateway, &who, filter).await;
            reasons.push(Reason::Success);
        }
        // Returns at once where nothing has to survive.
        if let Err(error) = gateway.sessions.record(&session).await {
            return Done::Refused(Refusal::from(error));
        }
        let reasons = reasons.into_iter().collect();
        Done::Unsubscribed(Unsuback { packet_id, properties: Default::default(), reasons })
    };
    connection.step = Some(Step::Waits(Box::pin(unsubscribing)));
    Ok(())
}
