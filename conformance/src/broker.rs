//! Starts and ends the broker under test: PolyMQ in both shapes, Apache Kafka from its jars, or somebody else's.
//!
//! Every broker listens on loopback, on ports of its own, with a data folder of its own; all of it goes away with it.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a broker may take to listen. Apache Kafka on a busy machine needs most of it.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a broker may take to drain after SIGTERM.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `polymq serve`: core and gateway in one process.
    AllInOne,
    /// `polymq-core` and `polymq-kafka`: two processes with the RPC between them.
    Split,
    /// One `polymq-core` and two `polymq-kafka`: a cluster of two brokers.
    Cluster,
    /// Apache Kafka: the oracle.
    Apache,
    /// A broker that runs already, at this address.
    External(String),
}

impl Shape {
    /// Reads `all-in-one`, `split`, `cluster`, `apache` or `HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "all-in-one" => Self::AllInOne,
            "split" => Self::Split,
            "cluster" => Self::Cluster,
            "apache" => Self::Apache,
            address if address.contains(':') => Self::External(address.to_owned()),
            _ => bail!("{text} is no broker: say all-in-one, split, cluster, apache or HOST:PORT"),
        })
    }
}

/// Which of the processes a call means; all-in-one and Apache have only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Core,
    Gateway,
    /// The cluster's other gateway.
    Second,
}

impl Part {
    /// What its log is called.
    fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Gateway => "gateway",
            Self::Second => "second",
        }
    }
}

/// A running broker.
pub struct Broker {
    shape: Shape,
    /// `HOST:PORT` for clients, with a comma between a cluster's; stays the same when a part is restarted.
    pub bootstrap: String,
    /// Where the gateway listens, and the second where there is one.
    addresses: Vec<String>,
    folder: PathBuf,
    core_port: u16,
    core: Option<Child>,
    gateway: Option<Child>,
    second: Option<Child>,
    /// Given to PolyMQ's processes, beside what they inherit.
    environment: Vec<(String, String)>,
}

impl Broker {
    /// Starts it on free ports and an empty data folder under `.data/`, and waits until it listens.
    pub fn start(shape: Shape) -> Result<Self> {
        Self::start_with(shape, &[])
    }

    /// As `start`, on this port where a client's tests cannot be told another.
    pub fn start_on(shape: Shape, port: u16) -> Result<Self> {
        ensure!(matches!(shape, Shape::AllInOne | Shape::Split | Shape::Apache), "only one gateway has one port");
        Self::start_at(shape, vec![format!("127.0.0.1:{port}")], &[])
    }

