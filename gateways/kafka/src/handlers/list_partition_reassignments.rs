//! ListPartitionReassignments (46), version 0: there are never any, as a partition has one replica. `kafka-topics
//! --describe` asks.

use codec_kafka::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    match gateway.check(context, Operation::Describe, Resource::Cluster) {
        Ok(()) => ListPartitionReassignmentsResponse::default(),
        Err(code) => ListPartitionReassignmentsResponse {
            error_code: code.code(),
            error_message: code.text(),
            ..Default::default()
        },
    }
}
