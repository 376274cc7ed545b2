//! The channels of a connection, by their numbers.

use super::Channel;

/// What a channel number stands for.
#[derive(Debug, Default)]
pub enum Seat {
    #[default]
    Free,
    Open(Box<Channel>),
    /// The server has closed it, and waits for `channel.close-ok`: whatever else comes is thrown away.
    Closing,
}

/// The channels. As many seats as the greatest number that was used.
#[derive(Debug, Default)]
pub struct Channels {
    seats: Vec<Seat>,
    open: usize,
}

impl Channels {
    pub fn seat(&self, number: u16) -> &Seat {
        self.seats.get(usize::from(number)).unwrap_or(&Seat::Free)
    }

    pub fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        match self.seats.get_mut(usize::from(number)) {
            Some(Seat::Open(channel)) => Some(channel),
            _ => None,
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Takes a free seat.
    pub fn open(&mut self, channel: Channel) {
        let at = usize::from(channel.number);
        if at >= self.seats.len() {
            self.seats.resize_with(at + 1, Seat::default);
        }
        self.seats[at] = Seat::Open(Box::new(channel));
        self.open += 1;
    }

    /// Takes the channel out. `is_answered`: the number may be used again at once.
    pub fn close(&mut self, number: u16, is_answered: bool) -> Option<Box<Channel>> {
        let seat = self.seats.get_mut(usize::from(number))?;
        let after = if is_answered { Seat::Free } else { Seat::Closing };
        match std::mem::replace(seat, after) {
            Seat::Open(channel) => {
                self.open -= 1;
                Some(channel)
            }
            _ => None,
        }
    }

    /// The peer has answered the close.
    pub fn closed(&mut self, number: u16) {
        if let Some(seat @ Seat::Closing) = self.seats.get_mut(usize::from(number)) {
            *seat = Seat::Free;
        }
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.seats.iter_mut().filter_map(|seat| match seat {
            Seat::Open(channel) => Some(&mut **channel),
            _ => None,
        })
    }

    /// Takes all out.
    pub fn drain(&mut self) -> impl Iterator<Item = Box<Channel>> + use<> {
        self.open = 0;
        std::mem::take(&mut self.seats).into_iter().filter_map(|seat| match seat {
            Seat::Open(channel) => Some(channel),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_again_when_the_close_is_answered() {
        let mut channels = Channels::default();
        channels.open(Channel::new(3));
        assert!(channels.get_mut(3).is_some() && channels.get_mut(2).is_none());
        assert_eq!(channels.len(), 1);
        assert!(channels.close(3, false).is_some());
        assert!(matches!(channels.seat(3), Seat::Closing) && channels.is_empty());
        assert!(channels.close(3, true).is_none() || channels.is_empty());
        channels.closed(3);
        assert!(matches!(channels.seat(3), Seat::Free));
        assert!(matches!(channels.seat(9), Seat::Free));
    }
}
