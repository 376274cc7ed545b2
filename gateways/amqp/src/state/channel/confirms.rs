//! Publisher confirms of one channel: numbers, and which of them are answered together.

/// What is sent to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    pub delivery_tag: u64,
    /// All up to this one that were not answered yet.
    pub multiple: bool,
    /// It is kept; else it is lost.
    pub is_ack: bool,
}

/// The publishes of one channel that were answered at once, in the order of their numbers, which follow on all
/// answered before.
#[derive(Debug, Default)]
pub struct Answers {
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
    is_ack: bool,
}

impl Answers {
    /// The next ones, from `first` to `last`.
    pub fn push(&mut self, first: u64, last: u64, is_ack: bool) {
        match self.runs.last_mut() {
            Some(run) if run.is_ack == is_ack && run.last + 1 == first => run.last = last,
            _ => self.runs.push(Run { first, last, is_ack }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What to send. Everything before a run is answered, so that `multiple` means the run alone.
    pub fn confirms(&self) -> impl Iterator<Item = Confirm> {
        self.runs.iter().map(|run| Confirm {
            delivery_tag: run.last,
            multiple: run.first < run.last,
            is_ack: run.is_ack,
        })
    }

    /// How many publishes were answered.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.last - run.first + 1).sum()
    }

    /// How many publishes were kept.
    pub fn acked(&self) -> u64 {
        self.runs.iter().filter(|run| run.is_ack).map(|run| run.last - run.first + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_alike_is_answered_together() {
        let mut answers = Answers::default();
        answers.push(1, 1, true);
        answers.push(2, 5, true);
        answers.push(6, 6, false);
        answers.push(7, 7, true);
        let confirm = |delivery_tag, multiple, is_ack| Confirm { delivery_tag, multiple, is_ack };
        assert_eq!(
            answers.confirms().collect::<Vec<_>>(),
            [confirm(5, true, true), confirm(6, false, false), confirm(7, false, true)]
        );
        assert_eq!((answers.acked(), answers.count()), (6, 7));
    }
}
