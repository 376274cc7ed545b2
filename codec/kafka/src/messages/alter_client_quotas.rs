//! AlterClientQuotas (49), versions 0 to 1: changes quotas.
//!
//! - 0: (KIP-546)
//! - 1: flexible

use crate::schema::structs;

structs! {
    /// The request.
    AlterClientQuotasRequest {
        entries: Vec<RequestEntryData> [0..];
        validate_only: bool [0..];
    }

    /// In [`AlterClientQuotasRequest::entries`].
    RequestEntryData {
        entity: Vec<EntityData> [0..];
        ops: Vec<OpData> [0..];
    }

    /// In [`RequestEntryData::entity`].
    EntityData {
        entity_type: String [0..];
        entity_name: Option<String> [0.., null 0..];
    }

    /// In [`RequestEntryData::ops`].
    OpData {
        key: String [0..];
        value: f64 [0..];
        remove: bool [0..];
    }

    /// The response.
    AlterClientQuotasResponse {
        throttle_time_ms: i32 [0..];
        entries: Vec<ResponseEntryData> [0..];
    }

    /// In [`AlterClientQuotasResponse::entries`].
    ResponseEntryData {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        entity: Vec<EntityData> [0..];
    }
}
