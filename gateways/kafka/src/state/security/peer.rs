//! The client behind a connection: where it is, by which listener it came, and who it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec_kafka::ApiKey;
use gateway_runtime::Member;
use parking_lot::Mutex;

use super::sasl::{Mechanism, Sasl};
use crate::state::Backlog;

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
    /// Whether there is probably more to read than was told.
    pub backlog: Backlog,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None: the listener asks for no authentication.
    sasl: Option<Sasl>,
    principal: Arc<str>,
    /// How the client has authenticated.
    proved: Option<Proved>,
}

#[derive(Clone, Copy, Debug)]
struct Proved {
    mechanism: Mechanism,
    /// Until when it holds. None: as long as the connection.
    until: Option<Instant>,
}

/// Whoever authenticates again must be whom it was (KIP-368).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherUser;

impl Peer {
    /// `subject`: of the client's certificate. `sasl`: whether it must authenticate.
    pub fn new(address: SocketAddr, listener: Listener, subject: Option<String>, sasl: bool) -> Arc<Peer> {
        let principal = subject.map_or_else(|| ANONYMOUS.into(), |subject| format!("User:{subject}").into());
        let state = Mutex::new(State { sasl: sasl.then_some(Sasl::Fresh), principal, proved: None });
        Arc::new(Peer { address, listener, backlog: Backlog::default(), state })
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
            Some(Sasl::Chosen(_) | Sasl::Exchanging(..) | Sasl::TokenRefused) => api == ApiKey::SaslAuthenticate,
            Some(Sasl::Failed) => false,
        }
    }

    /// Whether the client should have authenticated again by now, and asks for something else (KIP-368).
    pub fn is_overdue(&self, api: ApiKey) -> bool {
        let is_expired = |proved: Proved| proved.until.is_some_and(|until| until <= Instant::now());
        !matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate)
            && self.state.lock().proved.is_some_and(is_expired)
    }

    /// Begins the exchange by this mechanism. False: this is not the time, or not the mechanism of before.
    pub fn choose(&self, mechanism: Mechanism) -> bool {
        let mut state = self.state.lock();
        let may_choose = match (&state.sasl, state.proved) {
            (Some(Sasl::Fresh), _) => true,
            (Some(Sasl::Done), Some(proved)) => proved.until.is_some() && proved.mechanism == mechanism,
            _ => false,
        };
        if may_choose {
            state.sasl = Some(Sasl::Chosen(mechanism));
        }
        may_choose
    }

    /// Whether a mechanism may be chosen now.
    pub fn may_choose(&self) -> bool {
        let state = self.state.lock();
        match state.sasl {
            Some(Sasl::Fresh) => true,
            Some(Sasl::Done) => state.proved.is_some_and(|proved| proved.until.is_some()),
            _ => false,
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

    /// A handshake was refused: a client that has authenticated goes on as it was, another cannot.
    pub fn fail_sasl(&self) {
        let _before = self.take_sasl();
    }

    /// The client has proved to be this user, for so long; None: as long as it is connected.
    pub fn authenticated(&self, user: &str, mechanism: Mechanism, lifetime: Option<Duration>) -> Result<(), OtherUser> {
        let mut state = self.state.lock();
        let principal: Arc<str> = format!("User:{user}").into();
        if state.proved.is_some() && state.principal != principal {
            state.sasl = Some(Sasl::Failed);
            return Err(OtherUser);
        }
        let until = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        state.proved = Some(Proved { mechanism, until });
        state.sasl = Some(Sasl::Done);
        state.principal = principal;
        Ok(())
    }

    /// `User:<name>`.
    pub fn principal(&self) -> Arc<str> {
        self.state.lock().principal.clone()
    }
}
