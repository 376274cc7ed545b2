//! Which names of an ordered set a filter can match next: so that a walk leaps over what it cannot. Pure.
//!
//! Names are in the order of their bytes, so all that lie under `a/` follow each other, and what does not match says where the
//! next that can begins:
//!
//! ```text
//!   filter  +/state         at  dev1/battery   →  dev1/state      the same device, the level asked for
//!                           at  dev1/version   →  dev10           behind all that begin with `dev1/` (`0` follows `/`)
//!   filter  a/b/#           at  a/c            →  nothing any more
//! ```

/// What a walk does at a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Match,
    /// Not this one. The next that can match is behind it, perhaps the very next.
    Next,
    /// Nothing before what was written into the bound can match.
    Leap,
    /// Nothing behind it can match.
    End,
}

/// The character behind `/`.
const AFTER_SEPARATOR: char = '0';
/// The character behind `$`.
const AFTER_DOLLAR: &str = "%";

/// A filter, taken apart.
#[derive(Debug)]
pub struct Scan<'f> {
    levels: Vec<&'f str>,
}

impl<'f> Scan<'f> {
    pub fn new(filter: &'f str) -> Scan<'f> {
        Scan { levels: filter.split('/').collect() }
    }

    /// Looks at one name. For [`Step::Leap`] writes into `bound` the least name that can match, which is behind this one.
    pub fn step(&self, name: &str, bound: &mut String) -> Step {
        // Where the level that is looked at begins in the name.
        let mut begin = 0;
        // The end of the last level that a `+` took: only by another there can something behind match.
        let mut last_plus_end = None;
        let wildcard_first = matches!(self.levels[0], "+" | "#");
        if wildcard_first && name.starts_with('$') {
            return leap(bound, [AFTER_DOLLAR, "", ""]);
        }
        for (at, wanted) in self.levels.iter().enumerate() {
            if *wanted == "#" {
                return Step::Match;
            }
            let end = name[begin..].find('/').map_or(name.len(), |length| begin + length);
            if *wanted == "+" {
                last_plus_end = Some(end);
            } else if name[begin..end] != **wanted {
                return self.leap_from(name, begin, at, last_plus_end, bound);
            }
            let is_last = at + 1 == self.levels.len();
            match (end == name.len(), is_last) {
                (true, true) => return Step::Match,
                // `a/#` matches `a`.
                (true, false) if self.levels[at + 1] == "#" => return Step::Match,
                // Between it and what lies under it there may be others: `x` < `x!/b` < `x/b`.
                (true, false) => return Step::Next,
                (false, true) => {
                    // All under it is too deep.
                    return leap(bound, [&name[..end], "", "0"]);
                }
                (false, false) => begin = end + 1,
            }
        }
        Step::End
    }

    /// The name's level at `begin` is not the literal that the filter wants there.
    fn leap_from(&self, name: &str, begin: usize, at: usize, last_plus_end: Option<usize>, bound: &mut String) -> Step {
        let (before, wanted) = (&name[..begin], self.levels[at]);
        let rest = &name[begin..];
        if rest < wanted {
            return leap(bound, [before, wanted, ""]);
        }
        // Behind the level itself, but before what lies under it: `b!` is between `b` and `b/x`.
        let is_last = at + 1 == self.levels.len();
        if !is_last && rest.strip_prefix(wanted).is_some_and(|behind| behind.as_bytes() < b"/".as_slice()) {
            return leap(bound, [before, wanted, "/"]);
        }
        // Past it: on with another of what the last `+` takes.
        match last_plus_end {
            None => Step::End,
            Some(end) => {
                bound.clear();
                bound.push_str(&name[..end]);
                bound.push(AFTER_SEPARATOR);
                Step::Leap
            }
        }
    }
}

fn leap(bound: &mut String, parts: [&str; 3]) -> Step {
    bound.clear();
    parts.iter().for_each(|part| bound.push_str(part));
    Step::Leap
}
