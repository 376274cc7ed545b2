//! `/api/consumers`: the consumers of this gateway.

use axum::http::Method;
use core_rpc::Core;

use super::call::{Call, Failure, Reply};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    if call.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    let vhost = match path {
        [] => None,
        [vhost] => Some(*vhost),
        _ => return Err(Failure::not_found()),
    };
    let _vhosts = call.vhosts(vhost)?;
    Ok(Reply::List(Vec::new()))
}
