//! DescribeClientQuotas (48), versions 0 to 1: the quotas that match a filter (KIP-546).

use std::collections::BTreeMap;

use codec_kafka::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::quotas::{CLIENT_ID, Entity, IP, Name, USER};
use crate::state::security::{Operation, Resource};

/// What a filter asks of a part of an entity.
enum Wanted {
    Exactly(Name),
    Any,
}

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let allowed = gateway.check(context, Operation::DescribeConfigs, Resource::Cluster);
    let filter = match allowed.map_err(Refusal::from).and_then(|()| filter(request.components)) {
        Ok(filter) => filter,
        Err(refusal) => {
            return DescribeClientQuotasResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                ..Default::default()
            };
        }
    };
    let entries = gateway.quotas.all().into_iter().filter(|(entity, _)| matches(entity, &filter, request.strict));
    let entry = |(entity, limits): (Entity, BTreeMap<String, f64>)| EntryData {
        entity: entity.parts().into_iter().map(part).collect(),
        values: limits.into_iter().map(|(key, value)| ValueData { key, value }).collect(),
    };
    DescribeClientQuotasResponse { entries: Some(entries.map(entry).collect()), ..Default::default() }
}

fn part((kind, name): (&'static str, &Name)) -> EntityData {
    EntityData { entity_type: kind.to_owned(), entity_name: name.as_option().map(str::to_owned) }
}

fn filter(components: Vec<ComponentData>) -> Result<BTreeMap<String, Wanted>, Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let mut filter = BTreeMap::new();
    for component in components {
        let kind = component.entity_type;
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".into());
        }
        let wanted = match (component.match_type, component.r#match) {
            (EXACT, Some(name)) => Wanted::Exactly(Name::Named(name)),
            (EXACT, None) => return invalid("An exact match needs a name to match.".into()),
            (DEFAULT, None) => Wanted::Exactly(Name::Default),
            (ANY, None) => Wanted::Any,
            (DEFAULT | ANY, Some(_)) => return invalid("Only an exact match takes a name to match.".into()),
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        if filter.insert(kind.clone(), wanted).is_some() {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
    }
    if filter.contains_key(IP) && (filter.contains_key(USER) || filter.contains_key(CLIENT_ID)) {
        return invalid("An ip cannot be looked for together with a user or client id.".into());
    }
    Ok(filter)
}

/// Strict: the entity has no other parts than those of the filter.
fn matches(entity: &Entity, filter: &BTreeMap<String, Wanted>, strict: bool) -> bool {
    let parts = entity.parts();
    if strict && parts.len() != filter.len() {
        return false;
    }
    filter.iter().all(|(kind, wanted)| {
        let part = parts.iter().find(|(part, _)| part == kind);
        part.is_some_and(|(_, name)| match wanted {
            Wanted::Any => true,
            Wanted::Exactly(wanted) => wanted == *name,
        })
    })
}
