//! Topic rewrite, as EMQX has it: names that clients publish to, and filters that they subscribe to, become others.
//!
//! ```toml
//! [[mqtt.rewrite]]
//! action = "all"                 # publish, subscribe or all
//! source_topic = "x/#"
//! re = "^x/y/(.+)$"
//! dest_topic = "z/y/${clientid}/$1"
//! ```
//! The last rule whose `source_topic` fits decides; where its expression does not, the topic stays as it is. Permissions are
//! asked for the topic as the client sent it. Of a shared subscription only the filter behind the group is looked at.

use std::str::FromStr;

use codec_mqtt::topic;
use fancy_regex::{Captures, Regex};
use serde::Deserialize;

use crate::state::access::{Action, Who};
use crate::state::filter::{covers, is_filter, is_name};

/// One rule, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteRule {
    #[serde(default)]
    pub action: Action,
    pub source_topic: String,
    pub re: String,
    /// `$1`… are the expression's groups, `${clientid}` and `${username}` the client's names.
    pub dest_topic: String,
}

impl FromStr for RewriteRule {
    type Err = String;

    /// Of JSON: a table of the settings' file.
    fn from_str(json: &str) -> Result<RewriteRule, String> {
        let rule: RewriteRule = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if !is_filter(&rule.source_topic) {
            return Err(format!("{:?} is no topic filter", rule.source_topic));
        }
        Regex::new(&rule.re).map_err(|error| error.to_string())?;
        Ok(rule)
    }
}

/// All rules.
#[derive(Debug, Default)]
pub struct Rewrite {
    /// The last first.
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    rule: RewriteRule,
    expression: Regex,
}

impl Rewrite {
    pub fn new(rules: &[RewriteRule]) -> anyhow::Result<Rewrite> {
        let compiled =
            rules.iter().rev().map(|rule| Ok(Compiled { expression: Regex::new(&rule.re)?, rule: rule.clone() }));
        Ok(Rewrite { rules: compiled.collect::<anyhow::Result<_>>()? })
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The name that a message is published to instead. `None`: it stays as it is, also where what a rule makes of it is no
    /// topic name.
    pub fn published(&self, who: &Who, name: &str) -> Option<String> {
        self.rewritten(Action::Publish, who, name).filter(|made| is_name(made))
    }

    /// The filter that is subscribed to, or unsubscribed from, instead. `None`: it stays as it is.
    pub fn subscribed(&self, who: &Who, filter: &str) -> Option<String> {
        if self.rules.is_empty() {
            return None;
        }
        let behind = topic::shared(filter).ok().flatten().map_or(filter, |(_, behind)| behind);
        let group = &filter[..filter.len() - behind.len()];
        let made = self.rewritten(Action::Subscribe, who, behind).filter(|made| is_filter(made))?;
        Some(format!("{group}{made}"))
    }

    fn rewritten(&self, action: Action, who: &Who, topic: &str) -> Option<String> {
        let fits = |compiled: &&Compiled| {
            (compiled.rule.action == Action::All || compiled.rule.action == action)
                && covers(&compiled.rule.source_topic, topic)
        };
        let compiled = self.rules.iter().find(fits)?;
        // An expression that takes too many steps is one that does not match.
        let captures = compiled.expression.captures(topic).ok().flatten()?;
        Some(filled(&compiled.rule.dest_topic, &captures, who))
    }
}

/// The destination with what stands for its variables.
fn filled(destination: &str, captures: &Captures<'_>, who: &Who) -> String {
    let mut made = String::with_capacity(destination.len());
    let mut rest = destination;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some(behind) = rest.strip_prefix("{clientid}") {
            made.push_str(&who.client_id);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("{username}") {
            made.push_str(who.user.as_deref().unwrap_or_default());
            rest = behind;
        } else if digits > 0 {
            let group = rest[..digits].parse().ok().and_then(|group| captures.get(group));
            made.push_str(group.map_or("", |group| group.as_str()));
            rest = &rest[digits..];
        } else {
            made.push('$');
        }
    }
    made.push_str(rest);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, &str, &str, &str)]) -> Rewrite {
        let rule = |(action, source, re, dest): &(&str, &str, &str, &str)| {
            let json = serde_json::json!({"action": action, "source_topic": source, "re": re, "dest_topic": dest});
            json.to_string().parse().unwrap()
        };
        Rewrite::new(&rules.iter().map(rule).collect::<Vec<_>>()).unwrap()
    }

    fn who() -> Who {
        Who::new("c1", Some("ann".into()))
    }

    /// The example of EMQX's documentation.
    #[test]
    fn the_last_rule_that_fits_decides() {
        let rewrite = rules(&[
            ("all", "y/+/z/#", r"^y/(.+)/z/(.+)$", "y/z/$2"),
            ("all", "x/#", r"^x/y/(.+)$", "z/y/x/$1"),
            ("all", "x/y/+", r"^x/y/(\d+)$", "z/y/$1"),
        ]);
        let who = who();
        let expected = [
            ("y/a/z/b", Some("y/z/b")),
            ("y/def", None),
            ("x/1/2", None),
            ("x/y/2", Some("z/y/2")),
            // Fits the last rule, whose expression does not: no other is tried.
            ("x/y/z", None),
        ];
        for (topic, made) in expected {
            assert_eq!(rewrite.subscribed(&who, topic).as_deref(), made, "{topic}");
            assert_eq!(rewrite.published(&who, topic).as_deref(), made, "{topic}");
        }
        assert_eq!(rewrite.subscribed(&who, "$share/g/x/y/2").as_deref(), Some("$share/g/z/y/2"));
    }

    #[test]
    fn rules_are_for_publishing_or_subscribing() {
        let rewrite = rules(&[("publish", "a/#", "^a/(.*)$", "p/$1"), ("subscribe", "a/#", "^a/(.*)$", "s/$1")]);
        assert_eq!(rewrite.published(&who(), "a/b").as_deref(), Some("p/b"));
        assert_eq!(rewrite.subscribed(&who(), "a/+").as_deref(), Some("s/+"));
        assert_eq!(rewrite.subscribed(&who(), "a/#").as_deref(), Some("s/#"));
    }

    #[test]
    fn names_are_put_in_and_nothing_invalid_comes_out() {
        let rewrite = rules(&[("all", "in", "^in$", "${username}/${clientid}/$1/$x/100$")]);
        assert_eq!(rewrite.published(&who(), "in").as_deref(), Some("ann/c1//$x/100$"));
        let rewrite = rules(&[("all", "#", "^(.*)$", "${clientid}")]);
        assert_eq!(rewrite.published(&Who::new("+", None), "a"), None);
        assert_eq!(rewrite.subscribed(&Who::new("a+", None), "a"), None);
        assert_eq!(rewrite.published(&Who::new("", None), "a"), None);
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for json in [
            r#"{"source_topic":"a+","re":"a","dest_topic":"b"}"#,
            r#"{"source_topic":"a","re":"(","dest_topic":"b"}"#,
            r#"{"source_topic":"a","re":"a"}"#,
            r#"{"action":"both","source_topic":"a","re":"a","dest_topic":"b"}"#,
        ] {
            assert!(json.parse::<RewriteRule>().is_err(), "{json}");
        }
    }
}
