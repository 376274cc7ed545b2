//! The quota for creating and deleting partitions (KIP-599), as one request meets it.

use std::time::Duration;

use core_rpc::Core;

use super::{Kind, Quotas};

/// What one request may change.
pub struct Mutations<'a, C> {
    quotas: &'a Quotas<C>,
    user: &'a str,
    client_id: &'a str,
    /// Whether the client knows THROTTLING_QUOTA_EXCEEDED; others are only silenced afterwards.
    is_strict: bool,
    now_ms: i64,
    silence: Duration,
}

/// The quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded;

impl<'a, C: Core> Mutations<'a, C> {
    pub fn new(quotas: &'a Quotas<C>, user: &'a str, client_id: &'a str, is_strict: bool, now_ms: i64) -> Self {
        Mutations { quotas, user, client_id, is_strict, now_ms, silence: Duration::ZERO }
    }

    /// Charges for some partitions.
    pub fn charge(&mut self, partitions: u32) -> Result<(), Exceeded> {
        let Mutations { quotas, user, client_id, now_ms, .. } = *self;
        let charged = match self.is_strict {
            true => quotas.use_if_allowed(Kind::Mutation, user, client_id, partitions as usize, now_ms),
            false => {
                self.silence = quotas.used(Kind::Mutation, user, client_id, partitions as usize, now_ms);
                Ok(())
            }
        };
        charged.map_err(|silence| {
            self.silence = silence;
            Exceeded
        })
    }

    /// For how long the client has to be silent now.
    pub fn silence(&self) -> Duration {
        self.silence
    }
}
