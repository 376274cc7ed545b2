//! Regular expressions over topic names, in the syntax of RE2 as far as it is regular ASCII.

use regex_lite::{Regex, RegexBuilder};

/// The largest compiled expression, bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// The longest expression, bytes: it is stored with the group.
const PATTERN_BYTES_MAX: usize = 16 << 10;

/// None: it is not a regular expression, or too large a one. It matches whole names only.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    let pattern = without_quotes(pattern)?;
    // Alone first: parentheses around it would close what it leaves open.
    RegexBuilder::new(&pattern).size_limit(COMPILED_BYTES_MAX).build().ok()?;
    RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(COMPILED_BYTES_MAX).build().ok()
}

/// Writes `\Q…\E`, which RE2 has and our library has not, as escaped characters.
fn without_quotes(pattern: &str) -> Option<String> {
    let mut plain = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some('Q')) => {
                characters.next();
                quote(&mut characters, &mut plain);
            }
            // Whatever is escaped, a backslash above all, begins nothing.
            ('\\', Some(_)) => {
                plain.push('\\');
                plain.extend(characters.next());
            }
            ('\\', None) => return None,
            _ => plain.push(character),
        }
    }
    Some(plain)
}

/// Escapes up to `\E` or the end.
fn quote(characters: &mut std::iter::Peekable<std::str::Chars>, plain: &mut String) {
    while let Some(character) = characters.next() {
        if character == '\\' && characters.peek() == Some(&'E') {
            characters.next();
            return;
        }
        if character.is_ascii_punctuation() {
            plain.push('\\');
        }
        plain.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap_or_else(|| panic!("{pattern}")).is_match(name)
    }

    #[test]
    fn whole_names_are_matched() {
        assert!(matches("foo.*", "foobar"));
        assert!(!matches("foo", "foobar"));
        assert!(!matches("bar", "foobar"));
        assert!(matches("a|foobar", "foobar"));
        assert!(matches(r"[[:alpha:]]+-\d{2}", "topic-07"));
        assert!(matches("(?i)FOO", "foo"));
    }

    #[test]
    fn quotes_are_literal() {
        assert!(matches(r"\Qa.b\E.*", "a.bc"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches(r"a\\.*", r"a\Q"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for pattern in ["(", "a)(b", "[", "a{2,1}", "*", r"\", "(?=a)", "(a{1000}){1000}", &"a".repeat(20_000)] {
            assert!(compile(pattern).is_none(), "{pattern}");
        }
    }
}
