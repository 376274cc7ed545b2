//! One request of the management API, and its answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core_rpc::{Core, MetaError};
use serde_json::{Map, Value, json};

use super::elsewhere::Answered;
use super::{Shared, status};
use crate::Gateway;
use crate::errors::{Refusal, ReplyCode};
use crate::state::access::{Permission, User};
use crate::state::topology::Resource;

/// One request.
pub struct Call<C> {
    pub(super) shared: Arc<Shared<C>>,
    pub user: Arc<User>,
    pub method: Method,
    pub query: HashMap<String, String>,
    pub body: Bytes,
    /// Another gateway asks, of what is this one's own.
    pub is_asked: bool,
}

/// Why a request is not answered.
#[derive(Debug)]
pub struct Failure {
    status: u16,
    error: &'static str,
    reason: Value,
}

impl Failure {
    pub fn new(status: u16, error: &'static str, reason: impl Into<Value>) -> Failure {
        Failure { status, error, reason: reason.into() }
    }

    pub fn not_found() -> Failure {
        Failure::new(404, "Object Not Found", "Not Found")
    }

    pub fn bad_request(reason: impl Into<Value>) -> Failure {
        Failure::new(400, "bad_request", reason)
    }

    pub fn not_authorised(reason: impl Into<Value>) -> Failure {
        Failure::new(401, "not_authorised", reason)
    }

    pub fn not_allowed() -> Failure {
        Failure::new(405, "method_not_allowed", "Method Not Allowed")
    }

    /// Says what could not be done, where many things are done at once.
    pub fn about(self, kind: &str, name: &str) -> Failure {
        let reason = self.reason.as_str().map_or_else(|| self.reason.to_string(), str::to_owned);
        Failure { reason: format!("{kind} '{name}': {reason}").into(), ..self }
    }

    /// As another gateway tells it.
    pub(super) fn tell(self) -> Answered {
        Answered { status: self.status, value: self.reason }
    }

    /// What another gateway has told.
    pub(super) fn told(status: u16, reason: Value) -> Failure {
        let error = match status {
            401 => "not_authorised",
            405 => "method_not_allowed",
            _ => "bad_request",
        };
        Failure { status, error, reason }
    }

    pub fn into_response(self) -> Response {
        let body = json!({"error": self.error, "reason": self.reason});
        let mut response = json_response(self.status, &body);
        if self.error == "not_authorized" {
            let realm = header::HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let reason = refusal.explanation.to_string();
        match refusal.code {
            ReplyCode::NotFound => Failure::new(404, "Object Not Found", reason),
            ReplyCode::AccessRefused => Failure::not_authorised(reason),
            ReplyCode::InternalError | ReplyCode::ResourceError => Failure::new(500, "internal_error", reason),
            _ => Failure::bad_request(reason),
        }
    }
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Failure {
        Refusal::from(error).into()
    }
}

/// What is answered.
pub enum Reply {
    Json(Value),
    /// Sorted, cut into pages and columns, as the query says.
    List(Vec<Value>),
    /// With where it is found.
    Created(Option<String>),
    NoContent,
    /// A check that failed: why, and what more there is to say.
    Failing(String, Value),
}

impl Reply {
    pub(super) fn into_response<C>(self, call: &Call<C>) -> Response {
        match self {
            Reply::Json(value) => json_response(200, &columns(value, &call.query)),
            Reply::List(items) => json_response(200, &page(items, &call.query)),
            Reply::Created(location) => {
                let mut response = json_response(201, &Value::Null);
                *response.body_mut() = Body::empty();
                if let Some(location) = location.and_then(|location| location.parse().ok()) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                response
            }
            Reply::NoContent => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status(204);
                response
            }
            Reply::Failing(reason, details) => {
                let mut object = json!({"status": "failed", "reason": reason});
                if let (Value::Object(object), Value::Object(details)) = (&mut object, details) {
                    object.extend(details);
                }
                json_response(503, &object)
            }
        }
    }
}

fn json_response(code: u16, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status(code);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    response
}

impl<C: Core> Call<C> {
    pub fn gateway(&self) -> &Arc<Gateway<C>> {
        &self.shared.gateway
    }

    pub(super) fn rates(&self) -> &super::Rates {
        &self.shared.rates
    }

