//! A life of its own that a commit asked for (OffsetCommit up to version 4), kept beside its words.
//!
//! The core keeps a cursor's words and does not read them, so the moment stands before them:
//!
//! ```text
//! U+0001 │ ms since the Unix epoch, decimal; empty: none │ U+0001 │ the client's words
//! ```
//! Only where there is a moment, or words that begin with U+0001 themselves.

const MARK: char = '\u{1}';

/// What is kept of words and of the moment from which on the offset may go.
pub fn kept(expires_at_ms: Option<i64>, words: String) -> String {
    match expires_at_ms {
        Some(at_ms) => format!("{MARK}{at_ms}{MARK}{words}"),
        None if words.starts_with(MARK) => format!("{MARK}{MARK}{words}"),
        None => words,
    }
}

/// The moment and the words again.
pub fn read(kept: &str) -> (Option<i64>, &str) {
    let Some((moment, words)) = kept.strip_prefix(MARK).and_then(|rest| rest.split_once(MARK)) else {
        return (None, kept);
    };
    match moment.parse() {
        Ok(at_ms) => (Some(at_ms), words),
        Err(_) if moment.is_empty() => (None, words),
        // Kept before there were moments.
        Err(_) => (None, kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_moments_come_back() {
        for words in ["", "words", "\u{1}", "\u{1}5\u{1}words", "\u{1}\u{1}"] {
            for moment in [None, Some(0), Some(-7), Some(i64::MAX)] {
                assert_eq!(read(&kept(moment, words.to_owned())), (moment, words), "{words:?}");
            }
        }
        assert_eq!(kept(None, "words".into()), "words");
        assert_eq!(read("\u{1}word\u{1}s"), (None, "\u{1}word\u{1}s"));
    }
}
