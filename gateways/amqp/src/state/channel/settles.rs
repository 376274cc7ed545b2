//! The channels of a connection that have settled something in this read round, so that what each gathered goes to the core
//! together at its end.

use std::sync::Arc;

use core_rpc::Core;

use super::Channels;
use crate::Gateway;
use crate::state::queues::send_dead;

#[derive(Debug, Default)]
pub struct Settles {
    /// Numbers of channels, each once but for rare cases.
    channels: Vec<u16>,
    /// The settler's round in which what was handed over last is settled.
    round: u64,
}

impl Settles {
    /// This channel has settled something.
    pub fn touch(&mut self, channel: u16) {
        if self.channels.last() != Some(&channel) {
            self.channels.push(channel);
        }
    }

    /// Hands over what the channels gathered. Nobody waits: [`Settles::settled`] does, where it matters.
    pub fn flush<C: Core>(&mut self, gateway: &Arc<Gateway<C>>, channels: &mut Channels) {
        if self.channels.is_empty() {
            return;
        }
        for number in self.channels.drain(..) {
            let Some(channel) = channels.get_mut(number) else { continue };
            send_dead(gateway, channel.consuming.flush());
            channel.count_unacked();
        }
        self.round = gateway.queues.settler().round();
    }

    /// Waits until what was handed over is settled.
    pub async fn settled<C: Core>(&self, gateway: &Arc<Gateway<C>>) {
        gateway.queues.settler().reached(self.round).await;
    }
}
