//! OffsetFetch (9), versions 1 to 9: reads the positions of consumer groups.
//!
//! - 1: the first that Kafka 4 serves
//! - 2: a null list asks for all topics; an error of the whole request
//! - 3: throttle time
//! - 5: leader epoch (KIP-320)
//! - 6: flexible
//! - 7: waits for pending transactions (KIP-447)
//! - 8: several groups (KIP-709)
//! - 9: member id and epoch (KIP-848)
//!
//! Versions up to 7 use the fields of one group, later ones `groups`. Version 10 (topic ids) is not stable in Kafka 4.1,
//! and not declared here.

use crate::schema::structs;

structs! {
    /// The request.
    OffsetFetchRequest {
        group_id: String [..=7];
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, null 2..=7];
        groups: Vec<OffsetFetchRequestGroup> [8..];
        require_stable: bool [7..];
    }

    /// In [`OffsetFetchRequest::topics`].
    OffsetFetchRequestTopic {
        name: String [..=7];
        partition_indexes: Vec<i32> [..=7];
    }

    /// In [`OffsetFetchRequest::groups`].
    OffsetFetchRequestGroup {
        group_id: String [8..];
        member_id: Option<String> [9.., null 9..];
        member_epoch: i32 [9..] = -1;
        topics: Option<Vec<OffsetFetchRequestTopics>> [8.., null 8..];
    }

    /// In [`OffsetFetchRequestGroup::topics`].
    OffsetFetchRequestTopics {
        name: String [8..];
        partition_indexes: Vec<i32> [8..];
    }

    /// The response.
    OffsetFetchResponse {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetFetchResponseTopic> [..=7];
        error_code: i16 [2..=7];
        groups: Vec<OffsetFetchResponseGroup> [8..];
    }

    /// In [`OffsetFetchResponse::topics`].
    OffsetFetchResponseTopic {
        name: String [..=7];
        partitions: Vec<OffsetFetchResponsePartition> [..=7];
    }

    /// In [`OffsetFetchResponse::groups`].
    OffsetFetchResponseGroup {
        group_id: String [8..];
        topics: Vec<OffsetFetchResponseTopics> [8..];
        error_code: i16 [8..];
    }

    /// In [`OffsetFetchResponseTopic::partitions`].
    OffsetFetchResponsePartition {
        partition_index: i32 [..=7];
        committed_offset: i64 [..=7];
        committed_leader_epoch: i32 [5..=7] = -1;
        metadata: Option<String> [..=7, null ..=7];
        error_code: i16 [..=7];
    }

    /// In [`OffsetFetchResponseGroup::topics`].
    OffsetFetchResponseTopics {
        name: String [8..];
        partitions: Vec<OffsetFetchResponsePartitions> [8..];
    }

    /// In [`OffsetFetchResponseTopics::partitions`].
    OffsetFetchResponsePartitions {
        partition_index: i32 [8..];
        committed_offset: i64 [8..];
        committed_leader_epoch: i32 [8..] = -1;
        metadata: Option<String> [8.., null 8..];
        error_code: i16 [8..];
    }
}
