//! DescribeCluster (60), versions 0 to 2: describes the brokers or controllers of the cluster.
//!
//! - 0: flexible (KIP-700)
//! - 1: endpoint type (KIP-919)
//! - 2: fenced brokers (KIP-1073)
//!
//! Endpoint types: 1 brokers, 2 controllers.

use crate::schema::structs;

structs! {
    /// The request.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0..];
        endpoint_type: i8 [1..] = 1;
        include_fenced_brokers: bool [2..];
    }

    /// The response.
    DescribeClusterResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        endpoint_type: i8 [1..] = 1;
        cluster_id: String [0..];
        controller_id: i32 [0..] = -1;
        brokers: Vec<DescribeClusterBroker> [0..];
        cluster_authorized_operations: i32 [0..] = i32::MIN;
    }

    /// In [`DescribeClusterResponse::brokers`].
    DescribeClusterBroker {
        broker_id: i32 [0..];
        host: String [0..];
        port: i32 [0..];
        rack: Option<String> [0.., null 0..];
        is_fenced: bool [2..];
    }
}
