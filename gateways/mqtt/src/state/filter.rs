//! One filter against one name, or against another filter (4.7); for many filters there is [`super::trie`].

/// Whether messages of this name are for this filter. Both are well-formed.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut levels, mut names) = (filter.split('/'), name.split('/'));
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether a filter matches every name that `narrow`, a filter too, matches.
pub fn covers(filter: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = narrow.split('/');
    for wide in filter.split('/') {
        // Also the level above (4.7.1.2): of `a/#`, `a`.
        if wide == "#" {
            return true;
        }
        match levels.next() {
            None | Some("#") => return false,
            Some(level) if wide != "+" && wide != level => return false,
            Some(_) => {}
        }
    }
    levels.next().is_none()
}

/// Whether a string is a topic filter: not empty, `+` a level of its own, `#` the last one.
pub fn is_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > usize::from(u16::MAX) || text.contains('\0') {
        return false;
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if (level.contains('+') && level != "+") || (level.contains('#') && (level != "#" || !is_last)) {
            return false;
        }
    }
    true
}

/// Whether a string is a topic name: a filter without wildcards.
pub fn is_name(text: &str) -> bool {
    !text.contains(['+', '#']) && is_filter(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/a"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("a", "A"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn a_filter_covers_what_it_is_not_narrower_than() {
        for (wide, narrow) in [("a/#", "a/+"), ("a/#", "a/#"), ("#", "#"), ("#", "+/b"), ("+/b", "+/b"), ("a/+", "a/+")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("a/+", "a/#"), ("a/b", "a/+"), ("a/#", "#"), ("+", "#"), ("#", "$SYS/#"), ("a", "+")] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn filters_and_names_are_told_from_others() {
        for filter in ["a", "/", "+", "#", "a/+/b/#", "$SYS/#"] {
            assert!(is_filter(filter), "{filter}");
        }
        for other in ["", "a+", "#/a", "a/#b", "a\0"] {
            assert!(!is_filter(other), "{other}");
        }
        assert!(is_name("a/b") && !is_name("a/+") && !is_name(""));
    }
}