    /// The body as an object; an empty one where there is none.
    pub fn object(&self) -> Result<Map<String, Value>, Failure> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Failure::bad_request("body must be a JSON object")),
            Err(error) => Err(Failure::new(400, "not_json", error.to_string())),
        }
    }

    pub fn is_administrator(&self) -> bool {
        self.user.has_tag("administrator")
    }

    /// Whether the user sees what is others'.
    pub fn is_monitor(&self) -> bool {
        self.is_administrator() || self.user.has_tag("monitoring")
    }

    pub fn administrator(&self) -> Result<(), Failure> {
        if self.is_administrator() { Ok(()) } else { Err(Failure::not_authorised("Not administrator user")) }
    }

    pub fn monitor(&self) -> Result<(), Failure> {
        if self.is_monitor() { Ok(()) } else { Err(Failure::not_authorised("Not monitor user")) }
    }

    pub fn policymaker(&self) -> Result<(), Failure> {
        match self.is_administrator() || self.user.has_tag("policymaker") {
            true => Ok(()),
            false => Err(Failure::not_authorised("Not policymaker user")),
        }
    }

    /// Whether the user may see what is in a vhost.
    pub fn sees(&self, vhost: &str) -> bool {
        self.is_monitor() || self.has_permissions(vhost)
    }

    fn has_permissions(&self, vhost: &str) -> bool {
        self.gateway().topology.record("permission", &[vhost, &self.user.name]).is_some()
    }

    /// The vhost, if it is there and the user may see what is in it.
    pub fn vhost_to_see(&self, vhost: &str) -> Result<Arc<str>, Failure> {
        let vhost = self.known_vhost(vhost)?;
        match self.sees(&vhost) {
            true => Ok(vhost),
            false => Err(Failure::not_authorised("User not authorised to access virtual host")),
        }
    }

    /// The vhost, if it is there and the user has permissions in it.
    pub fn vhost_to_use(&self, vhost: &str) -> Result<Arc<str>, Failure> {
        let vhost = self.known_vhost(vhost)?;
        match self.has_permissions(&vhost) {
            true => Ok(vhost),
            false => Err(Failure::not_authorised("User not authorised to access virtual host")),
        }
    }

    pub fn known_vhost(&self, vhost: &str) -> Result<Arc<str>, Failure> {
        let image = self.gateway().topology.image();
        image.vhost(vhost).map(|vhost| vhost.name.clone()).ok_or_else(Failure::not_found)
    }

    /// The vhosts in which the user may see things; of one name, or all.
    pub fn vhosts(&self, named: Option<&str>) -> Result<Vec<Arc<str>>, Failure> {
        match named {
            Some(vhost) => Ok(vec![self.vhost_to_see(vhost)?]),
            None => Ok(self.gateway().topology.vhosts().into_iter().filter(|vhost| self.sees(vhost)).collect()),
        }
    }

    /// Whether the user may do this, as on a connection.
    pub fn check(&self, vhost: &Arc<str>, permission: Permission, resource: Resource<'_>) -> Result<(), Failure> {
        Ok(self.gateway().access.check_user(&self.user.name, vhost, permission, resource)?)
    }
}

/// Who asks, if it may ask at all.
pub async fn authenticate<C: Core>(
    gateway: &Gateway<C>,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<Arc<User>, Failure> {
    let failed = || Failure::new(401, "not_authorized", "Not_Authorized");
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(failed)?;
    let (scheme, credentials) = header.split_once(' ').ok_or_else(failed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(failed());
    }
    let credentials = STANDARD.decode(credentials.trim()).map_err(|_| failed())?;
    let at = credentials.iter().position(|byte| *byte == b':').ok_or_else(failed)?;
    let name = std::str::from_utf8(&credentials[..at]).map_err(|_| failed())?;
    let user = gateway.access.authenticate(name, &credentials[at + 1..], peer.ip()).await.map_err(|_| failed())?;
    let tags = ["administrator", "monitoring", "policymaker", "management"];
    match tags.iter().any(|tag| user.has_tag(tag)) {
        true => Ok(user),
        false => Err(Failure::new(401, "not_authorised", "Not management user")),
    }
}

/// The parts of a path, each percent-decoded; empty ones at its end left out.
pub fn segments(path: &str) -> Result<Vec<String>, Failure> {
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    while segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    segments.into_iter().map(|segment| decode(segment, false).ok_or_else(|| Failure::bad_request("bad path"))).collect()
}

/// The parameters of a query.
pub fn query(query: Option<&str>) -> HashMap<String, String> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Percent-decodes. None: no UTF-8, or no hexadecimal digits.
fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Only the columns that are asked for, `a` or `a.b`.
fn columns(value: Value, query: &HashMap<String, String>) -> Value {
    let Some(columns) = query.get("columns").filter(|columns| !columns.is_empty()) else { return value };
    match value {
        Value::Object(object) => {
            let mut kept = Map::new();
            columns.split(',').for_each(|column| keep_column(&object, column, &mut kept));
            Value::Object(kept)
        }
        value => value,
    }
}

fn keep_column(from: &Map<String, Value>, column: &str, to: &mut Map<String, Value>) {
    if let Some(value) = from.get(column) {
        to.insert(column.to_owned(), value.clone());
        return;
    }
    let Some((first, rest)) = column.split_once('.') else { return };
    let Some(Value::Object(from)) = from.get(first) else { return };
    if let Value::Object(to) = to.entry(first).or_insert_with(|| json!({})) {
        keep_column(from, rest, to);
    }
}

/// The value of a column, `a` or `a.b`.
fn column<'v>(value: &'v Value, name: &str) -> &'v Value {
    match (value.get(name), name.split_once('.')) {
        (Some(value), _) => value,
        (None, Some((first, rest))) => column(&value[first], rest),
        (None, None) => &Value::Null,
    }
}

