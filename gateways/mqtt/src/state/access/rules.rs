//! Rules of what clients may do: who, what, where, and whether it is allowed or denied.
//!
//! Rules stand in order; the first that fits decides. They are one JSON record of the core's meta, at [`RULES_KEY`], so that
//! a change holds on every gateway:
//!
//! ```json
//! {"rules": [
//!    {"user": "operator", "action": "all", "permission": "allow", "topic": "#"},
//!    {"client": "probe-7", "action": "publish", "permission": "deny", "topic": "alarms/#"},
//!    {"action": "all", "permission": "allow", "topic": "devices/%c/#"}
//!  ], "no_match": "deny"}
//! ```
//! or they are read from mosquitto's ACL file ([`super::acl_file`]), which can also be imported into that record
//! ([`crate::import`]).

use serde::{Deserialize, Serialize};

use crate::state::filter::is_filter;

/// Where meta has the rules.
pub const RULES_KEY: &str = "mqtt/acl";

/// What a rule is about. Whoever may receive is who may subscribe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Publish,
    Subscribe,
    #[default]
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    Allow,
    Deny,
}

/// One rule. It is about the clients that all of `user`, `client` and `anonymous` fit; with none of them, about all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Clients that have logged in as this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The client with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Clients that have not logged in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    #[serde(default)]
    pub action: Action,
    pub permission: Permission,
    /// A topic filter. `%c` stands for the client's id, `%u` for its user; a rule with `%u` is not about clients that have
    /// none.
    pub topic: String,
    /// `%c` and `%u` are what they are: mosquitto's `topic` lines.
    #[serde(default, rename = "literal", skip_serializing_if = "std::ops::Not::not")]
    pub is_literal: bool,
}

/// What holds for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    /// Where no rule fits.
    #[serde(default = "allow")]
    pub no_match: Permission,
    /// Every filter may be subscribed to, and what the client may not read is left out when it is delivered: mosquitto's
    /// way. Else a filter is also looked at when it is subscribed to.
    #[serde(default, rename = "any_filter", skip_serializing_if = "std::ops::Not::not")]
    pub is_any_filter_subscribable: bool,
}

fn allow() -> Permission {
    Permission::Allow
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("the rules are not well-formed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0:?} is no topic filter")]
    Filter(String),
}

impl RuleSet {
    /// Everything is allowed.
    pub fn open() -> RuleSet {
        RuleSet { rules: Vec::new(), no_match: Permission::Allow, is_any_filter_subscribable: false }
    }

    /// Nothing is allowed: what holds while rules are there that nobody can read.
    pub fn closed() -> RuleSet {
        RuleSet { no_match: Permission::Deny, ..RuleSet::open() }
    }

    /// Of the stored record.
    pub fn parse(json: &[u8]) -> Result<RuleSet, RulesError> {
        let rules: RuleSet = serde_json::from_slice(json)?;
        match rules.rules.iter().find(|rule| !is_filter(&rule.topic)) {
            Some(rule) => Err(RulesError::Filter(rule.topic.clone())),
            None => Ok(rules),
        }
    }

    /// Whether there is nothing to ask.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && self.no_match == Permission::Allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_json() {
        let json = r##"{"rules":[{"user":"a","action":"publish","permission":"deny","topic":"x/#"},
                                 {"permission":"allow","topic":"%c/+"}],"no_match":"deny"}"##;
        let rules = RuleSet::parse(json.as_bytes()).unwrap();
        assert_eq!((rules.rules.len(), rules.no_match), (2, Permission::Deny));
        assert_eq!(rules.rules[0].user.as_deref(), Some("a"));
        assert_eq!((rules.rules[1].action, rules.rules[1].permission), (Action::All, Permission::Allow));
        let again = RuleSet::parse(&serde_json::to_vec(&rules).unwrap()).unwrap();
        assert_eq!(again, rules);
        // All that a file of mosquitto's means.
        let file =
            super::super::acl_file::parse("topic read a/%c\nuser b\ntopic deny c\npattern write %u/#\n").unwrap();
        let again = RuleSet::parse(&serde_json::to_vec(&file).unwrap()).unwrap();
        assert!(again == file && again.is_any_filter_subscribable && again.rules.iter().any(|rule| rule.is_literal));
        assert!(!rules.is_open() && RuleSet::open().is_open() && !RuleSet::closed().is_open());
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for json in [
            "",
            "[]",
            r#"{"rules":[{"permission":"allow"}]}"#,
            r#"{"rules":[{"permission":"allow","topic":"a+"}]}"#,
            r#"{"rules":[{"permission":"maybe","topic":"a"}]}"#,
            r#"{"rules":[{"permission":"allow","topic":"a","username":"b"}]}"#,
        ] {
            assert!(RuleSet::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
