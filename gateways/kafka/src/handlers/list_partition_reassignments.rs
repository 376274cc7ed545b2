//! ListPartitionReassignments (46), version 0: there are never any, as a partition has one replica. `kafka-topics
//! --describe` asks.

use codec_kafka::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;

pub async fn handle<C: Core>(
    _: &Gateway<C>,
    _: &Context,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
