//! AUTH (3.15) after CONNACK: the client authenticates again (4.12.1). What it sends meanwhile waits.

use codec_mqtt::{Auth, Reason};

use crate::errors::Refusal;
use crate::session::{Connection, Done, End, Step, auth_packet};
use crate::state::access::{Denied, Enhanced, Step as Exchanged};

pub(crate) fn handle(connection: &mut Connection, auth: &Auth) -> Result<(), End> {
    let Some(method) = connection.client.method.clone() else {
        return Err(Refusal::protocol("an AUTH on a connection that has no authentication method").into());
    };
    // [MQTT-4.12.1-1]
    if auth.properties.authentication_method().as_ref() != Some(&method) {
        return Err(Refusal::protocol("an AUTH with another method than CONNECT's").into());
    }
    let exchange = match (auth.reason, connection.client.exchange.take()) {
        (Reason::Reauthenticate, None) => {
            let user = connection.client.who.user.clone();
            Enhanced::again(&method, user).map(Box::new).map_err(denied_again)?
        }
        (Reason::ContinueAuthentication, Some(exchange)) => exchange,
        _ => return Err(Refusal::protocol("an AUTH that is not the next of its exchange").into()),
    };
    let (gateway, origin) = (connection.gateway.clone(), connection.client.origin.clone());
    let data = auth.properties.authentication_data();
    let stepping = async move {
        let mut exchange = exchange;
        let step = gateway.access.step(&mut exchange, data.as_deref(), &origin).await;
        Done::Authenticated(exchange, step)
    };
    connection.step = Some(Step::Runs(Box::pin(stepping)));
    Ok(())
}

/// The answer to a step of the client.
pub(crate) fn stepped(
    connection: &mut Connection,
    exchange: Box<Enhanced>,
    step: Result<Exchanged, Denied>,
) -> Result<(), End> {
    let method = connection.client.method.clone().unwrap_or_default();
    match step.map_err(denied_again)? {
        Exchanged::Continue(data) => {
            connection.client.exchange = Some(exchange);
            connection.write(&auth_packet(Reason::ContinueAuthentication, &method, data));
        }
        Exchanged::Done { data, .. } => connection.write(&auth_packet(Reason::Success, &method, data)),
    }
    Ok(())
}

/// [MQTT-4.12.1-2]: the connection ends.
fn denied_again(denied: Denied) -> End {
    let refusal = Refusal::from(denied);
    // What only CONNACK says, DISCONNECT says so.
    match refusal.reason {
        Reason::BadUserNameOrPassword => Refusal { reason: Reason::NotAuthorized, ..refusal }.into(),
        _ => refusal.into(),
    }
}
