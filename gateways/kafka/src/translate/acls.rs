//! Filters of access rules as requests have them.

use crate::errors::{ErrorCode, Refusal};
use crate::state::security::acl::{AclFilter, Operation, Pattern, PatternFilter, Permission, ResourceType};

/// "Any" in every numbered field of a filter.
const ANY: i8 = 1;
/// In the pattern's field: rules that cover the name.
const MATCH: i8 = 2;

/// A filter's fields on the wire.
#[derive(Clone, Debug)]
pub struct FilterFields {
    pub resource_type: i8,
    pub name: Option<String>,
    pub pattern: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

/// The filter, or which field has an unknown number.
pub fn acl_filter(fields: FilterFields) -> Result<AclFilter, Refusal> {
    let pattern = match fields.pattern {
        ANY => PatternFilter::Any,
        MATCH => PatternFilter::Match,
        code => PatternFilter::Is(known("pattern type", code, Pattern::of)?),
    };
    Ok(AclFilter {
        resource_type: any_or("resource type", fields.resource_type, ResourceType::of)?,
        name: fields.name,
        pattern,
        principal: fields.principal,
        host: fields.host,
        operation: any_or("operation", fields.operation, Operation::of)?,
        permission: any_or("permission type", fields.permission, Permission::of)?,
    })
}

fn any_or<T>(what: &str, code: i8, of: fn(i8) -> Option<T>) -> Result<Option<T>, Refusal> {
    if code == ANY { Ok(None) } else { known(what, code, of).map(Some) }
}

fn known<T>(what: &str, code: i8, of: fn(i8) -> Option<T>) -> Result<T, Refusal> {
    of(code).ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, format!("The filter's {what} {code} is unknown.")))
}
