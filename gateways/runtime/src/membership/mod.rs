//! The gateways of one protocol that live: each registers itself with a session and watches the others.
//!
//! ```text
//! core's meta    <prefix>1 → Member ─ session of gateway 1       a session that is not renewed within its time to
//!                <prefix>2 → Member ─ session of gateway 2       live ends, and its gateway's entry vanishes
//! ```
//!
//! - A node id has one gateway. A second one is refused, after waiting for the session of the first to end. A gateway
//!   that is started again at the same address takes its former entry over at once.
//! - Who has lost its session (the core was out of reach for too long) registers again, and meanwhile knows that others
//!   may have taken over what was its own: [`Membership::is_sure`].

mod choice;
mod record;
mod task;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use core_rpc::{Core, MetaError, MetaPut, MetaWatch, SessionId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::identity::random_16_bytes;
use crate::mirror::Mirror;
use choice::{Choice, choose};
pub use record::Member;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long to wait for the core's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Which node id a gateway wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeId {
    Fixed(i32),
    /// The lowest that no other gateway has.
    Lowest,
}

impl std::str::FromStr for NodeId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i32>() {
            _ if text == "auto" => Ok(NodeId::Lowest),
            Ok(id) if id >= 0 => Ok(NodeId::Fixed(id)),
            _ => Err("expected auto or a number from 0".into()),
        }
    }
}

/// How a gateway registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Of the keys of all gateways that are to know each other; ends with a slash.
    pub prefix: String,
    pub node_id: NodeId,
    /// Where clients connect to.
    pub host: String,
    pub port: u16,
    /// Where clients connect to with TLS, if they can.
    pub tls: Option<(String, u16)>,
    pub rack: Option<String>,
    /// Ms since the Unix epoch.
    pub started_ms: i64,
    /// After what time without a sign of life a gateway is taken for dead.
    pub time_to_live: Duration,
}

/// The live gateways, ordered by their ids.
pub type Members = Arc<Vec<Member>>;

/// This gateway's membership, and what it knows of the others. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Membership {
    own: Arc<Member>,
    live: watch::Receiver<Members>,
    /// Until when our session certainly lives.
    sure_until: Arc<Mutex<Instant>>,
    registrations: Arc<watch::Sender<u64>>,
    session: Arc<Mutex<Option<SessionId>>>,
    leave: CancellationToken,
    left: CancellationToken,
}

impl Membership {
    /// Registers, then keeps the session alive and watches the others in tasks that end with `stop`. Waits until the
    /// core answers, and for the time to live if another gateway has the node id.
    pub async fn start<C: Core>(core: C, registration: Registration, stop: CancellationToken) -> anyhow::Result<Self> {
        let incarnation = random_16_bytes().context("no source of randomness")?;
        let Registration { host, port, tls, rack, started_ms, .. } = registration.clone();
        let own = Member { node_id: -1, host, port, tls, rack, started_ms, incarnation };
        let mut registrar = Registrar { core: core.clone(), registration, own, session: None };
        let sure_until = registrar.register_first().await?;
        let prefix = registrar.registration.prefix.clone();
        let mirror = Mirror::start(core, prefix, Member::decode, stop.clone()).await?;
        let (sender, live) = watch::channel(task::members(&mirror.content()));
        let membership = Membership {
            own: Arc::new(registrar.own.clone()),
            live,
            sure_until: Arc::new(Mutex::new(sure_until)),
            registrations: Arc::default(),
            session: Arc::new(Mutex::new(registrar.session)),
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
        };
        tokio::spawn(task::follow(mirror, sender, stop.clone()));
        tokio::spawn(task::keep(registrar, membership.clone(), stop));
        Ok(membership)
    }