fn order(one: &Value, other: &Value) -> std::cmp::Ordering {
    match (one.as_f64(), other.as_f64(), one.as_str(), other.as_str()) {
        (Some(one), Some(other), ..) => one.total_cmp(&other),
        (.., Some(one), Some(other)) => one.cmp(other),
        _ => one.to_string().cmp(&other.to_string()),
    }
}

/// Items of a page, where the query asks for no more.
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 500;

/// A list as the query wants it: `name` (with `use_regex`), `sort`, `sort_reverse`, `page`, `page_size`, `columns`.
fn page(mut items: Vec<Value>, query: &HashMap<String, String>) -> Value {
    let total_count = items.len();
    let is_paged = query.contains_key("page");
    if let Some(name) = query.get("name").filter(|name| !name.is_empty()) {
        let pattern = (query.get("use_regex").map(String::as_str) == Some("true"))
            .then(|| fancy_regex::Regex::new(name).ok())
            .flatten();
        items.retain(|item| {
            let own = item["name"].as_str().unwrap_or_default();
            match &pattern {
                Some(pattern) => pattern.is_match(own).unwrap_or(false),
                None => own.to_lowercase().contains(&name.to_lowercase()),
            }
        });
    }
    if let Some(sort) = query.get("sort").filter(|sort| !sort.is_empty()) {
        items.sort_by(|one, other| order(column(one, sort), column(other, sort)));
    }
    if query.get("sort_reverse").map(String::as_str) == Some("true") {
        items.reverse();
    }
    let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let filtered_count = items.len();
    let (page, page_size) = (number("page", 1).max(1), number("page_size", PAGE_SIZE).clamp(1, PAGE_SIZE_MAX));
    if is_paged {
        items = items.into_iter().skip((page - 1).saturating_mul(page_size)).take(page_size).collect();
    }
    let items: Vec<Value> = items.into_iter().map(|item| columns(item, query)).collect();
    if !is_paged {
        return Value::Array(items);
    }
    json!({
        "filtered_count": filtered_count,
        "item_count": items.len(),
        "items": items,
        "page": page,
        "page_count": filtered_count.div_ceil(page_size).max(1),
        "page_size": page_size,
        "total_count": total_count,
    })
}

/// A boolean that may be written as a string, as rabbitmqadmin writes it.
pub fn boolean(value: Option<&Value>, default: bool) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text == "true",
        _ => default,
    }
}

/// An integer that may be written as a string.
pub fn integer(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_i64(),
    }
}

/// A text member of an object.
pub fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    object.get(name)?.as_str()
}

/// A text member that must be there.
pub fn needed<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, Failure> {
    text(object, name).ok_or_else(|| Failure::bad_request(format!("[\"{name} not specified\"]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn paths_and_queries_are_decoded() {
        assert_eq!(segments("/api/queues/%2F/a%20b/").unwrap(), ["api", "queues", "/", "a b"]);
        assert!(segments("/api/%zz").is_err() && segments("/api/%ff").is_err());
        assert_eq!(query(Some("a=1&b=x+y%26&c")), with(&[("a", "1"), ("b", "x y&"), ("c", "")]));
    }

    #[test]
    fn lists_are_sorted_and_cut() {
        let items =
            || vec![json!({"name": "b", "n": {"m": 2}}), json!({"name": "a", "n": {"m": 10}}), json!({"name": "c"})];
        let names =
            |value: &Value| value.as_array().unwrap().iter().map(|item| item["name"].clone()).collect::<Vec<_>>();
        assert_eq!(names(&page(items(), &with(&[("sort", "name")]))), ["a", "b", "c"]);
        assert_eq!(
            names(&page(items()[..2].to_vec(), &with(&[("sort", "n.m"), ("sort_reverse", "true")]))),
            ["a", "b"]
        );
        let paged = page(items(), &with(&[("page", "2"), ("page_size", "2"), ("columns", "name,n.m")]));
        assert_eq!(
            (&paged["item_count"], &paged["page_count"], &paged["items"][0]),
            (&json!(1), &json!(2), &json!({"name": "c"}))
        );
        let found = page(items(), &with(&[("page", "1"), ("name", "^[ab]"), ("use_regex", "true")]));
        assert_eq!((&found["filtered_count"], &found["total_count"]), (&json!(2), &json!(3)));
    }
}
