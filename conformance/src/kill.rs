//! `kill -9` under load, with real processes and a real client: what was acknowledged must be there, once and in order.
//!
//! Runs come in series that share a data folder, so that later crashes meet the remains of earlier ones. A run: a librdkafka
//! producer (idempotent, acks=all) writes numbered records into a topic of its own; at a seeded moment a process is
//! killed; it starts again on the same data and ports while the producer retries; in some runs it is killed again during
//! recovery. Then the topic is read back and compared with the acknowledgements. At the end of a series all its topics are
//! read once more.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bad_bytes::Random;
use crate::broker::{Broker, Part, Shape, repository};

/// Runs that share a data folder.
const SERIES_RUNS: u64 = 20;
/// Partitions of a run's topic.
const PARTITIONS: u64 = 4;
/// The latest moment of the first kill after the first acknowledgement, ms.
const KILL_MILLIS_MAX: u64 = 400;
/// The latest moment of a kill during recovery, after the launch, ms.
const KILL_AGAIN_MILLIS_MAX: u64 = 120;
/// How long the producer goes on after the last restart, ms.
const AFTER_MILLIS: u64 = 100;

/// The plan of one run, drawn from its seed.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    /// Killed together, in this order.
    parts: Vec<Part>,
    kill_millis: u64,
    /// Kill again this long after the launch.
    again_millis: Option<u64>,
}

impl Plan {
    fn draw(seed: u64, shape: &Shape) -> Self {
        let mut random = Random(seed);
        let parts = match shape {
            Shape::Split => match random.draw() % 5 {
                0 | 1 => vec![Part::Core],
                2 | 3 => vec![Part::Gateway],
                _ => vec![Part::Core, Part::Gateway],
            },
            _ => vec![Part::Core],
        };
        let kill_millis = random.draw() % KILL_MILLIS_MAX;
        let again_millis = random.draw().is_multiple_of(4).then(|| random.draw() % KILL_AGAIN_MILLIS_MAX);
        Self { seed, parts, kill_millis, again_millis }
    }
}

/// Does `runs` runs in each of the shapes in turn; answers how many passed and failed.
pub fn run(shapes: &[Shape], runs: u64, seed: u64) -> Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    let mut client = Client::start()?;
    let started = Instant::now();
    let mut run = 0;
    let mut series = 0;
    while run < runs {
        let shape = &shapes[series % shapes.len()];
        series += 1;
        let mut broker = Broker::start(shape.clone()).with_context(|| format!("starting {shape:?}"))?;
        let mut topics = Vec::new();
        for _ in 0..SERIES_RUNS.min(runs.div_ceil(shapes.len() as u64)).min(runs - run) {
            let plan = Plan::draw(seed.wrapping_add(run), shape);
            let topic = format!("kill-{run}");
            let name = format!(
                "run {run} (seed {}, {shape:?}, kill {:?} at {} ms{})",
                plan.seed,
                plan.parts,
                plan.kill_millis,
                again(&plan)
            );
            topics.push(topic.clone());
            match one(&mut broker, &mut client, &plan, &topic) {
                Ok(what) => {
                    passed += 1;
                    println!("ok {name}: {what} [{:.0} s]", started.elapsed().as_secs_f64());
                }
                Err(error) => {
                    failed += 1;
                    println!("FAIL {name}: {error:#}");
                    // The rest of a series would only repeat the fault.
                    run += 1;
                    client = Client::start()?;
                    topics.clear();
                    break;
                }
            }
            run += 1;
        }
        for topic in &topics {
            if let Err(error) = client.verify(&broker.bootstrap, topic) {
                failed += 1;
                println!("FAIL {topic} read again at the end of its series: {error:#}");
            }
        }
        client.ask(&json!({"do": "forget"}))?;
        if let Err(error) = broker.stop() {
            failed += 1;
            println!("FAIL stopping after series {series}: {error:#}");
        }
    }
    Ok((passed, failed))
}

fn again(plan: &Plan) -> String {
    plan.again_millis.map(|millis| format!(", again {millis} ms into recovery")).unwrap_or_default()
}

/// One run; answers what it did, in words.
fn one(broker: &mut Broker, client: &mut Client, plan: &Plan, topic: &str) -> Result<String> {
    let bootstrap = broker.bootstrap.clone();
    let produce =
        json!({"do": "produce", "bootstrap": bootstrap, "topic": topic, "partitions": PARTITIONS, "seed": plan.seed});
    client.ask(&produce)?;
    // Not a wait for something: the moment of the blow, which is the subject of this test.
    thread::sleep(Duration::from_millis(plan.kill_millis));
    for part in &plan.parts {
        broker.kill_part(*part)?;
    }
    let down = Instant::now();
    for part in &plan.parts {
        broker.launch_part(*part)?;
    }
    if let Some(millis) = plan.again_millis {
        thread::sleep(Duration::from_millis(millis));
        for part in &plan.parts {
            broker.kill_part(*part)?;
            broker.launch_part(*part)?;
        }
    }
    for part in &plan.parts {
        broker.await_part(*part)?;
    }
    let recovered = down.elapsed();
    thread::sleep(Duration::from_millis(AFTER_MILLIS));
    let answer = client.ask(&json!({"do": "finish"}))?;
    client.verify(&bootstrap, topic)?;
    if let Some(reason) = broker.ended() {
        bail!("after the restart {reason}");
    }
    let records = answer.get("records").and_then(Value::as_u64).unwrap_or(0);
    Ok(format!("{records} records, all there once and in order; back in {} ms", recovered.as_millis()))
}

/// The client program, conformance/kafka/python/kill_client.py, which lives as long as the test.
struct Client {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn start() -> Result<Self> {
        let root = repository();
        let mut child = Command::new(root.join(".tools/python/bin/python"))
            .arg(root.join("conformance/kafka/python/kill_client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the client: run conformance/setup python")?;
        let commands = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, commands, answers })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.commands, "{command}").context("telling the client")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("hearing from the client")?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("the client said {line:?}"))?;
        match answer.get("fault").and_then(Value::as_str) {
            Some(fault) => bail!("{fault}"),
            None => Ok(answer),
        }
    }

    fn verify(&mut self, bootstrap: &str, topic: &str) -> Result<()> {
        self.ask(&json!({"do": "verify", "bootstrap": bootstrap, "topic": topic})).map(drop)
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
    fn a_seed_always_draws_the_same_plan() {
        for seed in 0..50 {
            assert_eq!(
                format!("{:?}", Plan::draw(seed, &Shape::Split)),
                format!("{:?}", Plan::draw(seed, &Shape::Split))
            );
        }
        assert!((0..50).any(|seed| Plan::draw(seed, &Shape::Split).parts == [Part::Gateway]));
        assert!((0..50).any(|seed| Plan::draw(seed, &Shape::AllInOne).again_millis.is_some()));
    }
}
