//! CreatePartitions (37), versions 0 to 3: adds partitions to topics. `timeout_ms` bounds waiting for other brokers;
//! there are none.

use codec_kafka::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use core_rpc::{Core, TopicAlter};

use super::{Context, Throttled, throttle_time_ms};
use super::create_topics::duplicates;
use crate::errors::{ErrorCode, Refusal};
use crate::state::brokers::View;
use crate::state::quotas::Mutations;
use crate::state::security::Operation;
use crate::{Gateway, now_ms};

/// The first version whose clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_VERSION: i16 = 3;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: CreatePartitionsRequest,
) -> Throttled<CreatePartitionsResponse> {
    let is_strict = context.version >= QUOTA_VERSION;
    let user = context.user();
    let mut mutations = Mutations::new(&gateway.quotas, user.name(), context.client(), is_strict, now_ms());
    let twice = duplicates(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut result = CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        let grown = match twice.contains(topic.name.as_str()) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => grow(gateway, context, topic, request.validate_only, &mut mutations).await,
        };
        if let Err(refusal) = grown {
            result.error_code = refusal.code.code();
            result.error_message = Some(refusal.message);
        }
        results.push(result);
    }
    let silence = mutations.silence();
    let reply = CreatePartitionsResponse { throttle_time_ms: throttle_time_ms(silence), results };
    Throttled { reply, silence }
}

async fn grow<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
    mutations: &mut Mutations<'_, C>,
) -> Result<(), Refusal> {
    let topic = gateway.topic_for(context, Operation::Alter, &asked.name)?;
    let current = topic.topic.partitions;
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidPartitions, message);
    let wanted = u32::try_from(asked.count).unwrap_or(0);
    if wanted == current {
        return Err(invalid(format!("Topic already has {current} partition(s).")));
    }
    if wanted < current {
        let (name, count) = (&asked.name, asked.count);
        return Err(invalid(format!(
            "The topic {name} currently has {current} partition(s); {count} would not be an increase."
        )));
    }
    if let Some(assignments) = &asked.assignments {
        let added = wanted - current;
        if assignments.len() != added as usize {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        for assignment in assignments {
            check_assignment(&assignment.broker_ids, &gateway.brokers.live())?;
        }
    }
    if !validate_only {
        mutations.charge(wanted.saturating_sub(current))?;
        // Only as long as the topic is the one just looked at.
        let alter = TopicAlter {
            id: Some(topic.topic.id),
            partitions: Some(wanted),
            if_version: Some(topic.topic.version),
            ..Default::default()
        };
        gateway.topics.alter(&topic.topic.namespace, &asked.name, alter).await.map_err(|error| Refusal::from(&error))?;
    }
    Ok(())
}

/// Checks the replicas that a client assigns to a partition. Where there is one broker, it can only be that one; among
/// several the leader follows from who lives, and nobody can assign it.
pub fn check_assignment(broker_ids: &[i32], brokers: &View) -> Result<(), Refusal> {
    let refused = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if broker_ids.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".into());
    }
    if let Some(other) = broker_ids.iter().find(|id| !brokers.has(**id)) {
        return refused(format!("The manual partition assignment includes broker {other}, but no such broker is registered."));
    }
    match broker_ids {
        [_] if brokers.members().len() == 1 => Ok(()),
        [_] => refused("The brokers of this cluster share its partitions by themselves; assign none.".into()),
        [id, others @ ..] if others.contains(id) => {
            refused(format!("The manual partition assignment includes the broker {id} more than once."))
        }
        _ => refused("The manual partition assignment includes several brokers, but a partition has one replica.".into()),
    }
}
