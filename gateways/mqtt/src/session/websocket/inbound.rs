//! Frames that come from a client (RFC 6455 section 5), taken apart in place: payloads stay, everything else goes.
//!
//! Pure. Of what has come, nothing is kept but the beginning of a frame's header and of a control frame: so a message may be
//! of any length, in any number of fragments, and the session sees one stream of bytes.

/// The longest control frame's payload (section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// What else a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To be answered with the same payload.
    Ping(Vec<u8>),
    /// The client closes, with this payload: a status code and a reason, or nothing.
    Close(Vec<u8>),
}

/// Why the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a text frame [MQTT-6.0.0-1]")]
    Text,
    #[error("{0}")]
    Protocol(&'static str),
}

impl Violation {
    /// The status of the close frame (section 7.4.1).
    pub fn status(self) -> u16 {
        match self {
            Violation::Text => 1003,
            Violation::Protocol(_) => 1002,
        }
    }
}

/// How far a client has come.
#[derive(Debug, Default)]
pub struct Inbound {
    state: State,
    header: [u8; HEADER_BYTES_MAX],
    header_length: usize,
    /// A message has begun and its last fragment has not come.
    is_fragmented: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Data(Rest),
    Control {
        opcode: u8,
        rest: Rest,
        payload: Vec<u8>,
    },
}

/// What is still to come of a payload.
#[derive(Clone, Copy, Debug)]
struct Rest {
    bytes: u64,
    mask: [u8; 4],
    /// Of the mask's byte for the next byte.
    at: usize,
}

impl Rest {
    fn unmask(&mut self, bytes: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(self.at);
        // By words: byte by byte 1 KiB took 0.9 µs instead of 0.12.
        let word = u32::from_ne_bytes(mask);
        let (words, few) = bytes.as_chunks_mut::<4>();
        words.iter_mut().for_each(|four| *four = (u32::from_ne_bytes(*four) ^ word).to_ne_bytes());
        few.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        self.at = (self.at + bytes.len()) % 4;
        self.bytes -= bytes.len() as u64;
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

impl Inbound {
    /// Takes what has come. What is MQTT's is moved to the front of `bytes`; returns its length. Nothing is taken behind a
    /// close frame.
    pub fn take(&mut self, bytes: &mut [u8], events: &mut Vec<Event>) -> Result<usize, Violation> {
        let (mut read, mut written) = (0, 0);
        while read < bytes.len() {
            let left = bytes.len() - read;
            match &mut self.state {
                State::Header => {
                    self.header[self.header_length] = bytes[read];
                    self.header_length += 1;
                    read += 1;
                    self.begin()?;
                }
                State::Data(rest) => {
                    let length = usize::try_from(rest.bytes).unwrap_or(usize::MAX).min(left);
                    rest.unmask(&mut bytes[read..read + length]);
                    bytes.copy_within(read..read + length, written);
                    read += length;
                    written += length;
                }
                State::Control { rest, payload, .. } => {
                    let length = usize::try_from(rest.bytes).unwrap_or(usize::MAX).min(left);
                    rest.unmask(&mut bytes[read..read + length]);
                    payload.extend_from_slice(&bytes[read..read + length]);
                    read += length;
                }
            }
            if let Some(event) = self.end() {
                let is_close = matches!(event, Event::Close(_));
                events.push(event);
                if is_close {
                    break;
                }
            }
        }
        Ok(written)
    }

    /// Begins a frame if its header is whole.
    fn begin(&mut self) -> Result<(), Violation> {
        let header = &self.header[..self.header_length];
        let &[first, second, ref more @ ..] = header else { return Ok(()) };
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("a frame that is not masked"));
        }
        let (opcode, is_final, short) = (first & 0x0f, first & 0x80 != 0, second & 0x7f);
        self.check(first, opcode, is_final, short)?;
        let (bytes, mask) = match short {
            126 => {
                let &[a, b, ref mask @ ..] = more else { return Ok(()) };
                (u64::from(u16::from_be_bytes([a, b])), mask)
            }
            127 => {
                let Some((bytes, mask)) = more.split_first_chunk::<8>() else { return Ok(()) };
                (u64::from_be_bytes(*bytes), mask)
            }
            short => (u64::from(short), more),
        };
        let Ok(mask) = <[u8; 4]>::try_from(mask) else { return Ok(()) };
        if bytes > i64::MAX as u64 {
            return Err(Violation::Protocol("a length with its highest bit set"));
        }
        self.header_length = 0;
        let rest = Rest { bytes, mask, at: 0 };
        if opcode >= CLOSE {
            self.state = State::Control { opcode, rest, payload: Vec::new() };
        } else {
            self.is_fragmented = !is_final;
            self.state = State::Data(rest);
        }
        Ok(())
    }

