//! The client programs of `conformance/kafka/`, and the contract they keep.
//!
//! A program is called with the bootstrap address and the cases wanted (none: all that it has). It prints one line per
//! case: `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`, and exits 0 if none failed. Its other output is shown
//! only when it ends badly. Every case makes topics and groups of its own, so programs run side by side.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::broker::repository;
use crate::report::Outcome;

/// How long one program may go without finishing a case before it is ended as stuck.
const CASE_DEADLINE: Duration = Duration::from_secs(300);

/// One client program.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub name: &'static str,
    /// Program and its arguments, relative to the repository.
    command: &'static [&'static str],
}

/// Apache's Java client of one version, and a room of its cases. Quick JVM starts matter more here than peak speed.
macro_rules! java {
    ($folder:literal, $room:literal) => {
        &[
            "java",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xmx256m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
            concat!("-Dconformance.rooms=", $room),
            "-cp",
            concat!(".tools/", $folder, "/classes:.tools/", $folder, "/lib/*"),
            "polymq.conformance.Main",
        ]
    };
}

const PYTHON: &str = ".tools/python/bin/python";

/// The longest first, so that running several at a time ends soonest.
pub const CLIENTS: [Client; 20] = [
    Client { name: "cli", command: &["conformance/kafka/cli/run"] },
    Client { name: "java-4", command: java!("java4", "base") },
    Client { name: "java-3", command: java!("java3", "base") },
    Client { name: "java-4-groups", command: java!("java4", "groups") },
    Client { name: "java-3-groups", command: java!("java3", "groups") },
    Client { name: "java-4-topics", command: java!("java4", "topics") },
    Client { name: "java-4-operations", command: java!("java4", "operations") },
    Client { name: "java-4-share", command: java!("java4", "share") },
    Client { name: "librdkafka", command: &[PYTHON, "conformance/kafka/python/librdkafka.py"] },
    Client { name: "java-4-transactions", command: java!("java4", "transactions") },
    Client { name: "java-3-transactions", command: java!("java3", "transactions") },
    Client {
        name: "librdkafka-transactions",
        command: &[PYTHON, "conformance/kafka/python/librdkafka_transactions.py"],
    },
    Client { name: "apps", command: &[PYTHON, "conformance/kafka/apps/run.py"] },
    Client { name: "cli-internals", command: &["env", "CLI_ROOM=internals", "conformance/kafka/cli/run"] },
    Client { name: "cli-admin", command: &["env", "CLI_ROOM=admin", "conformance/kafka/cli/run"] },
    Client { name: "aiokafka", command: &[PYTHON, "conformance/kafka/python/aio.py"] },
    Client { name: "kafka-python", command: &[PYTHON, "conformance/kafka/python/pure.py"] },
    Client { name: "kafkajs", command: &["node", "conformance/kafka/node-kafkajs/main.js"] },
    Client { name: "franz-go", command: &[".tools/go/franz"] },
    Client { name: "kcat", command: &["conformance/kafka/kcat/run"] },
];

impl Client {
    /// Runs it, giving each outcome to `tell` as it comes: (case, outcome).
    pub fn run(&self, bootstrap: &str, cases: &[String], tell: &mut dyn FnMut(&str, Outcome)) -> Result<()> {
        let mut command = Command::new(self.program());
        command.args(&self.command[1..]).arg(bootstrap).args(cases).current_dir(repository());
        command.env("NODE_PATH", ".tools/node/node_modules");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}: run conformance/setup", self.name))?;
        let stdout = child.stdout.take().context("its output")?;
        let mut stderr = child.stderr.take().context("its error output")?;
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });

        let mut failed = false;
        let mut other = Vec::new();
        let stuck = loop {
            match lines.recv_timeout(CASE_DEADLINE) {
                Ok(line) => match parse(&line) {
                    Some((case, outcome)) => {
                        failed |= matches!(outcome, Outcome::Failed(_));
                        tell(case, outcome);
                    }
                    None => other.push(line),
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                Err(mpsc::RecvTimeoutError::Timeout) => break true,
            }
        };
        if stuck {
            child.kill().context("ending a stuck client")?;
        }
        let status = child.wait().context("waiting for the client")?;
        reader.join().ok();
        let errors = errors.join().unwrap_or_default();
        if stuck {
            tell("whole_program", Outcome::Failed(format!("no case ended in {} s: ended", CASE_DEADLINE.as_secs())));
        } else if !status.success() && !failed {
            tell("whole_program", Outcome::Failed(format!("{status}: {}", last_lines(&other, &errors))));
        }
        Ok(())
    }

    /// A program with a folder is taken from the repository, one without from the search path.
    fn program(&self) -> std::path::PathBuf {
        let program = self.command[0];
        if program.contains('/') { repository().join(program) } else { program.into() }
    }
}

/// Waits until all of them have run, `jobs` at a time; `tell` gets (client, case, outcome) on the caller's thread.
pub fn run_all(
    clients: &[Client],
    jobs: usize,
    bootstrap: &str,
    cases: &[String],
    mut tell: impl FnMut(&str, &str, Outcome),
) {
    let (sender, outcomes) = mpsc::channel();
    let queue = std::sync::Mutex::new(clients.iter());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let sender = sender.clone();
            let queue = &queue;
            scope.spawn(move || {
                while let Some(client) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let start = Instant::now();
                    let mut send = |case: &str, outcome| {
                        sender.send((client.name, case.to_owned(), outcome)).ok();
                    };
                    if let Err(error) = client.run(bootstrap, cases, &mut send) {
                        send("whole_program", Outcome::Failed(format!("{error:#}")));
                    }
                    println!("[{}] done in {:.1} s", client.name, start.elapsed().as_secs_f64());
                }
            });
        }
        drop(sender);
        for (client, case, outcome) in outcomes {
            tell(client, &case, outcome);
        }
    });
}

/// One line of the contract; none for any other output.
fn parse(line: &str) -> Option<(&str, Outcome)> {
    let (word, rest) = line.split_once(' ')?;
    let (case, detail) = rest.split_once(' ').unwrap_or((rest, ""));
    let outcome = match word {
        "ok" => Outcome::Passed(Duration::from_millis(detail.trim().parse().ok()?)),
        "FAIL" => Outcome::Failed(detail.trim().to_owned()),
        "skip" => Outcome::Skipped(detail.trim().to_owned()),
        _ => return None,
    };
    Some((case, outcome))
}

fn last_lines(output: &[String], errors: &str) -> String {
    let lines: Vec<&str> = output.iter().map(String::as_str).chain(errors.lines()).collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_contract_are_read_and_others_are_not() {
        assert_eq!(parse("ok headers 12"), Some(("headers", Outcome::Passed(Duration::from_millis(12)))));
        assert_eq!(parse("FAIL acks it broke"), Some(("acks", Outcome::Failed("it broke".to_owned()))));
        assert_eq!(parse("skip acks not there"), Some(("acks", Outcome::Skipped("not there".to_owned()))));
        assert_eq!(parse("ok headers soon"), None);
        assert_eq!(parse("warning: something"), None);
    }
}
