//! What is wrong in a file, line by line: all of it at once, for whoever mends it.

/// A line that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub what: String,
}

/// All of them; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineErrors(pub Vec<LineError>);

/// How many are told; what follows is often the same mistake.
const TOLD_MAX: usize = 20;

impl std::fmt::Display for LineErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, error) in self.0.iter().take(TOLD_MAX).enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for LineErrors {}

/// What was read, or what is wrong in it.
pub fn all_or_errors<T>(read: T, errors: Vec<LineError>) -> Result<T, LineErrors> {
    if errors.is_empty() { Ok(read) } else { Err(LineErrors(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_told_of_but_not_thousands() {
        let error = |line| LineError { line, what: "x".into() };
        assert_eq!(all_or_errors(1, Vec::new()), Ok(1));
        let two = all_or_errors((), vec![error(3), error(7)]).unwrap_err();
        assert_eq!(two.to_string(), "line 3: x\nline 7: x");
        let many = LineErrors((1..=1000).map(error).collect()).to_string();
        assert_eq!(many.lines().count(), TOLD_MAX + 1);
        assert!(many.ends_with("\nand 980 more"), "{many}");
    }
}
