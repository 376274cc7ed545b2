//! Every message in every version against another codec of the same protocol: what we encode it decodes, what it then
//! encodes is what we encoded, byte by byte, and what we decode from that is what we began with.

use bytes::{Bytes, BytesMut};
use codec_kafka::samples::{Sample, Samples};
use codec_kafka::{ApiKey, Message, Reader, Writer, for_each_api};
use kafka_protocol::protocol::{Decodable, Encodable};

const SAMPLES_PER_VERSION: u64 = 60;

/// Messages and versions of ours that the other codec lacks. Empty: it covers Kafka 4.1, as we do.
const NOT_IN_ORACLE: &[(&str, i16)] = &[];

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.finish().expect("samples can be encoded").into_bytes().slice(4..)
}

fn check<Ours, Theirs>(name: &str)
where
    Ours: Message + Sample + PartialEq + std::fmt::Debug,
    Theirs: Encodable + Decodable + std::fmt::Debug,
{
    for version in Ours::API.versions() {
        if NOT_IN_ORACLE.contains(&(name, version)) {
            continue;
        }
        for seed in 0..SAMPLES_PER_VERSION {
            let message: Ours = Samples::new(seed).message(version);
            let bytes = encode(&message, version);

            let mut rest = bytes.clone();
            let theirs = Theirs::decode(&mut rest, version)
                .unwrap_or_else(|error| panic!("{name} v{version} seed {seed}: {error:#} in {message:#?}"));
            assert!(rest.is_empty(), "{name} v{version} seed {seed}: bytes left over in {message:#?}");
            let mut again = BytesMut::new();
            theirs.encode(&mut again, version).expect("the oracle encodes what it decoded");
            assert_eq!(again, bytes, "{name} v{version} seed {seed}: {theirs:#?}");

            let mut reader = Reader::new(bytes);
            assert_eq!(Ours::decode(&mut reader, version).as_ref(), Ok(&message), "{name} v{version} seed {seed}");
            assert_eq!(reader.remaining(), 0, "{name} v{version} seed {seed}");
        }
    }
}

macro_rules! check_all {
    ($($api:ident = $key:literal, $request:ident, $response:ident, $versions:expr, $flexible:expr;)*) => {$(
        check::<codec_kafka::messages::$request, kafka_protocol::messages::$request>(stringify!($request));
        check::<codec_kafka::messages::$response, kafka_protocol::messages::$response>(stringify!($response));
    )*};
}

#[test]
fn every_message_in_every_version() {
    for_each_api!(check_all);
}

/// Versions that the other codec lists, but a released Kafka 4.1 broker does not advertise.
const NOT_STABLE: &[(ApiKey, i16)] =
    &[(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10), (ApiKey::InitProducerId, 6)];

macro_rules! check_table {
    ($($api:ident = $key:literal, $request:ident, $response:ident, $versions:expr, $flexible:expr;)*) => {$(
        let theirs = kafka_protocol::messages::ApiKey::try_from($key as i16).expect("an API of Kafka 4.1");
        let range = theirs.valid_versions();
        let unstable = NOT_STABLE.iter().filter(|(api, _)| *api == ApiKey::$api).count();
        let stable_max = range.max - unstable as i16;
        assert_eq!((*$versions.start(), *$versions.end()), (range.min, stable_max), "{theirs:?}");
        for version in $versions {
            let flexible = ApiKey::$api.is_flexible(version);
            assert_eq!(theirs.request_header_version(version) == 2, flexible, "{theirs:?} v{version}");
        }
    )*};
}

#[test]
fn the_table_of_apis() {
    for_each_api!(check_table);
}
