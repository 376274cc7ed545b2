//! TxnOffsetCommit (28), versions 0 to 5: stores how far a group has read, as part of a transaction: nobody sees it before
//! the transaction is committed.
//!
//! - Version 3 (KIP-447): the member in whose name it is committed is checked. Version 4: TRANSACTION_ABORTABLE.
//! - Version 5 (KIP-890): AddOffsetsToTxn is not needed before.
//! - A negative offset is kept, as by OffsetCommit.

use std::sync::Arc;

use codec_kafka::messages::offset_commit::OffsetCommitRequestPartition;
use codec_kafka::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use core_rpc::{Core, CursorError, TransactionProducer};

use super::{Context, offset_commit};
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::{Committer, GroupError};
use crate::state::security::{Operation, Resource};
use crate::state::transactions::{Addition, ProducerEpoch, offsets_partition};

const ABORTABLE_VERSION: i16 = 4;
const IMPLICIT_VERSION: i16 = 5;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let permitted = gateway
        .check(context, Operation::Write, Resource::TransactionalId(&request.transactional_id))
        .and_then(|()| gateway.check(context, Operation::Read, Resource::Group(&request.group_id)));
    if let Err(code) = permitted {
        return answered(&request, code);
    }
    let mut commits = Vec::new();
    let mut response = answered(&request, ErrorCode::None);
    let length_max = gateway.groups.config().offset_metadata_length_max;
    for (asked, answered) in request.topics.iter().zip(&mut response.topics) {
        let topic = gateway.topic_for(context, Operation::Read, &asked.name);
        for (partition, answered) in asked.partitions.iter().zip(&mut answered.partitions) {
            match offset_commit::commit(topic.as_deref().map_err(|code| *code), &as_plain(partition), length_max) {
                Ok(commit) => commits.push(commit),
                Err(error) => answered.error_code = error.code(),
            }
        }
    }
    if commits.is_empty() {
        return response;
    }
    if let Err(code) = admit(gateway, context.version, &request).await {
        return answered(&request, code);
    }
    let committer = Committer {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
        transaction: Some(TransactionProducer { id: request.producer_id, epoch: request.producer_epoch }),
    };
    let results = match gateway.groups.commit(&request.group_id, committer, commits).await {
        Ok(results) => results,
        // As Kafka says it to producers, also of a member's epoch.
        Err(GroupError::GroupNotFound | GroupError::StaleEpoch) => return answered(&request, ErrorCode::IllegalGeneration),
        Err(error) => return answered(&request, error.into()),
    };
    // The results are in the order of the partitions that had no error so far.
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let committed = partitions.filter(|partition| partition.error_code == ErrorCode::None.code());
    for (partition, result) in committed.zip(&results) {
        partition.error_code = match result {
            Ok(()) => ErrorCode::None,
            Err(CursorError::ProducerFenced) => ErrorCode::InvalidProducerEpoch,
            Err(error) => error.into(),
        }
        .code();
    }
    response
}

async fn admit<C: Core>(
    gateway: &Gateway<C>,
    version: i16,
    request: &TxnOffsetCommitRequest,
) -> Result<(), ErrorCode> {
    let producer = ProducerEpoch { id: request.producer_id, epoch: request.producer_epoch };
    let addition =
        Addition { offsets_partition: Some(offsets_partition(&request.group_id)), ..Default::default() };
    let implicit = version >= IMPLICIT_VERSION;
    let admitted = gateway.transactions.admit(&request.transactional_id, producer, addition, !implicit).await;
    admitted.map_err(|error| match ErrorCode::of_admission(error, version >= ABORTABLE_VERSION, implicit) {
        // What clients of this request try again.
        ErrorCode::NotEnoughReplicas => ErrorCode::CoordinatorNotAvailable,
        code => code,
    })
}

fn as_plain(asked: &TxnOffsetCommitRequestPartition) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition {
        partition_index: asked.partition_index,
        committed_offset: asked.committed_offset,
        committed_leader_epoch: asked.committed_leader_epoch,
        committed_metadata: asked.committed_metadata.clone(),
    }
}

/// The same answer for every partition.
fn answered(request: &TxnOffsetCommitRequest, error: ErrorCode) -> TxnOffsetCommitResponse {
    let partition = |asked: &TxnOffsetCommitRequestPartition| TxnOffsetCommitResponsePartition {
        partition_index: asked.partition_index,
        error_code: error.code(),
    };
    let topics = request.topics.iter().map(|asked| TxnOffsetCommitResponseTopic {
        name: asked.name.clone(),
        partitions: asked.partitions.iter().map(partition).collect(),
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}
