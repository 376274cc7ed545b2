//! How MQTT's topic names and the core's topics find each other: the first level of a name is the topic, so that what is
//! published to `sensors/1/temp` is in the topic `sensors`, under the key `sensors/1/temp`.
//!
//! Topics are called what Kafka allows, `[A-Za-z0-9._-]` up to 249 characters, so levels are escaped, reversibly, and in such a
//! way that plain ones stay as they are:
//!
//! ```text
//!  sensors, my_topic, a.b-c     as they are
//!  Küche 2                      K_xc3bc_che_x20_2     bytes in hexadecimal between `_x` and `_`
//!  "" (of /a/b)                 _x_
//!  ., .., __x                   _x2e_, _x2e_., _x5f__x     which Kafka does not allow, or keeps for itself
//!  a_x20_b                      a_x5f_x20_b     `_` is escaped only where it would begin what looks like an escape
//! ```

use std::borrow::Cow;
use std::fmt::Write;

/// The greatest length of a topic's name that Kafka's clients take, bytes.
pub const TOPIC_BYTES_MAX: usize = 249;

/// The greatest length of a topic name of MQTT, bytes (1.5.4).
pub const NAME_BYTES_MAX: usize = u16::MAX as usize;

/// How the empty level is called.
const EMPTY: &str = "_x_";

/// The topic of an MQTT topic name, by its first level. None: it would have too long a name.
pub fn topic_of(name: &str) -> Option<String> {
    escape(first_level(name)).map(Cow::into_owned)
}

/// Whether the topic of this MQTT topic name is `topic`.
pub fn is_topic_of(topic: &str, name: &str) -> bool {
    escape(first_level(name)).is_some_and(|escaped| escaped == topic)
}

/// What stands before the first `/`.
pub fn first_level(name: &str) -> &str {
    name.split_once('/').map_or(name, |(first, _)| first)
}

/// The name of a level's topic. None: it is too long.
pub fn escape(level: &str) -> Option<Cow<'_, str>> {
    let escaped = if is_plain(level) { Cow::Borrowed(level) } else { Cow::Owned(escaped(level)) };
    (escaped.len() <= TOPIC_BYTES_MAX).then_some(escaped)
}

/// The level whose topic is called so; the inverse of [`escape`]. None: no level's is.
pub fn unescape(topic: &str) -> Option<Cow<'_, str>> {
    if is_plain(topic) {
        return (topic.len() <= TOPIC_BYTES_MAX).then_some(Cow::Borrowed(topic));
    }
    let level = unescaped(topic)?;
    // There is one name for each level, and levels are what a topic name can be made of.
    let is_level = !level.contains(['/', '+', '#', '\0']) && escape(&level).as_deref() == Some(topic);
    is_level.then_some(Cow::Owned(level))
}

/// What a message of a topic is published to where nothing says it: the topic's level, or if it is none's, the topic's name with
/// what MQTT does not allow escaped in the same way. Always a name that a client can get.
pub fn name_of(topic: &str) -> String {
    match unescape(topic) {
        // A topic name has a character at least [MQTT-4.7.3-1]; the first level of this one is empty.
        Some(level) if level.is_empty() => "/".to_owned(),
        // Those names are the server's [MQTT-4.7.2-1].
        Some(level) if checked(level.as_bytes()).is_some() => level.into_owned(),
        _ => {
            let mut name = String::with_capacity(topic.len());
            for (index, character) in topic.char_indices().take_while(|(at, _)| *at <= NAME_BYTES_MAX / 8) {
                match character {
                    '$' if index == 0 => put_escape(&mut name, b"$"),
                    character if is_odd(character) => {
                        put_escape(&mut name, character.encode_utf8(&mut [0; 4]).as_bytes())
                    }
                    character => name.push(character),
                }
            }
            if name.is_empty() { "/".to_owned() } else { name }
        }
    }
}

/// The bytes as a topic name that a client may publish to: text, neither empty nor too long, without wildcards, control
/// characters and non-characters, and none of those that begin with `$`, which are the server's (4.7, 1.5.4).
pub fn checked(name: &[u8]) -> Option<&str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name[0] == b'$' {
        return None;
    }
    std::str::from_utf8(name).ok().filter(|name| !name.contains(is_odd))
}

fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '+' | '#' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(character) & 0xfffe == 0xfffe
}

/// Whether a level is called what it is; true of no level that has to be escaped, and of nearly all others.
fn is_plain(level: &str) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    level.as_bytes().iter().all(allowed)
        && !matches!(level, "" | "." | "..")
        && !level.starts_with("__")
        && !level.contains("_x")
}

fn escaped(level: &str) -> String {
    match level {
        "" => return EMPTY.to_owned(),
        EMPTY => return "_x5f_x_".to_owned(),
        _ => {}
    }
    let bytes = level.as_bytes();
    let mut out = String::with_capacity(level.len() + 16);
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().zip(at..).take_while(|(_, index)| is_escaped(bytes, *index)).count();
        if length > 0 {
            put_escape(&mut out, &bytes[at..at + length]);
            at += length;
        } else {
            out.push(bytes[at].into());
            at += 1;
        }
    }
    out
}

fn put_escape(out: &mut String, bytes: &[u8]) {
    out.push_str("_x");
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out.push('_');
}

/// Whether the byte at this index of a level is written in hexadecimal.
fn is_escaped(level: &[u8], index: usize) -> bool {
    let is_first = index == 0;
    match level[index] {
        b'.' => is_first && matches!(level, b"." | b".."),
        // Names that begin with two of them are Kafka's own.
        b'_' if is_first && begins_with_underscore(&level[1..]) => true,
        b'_' => looks_like_escape(&level[index + 1..]),
        byte => !byte.is_ascii_alphanumeric() && byte != b'-',
    }
}

