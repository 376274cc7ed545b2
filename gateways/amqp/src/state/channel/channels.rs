//! The channels of a connection, by their numbers.

use super::Channel;

/// What a channel number stands for.
#[derive(Debug, Default)]
pub enum Seat {
    #[default]
    Free,
    Open(Box<Channel>),
    /// A handler has it, and brings it back.
    Lent,
    /// It gives back what it holds, and is none any more.
    Leaving,
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

    /// How many are open, those that are lent or about to leave among them.
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

    /// Whether a handler has the channel.
    pub fn is_lent(&self, number: u16) -> bool {
        matches!(self.seat(number), Seat::Lent)
    }

    /// Takes an open channel out, to be given back.
    pub fn lend(&mut self, number: u16) -> Option<Box<Channel>> {
        self.take(number, Seat::Lent)
    }

    pub fn give_back(&mut self, channel: Box<Channel>) {
        if let Some(seat @ Seat::Lent) = self.seats.get_mut(usize::from(channel.number)) {
            *seat = Seat::Open(channel);
        }
    }

    /// Takes an open channel out for good. Its number is taken until it has [`Channels::left`].
    pub fn leave(&mut self, number: u16) -> Option<Box<Channel>> {
        self.take(number, Seat::Leaving)
    }

    /// A channel is gone. `is_answered`: the number may be used again at once.
    pub fn left(&mut self, number: u16, is_answered: bool) {
        if let Some(seat @ Seat::Leaving) = self.seats.get_mut(usize::from(number)) {
            *seat = if is_answered { Seat::Free } else { Seat::Closing };
            self.open -= 1;
        }
    }

    fn take(&mut self, number: u16, after: Seat) -> Option<Box<Channel>> {
        let seat = self.seats.get_mut(usize::from(number))?;
        if !matches!(seat, Seat::Open(_)) {
            return None;
        }
        match std::mem::replace(seat, after) {
            Seat::Open(channel) => Some(channel),
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

    /// Takes all out that are not lent.
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
        assert!(channels.leave(3).is_some() && channels.leave(3).is_none());
        assert!(channels.get_mut(3).is_none() && channels.len() == 1);
        channels.left(3, false);
        assert!(matches!(channels.seat(3), Seat::Closing) && channels.is_empty());
        channels.left(3, true);
        assert!(matches!(channels.seat(3), Seat::Closing));
        channels.closed(3);
        assert!(matches!(channels.seat(3), Seat::Free));
        assert!(matches!(channels.seat(9), Seat::Free));
    }

    #[test]
    fn a_lent_channel_comes_back() {
        let mut channels = Channels::default();
        channels.open(Channel::new(1));
        let lent = channels.lend(1).expect("a channel");
        assert!(channels.is_lent(1) && channels.len() == 1);
        assert!(channels.get_mut(1).is_none() && channels.lend(1).is_none() && channels.leave(1).is_none());
        channels.give_back(lent);
        assert!(!channels.is_lent(1) && channels.get_mut(1).is_some());
    }
}
