//! Compression of a batch's records.
//!
//! | codec | form |
//! |---|---|
//! | gzip | members of RFC 1952, one after the other |
//! | snappy | Xerial's framing (Java clients), or one bare block (librdkafka and others) |
//! | lz4 | the LZ4 frame format |
//! | zstd | frames of RFC 8878 |
//!
//! ```text
//! Xerial's framing: 0x82 "SNAPPY" 0x00 │ i32 version │ i32 compatible version │ blocks × ( i32 length │ snappy block )
//! ```

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};

use super::BatchError;
use super::varint::Cursor;

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_VERSION: u32 = 1;

/// Xerial's default block size.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// A snappy block cannot grow more than this: the densest element makes 64 bytes of 3.
const SNAPPY_RATIO_MAX: usize = 22;

/// How a batch's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// They are not.
    #[default]
    None,
    /// gzip
    Gzip,
    /// snappy
    Snappy,
    /// lz4
    Lz4,
    /// zstd; in Produce requests from version 7 on, in Fetch responses from version 10 on.
    Zstd,
}

impl Codec {
    /// All of them, by their numbers.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this number in the attributes.
    pub fn from_id(id: u8) -> Result<Self, BatchError> {
        Self::ALL.get(usize::from(id)).copied().ok_or(BatchError::UnknownCodec(id))
    }

    /// The number in the attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Compresses, with each codec's default level.
    pub fn compress(self, data: Bytes) -> Bytes {
        // Writing into memory does not fail, and the levels are valid.
        match self {
            Codec::None => data,
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&data).expect("writing into memory");
                encoder.finish().expect("writing into memory").into()
            }
            Codec::Snappy => compress_xerial(&data),
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&data).expect("writing into memory");
                encoder.finish().expect("writing into memory").into()
            }
            Codec::Zstd => {
                zstd::encode_all(&data[..], zstd::DEFAULT_COMPRESSION_LEVEL).expect("writing into memory").into()
            }
        }
    }

    /// Decompresses to at most `bytes_max` bytes; without compression `data` is returned, whatever its length.
    pub fn decompress(self, data: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
        match self.decompress_slice(&data, bytes_max)? {
            Some(decompressed) => Ok(decompressed.into()),
            None => Ok(data),
        }
    }

    /// The same for borrowed bytes; `None` without compression.
    pub(super) fn decompress_slice(self, data: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, BatchError> {
        let decompressed = match self {
            Codec::None => return Ok(None),
            Codec::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(data), bytes_max),
            Codec::Snappy => decompress_snappy(data, bytes_max),
            Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(data), bytes_max),
            // A frame may ask for a window of up to 128 MiB (level 22 does): it is reserved, but only what is written
            // of it takes memory, and that is bounded.
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(|_| BatchError::BadCompression)?;
                read_bounded(decoder, bytes_max)
            }
        };
        decompressed.map(Some)
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut data = Vec::new();
    // One byte more than allowed shows that there is more.
    let read = reader.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut data);
    if data.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes_max });
    }
    read.map_err(|_| BatchError::BadCompression)?;
    Ok(data)
}

fn compress_xerial(data: &[u8]) -> Bytes {
    let mut encoder = snap::raw::Encoder::new();
    let mut framed = BytesMut::from(&XERIAL_MAGIC[..]);
    framed.put_u32(XERIAL_VERSION);
    framed.put_u32(XERIAL_VERSION);
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).expect("a block of 32 KiB is not too long");
        framed.put_u32(compressed.len() as u32);
        framed.put_slice(&compressed);
    }
    framed.freeze()
}

fn decompress_snappy(data: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        decompress_block(data, &mut output, bytes_max)?;
        return Ok(output);
    }
    let mut cursor = Cursor { rest: data };
    while !cursor.rest.is_empty() {
        // Streams may be concatenated, each with its header.
        if cursor.rest.starts_with(XERIAL_MAGIC) {
            cursor.take(XERIAL_HEADER_BYTES).ok_or(BatchError::BadCompression)?;
            continue;
        }
        let length = cursor.take(4).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
        let block = length.and_then(|length| cursor.take(length as usize)).ok_or(BatchError::BadCompression)?;
        decompress_block(block, &mut output, bytes_max)?;
    }
    Ok(output)
}

/// Appends a snappy block's content to `output`, which may then have at most `bytes_max` bytes.
fn decompress_block(block: &[u8], output: &mut Vec<u8>, bytes_max: usize) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| BatchError::BadCompression)?;
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(BatchError::BadCompression);
    }
    if claimed > bytes_max - output.len() {
        return Err(BatchError::TooLarge { bytes_max });
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut output[start..]);
    match written {
        Ok(written) if written == claimed => Ok(()),
        _ => Err(BatchError::BadCompression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_both_ways_and_bounded() {
        let data: Bytes = (0..200_000u32).map(|index| (index / 100) as u8).collect();
        for codec in Codec::ALL {
            let compressed = codec.compress(data.clone());
            assert_eq!(codec.decompress(compressed.clone(), data.len()), Ok(data.clone()), "{codec:?}");
            if codec != Codec::None {
                assert!(compressed.len() < data.len() / 3, "{codec:?}");
                let bytes_max = data.len() - 1;
                assert_eq!(codec.decompress(compressed.clone(), bytes_max), Err(BatchError::TooLarge { bytes_max }));
                let cut = compressed.slice(..compressed.len() / 2);
                assert!(codec.decompress(cut, data.len()).is_err(), "{codec:?}");
            }
        }
    }

    #[test]
    fn bare_and_concatenated_snappy() {
        let data = Bytes::from_static(b"the same the same the same the same");
        let bare = Bytes::from(snap::raw::Encoder::new().compress_vec(&data).unwrap());
        assert_eq!(Codec::Snappy.decompress(bare, 100), Ok(data.clone()));
        let framed = Codec::Snappy.compress(data.clone());
        let twice = Bytes::from([&framed[..], &framed[..]].concat());
        assert_eq!(Codec::Snappy.decompress(twice, 100), Ok([&data[..], &data[..]].concat().into()));
    }

    #[test]
    fn a_snappy_block_that_claims_too_much_takes_no_memory() {
        // Varint 0xfffffff, and no content.
        let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 0x00]);
        assert_eq!(Codec::Snappy.decompress(claim, 1 << 30), Err(BatchError::BadCompression));
    }

    /// Made by the reference implementations: `printf 'hello hello hello hello\n' | lz4 -c`, and so on.
    #[test]
    fn foreign_bytes() {
        let hex = |text: &str| -> Bytes {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let text = Bytes::from_static(b"hello hello hello hello\n");
        for (codec, bytes) in FOREIGN {
            assert_eq!(codec.decompress(hex(bytes), 1000).as_ref(), Ok(&text), "{codec:?}");
        }
    }

    const FOREIGN: &[(Codec, &str)] = &[
        (Codec::Gzip, "1f8b0800000000000203cb48cdc9c957c84027b9000088590b18000000"),
        (Codec::Lz4, "04224d186440a70f0000006968656c6c6f20060050656c6c6f0a00000000e2ff0342"),
        (Codec::Lz4, "04224d187440bd0f0000006968656c6c6f20060050656c6c6f0ab179796d00000000e2ff0342"),
        (Codec::Zstd, "28b52ffd04586d00003868656c6c6f200a0100994b11a87c2ea8"),
        (Codec::Zstd, "28b52ffd04886d00003868656c6c6f200a0100994b11a87c2ea8"),
    ];
}
