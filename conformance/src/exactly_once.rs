//! Exactly once under `kill -9`: transactions of real clients go on while gateways and core are killed at seeded moments.
//!
//! The client (conformance/kafka/java/ExactlyOnce.java) writes transactions into one topic and copies it into another, with
//! the offsets in the same transactions. At the end everything that was committed must be there, once, whole and in
//! order, in both, and nothing else. This side kills processes, starts them again, and shows how it goes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bad_bytes::Random;
use crate::broker::{Broker, Part, Shape, repository};

/// Quiet between blows, ms: at least, and how much more at most. Short enough that a blow often meets what the last one left.
const QUIET_MILLIS: (u64, u64) = (700, 5_000);
/// The same for Apache Kafka, which needs that long to start.
const QUIET_APACHE_MILLIS: (u64, u64) = (6_000, 10_000);
/// How long a part stays dead at most, ms.
const DOWN_MILLIS_MAX: u64 = 1_500;
/// The latest moment of a second blow during recovery, ms after the launch.
const AGAIN_MILLIS_MAX: u64 = 150;
/// How long the client may take to copy the rest and to check everything.
const FINISH_DEADLINE: Duration = Duration::from_secs(300);
/// How long a gateway may be thought alive after its death, ms. The default would make each blow last six seconds.
const SESSION_TIMEOUT_MILLIS: &str = "1000";
/// How long a member of the consumer protocol may be silent, ms. Who takes a group over gives its members a fresh session, here
/// as in Kafka: with the default of 45 s, and a blow every four, a dead member would keep its partitions to the end of the run.
const MEMBER_TIMEOUT_MILLIS: &str = "6000";

/// What to run.
pub struct Plan {
    pub shape: Shape,
    pub seed: u64,
    pub duration: Duration,
    /// Folder below .tools with the client's classes: java4 or java3.
    pub client: String,
    /// `classic` or `consumer`.
    pub group_protocol: String,
}

/// One blow.
#[derive(Debug, PartialEq, Eq)]
struct Blow {
    quiet: Duration,
    /// Killed together, in this order.
    parts: Vec<Part>,
    down: Duration,
    again: Option<Duration>,
}

impl Blow {
    fn draw(random: &mut Random, shape: &Shape) -> Self {
        let (least, more) = if *shape == Shape::Apache { QUIET_APACHE_MILLIS } else { QUIET_MILLIS };
        let quiet = Duration::from_millis(least + random.draw() % more);
        let parts = match shape {
            Shape::Split => match random.draw() % 5 {
                0 | 1 => vec![Part::Core],
                2 | 3 => vec![Part::Gateway],
                _ => vec![Part::Core, Part::Gateway],
            },
            Shape::Cluster => match random.draw() % 8 {
                0 | 1 => vec![Part::Core],
                2 | 3 => vec![Part::Gateway],
                4 | 5 => vec![Part::Second],
                6 => vec![Part::Gateway, Part::Second],
                _ => vec![Part::Core, Part::Gateway, Part::Second],
            },
            _ => vec![Part::Core],
        };
        let down = Duration::from_millis(random.draw() % DOWN_MILLIS_MAX);
        let again = random.draw().is_multiple_of(4).then(|| Duration::from_millis(random.draw() % AGAIN_MILLIS_MAX));
        Self { quiet, parts, down, again: again.filter(|_| *shape != Shape::Apache) }
    }

    /// Kills, waits, starts again; answers how long it was from the kill until all was ready.
    fn strike(&self, broker: &mut Broker) -> Result<Duration> {
        let start = Instant::now();
        for part in &self.parts {
            broker.kill_part(*part)?;
        }
        // Not waits for something: the lengths of the outage, which are the subject of this test.
        thread::sleep(self.down);
        for part in &self.parts {
            broker.launch_part(*part)?;
        }
        if let Some(again) = self.again {
            thread::sleep(again);
            for part in &self.parts {
                broker.kill_part(*part)?;
                broker.launch_part(*part)?;
            }
        }
        for part in &self.parts {
            broker.await_part(*part)?;
        }
        Ok(start.elapsed())
    }
}

/// Runs a plan; answers what the client counted, in words.
pub fn run(plan: &Plan) -> Result<String> {
    let environment = [
        ("POLYMQ_KAFKA_SESSION_TIMEOUT_MS", SESSION_TIMEOUT_MILLIS),
        ("POLYMQ_KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS", MEMBER_TIMEOUT_MILLIS),
    ];
    let mut broker = Broker::start_with(plan.shape.clone(), &environment)?;
    println!("{:?} listens on {}", plan.shape, broker.bootstrap);
    let mut client = Client::start(&broker.bootstrap, plan)?;
    let mut random = Random(plan.seed);
    let started = Instant::now();
    let mut blows = 0;
    while started.elapsed() < plan.duration {
        let blow = Blow::draw(&mut random, &plan.shape);
        if let Some(verdict) = client.listen(started, Instant::now() + blow.quiet)? {
            bail!("after {blows} blows the client ended: {verdict}");
        }
        if let Some(reason) = broker.ended() {
            bail!("after {blows} blows {reason}");
        }
        let took = blow.strike(&mut broker).with_context(|| format!("blow {blows}, {blow:?}"))?;
        blows += 1;
        let again = if blow.again.is_some() { ", twice" } else { "" };
        println!(
            "[{:.0} s] blow {blows}: {:?} killed{again}, back after {} ms",
            started.elapsed().as_secs_f64(),
            blow.parts,
            took.as_millis()
        );
    }
    println!("[{:.0} s] no more blows; the rest is copied and everything checked", started.elapsed().as_secs_f64());
    client.finish()?;
    let verdict = client.listen(started, Instant::now() + FINISH_DEADLINE)?;
    let verdict = verdict.with_context(|| format!("no verdict within {} s", FINISH_DEADLINE.as_secs()))?;
    if let Some(reason) = broker.ended() {
        bail!("at the end {reason}");
    }
    match verdict.strip_prefix("ok ") {
        Some(counts) => {
            broker.stop()?;
            Ok(format!("{blows} blows in {:.0} s; {counts}", plan.duration.as_secs_f64()))
        }
        None => bail!("{verdict}"),
    }
}

/// The client program; it ends with its input.
struct Client {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Client {
    fn start(bootstrap: &str, plan: &Plan) -> Result<Self> {
        let folder = repository().join(".tools").join(&plan.client);
        let classes = format!("{0}/classes:{0}/lib/*", folder.display());
        let mut child = Command::new("java")
            .args(["-XX:+UseSerialGC", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", &classes])
            .args(["polymq.conformance.ExactlyOnce", bootstrap, &plan.seed.to_string(), &plan.group_protocol])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the client: run conformance/setup java")?;
        let commands = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, commands, lines })
    }

    /// Shows what it says until then, or until it says its verdict, which is the answer.
    fn listen(&mut self, started: Instant, until: Instant) -> Result<Option<String>> {
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("ok ") || line.starts_with("FAIL ") => return Ok(Some(line)),
                Ok(line) => println!("[{:.0} s] {line}", started.elapsed().as_secs_f64()),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the client ended without a verdict"),
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        writeln!(self.commands, "finish").context("telling the client")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Nothing depends on how it ends.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_blows_and_all_parts_are_hit() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..50).map(|_| Blow::draw(&mut random, &Shape::Cluster)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        for part in [Part::Core, Part::Gateway, Part::Second] {
            assert!(draw(7).iter().any(|blow| blow.parts == [part]));
        }
        assert!(draw(7).iter().any(|blow| blow.again.is_some()));
    }
}
