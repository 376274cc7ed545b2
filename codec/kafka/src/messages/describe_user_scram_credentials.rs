//! DescribeUserScramCredentials (50), version 0: describes SCRAM credentials.
//!
//! - 0: flexible (KIP-554)
//!
//! Mechanisms: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.

use crate::schema::structs;

structs! {
    /// The request.
    DescribeUserScramCredentialsRequest {
        users: Option<Vec<UserName>> [0.., null 0..];
    }

    /// In [`DescribeUserScramCredentialsRequest::users`].
    UserName {
        name: String [0..];
    }

    /// The response.
    DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        results: Vec<DescribeUserScramCredentialsResult> [0..];
    }

    /// In [`DescribeUserScramCredentialsResponse::results`].
    DescribeUserScramCredentialsResult {
        user: String [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        credential_infos: Vec<CredentialInfo> [0..];
    }

    /// In [`DescribeUserScramCredentialsResult::credential_infos`].
    CredentialInfo {
        mechanism: i8 [0..];
        iterations: i32 [0..];
    }
}
