//! What stands before a subscription: may the client, is it another filter that it gets, and is it free.

use std::sync::Arc;

use codec_mqtt::{Reason, Text};

use crate::Gateway;
use crate::session::copy;
use crate::state::access::Who;
use crate::state::exclusive;
use crate::state::sessions::Session;

/// The filter that a client subscribes to, or why it may not. Permissions are asked for the filter as it was sent.
pub(crate) async fn subscribe(gateway: &Gateway, who: &Who, filter: &Text) -> Result<Text, Reason> {
    if !gateway.access.may_subscribe(who, filter) {
        tracing::debug!(client = %who.client_id, %filter, "a subscription is not allowed");
        return Err(Reason::NotAuthorized);
    }
    let filter = named(gateway, who, filter);
    take(gateway, who, &filter).await?;
    Ok(filter)
}

/// What a client means by a filter: topic rewrite.
pub(crate) fn named(gateway: &Gateway, who: &Who, filter: &Text) -> Text {
    gateway.rewrite.subscribed(who, filter).and_then(Text::new).unwrap_or_else(|| copy(filter))
}

async fn take(gateway: &Gateway, who: &Who, filter: &str) -> Result<(), Reason> {
    let Some(filter) = exclusive::filter(filter) else { return Ok(()) };
    match exclusive::take(&gateway.core, gateway.core_session.id(), filter, &who.client_id).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Reason::QuotaExceeded),
        Err(error) => {
            tracing::warn!(%filter, %error, "nobody knows whether an exclusive subscription is free");
            Err(Reason::Unspecified)
        }
    }
}

/// The filter is nobody's any more.
pub(crate) async fn unsubscribed(gateway: &Gateway, who: &Who, filter: &str) {
    if let Some(filter) = exclusive::filter(filter)
        && let Err(error) = exclusive::free(&gateway.core, filter, &who.client_id).await
    {
        tracing::warn!(%filter, %error, "an exclusive subscription was not given back");
    }
}

/// What a session has from before: exclusive subscriptions are taken again under this gateway's session, and those that are
/// another's by now are gone.
pub(crate) async fn resumed(gateway: &Gateway, who: &Who, session: &Arc<Session>) {
    for (filter, _) in session.subscriptions() {
        if take(gateway, who, &filter).await == Err(Reason::QuotaExceeded) {
            session.unsubscribe(&filter);
            gateway.router.unsubscribe(session, &filter);
        }
    }
}
