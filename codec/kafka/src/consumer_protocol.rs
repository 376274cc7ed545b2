//! What consumers of a classic group put into the opaque bytes of JoinGroup, SyncGroup and DescribeGroups (protocol type
//! `consumer`): their subscription, and the assignment that their leader made.
//!
//! ```text
//! i16 version │ fields of that version, classic encoding
//! ```
//!
//! - 1: the partitions owned before (KIP-429)
//! - 2: generation of the owned partitions (KIP-792)
//! - 3: rack (KIP-881)
//!
//! A coordinator does not need to understand them: only tools, the deletion of offsets that are subscribed to, and the
//! migration between both group protocols do. Versions yet unknown are read as the last known one, with what follows
//! ignored, as Kafka does.

use bytes::Bytes;

use crate::schema::structs;
use crate::wire::{DecodeError, EncodeError, Field, Format, Reader, Writer};

/// The last version.
pub const VERSION_MAX: i16 = 3;

structs! {
    /// What a member subscribes to: the metadata of a JoinGroup protocol.
    ConsumerSubscription {
        topics: Vec<String> [0..];
        user_data: Option<Bytes> [0.., null 0..];
        owned_partitions: Vec<TopicPartitions> [1..];
        generation_id: i32 [2..] = -1;
        rack_id: Option<String> [3.., null 3..];
    }

    /// What a member is assigned: the assignment in a SyncGroup.
    ConsumerAssignment {
        assigned_partitions: Vec<TopicPartitions> [0..];
        user_data: Option<Bytes> [0.., null 0..];
    }

    /// Partitions of a topic.
    TopicPartitions {
        topic: String [0..];
        partitions: Vec<i32> [0..];
    }
}

impl ConsumerSubscription {
    /// Reads the version and the subscription; user data is a slice of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// Version and subscription as bytes; `version` is at most [`VERSION_MAX`].
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        encode(self, version)
    }
}

impl ConsumerAssignment {
    /// Reads the version and the assignment; user data is a slice of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// Version and assignment as bytes; `version` is at most [`VERSION_MAX`].
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        encode(self, version)
    }
}

fn format(version: i16) -> Format {
    Format { version: version.min(VERSION_MAX), flexible: false, nullable: false }
}

fn decode<T: Field>(bytes: &Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16()?;
    if version < 0 {
        return Err(DecodeError::InvalidLength);
    }
    T::read(&mut reader, format(version))
}

fn encode<T: Field>(value: &T, version: i16) -> Result<Bytes, EncodeError> {
    assert!((0..=VERSION_MAX).contains(&version), "version {version} does not exist");
    let mut writer = Writer::new();
    writer.put_slice(&version.to_be_bytes());
    value.write(&mut writer, format(version));
    // The writer's length prefix is a frame's.
    Ok(writer.finish()?.into_bytes().slice(4..))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::samples::{Sample, Samples};

    /// Ours, through the other codec, and back, for all versions.
    fn check<Ours: Field + Sample + PartialEq + std::fmt::Debug, Theirs: Encodable + Decodable>() {
        for version in 0..=VERSION_MAX {
            for seed in 0..100 {
                let value = Ours::sample(&mut Samples::new(seed), format(version));
                let bytes = encode(&value, version).unwrap();
                let theirs = Theirs::decode(&mut bytes.slice(2..), version).unwrap();
                let mut again = version.to_be_bytes().to_vec();
                theirs.encode(&mut again, version).unwrap();
                assert_eq!(again, bytes, "v{version} seed {seed}");
                assert_eq!(decode::<Ours>(&bytes), Ok(value));
            }
        }
    }

    #[test]
    fn as_the_other_codec() {
        check::<ConsumerSubscription, ConsumerProtocolSubscription>();
        check::<ConsumerAssignment, ConsumerProtocolAssignment>();
    }

    #[test]
    fn a_later_version_is_read_as_the_last_known() {
        let subscription = ConsumerSubscription { topics: vec!["a".into()], ..Default::default() };
        let mut bytes = subscription.encode(VERSION_MAX).unwrap().to_vec();
        bytes[1] = 9;
        bytes.extend([1, 2, 3]);
        assert_eq!(ConsumerSubscription::decode(&bytes.into()), Ok(subscription));
        assert!(ConsumerSubscription::decode(&Bytes::from_static(&[0xff, 0xff])).is_err());
        assert!(ConsumerSubscription::decode(&Bytes::new()).is_err());
    }
}
