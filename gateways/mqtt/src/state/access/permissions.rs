//! What one client may do: the rules that are about it, with its names put in.

use super::rules::{Action, Permission, Rule, RuleSet};
use crate::state::filter::{covers, matches};

/// Compiled once for a client, then asked for every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    rules: Box<[Compiled]>,
    allows_no_match: bool,
    is_any_filter_subscribable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Compiled {
    filter: Box<str>,
    action: Action,
    allows: bool,
}

/// A client's name put into a topic.
enum Substituted {
    /// The topic, and whether a name in it brought more levels.
    Topic(String, bool),
    /// The client has no such name.
    NotAbout,
    /// A name has wildcards.
    Dangerous,
}

impl Permissions {
    /// Of the client with this id, logged in as this user.
    ///
    /// A name with a `+` or `#` in it could stand for other clients' names: like in mosquitto, such a client may do nothing
    /// from the first rule on that would hold its name. A `/` in a name would reach into the levels below another's: no rule
    /// allows anything by such a name.
    pub fn of(rules: &RuleSet, client_id: &str, user: Option<&str>) -> Permissions {
        let mut compiled = Vec::new();
        let mut allows_no_match = rules.no_match == Permission::Allow;
        for rule in rules.rules.iter().filter(|rule| is_about(rule, client_id, user)) {
            let allows = rule.permission == Permission::Allow;
            let filter = if rule.is_literal {
                rule.topic.clone()
            } else {
                match substituted(&rule.topic, client_id, user) {
                    Substituted::Topic(_, true) if allows => continue,
                    Substituted::Topic(topic, _) => topic,
                    Substituted::NotAbout => continue,
                    Substituted::Dangerous => {
                        allows_no_match = false;
                        break;
                    }
                }
            };
            compiled.push(Compiled { filter: filter.into(), action: rule.action, allows });
        }
        Permissions {
            rules: compiled.into(),
            allows_no_match,
            is_any_filter_subscribable: rules.is_any_filter_subscribable,
        }
    }

    /// Whether a message of this name may be published.
    pub fn may_publish(&self, name: &str) -> bool {
        self.first(Action::Publish, |filter| matches(filter, name))
    }

    /// Whether a message of this name may be delivered to the client.
    pub fn may_read(&self, name: &str) -> bool {
        self.first(Action::Subscribe, |filter| matches(filter, name))
    }

    /// Whether this filter may be subscribed to. A rule decides if it covers the whole filter; of what it covers in part,
    /// [`Permissions::may_read`] decides when it is delivered.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.is_any_filter_subscribable || self.first(Action::Subscribe, |wide| covers(wide, filter))
    }

    fn first(&self, action: Action, fits: impl Fn(&str) -> bool) -> bool {
        let is_about = |rule: &&Compiled| (rule.action == Action::All || rule.action == action) && fits(&rule.filter);
        self.rules.iter().find(is_about).map_or(self.allows_no_match, |rule| rule.allows)
    }
}

fn is_about(rule: &Rule, client_id: &str, user: Option<&str>) -> bool {
    rule.user.as_deref().is_none_or(|named| user == Some(named))
        && rule.client.as_deref().is_none_or(|named| named == client_id)
        && !(rule.anonymous && user.is_some())
}

