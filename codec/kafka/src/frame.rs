//! Framing and headers.
//!
//! ```text
//! every frame      i32 length of what follows │ header │ body
//! request header   i16 api key │ i16 api version │ i32 correlation id │ client id (nullable, always a classic string)
//!                  │ tagged fields, if that version of the API is flexible (header v2; otherwise v1)
//! response header  i32 correlation id │ tagged fields, if that version of the API is flexible (header v1; otherwise v0)
//! ```
//!
//! A response to ApiVersions always has header v0: its client does not know yet what the broker understands.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::{ApiKey, Message, Request};
use crate::wire::{DecodeError, EncodeError, Field, Format, Frame, Reader, TaggedFields, Writer};

/// The largest frame accepted unless configured otherwise: Kafka's default of `socket.request.max.bytes`.
pub const DEFAULT_FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Memory that is reserved at most at once for a frame that has only begun to arrive: its length is a claim.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// A length prefix that no frame may have. The connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes, where at most {frame_bytes_max} are allowed")]
pub struct InvalidFrameLength {
    /// The length on the wire.
    pub length: i32,
    /// The limit that was applied.
    pub frame_bytes_max: usize,
}

/// Splits the next frame (without its length prefix) off `buffer`, without a copy; `None` if it has not arrived
/// whole, and then room for more of it is reserved.
pub fn split(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Bytes>, InvalidFrameLength> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*prefix);
    let frame_bytes = match usize::try_from(length) {
        Ok(frame_bytes) if frame_bytes <= frame_bytes_max => frame_bytes,
        _ => return Err(InvalidFrameLength { length, frame_bytes_max }),
    };
    let missing = (4 + frame_bytes).saturating_sub(buffer.len());
    if missing > 0 {
        buffer.reserve(missing.min(RESERVE_BYTES_MAX));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(frame_bytes).freeze()))
}

/// What stands before every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The number of the API, which may be one that this crate does not know.
    pub api_key: i16,
    /// The version of the request, which may be one that this crate does not know.
    pub api_version: i16,
    /// The client's number for this request, to be returned with the response.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads the header; the reader then stands at the body. Of an API or version that this crate cannot code the
    /// form of the header is unknown: key, version and correlation id are read, the client id if there is one to be
    /// read, and the position of the body is meaningless.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let mut header = RequestHeader { api_key, api_version, correlation_id, client_id: None };
        match header.supported_api() {
            None => header.client_id = reader.string(false).unwrap_or_default(),
            Some(api) => {
                header.client_id = reader.string(false)?;
                if api.is_flexible(api_version) {
                    reader.tagged_fields(|_, _| Ok(false))?;
                }
            }
        }
        Ok(header)
    }

    /// Writes the header, as a client does.
    pub fn encode(&self, writer: &mut Writer) {
        writer.put_slice(&self.api_key.to_be_bytes());
        writer.put_slice(&self.api_version.to_be_bytes());
        writer.put_slice(&self.correlation_id.to_be_bytes());
        self.client_id.write(writer, Format { version: 1, flexible: false, nullable: true });
        if self.supported_api().is_some_and(|api| api.is_flexible(self.api_version)) {
            writer.put_tagged_fields(TaggedFields::default());
        }
    }

    /// The API, if this crate knows it (in whatever versions).
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key)
    }

    /// The API, if this crate can code it in the header's version.
    pub fn supported_api(&self) -> Option<ApiKey> {
        self.api().filter(|api| api.versions().contains(&self.api_version))
    }
}

/// A whole response frame.
pub fn encode_response<M: Message>(response: &M, version: i16, correlation_id: i32) -> Result<Frame, EncodeError> {
    let mut writer = Writer::new();
    writer.put_slice(&correlation_id.to_be_bytes());
    if M::API != ApiKey::ApiVersions && M::API.is_flexible(version) {
        writer.put_tagged_fields(TaggedFields::default());
    }
    response.encode(&mut writer, version);
    writer.finish()
}

/// Reads a response's header, as a client does; the reader then stands at the body. Returns the correlation id.
pub fn decode_response_header(reader: &mut Reader, api: ApiKey, version: i16) -> Result<i32, DecodeError> {
    let correlation_id = reader.i32()?;
    if api != ApiKey::ApiVersions && api.is_flexible(version) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(correlation_id)
}

/// A whole request frame, as a client sends it.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Frame, EncodeError> {
    let mut writer = Writer::new();
    let client_id = client_id.map(str::to_owned);
    RequestHeader { api_key: R::API as i16, api_version: version, correlation_id, client_id }.encode(&mut writer);
    request.encode(&mut writer, version);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse};

    #[test]
    fn frames_are_split() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(split(&mut buffer, 2), Ok(Some(Bytes::from_static(&[7, 8]))));
        assert_eq!(split(&mut buffer, 2), Ok(Some(Bytes::new())));
        assert_eq!(split(&mut buffer, 2), Ok(None));
        let mut long = BytesMut::from(&[0, 0, 0, 3][..]);
        assert_eq!(split(&mut long, 2), Err(InvalidFrameLength { length: 3, frame_bytes_max: 2 }));
        let mut negative = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(split(&mut negative, 2), Err(InvalidFrameLength { length: -1, frame_bytes_max: 2 }));
    }

    #[test]
    fn a_claimed_length_reserves_little() {
        let mut buffer = BytesMut::from(&[5, 0, 0, 0][..]);
        assert_eq!(split(&mut buffer, DEFAULT_FRAME_BYTES_MAX), Ok(None));
        assert!(buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn headers_of_unknown_apis_and_versions_keep_their_numbers() {
        let unknown = Bytes::from_static(&[0x7f, 0, 0, 9, 0, 0, 0, 5, 0, 1, b'c', 0xff, 0xff]);
        let header = RequestHeader::decode(&mut Reader::new(unknown)).unwrap();
        let expected =
            RequestHeader { api_key: 0x7f00, api_version: 9, correlation_id: 5, client_id: Some("c".into()) };
        assert_eq!((header.supported_api(), header), (None, expected));
        let too_new = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 5]);
        let header = RequestHeader::decode(&mut Reader::new(too_new)).unwrap();
        assert_eq!((header.api(), header.supported_api()), (Some(ApiKey::ApiVersions), None));
        assert_eq!(header.correlation_id, 5);
    }

    #[test]
    fn an_api_versions_response_has_no_tagged_fields_in_its_header() {
        let frame = encode_response(&ApiVersionsResponse::default(), 3, 0x0102_0304).unwrap();
        // The error code follows the correlation id.
        assert_eq!(&frame.into_bytes()[4..], &[1, 2, 3, 4, 0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_flexible_request_has_tagged_fields_in_its_header() {
        let request = ApiVersionsRequest { client_software_name: "a".into(), client_software_version: "b".into() };
        let bytes = encode_request(&request, 3, 1, Some("c")).unwrap().into_bytes();
        assert_eq!(&bytes[4..], &[0, 18, 0, 3, 0, 0, 0, 1, 0, 1, b'c', 0, 2, b'a', 2, b'b', 0]);
        let mut reader = Reader::new(bytes.slice(4..));
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(header.client_id.as_deref(), Some("c"));
        assert_eq!(ApiVersionsRequest::decode(&mut reader, header.api_version), Ok(request));
    }
}
