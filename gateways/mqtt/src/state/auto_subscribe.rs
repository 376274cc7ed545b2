//! Subscriptions that every client gets when it connects, as EMQX has them.
//!
//! ```toml
//! [[mqtt.auto_subscribe]]
//! topic = "devices/%c/commands"    # %c or ${clientid}, %u or ${username}
//! qos = 1                          # 0 to 2; also nl and rap (0 or 1), rh (0 to 2): subscription options of MQTT 5
//! ```

use std::str::FromStr;

use codec_mqtt::{QoS, RetainHandling, Subscription, Text};
use serde::Deserialize;

use crate::state::access::Who;
use crate::state::filter::is_filter;

/// One of them, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoSubscribe {
    pub topic: String,
    #[serde(default)]
    pub qos: u8,
    /// No local.
    #[serde(default)]
    pub nl: u8,
    /// Retain as published.
    #[serde(default)]
    pub rap: u8,
    /// Retain handling.
    #[serde(default)]
    pub rh: u8,
}

impl FromStr for AutoSubscribe {
    type Err = String;

    /// Of JSON: a table of the settings' file.
    fn from_str(json: &str) -> Result<AutoSubscribe, String> {
        let made: AutoSubscribe = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if !is_filter(&made.topic) {
            return Err(format!("{:?} is no topic filter", made.topic));
        }
        if made.qos > 2 || made.nl > 1 || made.rap > 1 || made.rh > 2 {
            return Err("qos is 0 to 2, nl and rap are 0 or 1, rh is 0 to 2".into());
        }
        // [MQTT-3.8.3-4]
        if made.nl == 1 && made.topic.starts_with(codec_mqtt::topic::SHARE_PREFIX) {
            return Err("a shared subscription cannot have nl".into());
        }
        Ok(made)
    }
}

/// What a client is subscribed to. Left out is what is no filter with its names in it, and what has `%u` where the client has
/// none.
pub fn subscriptions(configured: &[AutoSubscribe], who: &Who) -> Vec<Subscription> {
    configured.iter().filter_map(|one| subscription(one, who)).collect()
}

fn subscription(configured: &AutoSubscribe, who: &Who) -> Option<Subscription> {
    let filter = filled(&configured.topic, who)?;
    Some(Subscription {
        no_local: configured.nl == 1,
        retain_as_published: configured.rap == 1,
        retain_handling: match configured.rh {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            _ => RetainHandling::Never,
        },
        ..Subscription::new(Text::new(filter).filter(|filter| is_filter(filter))?, QoS::of(configured.qos)?)
    })
}

/// A name with wildcards or levels in it would subscribe to what is another's: there is none then.
fn filled(topic: &str, who: &Who) -> Option<String> {
    let plain = |name: &str| !name.is_empty() && !name.contains(['+', '#', '/']);
    let mut made = String::with_capacity(topic.len());
    let mut rest = topic;
    'next: while let Some(first) = rest.chars().next() {
        let variables = [
            ("%c", Some(&who.client_id)),
            ("${clientid}", Some(&who.client_id)),
            ("%u", who.user.as_ref()),
            ("${username}", who.user.as_ref()),
        ];
        for (variable, name) in variables {
            if let Some(behind) = rest.strip_prefix(variable) {
                made.push_str(name.filter(|name| plain(name))?);
                rest = behind;
                continue 'next;
            }
        }
        made.push(first);
        rest = &rest[first.len_utf8()..];
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, who: &Who) -> Vec<(String, QoS)> {
        let configured = [json.parse().unwrap()];
        subscriptions(&configured, who).into_iter().map(|one| (one.filter.to_string(), one.qos)).collect()
    }

    #[test]
    fn names_are_put_in() {
        let who = Who::new("c1", Some("ann".into()));
        let json = r#"{"topic":"d/%c/${username}/%u/${clientid}/%x/#","qos":1}"#;
        assert_eq!(of(json, &who), [("d/c1/ann/ann/c1/%x/#".into(), QoS::AtLeastOnce)]);
        assert_eq!(of(r#"{"topic":"all/+"}"#, &Who::new("+", None)), [("all/+".into(), QoS::AtMostOnce)]);
        assert!(of(r#"{"topic":"d/%u"}"#, &Who::new("c", None)).is_empty());
        for client in ["+", "#", "a/b", ""] {
            assert!(of(r#"{"topic":"d/%c"}"#, &Who::new(client, None)).is_empty(), "{client}");
        }
    }

    #[test]
    fn options_are_those_of_subscribe() {
        let json = r#"{"topic":"a","qos":2,"nl":1,"rap":1,"rh":2}"#;
        let made = subscriptions(&[json.parse().unwrap()], &Who::new("c", None)).remove(0);
        assert_eq!((made.qos, made.no_local, made.retain_as_published), (QoS::ExactlyOnce, true, true));
        assert_eq!(made.retain_handling, RetainHandling::Never);
        for json in
            [r#"{"topic":"a+"}"#, r#"{"topic":"a","qos":3}"#, r#"{"topic":"$share/g/a","nl":1}"#, r#"{"filter":"a"}"#]
        {
            assert!(json.parse::<AutoSubscribe>().is_err(), "{json}");
        }
    }
}
