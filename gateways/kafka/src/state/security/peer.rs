//! The client behind a connection: where it is, by which listener it came, and who it is.

use std::net::SocketAddr;
use std::sync::Arc;

use codec_kafka::ApiKey;
use gateway_runtime::Member;
use parking_lot::Mutex;

use super::sasl::Sasl;

/// Which of the gateway's listeners a connection came by: clients are told addresses of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    Plain,
    Tls,
}

/// Who clients are that need not say.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub listener: Listener,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None: the listener asks for no authentication.
    sasl: Option<Sasl>,
    principal: Arc<str>,
}

impl Peer {
    /// `subject`: of the client's certificate. `sasl`: whether it must authenticate.
    pub fn new(address: SocketAddr, listener: Listener, subject: Option<String>, sasl: bool) -> Arc<Peer> {
        let principal = subject.map_or_else(|| ANONYMOUS.into(), |subject| format!("User:{subject}").into());
        let state = Mutex::new(State { sasl: sasl.then_some(Sasl::Fresh), principal });
        Arc::new(Peer { address, listener, state })
    }

    /// Where this client connects to a broker: by the same kind of listener it came by. A broker without one is told all
    /// the same, at its plain address.
    pub fn address_of(&self, member: &Member) -> (String, i32) {
        match (&member.tls, self.listener) {
            (Some((host, port)), Listener::Tls) => (host.clone(), i32::from(*port)),
            _ => (member.host.clone(), i32::from(member.port)),
        }
    }

    /// Whether the client has said who it is, where it must.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.state.lock().sasl, None | Some(Sasl::Done))
    }

    /// Whether this may be asked now.
    pub fn may_ask(&self, api: ApiKey) -> bool {
        match &self.state.lock().sasl {
            None | Some(Sasl::Done) => true,
            Some(Sasl::Fresh) => matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake),
            Some(Sasl::Chosen(_) | Sasl::Exchanging(..)) => api == ApiKey::SaslAuthenticate,
            Some(Sasl::Failed) => false,
        }
    }

    /// How far the authentication has come; taken out, it is `Failed` until the next state is put in.
    pub fn take_sasl(&self) -> Option<Sasl> {
        self.state.lock().sasl.as_mut().map(|sasl| match sasl {
            Sasl::Done => Sasl::Done,
            sasl => std::mem::replace(sasl, Sasl::Failed),
        })
    }

    pub fn set_sasl(&self, sasl: Sasl) {
        self.state.lock().sasl = Some(sasl);
    }

    /// The client has proved to be this user.
    pub fn authenticated(&self, user: &str) {
        let mut state = self.state.lock();
        state.sasl = Some(Sasl::Done);
        state.principal = format!("User:{user}").into();
    }

    /// `User:<name>`.
    pub fn principal(&self) -> Arc<str> {
        self.state.lock().principal.clone()
    }
}
