//! AlterUserScramCredentials (51), version 0: changes SCRAM credentials.
//!
//! - 0: flexible (KIP-554)
//!
//! Mechanisms: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.

use bytes::Bytes;

use crate::schema::structs;

structs! {
    /// The request.
    AlterUserScramCredentialsRequest {
        deletions: Vec<ScramCredentialDeletion> [0..];
        upsertions: Vec<ScramCredentialUpsertion> [0..];
    }

    /// In [`AlterUserScramCredentialsRequest::deletions`].
    ScramCredentialDeletion {
        name: String [0..];
        mechanism: i8 [0..];
    }

    /// In [`AlterUserScramCredentialsRequest::upsertions`].
    ScramCredentialUpsertion {
        name: String [0..];
        mechanism: i8 [0..];
        iterations: i32 [0..];
        salt: Bytes [0..];
        salted_password: Bytes [0..];
    }

    /// The response.
    AlterUserScramCredentialsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<AlterUserScramCredentialsResult> [0..];
    }

    /// In [`AlterUserScramCredentialsResponse::results`].
    AlterUserScramCredentialsResult {
        user: String [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