/// Whether what stands behind a `_` would make it the beginning of an escape.
fn looks_like_escape(behind: &[u8]) -> bool {
    let Some(digits) = behind.strip_prefix(b"x") else { return false };
    let count = digits.iter().take_while(|byte| is_digit(**byte)).count();
    count > 0 && count % 2 == 0 && begins_with_underscore(&digits[count..])
}

/// Whether what this becomes begins with `_`: itself does, or an escape.
fn begins_with_underscore(rest: &[u8]) -> bool {
    rest.first().is_some_and(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'-'))
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// With the escapes taken back. None: they are not text.
fn unescaped(topic: &str) -> Option<String> {
    if topic == EMPTY {
        return Some(String::new());
    }
    let bytes = topic.as_bytes();
    let mut out = Vec::with_capacity(topic.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'_' && looks_like_escape(&bytes[at + 1..]) {
            at += 2;
            while bytes[at] != b'_' {
                out.push(value(bytes[at]) << 4 | value(bytes[at + 1]));
                at += 2;
            }
        } else {
            out.push(bytes[at]);
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

fn value(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_are_called_what_the_module_says() {
        for (level, topic) in [
            ("sensors", "sensors"),
            ("my_topic", "my_topic"),
            ("my_xbox", "my_xbox"),
            ("a_x20", "a_x20"),
            ("a_", "a_"),
            ("_a", "_a"),
            ("...", "..."),
            ("a.b-c_d", "a.b-c_d"),
            ("Küche 2", "K_xc3bc_che_x20_2"),
            ("", "_x_"),
            ("_x_", "_x5f_x_"),
            ("a_x_b", "a_x_b"),
            (".", "_x2e_"),
            ("..", "_x2e_."),
            ("__x", "_x5f__x"),
            ("_ ", "_x5f20_"),
            ("a_x20_b", "a_x5f_x20_b"),
            ("a_x20 ", "a_x5f_x20_x20_"),
            ("$SYS", "_x24_SYS"),
        ] {
            assert_eq!(escape(level).as_deref(), Some(topic), "{level:?}");
            assert_eq!(unescape(topic).as_deref(), Some(level), "{topic:?}");
        }
        assert_eq!(topic_of("sensors/1/temp").as_deref(), Some("sensors"));
        assert_eq!(topic_of("/a").as_deref(), Some("_x_"));
        assert!(is_topic_of("sensors", "sensors") && is_topic_of("_x_", "/a") && !is_topic_of("a", "b/a"));
    }

    #[test]
    fn too_long_a_level_has_no_topic() {
        let longest = "a".repeat(TOPIC_BYTES_MAX);
        assert_eq!(topic_of(&longest), Some(longest.clone()));
        assert_eq!(topic_of(&(longest + "a/b")), None);
        assert_eq!(topic_of(&"ä".repeat(61)), Some(format!("_x{}_", "c3a4".repeat(61))));
        assert_eq!(topic_of(&"ä".repeat(62)), None);
    }

    #[test]
    fn every_topic_has_a_name() {
        for (topic, name) in [
            ("sensors", "sensors"),
            ("K_xc3bc_che", "Küche"),
            ("_x_", "/"),
            // Not what a level is called: nobody can publish there, so that it means itself.
            ("a_x62_b", "a_x62_b"),
            ("_x2f_", "_x2f_"),
            ("_x24_SYS", "_x24_SYS"),
            ("__x", "__x"),
            ("q#+\0$", "q_x23__x2b__x00_$"),
            ("$q", "_x24_q"),
            ("a/b c", "a/b c"),
        ] {
            assert_eq!(name_of(topic), name, "{topic:?}");
        }
    }

    #[test]
    fn names_of_clients_are_checked() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "$SYS/x", "a/+", "#", "a\0", "a\n", "\u{fffe}", &long] {
            assert_eq!(checked(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(checked(&[0xff]), None);
        assert_eq!(checked("/ä $".as_bytes()), Some("/ä $"));
    }

    proptest! {
        #[test]
        fn levels_come_back(level in "([_x0-9a-f]{0,6}|[a-z._$ ä-]{0,4}|\\PC{0,2}){0,4}") {
            let level = level.replace(['/', '+', '#'], "");
            let topic = escape(&level).unwrap();
            prop_assert!(topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{}", topic);
            prop_assert!(!topic.is_empty() && topic != "." && topic != ".." && !topic.starts_with("__"), "{}", topic);
            let back = unescape(&topic);
            prop_assert_eq!(back.as_deref(), Some(&*level));
            let name = level.clone() + "/x";
            prop_assert!(is_topic_of(&topic, &name));
            if is_plain(&level) {
                prop_assert_eq!(escaped(&level), level, "the short way goes where the long one does");
            }
        }

        #[test]
        fn no_two_levels_share_a_topic(one in "[_x2a ]{0,7}", other in "[_x2a ]{0,7}") {
            prop_assert_eq!(escape(&one) == escape(&other), one == other);
        }

        #[test]
        fn what_a_topic_is_called_leads_back(topic in "(\\PC|[_x0-9a-f./$#]){0,30}") {
            if let Some(level) = unescape(&topic) {
                let again = escape(&level);
                prop_assert_eq!(again.as_deref(), Some(&*topic));
            }
            let name = name_of(&topic);
            prop_assert!(name == "/" || checked(name.as_bytes()).is_some(), "{:?}", name);
        }
    }
}
