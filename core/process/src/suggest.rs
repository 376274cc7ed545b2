//! What was probably meant by a name that is not known.

/// `; did you mean NAME?` if one of the names is near, else nothing: to be put behind an error.
pub fn hint<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean {name}?"),
        None => String::new(),
    }
}

/// The nearest of the names, if it differs by a letter in three at most, or one holds the other.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let far = (wrong.chars().count() / 3).max(1);
    let near = names.into_iter().filter_map(|name| {
        let distance = distance(wrong, name);
        let holds = wrong.len().min(name.len()) >= 4 && (name.contains(wrong) || wrong.contains(name));
        (distance <= far || holds).then_some((distance, name))
    });
    near.min().map(|(_, name)| name)
}

/// Letters to insert, leave out, exchange or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_named() {
        let names = ["listen", "listen-tls", "advertised", "node-id", "rack"];
        for (wrong, meant) in [
            ("lisetn", Some("listen")),
            ("listen-tsl", Some("listen-tls")),
            ("advertized", Some("advertised")),
            ("nodeid", Some("node-id")),
            ("advertised-listeners", Some("advertised")),
            ("racks", Some("rack")),
            ("colour", None),
        ] {
            assert_eq!(nearest(wrong, names), meant, "{wrong}");
        }
        assert_eq!(hint("rakc", names), "; did you mean rack?");
        assert_eq!(hint("colour", names), "");
    }
}
