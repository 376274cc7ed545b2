//! Random valid messages, for tests and fuzzing only (feature `samples`). The same seed gives the same messages.

use bytes::Bytes;

use crate::api::Message;
use crate::wire::{CHUNK_BYTES_MIN, Format, Nullable, RecordChunks, Uuid};

/// A small deterministic generator of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Samples(u64);

impl Samples {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Samples(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A message as it could be sent in `version`, which the API has: fields that it lacks have their defaults.
    pub fn message<M: Message + Sample>(&mut self, version: i16) -> M {
        let format = Format { version, flexible: M::API.is_flexible(version), nullable: false };
        M::sample(self, format)
    }

    /// Bytes; a few are as long as a chunk that is not copied.
    pub fn bytes(&mut self) -> Bytes {
        let length = match self.below(16) {
            0 => CHUNK_BYTES_MIN + self.below(100),
            1 => 0,
            _ => self.below(200),
        };
        (0..length).map(|_| self.bits() as u8).collect()
    }
}

/// A type of which random values can be made.
pub trait Sample: Sized {
    /// A random value that can be encoded in `format`.
    fn sample(samples: &mut Samples, format: Format) -> Self;
}

macro_rules! number_samples {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(samples: &mut Samples, _: Format) -> Self {
                match samples.below(8) {
                    0 => <$type>::MAX,
                    1 => <$type>::MIN,
                    2 => 0 as $type,
                    _ => samples.bits() as $type,
                }
            }
        }
    )*};
}

number_samples!(i8, i16, i32, i64, u16, u32, f64);

impl Sample for bool {
    fn sample(samples: &mut Samples, _: Format) -> Self {
        samples.bits() & 1 == 1
    }
}

impl Sample for Uuid {
    fn sample(samples: &mut Samples, _: Format) -> Self {
        let bits = u128::from(samples.bits()) << 64 | u128::from(samples.bits());
        Uuid(bits.to_be_bytes())
    }
}

impl Sample for String {
    fn sample(samples: &mut Samples, _: Format) -> Self {
        let length = if samples.below(16) == 0 { 300 } else { samples.below(20) };
        (0..length).map(|_| ['a', 'b', '.', '_', '\0', 'ß', '€', '🦀'][samples.below(8)]).collect()
    }
}

impl Sample for Bytes {
    fn sample(samples: &mut Samples, _: Format) -> Self {
        samples.bytes()
    }
}

impl Sample for RecordChunks {
    fn sample(samples: &mut Samples, _: Format) -> Self {
        (0..samples.below(4)).map(|_| samples.bytes()).collect()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(samples: &mut Samples, format: Format) -> Self {
        let format = Format { nullable: false, ..format };
        (0..samples.below(4)).map(|_| T::sample(samples, format)).collect()
    }
}

impl<T: Sample + Nullable> Sample for Option<T> {
    fn sample(samples: &mut Samples, format: Format) -> Self {
        let null = format.nullable && samples.below(3) == 0;
        (!null).then(|| T::sample(samples, format))
    }
}
