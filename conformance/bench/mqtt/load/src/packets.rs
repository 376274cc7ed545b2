//! The few packets that load is made of, as bytes.

use anyhow::{Result, bail, ensure};

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const DISCONNECT: u8 = 14;

/// Where a payload says when it was due (u64), by which publisher (u32) and as its which message (u32).
pub const STAMP_BYTES: usize = 16;

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    loop {
        let low = (left % 128) as u8;
        left /= 128;
        out.push(if left > 0 { low | 128 } else { low });
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A clean session.
pub fn connect(protocol: u8, client_id: &str, keep_alive: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend_from_slice(&[protocol, 2]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    if protocol == 5 {
        body.push(0);
    }
    text(&mut body, client_id);
    packet(0x10, &body)
}

pub fn subscribe(protocol: u8, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if protocol == 5 {
        body.push(0);
    }
    text(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

pub fn acknowledge(out: &mut Vec<u8>, kind: u8, identifier: [u8; 2]) {
    let flags = if kind == PUBREL { 2 } else { 0 };
    out.extend_from_slice(&[kind << 4 | flags, 2, identifier[0], identifier[1]]);
}

pub const DISCONNECTS: [u8; 2] = [0xe0, 0];

/// A PUBLISH that is sent again and again with another id and stamp.
pub struct Template {
    bytes: Vec<u8>,
    identifier_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    pub fn new(protocol: u8, topic: &str, qos: u8, retain: bool, size: usize) -> Self {
        let mut body = Vec::new();
        text(&mut body, topic);
        if qos > 0 {
            body.extend_from_slice(&[0, 0]);
        }
        if protocol == 5 {
            body.push(0);
        }
        let head = body.len();
        body.resize(head + size, b'x');
        let bytes = packet(0x30 | qos << 1 | u8::from(retain), &body);
        let stamp_at = bytes.len() - size;
        let identifier_at = (qos > 0).then(|| stamp_at - usize::from(protocol == 5) - 2);
        Self { bytes, identifier_at, stamp_at }
    }

    /// Appends the message; `number` gives its packet id, too.
    pub fn append(&self, out: &mut Vec<u8>, due_ns: u64, publisher: u32, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.identifier_at {
            let identifier = (number % 65_535) as u16 + 1;
            out[start + at..start + at + 2].copy_from_slice(&identifier.to_be_bytes());
        }
        if self.bytes.len() - self.stamp_at >= STAMP_BYTES {
            let stamp = &mut out[start + self.stamp_at..][..STAMP_BYTES];
            stamp[..8].copy_from_slice(&due_ns.to_le_bytes());
            stamp[8..12].copy_from_slice(&publisher.to_le_bytes());
            stamp[12..].copy_from_slice(&(number as u32).to_le_bytes());
        }
    }
}

/// A whole packet: its first byte and what follows its length.
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

impl Frame<'_> {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub fn identifier(&self) -> Result<[u8; 2]> {
        ensure!(self.body.len() >= 2, "a packet without its id");
        Ok([self.body[0], self.body[1]])
    }

    /// The reason code of an acknowledgement; 0 is success, 0x10 that nobody subscribes.
    pub fn reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }
}

/// The frame at the start of `buffer` and how long it is; none: it is not whole yet.
pub fn frame(buffer: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let mut length = 0_usize;
    for at in 1..5 {
        let Some(byte) = buffer.get(at) else { return Ok(None) };
        length |= usize::from(byte & 127) << (7 * (at - 1));
        if byte & 128 == 0 {
            let Some(body) = buffer.get(at + 1..at + 1 + length) else { return Ok(None) };
            return Ok(Some((Frame { first: buffer[0], body }, at + 1 + length)));
        }
    }
    bail!("a remaining length of more than four bytes")
}

/// What a subscriber needs of a PUBLISH.
pub struct Received<'a> {
    pub qos: u8,
    pub identifier: [u8; 2],
    pub payload: &'a [u8],
}

pub fn received<'a>(frame: &Frame<'a>, protocol: u8) -> Result<Received<'a>> {
    let qos = frame.first >> 1 & 3;
    let body = frame.body;
    ensure!(body.len() >= 2, "a PUBLISH without a topic");
    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let mut identifier = [0; 2];
    if qos > 0 {
        ensure!(body.len() >= at + 2, "a PUBLISH without its id");
        identifier.copy_from_slice(&body[at..at + 2]);
        at += 2;
    }
    if protocol == 5 {
        // Few properties ever come: their length is one byte.
        ensure!(body.get(at).is_some_and(|length| *length < 128), "properties of a PUBLISH that are too long for this");
        at += 1 + usize::from(body[at]);
    }
    ensure!(body.len() >= at, "a PUBLISH that ends too early");
    Ok(Received { qos, identifier, payload: &body[at..] })
}

/// When it was due, by whom, and as its which message; none: it is not one of ours.
pub fn stamp(payload: &[u8]) -> Option<(u64, u32, u32)> {
    let (stamp, _) = payload.split_first_chunk::<STAMP_BYTES>()?;
    let (due, rest) = stamp.split_first_chunk::<8>()?;
    let (publisher, number) = rest.split_first_chunk::<4>()?;
    Some((u64::from_le_bytes(*due), u32::from_le_bytes(*publisher), u32::from_le_bytes(number.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_comes_back_as_it_was_stamped() {
        for (protocol, qos, size) in [(4, 0, 16), (5, 0, 64), (4, 1, 1024), (5, 2, 200_000)] {
            let mut out = Vec::new();
            Template::new(protocol, "load/1", qos, false, size).append(&mut out, 12_345, 6, 70_000);
            let (whole, length) = frame(&out).unwrap().unwrap();
            assert_eq!(length, out.len());
            let got = received(&whole, protocol).unwrap();
            assert_eq!((got.qos, got.payload.len()), (qos, size));
            if qos > 0 {
                assert_eq!(u16::from_be_bytes(got.identifier), (70_000 % 65_535 + 1) as u16);
            }
            assert_eq!(stamp(got.payload), Some((12_345, 6, 70_000)));
            assert!(frame(&out[..out.len() - 1]).unwrap().is_none());
        }
    }
}
