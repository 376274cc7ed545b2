//! Places of connections whose vhost or user may have no more than so many, at all gateways together.
//!
//! ```text
//! reserve: counted by whoever counts ─► the other gateways are asked how many they have ─► over the limit: given up
//!                                                                                        └► else Place::take: open
//! ```
//! A place is counted before it is asked for, and so there are never too many. Of two that come at the same moment to two gateways,
//! where there is room for one, neither may get it.

use std::sync::Arc;

use super::{Connection, Registry};

/// How many connections there are, or are about to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub of_vhost: u64,
    pub of_user: u64,
}

/// Why a connection may not be opened: so many there are already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    OfVhost(u64),
    OfUser(u64),
}

impl Load {
    pub fn and(self, other: Load) -> Load {
        Load { of_vhost: self.of_vhost + other.of_vhost, of_user: self.of_user + other.of_user }
    }

    /// Whether one more is too many.
    pub fn check(self, of_vhost: Option<u64>, of_user: Option<u64>) -> Result<(), OverLimit> {
        if let Some(limit) = of_vhost.filter(|limit| self.of_vhost >= *limit) {
            return Err(OverLimit::OfVhost(limit));
        }
        match of_user.filter(|limit| self.of_user >= *limit) {
            Some(limit) => Err(OverLimit::OfUser(limit)),
            None => Ok(()),
        }
    }
}

/// A place that is counted and has no connection yet.
#[derive(Debug)]
pub(super) struct Reserved {
    vhost: Arc<str>,
    user: String,
}

/// A place of this gateway. Given up when it is dropped.
#[derive(Debug)]
pub struct Place<'r> {
    registry: &'r Registry,
    connection: Option<Arc<Connection>>,
    /// How many others there were when it was reserved.
    pub before: Load,
}

impl Registry {
    /// Keeps a place for a connection.
    pub fn reserve(&self, connection: Arc<Connection>) -> Place<'_> {
        let mut reserved = self.reserved.lock();
        let (vhost, user) = (connection.vhost.clone(), connection.user.name.clone());
        let before = self.count(&reserved, &vhost, &user);
        reserved.push(Reserved { vhost, user });
        Place { registry: self, connection: Some(connection), before }
    }

    /// How many connections of a vhost and of a user there are at this gateway, or are about to be.
    pub fn load(&self, vhost: &str, user: &str) -> Load {
        self.count(&self.reserved.lock(), vhost, user)
    }

    fn count(&self, reserved: &[Reserved], vhost: &str, user: &str) -> Load {
        let one = |its_vhost: &str, its_user: &str| Load {
            of_vhost: u64::from(its_vhost == vhost),
            of_user: u64::from(its_user == user),
        };
        let open = self.connections.iter().fold(Load::default(), |load, entry| {
            let connection = entry.value();
            load.and(one(&connection.vhost, &connection.user.name))
        });
        reserved.iter().fold(open, |load, reserved| load.and(one(&reserved.vhost, &reserved.user)))
    }
}

impl Place<'_> {
    /// The connection is open.
    pub fn take(mut self) {
        self.leave(true);
    }

    fn leave(&mut self, is_taken: bool) {
        let Some(connection) = self.connection.take() else { return };
        // Under the lock: who counts meanwhile finds it once.
        let mut reserved = self.registry.reserved.lock();
        let is_own = |place: &Reserved| place.vhost == connection.vhost && place.user == connection.user.name;
        if let Some(at) = reserved.iter().position(is_own) {
            reserved.swap_remove(at);
        }
        if is_taken {
            self.registry.add(connection);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_with_the_last_place() {
        let load = Load { of_vhost: 2, of_user: 5 };
        assert_eq!(load.check(None, None), Ok(()));
        assert_eq!(load.check(Some(3), Some(6)), Ok(()));
        assert_eq!(load.check(Some(2), Some(1)), Err(OverLimit::OfVhost(2)));
        assert_eq!(load.check(Some(3), Some(5)), Err(OverLimit::OfUser(5)));
        assert_eq!(load.and(Load { of_vhost: 1, of_user: 0 }).check(Some(3), None), Err(OverLimit::OfVhost(3)));
    }
}
