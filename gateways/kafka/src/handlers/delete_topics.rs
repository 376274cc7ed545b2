//! DeleteTopics (20), versions 1 to 6: deletes topics by name or by id. `timeout_ms` bounds waiting for other brokers;
//! there are none.

use std::collections::HashSet;
use std::sync::Arc;

use codec_kafka::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use core_rpc::Core;

use super::{Context, Throttled, throttle_time_ms};
use crate::errors::{ErrorCode, Refusal};
use crate::translate::{topic_id, uuid};
use crate::state::security::Operation;
use crate::state::quotas::Mutations;
use crate::{Gateway, Topic, now_ms};

/// The first version whose clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_VERSION: i16 = 5;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DeleteTopicsRequest,
) -> Throttled<DeleteTopicsResponse> {
    let is_strict = context.version >= QUOTA_VERSION;
    let user = context.user();
    let mut mutations = Mutations::new(&gateway.quotas, user.name(), context.client(), is_strict, now_ms());
    // Only one of the lists is there, by version.
    let by_name = request.topic_names.into_iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let asked: Vec<DeleteTopicState> = request.topics.into_iter().chain(by_name).collect();
    let mut seen = HashSet::new();
    let twice: HashSet<_> = asked.iter().map(|topic| (&topic.name, topic.topic_id)).filter(|key| !seen.insert(*key)).collect();
    let mut responses = Vec::with_capacity(asked.len());
    for topic in &asked {
        let mut result =
            DeletableTopicResult { name: topic.name.clone(), topic_id: topic.topic_id, ..Default::default() };
        let found = match twice.contains(&(&topic.name, topic.topic_id)) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name or id.")),
            false => find(gateway, context, topic),
        };
        let deleted = match found {
            Ok(found) => {
                result.name = Some(found.topic.name.clone());
                result.topic_id = uuid(found.topic.id);
                match mutations.charge(found.topic.partitions) {
                    Ok(()) => delete(gateway, &found).await,
                    Err(exceeded) => Err(exceeded.into()),
                }
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = deleted {
            result.error_code = refusal.code.code();
            result.error_message = Some(refusal.message);
        }
        responses.push(result);
    }
    let silence = mutations.silence();
    let reply = DeleteTopicsResponse { throttle_time_ms: throttle_time_ms(silence), responses };
    Throttled { reply, silence }
}

fn find<C: Core>(gateway: &Gateway<C>, context: &Context, asked: &DeleteTopicState) -> Result<Arc<Topic>, Refusal> {
    match (&asked.name, asked.topic_id.is_zero()) {
        (Some(name), true) => Ok(gateway.topic_for(context, Operation::Delete, name)?),
        (None, false) => Ok(gateway.topic_by_id_for(context, Operation::Delete, topic_id(asked.topic_id))?),
        (None, true) => Err(Refusal::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified.")),
        (Some(_), false) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."))
        }
    }
}

async fn delete<C: Core>(gateway: &Gateway<C>, topic: &Topic) -> Result<(), Refusal> {
    let topic = &topic.topic;
    gateway.topics.delete(&topic.namespace, &topic.name).await.map_err(|error| Refusal::from(&error))
}
