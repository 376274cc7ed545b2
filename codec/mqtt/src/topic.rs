//! Topic names and topic filters (4.7), and shared subscriptions (4.8.2).

use crate::error::Error;
use crate::text::Text;

/// What filters of shared subscriptions begin with.
pub const SHARE_PREFIX: &str = "$share/";

/// A name that a message can be published to: a character at least [MQTT-4.7.3-1], no wildcards.
pub(crate) fn name(name: Text) -> Result<Text, Error> {
    if name.is_empty() {
        return Err(Error::malformed("MQTT-4.7.3-1", "an empty topic name"));
    }
    if name.contains(['+', '#']) {
        return Err(Error::malformed("MQTT-3.3.2-2", "a topic name with wildcards"));
    }
    name.plain()
}

/// A filter: a character at least, `+` a level of its own [MQTT-4.7.1-2], `#` the last one [MQTT-4.7.1-1].
pub(crate) fn filter(filter: Text) -> Result<Text, Error> {
    if filter.is_empty() {
        return Err(Error::malformed("MQTT-4.7.3-1", "an empty topic filter"));
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('+') && level != "+" {
            return Err(Error::malformed("MQTT-4.7.1-2", "a topic filter with `+` in a level that has more"));
        }
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(Error::malformed("MQTT-4.7.1-1", "a topic filter with `#` elsewhere than as its last level"));
        }
    }
    filter.plain()
}

/// Group and filter of a shared subscription, `None` for every other. Version 5's statements are checked: a group with
/// a character at least and no wildcards [MQTT-4.8.2-1], and a filter behind it [MQTT-4.8.2-2].
pub fn shared(filter: &str) -> Result<Option<(&str, &str)>, Error> {
    let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else { return Ok(None) };
    let (group, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if group.is_empty() || group.contains(['+', '#']) {
        return Err(Error::malformed("MQTT-4.8.2-1", "a shared subscription whose group is empty or has wildcards"));
    }
    if filter.is_empty() {
        return Err(Error::malformed("MQTT-4.8.2-2", "a shared subscription without a filter"));
    }
    Ok(Some((group, filter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new(text).unwrap()
    }

    /// The examples of 4.7.1 and 4.7.3.
    #[test]
    fn filters_are_as_in_the_examples() {
        for valid in [
            "sport/tennis/player1/#",
            "sport/#",
            "#",
            "sport/tennis/#",
            "+",
            "+/tennis/#",
            "sport/+",
            "sport/+/player1",
            "+/+",
            "/+",
            "/finance",
            "/",
            "Accounts payable",
            "$SYS/#",
            "$SYS/monitor/+",
            "sport/",
            "//",
        ] {
            assert_eq!(filter(text(valid)), Ok(text(valid)), "{valid}");
        }
        for (invalid, statement) in [
            ("sport/tennis#", "MQTT-4.7.1-1"),
            ("sport/tennis/#/ranking", "MQTT-4.7.1-1"),
            ("sport+", "MQTT-4.7.1-2"),
            ("#/", "MQTT-4.7.1-1"),
            ("##", "MQTT-4.7.1-1"),
            ("a/++", "MQTT-4.7.1-2"),
            ("", "MQTT-4.7.3-1"),
        ] {
            assert_eq!(filter(text(invalid)).unwrap_err().statement, statement, "{invalid}");
        }
    }

    #[test]
    fn names_have_no_wildcards() {
        for valid in ["/", "a", "sport/tennis", "$SYS/a", "a b"] {
            assert_eq!(name(text(valid)), Ok(text(valid)));
        }
        for invalid in ["", "a/+", "#", "a#b", "\u{1}"] {
            assert!(name(text(invalid)).is_err(), "{invalid:?}");
        }
    }

    /// The examples of 4.8.2.
    #[test]
    fn shared_subscriptions_are_taken_apart() {
        assert_eq!(shared("$share/consumer1/sport/tennis/+"), Ok(Some(("consumer1", "sport/tennis/+"))));
        assert_eq!(shared("$share/consumer1//finance"), Ok(Some(("consumer1", "/finance"))));
        assert_eq!(shared("$share/consumer2/#"), Ok(Some(("consumer2", "#"))));
        assert_eq!(shared("$shared/a/b"), Ok(None));
        assert_eq!(shared("$share"), Ok(None));
        for (invalid, statement) in [
            ("$share/", "MQTT-4.8.2-1"),
            ("$share//a", "MQTT-4.8.2-1"),
            ("$share/+/a", "MQTT-4.8.2-1"),
            ("$share/a", "MQTT-4.8.2-2"),
            ("$share/a/", "MQTT-4.8.2-2"),
        ] {
            assert_eq!(shared(invalid).unwrap_err().statement, statement, "{invalid}");
        }
    }
}
