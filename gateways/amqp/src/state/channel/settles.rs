//! The channels of a connection that have settled something in this read round, so that what each gathered goes to the core
//! together at its end.

use std::sync::Arc;

use core_rpc::Core;

use super::Channels;
use crate::Gateway;
use crate::state::queues::DeadLetters;

#[derive(Debug, Default)]
pub struct Settles {
    /// Numbers of channels, each once but for rare cases.
    channels: Vec<u16>,
    /// The settler's round in which what was handed over last is settled.
    round: u64,
    /// From the first dead letter on.
    dead: Option<DeadLetters>,
    /// The round in which those before are sent.
    dead_round: u64,
}

impl Settles {
    /// This channel has settled something.
    pub fn touch(&mut self, channel: u16) {
        if self.channels.last() != Some(&channel) {
            self.channels.push(channel);
        }
    }

    /// What a handler begins with: nothing touched, and it may wait for what was handed over before it.
    pub fn behind(&self) -> Settles {
        let dead_round = self.dead.as_ref().map_or(0, DeadLetters::round);
        Settles { channels: Vec::new(), round: self.round, dead: self.dead.clone(), dead_round }
    }

    /// What a handler has touched is touched.
    pub fn absorb(&mut self, handled: Settles) {
        handled.channels.into_iter().for_each(|channel| self.touch(channel));
    }

    /// Hands over what the channels gathered. Nobody waits: [`Settles::settled`] does, where it matters.
    pub fn flush<C: Core>(&mut self, gateway: &Arc<Gateway<C>>, channels: &mut Channels) {
        if self.channels.is_empty() {
            return;
        }
        for number in self.channels.drain(..) {
            let Some(channel) = channels.get_mut(number) else { continue };
            let dead = channel.consuming.flush();
            if !dead.is_empty() {
                self.dead.get_or_insert_default().send(gateway, dead);
            }
            channel.count_unacked();
        }
        self.round = gateway.queues.settler().round();
    }

    /// Waits until what was handed over is settled, and dead letters are sent.
    pub async fn settled<C: Core>(&self, gateway: &Arc<Gateway<C>>) {
        gateway.queues.settler().reached(self.round).await;
        if let Some(dead) = &self.dead {
            dead.reached(self.dead_round).await;
        }
    }
}
