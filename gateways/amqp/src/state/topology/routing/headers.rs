//! What a binding of a headers exchange wants of a message's headers.
//!
//! `x-match`: `all` (the default) or `any` of the named headers must have the value; a void value asks only that the header is
//! there. Names that begin with `x-` are left out, but for `all-with-x` and `any-with-x`.

use super::super::arguments::{Argument, Arguments};

/// The argument that says how to match.
pub const X_MATCH: &str = "x-match";

/// What `x-match` may be.
pub const X_MATCHES: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];

#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    any: bool,
    /// (name, value; None: any)
    wanted: Vec<(String, Option<Argument>)>,
}

impl HeaderMatch {
    pub fn of(arguments: &Arguments) -> HeaderMatch {
        let (any, with_x) = match arguments.text(X_MATCH) {
            Some("any") => (true, false),
            Some("any-with-x") => (true, true),
            Some("all-with-x") => (false, true),
            _ => (false, false),
        };
        let wanted = arguments
            .0
            .iter()
            .filter(|(name, _)| *name != X_MATCH && (with_x || !name.starts_with("x-")))
            .map(|(name, value)| (name.clone(), (*value != Argument::Void).then(|| value.clone())))
            .collect();
        HeaderMatch { any, wanted }
    }

    pub fn matches(&self, headers: &Arguments) -> bool {
        let mut matching = self.wanted.iter().map(|(name, wanted)| match (headers.get(name), wanted) {
            (Some(value), Some(wanted)) => value.equivalent(wanted),
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        });
        if self.any { matching.any(|matches| matches) } else { matching.all(|matches| matches) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Arguments {
        text.split_whitespace()
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                let value = match value.parse() {
                    _ if value == "void" => Argument::Void,
                    Ok(number) => Argument::SignedInt(number),
                    Err(_) => Argument::Text(value.into()),
                };
                (name.to_owned(), value)
            })
            .collect()
    }

    #[test]
    fn as_x_match_says() {
        for (binding, message, expected) in [
            ("a=1 b=2", "a=1 b=2 c=3", true),
            ("a=1 b=2", "a=1", false),
            ("x-match=all a=1", "a=2", false),
            ("x-match=any a=1 b=2", "b=2", true),
            ("x-match=any a=1 b=2", "c=2", false),
            ("x-match=any", "c=2", false),
            ("x-match=all", "", true),
            ("a=void", "a=5", true),
            ("a=void", "b=5", false),
            ("x-match=all x-h=1", "", true),
            ("x-match=all-with-x x-h=1", "", false),
            ("x-match=any-with-x x-h=1", "x-h=1", true),
            ("x-match=any x-h=1", "x-h=1", false),
            ("a=t", "a=t", true),
            ("a=t", "a=5", false),
        ] {
            let found = HeaderMatch::of(&headers(binding)).matches(&headers(message));
            assert_eq!(found, expected, "{binding} / {message}");
        }
    }
}