    fn check(&self, first: u8, opcode: u8, is_final: bool, short: u8) -> Result<(), Violation> {
        Err(match opcode {
            _ if first & 0x70 != 0 => Violation::Protocol("a frame with reserved bits"),
            TEXT => Violation::Text,
            CONTINUATION if !self.is_fragmented => Violation::Protocol("a continuation of nothing"),
            BINARY if self.is_fragmented => Violation::Protocol("a message within another"),
            CLOSE | PING | PONG if !is_final || usize::from(short) > CONTROL_BYTES_MAX => {
                Violation::Protocol("a control frame that is fragmented or too long")
            }
            CONTINUATION | BINARY | CLOSE | PING | PONG => return Ok(()),
            _ => Violation::Protocol("an unknown kind of frame"),
        })
    }

    /// Ends the frame if all of it has come.
    fn end(&mut self) -> Option<Event> {
        let rest = match &self.state {
            State::Header => return None,
            State::Data(rest) | State::Control { rest, .. } => rest,
        };
        if rest.bytes > 0 {
            return None;
        }
        match std::mem::take(&mut self.state) {
            State::Control { opcode: PING, payload, .. } => Some(Event::Ping(payload)),
            State::Control { opcode: CLOSE, payload, .. } => Some(Event::Close(payload)),
            _ => None,
        }
    }
}

/// A frame as clients send it.
#[cfg(test)]
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything, in pieces of this length.
    fn taken(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Event>), Violation> {
        let (mut inbound, mut data, mut events) = (Inbound::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let length = inbound.take(&mut piece, &mut events)?;
            data.extend_from_slice(&piece[..length]);
        }
        Ok((data, events))
    }

    /// Section 5.7.
    #[test]
    fn the_masked_example_of_the_rfc() {
        let mut frame = vec![0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(frame, client_frame(0x82, b"Hello"));
        let length = Inbound::default().take(&mut frame, &mut Vec::new()).unwrap();
        assert_eq!(&frame[..length], b"Hello");
    }

    #[test]
    fn frames_in_any_pieces_are_one_stream() {
        let large: Vec<u8> = (0..70_000u32).map(|number| number as u8).collect();
        let mut bytes = Vec::new();
        bytes.extend(client_frame(0x82, b"one"));
        bytes.extend(client_frame(0x02, b"begin"));
        bytes.extend(client_frame(0x89, b"ping"));
        bytes.extend(client_frame(0x00, b""));
        bytes.extend(client_frame(0x80, b"end"));
        bytes.extend(client_frame(0x8a, b"pong"));
        bytes.extend(client_frame(0x82, &large[..300]));
        bytes.extend(client_frame(0x82, &large));
        bytes.extend(client_frame(0x88, &[3, 232]));
        let expected = [b"onebeginend", &large[..300], &large].concat();
        let events = vec![Event::Ping(b"ping".to_vec()), Event::Close(vec![3, 232])];
        for piece in [1, 2, 3, 7, 64, 4096, 1 << 20] {
            assert_eq!(taken(&bytes, piece), Ok((expected.clone(), events.clone())), "{piece}");
        }
    }

    #[test]
    fn nothing_counts_behind_a_close() {
        let bytes = [client_frame(0x88, b""), client_frame(0x82, b"late")].concat();
        assert_eq!(taken(&bytes, 1024), Ok((Vec::new(), vec![Event::Close(Vec::new())])));
    }

    #[test]
    fn what_the_rfc_forbids_is_a_violation() {
        assert_eq!(taken(&client_frame(0x81, b"text"), 64), Err(Violation::Text));
        assert_eq!(Violation::Text.status(), 1003);
        let long = [0; 126];
        let unmasked = vec![0x82, 0x01, 0x00];
        let endless = [vec![0x82, 0xff], vec![0xff; 8], vec![0; 4]].concat();
        for bytes in [
            client_frame(0xc2, b""),
            client_frame(0x83, b""),
            client_frame(0x8b, b""),
            client_frame(0x80, b""),
            [client_frame(0x02, b""), client_frame(0x82, b"")].concat(),
            client_frame(0x09, b""),
            client_frame(0x89, &long),
            unmasked,
            endless,
        ] {
            let violation = taken(&bytes, 1).unwrap_err();
            assert_eq!(violation.status(), 1002, "{bytes:?}");
        }
    }
}
