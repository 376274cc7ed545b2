//! SUBSCRIBE (3.8): filters for the session. It begins when what the client has published before is kept, and nothing that it
//! sends behind it overtakes it; retained messages come when SUBACK has gone.

use std::sync::Arc;

use codec_mqtt::{QoS, Reason, RetainHandling, Suback, Subscribe, Subscription, Text, Version, topic};

use crate::Gateway;
use crate::errors::Refusal;
use crate::handlers::admission;
use crate::session::{Client, Connection, Done, End, Step, copy};
use crate::state::access::Who;
use crate::state::auto_subscribe;
use crate::state::router::routed_filter;
use crate::state::sessions::{Session, Subscribed, Wish};

pub(crate) fn handle(connection: &mut Connection, subscribe: Subscribe) -> Result<(), End> {
    let (gateway, session) = (connection.gateway.clone(), connection.session.clone());
    let who = connection.client.who.clone();
    let asked: Vec<(Text, Wish, RetainHandling)> = {
        let id = subscribe.properties.subscription_id();
        let wish = |one: &Subscription| wish(one, id, &connection.client);
        // Copies: the packet's memory must not stay for them.
        subscribe.subscriptions.iter().map(|one| (copy(&one.filter), wish(&one), one.retain_handling)).collect()
    };
    let (packet_id, window) = (subscribe.packet_id, connection.client.window);
    let subscribing = async move {
        let mut reasons = Vec::with_capacity(asked.len());
        let (mut routed, mut retained) = (Vec::new(), Vec::new());
        for (filter, wish, handling) in asked {
            let admitted = admission::subscribe(&gateway, &who, &filter).await;
            let subscribed = match &admitted {
                Ok(filter) => one(&gateway, &session, filter, wish, window, &mut routed).await,
                Err(reason) => Err(*reason),
            };
            let filter = admitted.unwrap_or(filter);
            match subscribed {
                Ok(is_new) => {
                    // Shared ones get none (4.8.2).
                    if is_wanted(handling, is_new)
                        && let Some(filter) = routed_filter(&filter)
                    {
                        retained.push((filter.to_owned(), wish));
                    }
                    reasons.push(granted(wish.qos));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        gateway.router.subscribe(&session, &routed).await;
        let ends = retained_ends(&gateway, &retained).await;
        // Returns at once where nothing has to survive.
        if let Err(error) = gateway.sessions.record(&session).await {
            return Done::Refused(Refusal::from(error));
        }
        let suback = Suback { packet_id, properties: Default::default(), reasons: reasons.into_iter().collect() };
        Done::Subscribed(suback, Some(Box::pin(deliver_retained(gateway, session, who, retained, ends))))
    };
    connection.step = Some(Step::Waits(Box::pin(subscribing)));
    Ok(())
}

/// What every client is subscribed to, with what is retained of it.
pub(crate) async fn automatically(gateway: &Arc<Gateway>, session: &Arc<Session>, who: &Arc<Who>, window: u16) {
    let (mut routed, mut retained) = (Vec::new(), Vec::new());
    for subscription in auto_subscribe::subscriptions(&gateway.config.auto_subscribe, who) {
        let wish = Wish {
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            subscription_id: None,
        };
        let subscribed = match admission::subscribe(gateway, who, &subscription.filter).await {
            Ok(filter) => {
                one(gateway, session, &filter, wish, window, &mut routed).await.map(|is_new| (filter, is_new))
            }
            Err(reason) => Err(reason),
        };
        match subscribed {
            Ok((filter, is_new)) if is_wanted(subscription.retain_handling, is_new) => {
                retained.extend(routed_filter(&filter).map(|filter| (filter.to_owned(), wish)));
            }
            Ok(_) => {}
            Err(reason) => {
                let (client, filter) = (&who.client_id, &subscription.filter);
                tracing::warn!(%client, %filter, ?reason, "a client does not get a subscription that all should get");
            }
        }
    }
    gateway.router.subscribe(session, &routed).await;
    let ends = retained_ends(gateway, &retained).await;
    if session.is_persistent()
        && let Err(error) = gateway.sessions.record(session).await
    {
        tracing::warn!(client = %who.client_id, %error, "subscriptions that all clients get were not recorded");
    }
    tokio::spawn(deliver_retained(gateway.clone(), session.clone(), who.clone(), retained, ends));
}

/// Where what is retained ends for subscriptions that the router knows: what is published from then on they get once.
async fn retained_ends(gateway: &Gateway, retained: &[(String, Wish)]) -> Vec<u64> {
    if retained.is_empty() {
        return Vec::new();
    }
    gateway.retained.ends_now().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "a new subscription may miss retained messages");
        Vec::new()
    })
}

/// What new subscriptions get of what was said before.
async fn deliver_retained(
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    who: Arc<Who>,
    retained: Vec<(String, Wish)>,
    ends: Vec<u64>,
) {
    let may_read = |name: &str| gateway.access.may_read(&who, name);
    // Known here: it waits for no log.
    for (filter, wish) in &retained {
        gateway.sys.deliver(&session, filter, *wish, may_read);
    }
    gateway.retained.ready(&ends).await;
    for (filter, wish) in retained {
        gateway.retained.deliver(&session, &filter, wish, &ends, may_read).await;
    }
}

fn is_wanted(handling: RetainHandling, is_new: bool) -> bool {
    match handling {
        RetainHandling::Always => true,
        RetainHandling::IfNew => is_new,
        RetainHandling::Never => false,
    }
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

/// One filter; to `routed` come those that the router is still to be told. True: the session did not have it before.
async fn one(
    gateway: &Gateway,
    session: &Arc<Session>,
    filter: &Text,
    wish: Wish,
    window: u16,
    routed: &mut Vec<(Text, Wish)>,
) -> Result<bool, Reason> {
    // Only older versions get here with half a shared subscription, which has no code of its own there.
    let shared = topic::shared(filter).map_err(|_| Reason::TopicFilterInvalid)?;
    let old = session.subscribe(filter.clone(), Subscribed { wish });
    let Some((group, shared)) = shared else {
        routed.push((filter.clone(), wish));
        return Ok(old.is_none());
    };
    if let Err(error) = gateway.shares.join(group, shared, session, wish, window).await {
        tracing::warn!(client = %session.client_id, %filter, %error, "a shared subscription is refused");
        if old.is_none() {
            session.unsubscribe(filter);
        }
        return Err(Reason::Unspecified);
    }
    Ok(old.is_none())
}

fn granted(qos: QoS) -> Reason {
    match qos {
        QoS::AtMostOnce => Reason::Success,
        QoS::AtLeastOnce => Reason::GrantedQoS1,
        QoS::ExactlyOnce => Reason::GrantedQoS2,
    }
}
