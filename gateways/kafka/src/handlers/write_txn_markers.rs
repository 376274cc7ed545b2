//! WriteTxnMarkers (27), version 1: ends transactions, past their coordinator. Tools abort with it what hangs (KIP-664).
//!
//! - The core ends a producer's transaction in all of its partitions at once: aborting it in one aborts it in the others. That
//!   is what a transaction is; Kafka would leave it half done.
//! - An unknown partition is answered UNKNOWN_TOPIC_OR_PARTITION; with none that is known nothing is ended.

use codec_kafka::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use core_rpc::{Core, Outcome, TransactionEnd};

use super::Context;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::ProducerEpoch;
use crate::translate::{marker, partition_of};
use crate::{Gateway, now_ms};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let may = |operation| gateway.check(context, operation, Resource::Cluster);
    let permitted = may(Operation::Alter).or_else(|_| may(Operation::ClusterAction));
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(gateway, marker, permitted).await);
    }
    WriteTxnMarkersResponse { markers }
}

async fn write<C: Core>(
    gateway: &Gateway<C>,
    asked: WritableTxnMarker,
    permitted: Result<(), ErrorCode>,
) -> WritableTxnMarkerResult {
    let mut topics = Vec::with_capacity(asked.topics.len());
    let mut is_any_known = false;
    for asked in &asked.topics {
        let topic = gateway.topic(&asked.name);
        let partitions = asked.partition_indexes.iter().map(|&partition_index| {
            let is_known = topic.as_deref().and_then(|topic| partition_of(topic, partition_index)).is_some();
            is_any_known |= is_known;
            let code = match permitted {
                Err(code) => code,
                Ok(()) if is_known => ErrorCode::None,
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
            };
            WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() }
        });
        let partitions = partitions.collect();
        topics.push(WritableTxnMarkerTopicResult { name: asked.name.clone(), partitions });
    }
    if is_any_known
        && permitted.is_ok()
        && let Err(error) = end(gateway, &asked).await {
        let code = ErrorCode::from(&error).code();
        for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == ErrorCode::None.code() {
                partition.error_code = code;
            }
        }
    }
    WritableTxnMarkerResult { producer_id: asked.producer_id, topics }
}

async fn end<C: Core>(gateway: &Gateway<C>, asked: &WritableTxnMarker) -> Result<(), core_rpc::TransactionError> {
    let producer = ProducerEpoch { id: asked.producer_id, epoch: asked.producer_epoch };
    let outcome = if asked.transaction_result { Outcome::Commit } else { Outcome::Abort };
    let end = TransactionEnd {
        producer_id: producer.id,
        epoch: producer.epoch,
        ended_epoch_max: producer.epoch,
        // A tool's: whatever hangs.
        decision: None,
        outcome,
        marker: marker::end_marker(producer, outcome, now_ms()),
    };
    gateway.core.transaction_end(end).await.map(drop)
}
