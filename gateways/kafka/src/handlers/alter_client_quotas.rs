//! AlterClientQuotas (49), versions 0 to 1: sets and removes quotas (KIP-546).
//!
//! - `request_percentage` is refused with INVALID_REQUEST: it is not enforced.

use std::collections::HashSet;

use codec_kafka::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, OpData, RequestEntryData, ResponseEntryData,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::quotas::{Entity, check};
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let allowed = gateway.check(context, Operation::AlterConfigs, Resource::Cluster);
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(request.entries.len());
    for asked in request.entries {
        let altered = match allowed.map_err(Refusal::from).and_then(|()| changes(&asked)) {
            Ok((entity, _)) if !seen.insert(entity.clone()) => Err(invalid("Duplicate entity in the request.")),
            Ok((entity, changes)) if !request.validate_only => alter(gateway, &entity, &changes).await,
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        let refusal = altered.err();
        entries.push(ResponseEntryData {
            error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
            error_message: refusal.map(|refusal| refusal.message),
            entity: asked.entity,
        });
    }
    AlterClientQuotasResponse { entries, ..Default::default() }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

type Changes = Vec<(String, Option<f64>)>;

fn changes(asked: &RequestEntryData) -> Result<(Entity, Changes), Refusal> {
    let parts = asked.entity.iter().map(|part| (part.entity_type.as_str(), part.entity_name.as_deref()));
    let entity = Entity::from_parts(parts).map_err(|error| invalid(error.to_string()))?;
    let mut seen = HashSet::new();
    let mut changes = Changes::new();
    for OpData { key, value, remove } in &asked.ops {
        if !seen.insert(key) {
            return Err(invalid(format!("Duplicate quota key {key}")));
        }
        // A key that could not be set cannot be there to be removed either.
        check(&entity, key, if *remove { 1.0 } else { *value }).map_err(invalid)?;
        changes.push((key.clone(), (!remove).then_some(*value)));
    }
    Ok((entity, changes))
}

async fn alter<C: Core>(gateway: &Gateway<C>, entity: &Entity, changes: &Changes) -> Result<(), Refusal> {
    gateway.quotas.alter(entity, changes).await.map_err(|error| {
        let code = match ErrorCode::from(&error) {
            // There is no coordinator of quotas; clients ask the controller again.
            ErrorCode::CoordinatorNotAvailable => ErrorCode::NotController,
            code => code,
        };
        Refusal::new(code, error.to_string())
    })
}
