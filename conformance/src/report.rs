//! What came out: one outcome per client and case, printed as it happens and as a table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

/// How one case of one client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed(Duration),
    /// With the reason, on one line.
    Failed(String),
    /// Failed beside others, for this reason, and passed when it was run again, alone.
    Unsteady(String),
    /// With the reason why this client or this broker does not do it.
    Skipped(String),
}

/// Many cases are timed by the client, and the machine is shared by all. Of more unsteady ones than this it is not the machine, and
/// each counts as failed.
const UNSTEADY_MAX: usize = 2;

/// All outcomes of a run, in the order in which clients and cases first appeared.
#[derive(Default)]
pub struct Report {
    clients: Vec<String>,
    cases: Vec<String>,
    outcomes: BTreeMap<(String, String), Outcome>,
}

impl Report {
    /// Notes an outcome and prints it: `[client] ok case 12 ms`.
    pub fn add(&mut self, client: &str, case: &str, outcome: Outcome) {
        match &outcome {
            Outcome::Passed(took) => println!("[{client}] ok {case} ({} ms)", took.as_millis()),
            Outcome::Failed(reason) => println!("[{client}] FAIL {case}: {reason}"),
            Outcome::Unsteady(_) => println!("[{client}] {case} passes alone"),
            Outcome::Skipped(reason) => println!("[{client}] skip {case}: {reason}"),
        }
        if !self.clients.iter().any(|known| known == client) {
            self.clients.push(client.to_owned());
        }
        if !self.cases.iter().any(|known| known == case) {
            self.cases.push(case.to_owned());
        }
        self.outcomes.insert((client.to_owned(), case.to_owned()), outcome);
    }

    /// Passed, failed, skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Outcome) -> bool| self.outcomes.values().filter(|outcome| wanted(outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Passed(_)));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let unsteady = count(|outcome| matches!(outcome, Outcome::Unsteady(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        if unsteady > UNSTEADY_MAX {
            (passed, failed + unsteady, skipped)
        } else {
            (passed + unsteady, failed, skipped)
        }
    }

    /// Clients, their cases that failed, and why.
    pub fn failures(&self) -> Vec<(String, String, String)> {
        let failed = self.outcomes.iter().filter_map(|((client, case), outcome)| match outcome {
            Outcome::Failed(reason) => Some((client.clone(), case.clone(), reason.clone())),
            _ => None,
        });
        failed.collect()
    }

    /// Prints the failures again, with their reasons, and the table: a column per client, a row per case.
    pub fn print_table(&self) {
        let case_width = self.cases.iter().map(String::len).max().unwrap_or(4);
        let widths: Vec<usize> = self.clients.iter().map(|client| client.len().max(4)).collect();
        print!("\n{:case_width$}", "case");
        for (client, width) in self.clients.iter().zip(&widths) {
            print!("  {client:width$}");
        }
        println!();
        for case in &self.cases {
            print!("{case:case_width$}");
            for (client, width) in self.clients.iter().zip(&widths) {
                let word = match self.outcomes.get(&(client.clone(), case.clone())) {
                    Some(Outcome::Passed(_)) => "ok",
                    Some(Outcome::Failed(_)) => "FAIL",
                    Some(Outcome::Unsteady(_)) => "again",
                    Some(Outcome::Skipped(_)) => "skip",
                    None => "·",
                };
                print!("  {word:width$}");
            }
            println!();
        }
        println!("ok passed, again passed when it was run alone after it had failed, FAIL failed,");
        println!("skip left out with a reason above, · not a case of this client\n");
        for ((client, case), outcome) in &self.outcomes {
            match outcome {
                Outcome::Failed(reason) => println!("FAILED {client} {case}: {reason}"),
                Outcome::Unsteady(reason) => println!("UNSTEADY {client} {case}: {reason}"),
                Outcome::Passed(_) | Outcome::Skipped(_) => {}
            }
        }
    }

    /// Prints the closing line, and tells whether everything passed (and something ran).
    pub fn close(&self) -> bool {
        let (passed, failed, skipped) = self.counts();
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        failed == 0 && passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_unsteady_cases_pass_and_more_do_not() {
        let mut report = Report::default();
        report.add("a", "steady", Outcome::Passed(Duration::ZERO));
        for case in ["one", "two"] {
            report.add("a", case, Outcome::Failed("late".into()));
            report.add("a", case, Outcome::Unsteady("late".into()));
        }
        assert_eq!((report.counts(), report.failures().len()), ((3, 0, 0), 0));
        assert!(report.close());
        report.add("b", "one", Outcome::Unsteady("late".into()));
        assert_eq!(report.counts(), (1, 3, 0));
        assert!(!report.close());
    }
}
