//! DeleteShareGroupOffsets (92), version 0: forgets what a share group without members has read of topics (KIP-932).

use std::sync::Arc;

use codec_kafka::messages::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::uuid;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let allowed = gateway.check(context, Operation::Delete, Resource::Group(&request.group_id));
    let checked = match allowed {
        Ok(()) => gateway.check_empty_share_group(&request.group_id).await,
        denied => denied,
    };
    if let Err(code) = checked {
        let (error_code, error_message) = (code.code(), code.text());
        return DeleteShareGroupOffsetsResponse { error_code, error_message, ..Default::default() };
    }
    let group = gateway.share_group_name(&request.group_id);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let denied = gateway.check(context, Operation::Read, Resource::Topic(&topic.topic_name)).err();
        let found = gateway.topic(&topic.topic_name).filter(|_| denied.is_none());
        let code = match &found {
            Some(found) => {
                let partition = |index| PartitionId { topic: found.topic.id, index };
                let partitions = (0..found.topic.partitions).map(partition).collect();
                match gateway.core.lease_forget(group.clone(), Some(partitions)).await {
                    Ok(()) => ErrorCode::None,
                    Err(error) => ErrorCode::from(&error),
                }
            }
            None => denied.unwrap_or(ErrorCode::UnknownTopicOrPartition),
        };
        responses.push(DeleteShareGroupOffsetsResponseTopic {
            topic_id: found.as_ref().map(|found| uuid(found.topic.id)).unwrap_or_default(),
            topic_name: topic.topic_name,
            error_code: code.code(),
            error_message: code.text(),
        });
    }
    DeleteShareGroupOffsetsResponse { responses, ..Default::default() }
}