    /// A membership that somebody else keeps: for tests of what depends on one.
    pub fn fixed(own: Member, live: watch::Receiver<Members>) -> Self {
        Membership {
            own: Arc::new(own),
            live,
            sure_until: Arc::new(Mutex::new(Instant::now() + Duration::from_secs(365 * 24 * 3600))),
            registrations: Arc::default(),
            session: Arc::default(),
            leave: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }

    /// What happens to one that is kept for a test: from now on it is not sure, or it has registered again and is.
    pub fn set_sure(&self, is_sure: bool) {
        self.registrations.send_modify(|count| *count += u64::from(is_sure));
        let year = Duration::from_secs(365 * 24 * 3600);
        *self.sure_until.lock() = if is_sure { Instant::now() + year } else { Instant::now() };
    }

    /// This gateway.
    pub fn own(&self) -> &Member {
        &self.own
    }

    /// The live gateways. Without this one while it is not registered.
    pub fn live(&self) -> Members {
        self.live.borrow().clone()
    }

    /// To be woken when the live gateways change.
    pub fn changes(&self) -> watch::Receiver<Members> {
        self.live.clone()
    }

    /// Whether this gateway's session certainly lives, so that nobody can have taken over what is its own.
    pub fn is_sure(&self) -> bool {
        Instant::now() < *self.sure_until.lock()
    }

    /// How often this gateway has had to register again: each time others may have taken over what was its own. Counted before it
    /// is sure of itself again.
    pub fn registrations(&self) -> watch::Receiver<u64> {
        self.registrations.subscribe()
    }

    /// The session in which this gateway is registered: it has ended before anybody sees that this gateway is not registered any more.
    /// Another since this gateway has had to register again, which is counted before. None where somebody else keeps the membership.
    pub fn session(&self) -> Option<SessionId> {
        *self.session.lock()
    }

    /// Ends the session, so that the others need not wait for its end. Returns when the core knows, or after a second.
    pub async fn leave(&self) {
        self.leave.cancel();
        if tokio::time::timeout(FAREWELL, self.left.cancelled()).await.is_err() {
            tracing::warn!("the core was not told that this gateway leaves");
        }
    }
}

/// What it takes to register, again and again.
struct Registrar<C> {
    core: C,
    registration: Registration,
    own: Member,
    session: Option<SessionId>,
}

/// What came of one attempt.
enum Attempt {
    Registered,
    Taken(Box<Member>),
    /// Somebody else changed the entry meanwhile.
    Again,
}

impl<C: Core> Registrar<C> {
    /// Until when the session certainly lives is returned.
    async fn register_first(&mut self) -> anyhow::Result<Instant> {
        let time_to_live = self.registration.time_to_live;
        // Half as long again: time that its holder's last renewal may have been on its way.
        let patience = time_to_live + time_to_live / 2;
        let mut since: Option<Instant> = None;
        loop {
            let sent = Instant::now();
            match self.attempt(true).await {
                Ok(Attempt::Registered) => return Ok(sent + time_to_live),
                Ok(Attempt::Again) => {}
                Ok(Attempt::Taken(other)) => {
                    if since.is_none() {
                        tracing::warn!(
                            node_id = other.node_id,
                            host = other.host,
                            port = other.port,
                            "another gateway is registered under this node id; waiting for its session to end"
                        );
                    }
                    let waited = since.get_or_insert(sent).elapsed();
                    if waited >= patience {
                        bail!(
                            "the node id {} is in use by the gateway at {}:{}; give this one another",
                            other.node_id,
                            other.host,
                            other.port
                        );
                    }
                    self.wait_for_change(other.node_id, patience - waited).await;
                }
                Err(MetaError::Unavailable | MetaError::UnknownSession) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error).context("cannot register this gateway"),
            }
        }
    }

    /// Waits until an entry changes, but not for so long that our own session could end.
    async fn wait_for_change(&self, node_id: i32, longest: Duration) {
        let prefix = self.key(node_id);
        let wait = longest.min(self.registration.time_to_live / 3);
        let changed = async {
            let list = self.core.meta_list(prefix.clone()).await?;
            if list.entries.iter().any(|entry| entry.key == prefix) {
                let watch = MetaWatch { prefix, after_revision: list.revision, wait };
                self.core.meta_watch(watch).await?;
            }
            Ok::<_, MetaError>(())
        };
        if changed.await.is_err() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn key(&self, node_id: i32) -> String {
        format!("{}{node_id}", self.registration.prefix)
    }

    async fn attempt(&mut self, may_replace: bool) -> Result<Attempt, MetaError> {
        let session = self.live_session().await?;
        let list = self.core.meta_list(self.registration.prefix.clone()).await?;
        let wanted = match self.own.node_id {
            -1 => self.registration.node_id,
            // Once it has an id, it keeps it.
            id => NodeId::Fixed(id),
        };
        let (node_id, condition) = match choose(&list.entries, &self.own, wanted, may_replace) {
            Choice::Register(node_id, condition) => (node_id, condition),
            Choice::Taken(other) => return Ok(Attempt::Taken(other)),
        };
        let member = Member { node_id, ..self.own.clone() };
        let value = member.encode().map_err(|_| MetaError::TooLarge)?;
        let put = MetaPut { key: self.key(node_id), value, condition, session: Some(session) };
        match self.core.meta_put(put).await {
            Ok(_) => {
                self.own = member;
                Ok(Attempt::Registered)
            }
            Err(MetaError::Conflict(_)) => Ok(Attempt::Again),
            Err(error) => {
                if error == MetaError::UnknownSession {
                    self.session = None;
                }
                Err(error)
            }
        }
    }

    /// Our session, renewed; a new one if it has ended.
    async fn live_session(&mut self) -> Result<SessionId, MetaError> {
        if let Some(session) = self.session {
            match self.core.session_renew(session).await {
                Ok(()) => return Ok(session),
                Err(MetaError::UnknownSession) => self.session = None,
                Err(error) => return Err(error),
            }
        }
        let session = self.core.session_open(self.registration.time_to_live).await?;
        self.session = Some(session);
        Ok(session)
    }
}