fn substituted(topic: &str, client_id: &str, user: Option<&str>) -> Substituted {
    let (has_client, has_user) = (topic.contains("%c"), topic.contains("%u"));
    if has_user && user.is_none() {
        return Substituted::NotAbout;
    }
    let of_user = user.filter(|_| has_user).unwrap_or_default();
    let of_client = if has_client { client_id } else { "" };
    let has_any = |characters: &[char]| of_client.contains(characters) || of_user.contains(characters);
    if has_any(&['+', '#']) {
        return Substituted::Dangerous;
    }
    // In one pass: a name may itself have a %c or %u.
    let mut made = String::with_capacity(topic.len() + client_id.len());
    let mut rest = topic;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, length) = match rest.as_bytes().get(1) {
            Some(b'c') => (client_id, 2),
            Some(b'u') => (of_user, 2),
            _ => ("%", 1),
        };
        made.push_str(name);
        rest = &rest[length..];
    }
    made.push_str(rest);
    Substituted::Topic(made, has_any(&['/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(permission: Permission, action: Action, topic: &str) -> Rule {
        Rule { user: None, client: None, anonymous: false, action, permission, topic: topic.into(), is_literal: false }
    }

    fn set(rules: Vec<Rule>, no_match: Permission) -> RuleSet {
        RuleSet { rules, no_match, is_any_filter_subscribable: false }
    }

    const ALLOW: Permission = Permission::Allow;
    const DENY: Permission = Permission::Deny;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = set(
            vec![
                rule(DENY, Action::Publish, "a/secret"),
                rule(ALLOW, Action::All, "a/#"),
                rule(DENY, Action::All, "#"),
                rule(ALLOW, Action::All, "b"),
            ],
            ALLOW,
        );
        let permissions = Permissions::of(&rules, "c", None);
        assert!(permissions.may_publish("a/b") && !permissions.may_publish("a/secret"));
        assert!(permissions.may_read("a/secret") && !permissions.may_read("b"));
        // No rule is about names with a $ here.
        assert!(permissions.may_read("$SYS/broker/uptime"));
    }

    #[test]
    fn a_filter_is_subscribed_to_if_a_rule_covers_it() {
        let rules = set(vec![rule(DENY, Action::Subscribe, "a/secret/#"), rule(ALLOW, Action::All, "a/+/#")], DENY);
        let permissions = Permissions::of(&rules, "c", None);
        assert!(permissions.may_subscribe("a/b") && permissions.may_subscribe("a/+/c"));
        assert!(!permissions.may_subscribe("a/secret/b") && !permissions.may_subscribe("a/#"));
        // Part of it is denied: left out when it is delivered.
        assert!(permissions.may_subscribe("a/+/b") && !permissions.may_read("a/secret/b"));
    }

    #[test]
    fn rules_are_about_users_clients_and_strangers() {
        let named = |user: Option<&str>, client: Option<&str>, anonymous| Rule {
            user: user.map(Into::into),
            client: client.map(Into::into),
            anonymous,
            ..rule(ALLOW, Action::All, "#")
        };
        for (about, client, user, is_about) in [
            (named(Some("u"), None, false), "c", Some("u"), true),
            (named(Some("u"), None, false), "u", None, false),
            (named(None, Some("c"), false), "c", None, true),
            (named(None, Some("c"), false), "d", Some("c"), false),
            (named(Some("u"), Some("c"), false), "c", Some("u"), true),
            (named(Some("u"), Some("c"), false), "d", Some("u"), false),
            (named(None, None, true), "c", None, true),
            (named(None, None, true), "c", Some("u"), false),
        ] {
            let permissions = Permissions::of(&set(vec![about.clone()], DENY), client, user);
            assert_eq!(permissions.may_publish("x"), is_about, "{about:?} {client} {user:?}");
        }
    }

    #[test]
    fn names_are_put_in() {
        let rules = set(vec![rule(ALLOW, Action::All, "users/%u/%c/#"), rule(ALLOW, Action::All, "100%/%c")], DENY);
        let permissions = Permissions::of(&rules, "phone", Some("ann"));
        assert!(permissions.may_publish("users/ann/phone/x") && permissions.may_publish("100%/phone"));
        assert!(!permissions.may_publish("users/bob/phone/x") && !permissions.may_publish("users/%u/%c/x"));
        // Whoever has no user is not meant by %u; a name that is itself a pattern is only a name.
        assert!(!Permissions::of(&rules, "phone", None).may_publish("users//phone/x"));
        assert!(Permissions::of(&rules, "%u", Some("ann")).may_publish("users/ann/%u/x"));
    }

    #[test]
    fn no_name_reaches_further_than_itself() {
        let rules = set(vec![rule(ALLOW, Action::All, "open"), rule(ALLOW, Action::All, "own/%c/#")], ALLOW);
        for dangerous in ["+", "#", "a+", "+/b"] {
            let permissions = Permissions::of(&rules, dangerous, None);
            assert!(permissions.may_publish("open"), "{dangerous}");
            for name in ["own/victim/x", "own/+/x", "elsewhere"] {
                assert!(!permissions.may_publish(name) && !permissions.may_read(name), "{dangerous} {name}");
            }
        }
        let rules = set(vec![rule(ALLOW, Action::All, "own/%c/#"), rule(DENY, Action::All, "shut/%c")], DENY);
        assert!(!Permissions::of(&rules, "victim/x", None).may_read("own/victim/x/y"));
        let denied = set(rules.rules, ALLOW);
        assert!(!Permissions::of(&denied, "a/b", None).may_publish("shut/a/b"));
    }
}
