//! ListGroups (16), versions 0 to 5: the groups, with and without members; those that only have offsets too.
//!
//! - Version 4 (KIP-518): only those in certain states; their states.
//! - Version 5 (KIP-848): only those of certain types; an unknown type has no groups.

use std::sync::Arc;

use codec_kafka::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};

/// The type of share groups.
const SHARE: &str = "share";

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let groups = match gateway.groups.list().await {
        Ok(groups) => groups,
        Err(error) => return ListGroupsResponse { error_code: ErrorCode::from(error).code(), ..Default::default() },
    };
    let all = gateway.check(context, Operation::Describe, Resource::Cluster).is_ok();
    let may_see = |id: &str| all || gateway.check(context, Operation::Describe, Resource::Group(id)).is_ok();
    let groups = groups.into_iter().filter(|group| may_see(&group.id)).filter(|group| {
        is_among(&request.states_filter, group.state) && is_among(&request.types_filter, group.group_type)
    });
    let listed = groups.map(|group| ListedGroup {
        group_state: group.state.to_owned(),
        group_id: group.id,
        protocol_type: group.protocol_type,
        group_type: group.group_type.to_owned(),
    });
    let mut groups: Vec<ListedGroup> = listed.collect();
    match gateway.list_share_groups().await {
        Ok(share_groups) => groups.extend(share_groups.into_iter().filter(|(id, _)| may_see(id)).filter_map(|share| listed_share(share, &request))),
        Err(code) => return ListGroupsResponse { error_code: code.code(), ..Default::default() },
    }
    ListGroupsResponse { groups, ..Default::default() }
}

fn listed_share((group_id, has_members): (String, bool), request: &ListGroupsRequest) -> Option<ListedGroup> {
    let state = if has_members { "Stable" } else { "Empty" };
    let is_asked_for = is_among(&request.states_filter, state) && is_among(&request.types_filter, SHARE);
    is_asked_for.then(|| ListedGroup {
        group_state: state.to_owned(),
        group_id,
        protocol_type: SHARE.to_owned(),
        group_type: SHARE.to_owned(),
    })
}

/// An empty filter lets all through.
fn is_among(filter: &[String], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
}
