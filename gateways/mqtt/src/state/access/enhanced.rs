//! Enhanced authentication (4.12): SCRAM-SHA-256 and SCRAM-SHA-512 in AUTH packets.
//!
//! ```text
//! client ── CONNECT, or AUTH 0x19 on a living connection: method, client-first ──► step
//!        ◄─ AUTH 0x18: server-first ──────────────────────────────────────────────┘ Continue
//!        ── AUTH 0x18: client-final ──────────────────────────────────────────────► step
//!        ◄─ CONNACK, or AUTH 0x00: server-final ──────────────────────────────────┘ Done
//! ```
//! A client that brings no data with its first packet is asked for it with an empty AUTH.

use std::num::NonZeroU32;
use std::sync::Arc;

use core_rpc::Core;
use gateway_runtime::identity::random_16_bytes;
use gateway_runtime::scram::{ClientFirst, Exchange, Hash, Verifier};

use super::{Access, Denied, Origin};

/// What a verifier that nobody has says of itself.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// A client that is proving who it is.
#[derive(Debug)]
pub struct Enhanced {
    hash: Hash,
    /// Who it has to be: whom a living connection belongs to. `None`: anybody.
    must_be: Option<Option<Arc<str>>>,
    state: State,
}

#[derive(Debug)]
enum State {
    First,
    Last { user: Arc<str>, exchange: Box<Exchange> },
    Over,
}

/// What the server says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// AUTH with Continue authentication, and this data.
    Continue(Vec<u8>),
    /// The client is this user. CONNACK or AUTH with Success, and this data.
    Done { user: Arc<str>, data: Vec<u8> },
}

impl Enhanced {
    /// By CONNECT's authentication method.
    pub fn begin(method: &str) -> Result<Enhanced, Denied> {
        let hash = match method {
            "SCRAM-SHA-256" => Hash::Sha256,
            "SCRAM-SHA-512" => Hash::Sha512,
            _ => return Err(Denied::BadMethod),
        };
        Ok(Enhanced { hash, must_be: None, state: State::First })
    }

    /// On a living connection, of a client that has logged in as `user`. The method has to be the one that it came with
    /// [MQTT-4.12.1-1], and it cannot become somebody else.
    pub fn again(method: &str, user: Option<Arc<str>>) -> Result<Enhanced, Denied> {
        Ok(Enhanced { must_be: Some(user), ..Enhanced::begin(method)? })
    }

    pub fn method(&self) -> &'static str {
        match self.hash {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }
}

impl<C: Core> Access<C> {
    /// Takes the authentication data of the next packet. After an error the exchange is over.
    pub async fn step(&self, exchange: &mut Enhanced, data: Option<&[u8]>, origin: &Origin) -> Result<Step, Denied> {
        match std::mem::replace(&mut exchange.state, State::Over) {
            State::First => {
                let Some(data) = data.filter(|data| !data.is_empty()) else {
                    exchange.state = State::First;
                    return Ok(Step::Continue(Vec::new()));
                };
                let first = ClientFirst::parse(data).map_err(|_| Denied::NotAuthorized)?;
                // Nobody acts for somebody else.
                if !first.authorization.is_empty() && first.authorization != first.user {
                    return Err(Denied::NotAuthorized);
                }
                let user: Arc<str> = first.user.as_str().into();
                if exchange.must_be.as_ref().is_some_and(|must_be| must_be.as_ref() != Some(&user)) {
                    return Err(Denied::NotAuthorized);
                }
                let verifier = self.verifier(exchange.hash, &user, origin).await?;
                let nonce = random_16_bytes().map_err(|_| Denied::Unavailable)?;
                let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
                let (next, answer) = Exchange::begin(exchange.hash, first, verifier, &nonce);
                exchange.state = State::Last { user, exchange: Box::new(next) };
                Ok(Step::Continue(answer))
            }
            State::Last { user, exchange } => {
                let data = exchange.finish(data.unwrap_or_default()).map_err(|_| Denied::NotAuthorized)?;
                Ok(Step::Done { user, data })
            }
            State::Over => Err(Denied::NotAuthorized),
        }
    }

    /// The user's verifier. Whoever asks for a user that is not there, or may not come from where it comes, gets one that no
    /// password fits, always with the same salt, so that it does not learn who is there.
    async fn verifier(&self, hash: Hash, name: &str, origin: &Origin) -> Result<Verifier, Denied> {
        let stored = self.stored(name).await?.filter(|user| user.may_come_from(origin.address));
        if let Some(verifier) = stored.and_then(|user| user.verifier(hash).cloned()) {
            return Ok(verifier);
        }
        let secret = self.secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let name = name.as_bytes().to_vec();
        let one = NonZeroU32::MIN;
        let salt = Verifier::of_password(Hash::Sha256, &secret, name, one).stored_key[..16].to_vec();
        let random = random_16_bytes().map_err(|_| Denied::Unavailable)?;
        Ok(Verifier::of_salted(hash, &random, salt, ITERATIONS.get()))
    }
}
