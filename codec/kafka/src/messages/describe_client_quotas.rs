//! DescribeClientQuotas (48), versions 0 to 1: describes quotas.
//!
//! - 0: (KIP-546)
//! - 1: flexible
//!
//! Match types: 0 exact, 1 default, 2 any name.

use crate::schema::structs;

structs! {
    /// The request.
    DescribeClientQuotasRequest {
        components: Vec<ComponentData> [0..];
        strict: bool [0..];
    }

    /// In [`DescribeClientQuotasRequest::components`].
    ComponentData {
        entity_type: String [0..];
        match_type: i8 [0..];
        r#match: Option<String> [0.., null 0..];
    }

    /// The response.
    DescribeClientQuotasResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        entries: Option<Vec<EntryData>> [0.., null 0..];
    }

    /// In [`DescribeClientQuotasResponse::entries`].
    EntryData {
        entity: Vec<EntityData> [0..];
        values: Vec<ValueData> [0..];
    }

    /// In [`EntryData::entity`].
    EntityData {
        entity_type: String [0..];
        entity_name: Option<String> [0.., null 0..];
    }

    /// In [`EntryData::values`].
    ValueData {
        key: String [0..];
        value: f64 [0..];
    }
}
