//! Bytes that no honest peer sends, through every decoder in every version: none panics, none takes more memory than
//! its budget, and what is accepted survives being encoded and decoded again.

#[path = "../../record/tests/support/peak.rs"]
mod peak;

use bytes::Bytes;
use codec_kafka::samples::{Sample, Samples};
use codec_kafka::{DecodeError, Message, Reader, RequestHeader, Writer, for_each_api};
use peak::with_peak;

const CASES_PER_VERSION: u64 = 60;

/// Memory that a decode may take beside its budget: the shared counters behind slices of the frame.
const SLACK_BYTES: usize = 256;

/// Lengths and counts that a decoder must not believe, in the forms they have on the wire.
const LENGTHS: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x00, 0xff, 0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0xff, 0xfe],
    &[0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
];

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.finish().expect("what was decoded can be encoded").into_bytes().slice(4..)
}

/// Decodes within a memory budget of `memory_bytes_max`, and holds it to that.
fn decode<M: Message>(frame: &Bytes, version: i16, memory_bytes_max: usize) -> Result<M, DecodeError> {
    let mut reader = Reader::with_limit(frame.clone(), memory_bytes_max);
    let (result, peak) = with_peak(|| M::decode(&mut reader, version));
    let allowed = (frame.len().max(4096) * 32).min(memory_bytes_max) + SLACK_BYTES;
    assert!(peak <= allowed, "{:?} v{version}: {peak} bytes for a frame of {}", M::API, frame.len());
    result
}

fn mutate(samples: &mut Samples, valid: &[u8]) -> Bytes {
    let mut bytes = valid.to_vec();
    for _ in 0..=samples.below(3) {
        let at = samples.below(bytes.len() + 1);
        match samples.below(5) {
            // A length that is written over what is there.
            0 | 1 => {
                let length = LENGTHS[samples.below(LENGTHS.len())];
                let end = (at + length.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&length[..end - at]);
            }
            2 => bytes.truncate(at),
            3 => bytes.insert(at, samples.bits() as u8),
            _ if at < bytes.len() => bytes[at] = samples.bits() as u8,
            _ => {}
        }
    }
    bytes.into()
}

/// Returns how many mutated messages were accepted and refused.
fn check<M: Message + Sample>() -> (u64, u64) {
    let (mut accepted, mut refused) = (0, 0);
    for version in M::API.versions() {
        for seed in 0..CASES_PER_VERSION {
            let mut samples = Samples::new(seed);
            let valid = encode(&samples.message::<M>(version), version);
            let frame = match seed % 4 {
                0 => samples.bytes(),
                _ => mutate(&mut samples, &valid),
            };
            match decode::<M>(&frame, version, usize::MAX) {
                Err(_) => refused += 1,
                Ok(message) => {
                    accepted += 1;
                    let again = encode(&message, version);
                    let message = decode::<M>(&again, version, usize::MAX).expect("our own encoding is valid");
                    assert_eq!(encode(&message, version), again, "{:?} v{version} seed {seed}", M::API);
                }
            }
            // A listener with a small limit must not let a frame take more, whatever it holds.
            let _ = decode::<M>(&frame, version, 512);
            // Every prefix of a message is either too short or, with tagged fields to come, another message.
            let _ = decode::<M>(&valid.slice(..samples.below(valid.len() + 1)), version, usize::MAX);
        }
        // Nothing but a length, at the very beginning.
        for length in LENGTHS {
            let _ = decode::<M>(&Bytes::from_static(length), version, usize::MAX);
        }
    }
    (accepted, refused)
}

macro_rules! check_all {
    ($($api:ident = $key:literal, $request:ident, $response:ident, $versions:expr, $flexible:expr;)*) => {
        [$(
            check::<codec_kafka::messages::$request>(),
            check::<codec_kafka::messages::$response>(),
        )*]
    };
}

#[test]
fn every_decoder_in_every_version() {
    let counts = for_each_api!(check_all);
    let accepted: u64 = counts.iter().map(|count| count.0).sum();
    let refused: u64 = counts.iter().map(|count| count.1).sum();
    // Both have to happen, or the mutations show nothing.
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn request_headers() {
    for seed in 0..20_000 {
        let mut samples = Samples::new(seed);
        let mut bytes = samples.bytes().to_vec();
        // A key and a version that exist, mostly.
        if bytes.len() >= 4 && samples.below(4) > 0 {
            bytes[..4].copy_from_slice(&[0, samples.below(96) as u8, 0, samples.below(20) as u8]);
        }
        let long_enough = bytes.len() >= 8;
        let mut reader = Reader::new(bytes.into());
        let (header, peak) = with_peak(|| RequestHeader::decode(&mut reader));
        assert!(peak <= 3 * 32_767 + SLACK_BYTES);
        if let Ok(header) = header {
            assert!(long_enough);
            assert!(header.api().is_some() || header.supported_api().is_none());
        }
    }
}
