//! DescribeShareGroupOffsets (90), version 0: describes where share groups begin.
//!
//! - 0: flexible (KIP-932)

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    DescribeShareGroupOffsetsRequest {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup> [0..];
    }

    /// In [`DescribeShareGroupOffsetsRequest::groups`].
    DescribeShareGroupOffsetsRequestGroup {
        group_id: String [0..];
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>> [0.., null 0..];
    }

    /// In [`DescribeShareGroupOffsetsRequestGroup::topics`].
    DescribeShareGroupOffsetsRequestTopic {
        topic_name: String [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    DescribeShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0..];
        groups: Vec<DescribeShareGroupOffsetsResponseGroup> [0..];
    }

    /// In [`DescribeShareGroupOffsetsResponse::groups`].
    DescribeShareGroupOffsetsResponseGroup {
        group_id: String [0..];
        topics: Vec<DescribeShareGroupOffsetsResponseTopic> [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }

    /// In [`DescribeShareGroupOffsetsResponseGroup::topics`].
    DescribeShareGroupOffsetsResponseTopic {
        topic_name: String [0..];
        topic_id: Uuid [0..];
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition> [0..];
    }

    /// In [`DescribeShareGroupOffsetsResponseTopic::partitions`].
    DescribeShareGroupOffsetsResponsePartition {
        partition_index: i32 [0..];
        start_offset: i64 [0..];
        leader_epoch: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
