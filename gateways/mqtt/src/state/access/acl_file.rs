//! mosquitto's ACL file, with the meaning that mosquitto 2.0 gives it.
//!
//! ```text
//! topic [read|write|readwrite|deny] FILTER     for clients without a user name, or for the user above
//! user NAME
//! pattern [read|write|readwrite|deny] FILTER   for all, with %c and %u
//! ```
//! A user's denials are looked at first, then what it is allowed, then denials and permissions of patterns; what nothing
//! allows is denied. Subscribing is always allowed: what a client may not read is left out when it is delivered.

use super::lines::{LineError, LineErrors, all_or_errors};
use super::rules::{Action, Permission, Rule, RuleSet};
use crate::state::filter::is_filter;

/// Reads the file's text.
pub fn parse(text: &str) -> Result<RuleSet, LineErrors> {
    let mut user: Option<&str> = None;
    let (mut topics, mut patterns, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (word, rest) = first_word(line);
        let read = match word {
            "user" if rest.is_empty() => Err("a user without a name"),
            "user" => {
                user = Some(rest);
                Ok(())
            }
            "topic" => rule(rest, user, true).map(|rule| topics.push(rule)),
            "pattern" => rule(rest, None, false).map(|rule| patterns.push(rule)),
            _ => Err("neither user, topic nor pattern"),
        };
        errors.extend(read.err().map(|what| LineError { line: at + 1, what: format!("{what}: {line:?}") }));
    }
    let denials_first = |mut rules: Vec<Rule>| {
        rules.sort_by_key(|rule| rule.permission == Permission::Allow);
        rules
    };
    let rules = denials_first(topics).into_iter().chain(guarded(denials_first(patterns))).collect();
    all_or_errors(RuleSet { rules, no_match: Permission::Deny, is_any_filter_subscribable: true }, errors)
}

/// mosquitto denies clients whose id or user has wildcards as soon as there are patterns, also ones without `%c` or `%u`:
/// a rule that denies nothing, but has the names in it, does so ([`super::permissions::Permissions::of`]).
fn guarded(patterns: Vec<Rule>) -> impl Iterator<Item = Rule> {
    let guard = |topic: &str| Rule {
        user: None,
        client: None,
        anonymous: false,
        action: Action::All,
        permission: Permission::Deny,
        topic: topic.into(),
        is_literal: false,
    };
    let guards = if patterns.is_empty() { Vec::new() } else { vec![guard("$guard/%c"), guard("$guard/%u")] };
    guards.into_iter().chain(patterns)
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_matches(' '))
}

fn rule(text: &str, user: Option<&str>, is_topic: bool) -> Result<Rule, &'static str> {
    let (word, rest) = first_word(text);
    // One word is a filter, even if it reads like something else.
    let (access, topic) = if rest.is_empty() { ("readwrite", word) } else { (word, rest) };
    let (action, permission) = match access {
        "read" => (Action::Subscribe, Permission::Allow),
        "write" => (Action::Publish, Permission::Allow),
        "readwrite" => (Action::All, Permission::Allow),
        "deny" => (Action::All, Permission::Deny),
        _ => return Err("neither read, write, readwrite nor deny"),
    };
    if topic.is_empty() {
        return Err("a topic is missing");
    }
    if !is_filter(topic) {
        return Err("no valid topic filter");
    }
    Ok(Rule {
        user: user.map(Into::into),
        client: None,
        anonymous: is_topic && user.is_none(),
        action,
        permission,
        topic: topic.into(),
        is_literal: is_topic,
    })
}

#[cfg(test)]
mod tests {
    use super::super::permissions::Permissions;
    use super::*;

    /// The example that mosquitto ships, with denials.
    const EXAMPLE: &str = "\
# This affects access control for clients with no username.
topic read $SYS/#

# This only affects clients with username \"roger\".
user roger
topic foo/bar
topic readwrite house/#
topic deny house/safe
topic write   with space/x

# This affects all clients.
pattern write $SYS/broker/connection/%c/state
pattern deny shared/secret
pattern readwrite shared/#
pattern read users/%u/+
";

    fn of(client: &str, user: Option<&str>) -> Permissions {
        Permissions::of(&parse(EXAMPLE).unwrap(), client, user)
    }

    #[test]
    fn the_example_means_what_it_says() {
        let roger = of("c", Some("roger"));
        assert!(roger.may_publish("foo/bar") && roger.may_read("foo/bar") && roger.may_read("house/a/b"));
        assert!(!roger.may_publish("house/safe") && !roger.may_read("house/safe") && !roger.may_read("foo/baz"));
        assert!(roger.may_publish("with space/x") && !roger.may_read("with space/x"));
        assert!(!roger.may_read("$SYS/broker/uptime"));
        assert!(roger.may_read("users/roger/a") && !roger.may_publish("users/roger/a"));
        assert!(!roger.may_read("users/ann/a"));

        let stranger = of("c", None);
        assert!(stranger.may_read("$SYS/broker/uptime") && !stranger.may_read("foo/bar"));
        assert!(stranger.may_publish("shared/a") && !stranger.may_publish("shared/secret"));
        assert!(stranger.may_publish("$SYS/broker/connection/c/state"));
        assert!(!stranger.may_publish("$SYS/broker/connection/d/state"));

        // Any filter may be subscribed to.
        assert!(stranger.may_subscribe("#") && stranger.may_subscribe("house/safe"));
    }

    #[test]
    fn names_with_wildcards_get_nothing_of_patterns() {
        for (client, user) in [("+", None), ("#", None), ("c", Some("+")), ("a#", Some("ann"))] {
            assert!(!of(client, user).may_publish("shared/a"), "{client} {user:?}");
            assert!(!of(client, user).may_publish("$SYS/broker/connection/c/state"));
        }
        // What a user's own lines allow stays allowed.
        assert!(of("+", Some("roger")).may_publish("foo/bar"));
    }

    #[test]
    fn a_file_without_lines_denies_all() {
        let permissions = Permissions::of(&parse("# nothing\n\n").unwrap(), "c", None);
        assert!(!permissions.may_publish("a") && !permissions.may_read("a") && permissions.may_subscribe("a"));
    }

    #[test]
    fn percent_signs_of_topic_lines_are_literal() {
        let rules = parse("topic %c/a").unwrap();
        let permissions = Permissions::of(&rules, "c", None);
        assert!(permissions.may_publish("%c/a") && !permissions.may_publish("c/a"));
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        for (text, line) in [
            ("\ntopics a", 2),
            ("user", 1),
            ("user  ", 1),
            ("topic", 1),
            ("topic a b", 1),
            ("topic read a+", 1),
            ("pattern write #/a", 1),
            (" # not at the beginning", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().0[0].line, line, "{text:?}");
        }
        // All of them are told.
        let errors = parse("topic a b\ntopic fine\nuser\n").unwrap_err();
        assert_eq!(errors.0.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 3]);
        assert!(errors.to_string().starts_with("line 1: neither read, write, readwrite nor deny: \"topic a b\""));
        // One word is a topic.
        assert_eq!(parse("topic read").unwrap().rules[0].topic, "read");
        assert_eq!(parse("user a b \r\ntopic x\r\n").unwrap().rules[0].user.as_deref(), Some("a b"));
    }
}
