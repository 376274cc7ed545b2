//! CreateTopics (19), versions 2 to 7: creates topics.
//!
//! - 2: the first that Kafka 4 serves
//! - 4: -1 as partition count or replication factor means the broker's default (KIP-464)
//! - 5: flexible; the configuration in the response (KIP-525)
//! - 6: quota errors (KIP-599)
//! - 7: topic id in the response (KIP-516)

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    CreateTopicsRequest {
        topics: Vec<CreatableTopic> [0..];
        timeout_ms: i32 [0..] = 60000;
        validate_only: bool [0..];
    }

    /// In [`CreateTopicsRequest::topics`].
    CreatableTopic {
        name: String [0..];
        num_partitions: i32 [0..];
        replication_factor: i16 [0..];
        assignments: Vec<CreatableReplicaAssignment> [0..];
        configs: Vec<CreatableTopicConfig> [0..];
    }

    /// In [`CreatableTopic::assignments`].
    CreatableReplicaAssignment {
        partition_index: i32 [0..];
        broker_ids: Vec<i32> [0..];
    }

    /// In [`CreatableTopic::configs`].
    CreatableTopicConfig {
        name: String [0..];
        value: Option<String> [0.., null 0..];
    }

    /// The response.
    CreateTopicsResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<CreatableTopicResult> [0..];
    }

    /// In [`CreateTopicsResponse::topics`].
    CreatableTopicResult {
        name: String [0..];
        topic_id: Uuid [7..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        topic_config_error_code: i16 [5.., tag 0];
        num_partitions: i32 [5..] = -1;
        replication_factor: i16 [5..] = -1;
        configs: Option<Vec<CreatableTopicConfigs>> [5.., null 5..];
    }

    /// In [`CreatableTopicResult::configs`].
    CreatableTopicConfigs {
        name: String [5..];
        value: Option<String> [5.., null 5..];
        read_only: bool [5..];
        config_source: i8 [5..] = -1;
        is_sensitive: bool [5..];
    }
}