    /// As `start`, with more environment variables for PolyMQ's processes.
    pub fn start_with(shape: Shape, environment: &[(&str, &str)]) -> Result<Self> {
        let addresses = match &shape {
            Shape::External(address) => vec![address.clone()],
            Shape::Cluster => vec![format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?)],
            _ => vec![format!("127.0.0.1:{}", free_port()?)],
        };
        Self::start_at(shape, addresses, environment)
    }

    fn start_at(shape: Shape, addresses: Vec<String>, environment: &[(&str, &str)]) -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let folder = repository().join(".data").join(format!("conformance-{}-{run}", std::process::id()));
        let mut broker = Self {
            shape,
            bootstrap: addresses.join(","),
            addresses,
            folder,
            core_port: free_port()?,
            core: None,
            gateway: None,
            second: None,
            environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        };
        if !matches!(broker.shape, Shape::External(_)) {
            fs::create_dir_all(&broker.folder).with_context(|| format!("creating {}", broker.folder.display()))?;
        }
        match broker.shape {
            Shape::External(_) => broker.await_listening(&broker.bootstrap.clone(), None)?,
            Shape::Apache | Shape::AllInOne => broker.start_part(Part::Core)?,
            Shape::Split => {
                broker.start_part(Part::Core)?;
                broker.start_part(Part::Gateway)?;
            }
            Shape::Cluster => {
                broker.start_part(Part::Core)?;
                broker.start_part(Part::Gateway)?;
                broker.start_part(Part::Second)?;
            }
        }
        Ok(broker)
    }

    /// Starts one process on the same ports and data as before, and waits until it is ready. All-in-one and Apache Kafka
    /// have only a core.
    pub fn start_part(&mut self, part: Part) -> Result<()> {
        self.launch_part(part)?;
        self.await_part(part)
    }

    /// Waits until a process that was launched is ready.
    pub fn await_part(&mut self, part: Part) -> Result<()> {
        match self.shape {
            Shape::Apache => {
                self.await_listening(&self.bootstrap.clone(), Some(Part::Core))?;
                self.await_apache_broker()
            }
            _ => self.await_ready_file(part, &self.ready_path(part)),
        }
    }

    fn ready_path(&self, part: Part) -> PathBuf {
        self.folder.join(format!("ready-{part:?}.json"))
    }

    /// Starts one process without waiting for it.
    pub fn launch_part(&mut self, part: Part) -> Result<()> {
        if self.shape == Shape::Apache {
            return self.launch_apache();
        }
        let core_listen = format!("127.0.0.1:{}", self.core_port);
        let ready = self.ready_path(part);
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("removing a ready file");
            }
            _ => {}
        }
        let data = self.folder.join("data");
        let mut command;
        match (&self.shape, part) {
            (Shape::AllInOne, _) => {
                command = Command::new(binary("polymq")?);
                command.args(["serve", "--gateways", "kafka"]).arg("--data").arg(data);
                command.args(["--kafka-listen", &self.bootstrap, "--core-listen", &core_listen]);
            }
            (Shape::Split | Shape::Cluster, Part::Core) => {
                command = Command::new(binary("polymq-core")?);
                command.arg("--data").arg(data).args(["--listen", &core_listen]);
            }
            (Shape::Split, Part::Gateway) => {
                command = Command::new(binary("polymq-kafka")?);
                command.args(["--core", &core_listen, "--listen", &self.bootstrap]);
            }
            (Shape::Cluster, Part::Gateway | Part::Second) => {
                let number = usize::from(part == Part::Second);
                command = Command::new(binary("polymq-kafka")?);
                command.args(["--core", &core_listen, "--listen", &self.addresses[number]]);
                command.args(["--node-id", &(number + 1).to_string()]);
            }
            (Shape::Split, Part::Second) | (Shape::Apache | Shape::External(_), _) => {
                bail!("this broker is not started by parts")
            }
        }
        command.arg("--ready-file").arg(&ready);
        // Tests form many groups; three seconds of waiting for more members in each would only cost time.
        let rebalance_delay_ms = inherited("GROUP_INITIAL_REBALANCE_DELAY_MS", "0");
        command.env("POLYMQ_KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", rebalance_delay_ms);
        // And members of the consumer protocol hear of each change with their next heartbeat, so that is soon.
        command.env("POLYMQ_KAFKA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "500");
        // Where a process serves health and metrics too, any port will do.
        command.env("POLYMQ_ADMIN_LISTEN", "127.0.0.1:0");
        // Three partitions where nobody says how many: clients with a partitioner then show it, and the suite that ships
        // with the rdkafka crate asks for it.
        command.env("POLYMQ_KAFKA_NUM_PARTITIONS", inherited("NUM_PARTITIONS", "3"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = self.spawn(command, part.name())?;
        *self.slot(part) = Some(child);
        Ok(())
    }

    fn slot(&mut self, part: Part) -> &mut Option<Child> {
        match part {
            Part::Core => &mut self.core,
            Part::Gateway => &mut self.gateway,
            Part::Second => &mut self.second,
        }
    }

    /// Ends one process at once, as a power cut would (SIGKILL).
    pub fn kill_part(&mut self, part: Part) -> Result<()> {
        let mut child = self.slot(part).take().context("this part does not run")?;
        child.kill().context("killing the broker")?;
        child.wait().context("waiting for the killed broker")?;
        Ok(())
    }

    /// Resident memory of all its processes now, bytes; none for a broker that somebody else runs.
    pub fn resident_bytes(&self) -> Option<u64> {
        let mut total = 0;
        for child in [&self.core, &self.gateway, &self.second].into_iter().flatten() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            total += line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024;
        }
        (total > 0).then_some(total)
    }

    /// The reason why it no longer runs, when one of its processes has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        let ended = |child: &mut Option<Child>| child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        let parts = [Part::Core, Part::Gateway, Part::Second];
        let (name, status) = parts.into_iter().find_map(|part| Some((part.name(), ended(self.slot(part))?)))?;
        Some(format!("its {name} process ended with {status}; {}", self.log_tail(name)))
    }

    /// Asks every process to drain (SIGTERM), gateway first, and checks that it exits 0 in time.
    pub fn stop(mut self) -> Result<()> {
        for (name, slot) in
            [("second", self.second.take()), ("gateway", self.gateway.take()), ("core", self.core.take())]
        {
            let Some(mut child) = slot else { continue };
            terminate(&child)?;
            let status = wait_until(&mut child, Instant::now() + DRAIN_DEADLINE)?;
            match status {
                Some(status) if status.success() => {}
                // A JVM that is asked to end reports 128 + SIGTERM although it drained.
                Some(status) if self.shape == Shape::Apache && status.code() == Some(143) => {}
                Some(status) => bail!("{name} drained with {status}; {}", self.log_tail(name)),
                None => {
                    child.kill().context("killing a broker that does not drain")?;
                    child.wait().context("waiting for it")?;
                    bail!("{name} did not drain within {} s of SIGTERM", DRAIN_DEADLINE.as_secs());
                }
            }
        }
        Ok(())
    }

    fn launch_apache(&mut self) -> Result<()> {
        let jars = repository().join(".tools/kafka");
        ensure!(jars.is_dir(), "Apache Kafka's jars are not there: run conformance/setup kafka");
        let properties = self.folder.join("server.properties");
        let java = || {
            let mut command = Command::new("java");
            let log4j = repository().join("conformance/kafka/apache/log4j2.properties");
            command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
            command.arg(format!("{}/*", jars.display()));
            command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
            command
        };
        if !properties.exists() {
            fs::write(&properties, self.apache_properties()?).context("writing server.properties")?;
            let formatted = java()
                .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg"])
                // Share groups are a preview in 4.1, switched on by this feature.
                .args(["--feature", "share.version=1", "-c"])
                .arg(&properties)
                .output()
                .context("starting java: run conformance/setup")?;
            ensure!(formatted.status.success(), "formatting: {}", String::from_utf8_lossy(&formatted.stderr).trim());
        }
        let mut command = java();
        command.arg("kafka.Kafka").arg(&properties);
        self.core = Some(self.spawn(command, "core")?);
        Ok(())
    }

    fn apache_properties(&self) -> Result<String> {
        let controller = free_port()?;
        // Some suites want a certain broker id, or rules of access; the variables that tell PolyMQ tell the oracle too.
        let node = inherited("NODE_ID", "1");
        let authorizer = match inherited("AUTHORIZER", "false").as_str() {
            "true" => "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            _ => "",
        };
        Ok([
            "process.roles=broker,controller".to_owned(),
            format!("node.id={node}"),
            format!("controller.quorum.voters={node}@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://{},CONTROLLER://127.0.0.1:{controller}", self.bootstrap),
            format!("advertised.listeners=PLAINTEXT://{}", inherited("ADVERTISED", &self.bootstrap)),
            "controller.listener.names=CONTROLLER".to_owned(),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            format!("log.dirs={}", self.folder.join("data").display()),
            format!("num.partitions={}", inherited("NUM_PARTITIONS", "3")),
            format!("auto.create.topics.enable={}", inherited("AUTO_CREATE_TOPICS", "true")),
            format!("authorizer.class.name={authorizer}"),
            format!("allow.everyone.if.no.acl.found={}", inherited("ALLOW_EVERYONE_IF_NO_ACL_FOUND", "false")),
            "offsets.topic.replication.factor=1".to_owned(),
            "offsets.topic.num.partitions=8".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
            "transaction.state.log.num.partitions=8".to_owned(),
            "share.coordinator.state.topic.replication.factor=1".to_owned(),
            "share.coordinator.state.topic.min.isr=1".to_owned(),
            "share.coordinator.state.topic.num.partitions=8".to_owned(),
            // What happens in the background happens soon, so that cases need not wait for it.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000".to_owned(),
            "log.cleaner.backoff.ms=500".to_owned(),
            "log.initial.task.delay.ms=500".to_owned(),
            "log.retention.check.interval.ms=500".to_owned(),
            "log.cleaner.dedupe.buffer.size=8388608".to_owned(),
            "group.consumer.heartbeat.interval.ms=500".to_owned(),
            "group.consumer.min.heartbeat.interval.ms=500".to_owned(),
            // The same reason as for PolyMQ's delay.
            format!("group.initial.rebalance.delay.ms={}", inherited("GROUP_INITIAL_REBALANCE_DELAY_MS", "0")),
            String::new(),
        ]
        .join("\n"))
    }

    /// The port opens before the broker has registered with its controller: wait until metadata names a broker.
    fn await_apache_broker(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let answer = crate::bad_bytes::metadata_brokers(&self.bootstrap);
            if matches!(answer, Ok(count) if count > 0) {
                return Ok(());
            }
            if let Some(reason) = self.ended() {
                bail!("Apache Kafka did not start: {reason}");
            }
            ensure!(Instant::now() < deadline, "Apache Kafka did not register in time: {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(&self, mut command: Command, name: &str) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.log_path(name)).context("opening the log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent. It makes the broker end with this
        // process, however this process ends, so that no run leaves one behind.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        command.spawn().with_context(|| format!("starting {command:?}"))
    }

    fn await_ready_file(&mut self, part: Part, ready: &Path) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while !ready.exists() {
            if let Some(reason) = self.ended() {
                bail!("PolyMQ did not start: {reason}");
            }
            ensure!(Instant::now() < deadline, "{part:?} wrote no ready file within {} s", START_DEADLINE.as_secs());
            std::thread::sleep(Duration::from_millis(2));
        }
        // Written once all listen, so the addresses in it must be taken now.
        let text = fs::read_to_string(ready).context("reading the ready file")?;
        let addresses: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("ready file {text}"))?;
        let key = if part != Part::Core || self.shape == Shape::AllInOne { "kafka" } else { "core" };
        let address = addresses.get(key).and_then(serde_json::Value::as_str);
        let address = address.with_context(|| format!("no {key} in the ready file {text}"))?.to_owned();
        let asked = &self.addresses[usize::from(part == Part::Second)];
        ensure!(key == "core" || address == *asked, "asked for {asked}, got {address}");
        TcpStream::connect(&address).with_context(|| format!("{part:?} is ready, but {address} does not answer"))?;
        Ok(())
    }

    fn await_listening(&mut self, address: &str, part: Option<Part>) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match TcpStream::connect(address) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline || part.is_none() => {
                    return Err(error).with_context(|| format!("nobody listens on {address}"));
                }
                Err(_) => {}
            }
            if let Some(reason) = self.ended() {
                bail!("it did not start: {reason}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The last lines that a process wrote, for a reason.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log_path(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        format!("its last lines: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}

/// What the variable of a setting of PolyMQ's Kafka gateway says here.
fn inherited(setting: &str, default: &str) -> String {
    std::env::var(format!("POLYMQ_KAFKA_{setting}")).unwrap_or_else(|_| default.to_owned())
}

impl Drop for Broker {
    fn drop(&mut self) {
        for child in [&mut self.core, &mut self.gateway, &mut self.second].into_iter().flatten() {
            // It may have ended already; there is nobody left to tell.
            child.kill().ok();
            child.wait().ok();
        }
        if std::env::var_os("CONFORMANCE_KEEP").is_some() {
            println!("kept {}", self.folder.display());
        } else {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

/// PolyMQ's binaries are built beside this one; POLYMQ_BINARIES names another folder.
fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("POLYMQ_BINARIES") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?.parent().context("this binary lies in no folder")?.to_owned(),
    };
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not built: cargo build --workspace (same profile)", path.display());
    Ok(path)
}

fn terminate(child: &Child) -> Result<()> {
    let process = libc::pid_t::try_from(child.id()).context("a process id")?;
    // SAFETY: kill has no memory effects; the child is ours and not yet waited for, so its id is not reused.
    ensure!(unsafe { libc::kill(process, libc::SIGTERM) } == 0, "SIGTERM: {}", io::Error::last_os_error());
    Ok(())
}

fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        match child.try_wait().context("waiting for the broker")? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() > deadline => return Ok(None),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
