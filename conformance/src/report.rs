//! What came out: one outcome per client and case, printed as it happens and as a table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

/// How one case of one client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed(Duration),
    /// With the reason, on one line.
    Failed(String),
    /// With the reason why this client or this broker does not do it.
    Skipped(String),
}

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
        (
            count(|outcome| matches!(outcome, Outcome::Passed(_))),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        )
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
                    Some(Outcome::Skipped(_)) => "skip",
                    None => "·",
                };
                print!("  {word:width$}");
            }
            println!();
        }
        println!("ok passed, FAIL failed, skip left out with a reason above, · not a case of this client\n");
        for ((client, case), outcome) in &self.outcomes {
            if let Outcome::Failed(reason) = outcome {
                println!("FAILED {client} {case}: {reason}");
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
