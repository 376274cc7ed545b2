//! Every decoder: the first bytes of the input pick the API, the version, and request or response; the rest is decoded.
//! What is accepted has to survive being encoded and decoded again.
#![no_main]

use bytes::Bytes;
use codec_kafka::{Message, Reader, RequestHeader, Writer, for_each_api};
use libfuzzer_sys::fuzz_target;

fn encode<M: Message>(message: &M, version: i16) -> Option<Bytes> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    // A string that is no UTF-8 may have become too long for its length.
    Some(writer.finish().ok()?.into_bytes().slice(4..))
}

fn decode<M: Message>(version: u8, body: Bytes) {
    let versions = M::API.versions();
    let count = versions.end() - versions.start() + 1;
    let version = versions.start() + i16::from(version) % count;
    let Ok(message) = M::decode(&mut Reader::new(body), version) else { return };
    let Some(bytes) = encode(&message, version) else { return };
    let again = M::decode(&mut Reader::new(bytes.clone()), version).expect("our own encoding is valid");
    assert_eq!(encode(&again, version), Some(bytes));
}

macro_rules! decoders {
    ($($api:ident = $key:literal, $request:ident, $response:ident, $versions:expr, $flexible:expr;)*) => {
        [$(
            decode::<codec_kafka::messages::$request> as fn(u8, Bytes),
            decode::<codec_kafka::messages::$response>,
        )*]
    };
}

fuzz_target!(|input: &[u8]| {
    let [decoder, version, body @ ..] = input else { return };
    let decoders = for_each_api!(decoders);
    let body = Bytes::copy_from_slice(body);
    // One number more than there are decoders: the header of requests.
    match decoders.get(usize::from(*decoder) % (decoders.len() + 1)) {
        Some(decode) => decode(*version, body),
        None => _ = RequestHeader::decode(&mut Reader::new(body)),
    }
});
