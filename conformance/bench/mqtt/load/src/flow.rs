//! Messages from publishers to subscribers: connects them, lets them run, and says how many came, how fast, and at what cost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::Client;
use crate::credit::Credit;
use crate::histogram::Histogram;
use crate::meter::{cpu_seconds, now_ns, own_cpu_seconds};
use crate::options::{Flow, Options, Pattern};
use crate::packets::Template;
use crate::publisher::{self, Pace};
use crate::subscriber;

/// After the publishers have ended: as long as something comes, and so long without.
const DRAIN_QUIET: Duration = Duration::from_millis(1_500);
const KEEP_ALIVE_SECONDS: u16 = 600;
/// However many publishers there are, so many of each may be on their way.
const OUTSTANDING_MIN: u64 = 10;

/// What all tasks count in.
pub struct Shared {
    pub pattern: Pattern,
    pub credits: Vec<Credit>,
    pub received: Cell<u64>,
    /// Came again, or after a later one of the same publisher.
    pub again: Cell<u64>,
    /// Were left out in the order of their publisher.
    pub missed: Cell<u64>,
    pub measuring: Cell<bool>,
    pub stopping: Cell<bool>,
    pub latency: RefCell<Histogram>,
}

impl Shared {
    fn sent(&self) -> u64 {
        self.credits.iter().map(|credit| credit.sent.get()).sum()
    }
}

/// Counts at one moment.
struct Moment {
    at: Instant,
    sent: u64,
    received: u64,
    broker_cpu: f64,
    own_cpu: f64,
}

impl Moment {
    fn now(options: &Options, shared: &Shared) -> Self {
        Self {
            at: Instant::now(),
            sent: shared.sent(),
            received: shared.received.get(),
            broker_cpu: cpu_seconds(&options.pid),
            own_cpu: own_cpu_seconds(),
        }
    }
}

pub async fn run(options: &Options, flow: &Flow) -> Result<()> {
    ensure!(
        flow.pattern != Pattern::Pairs || flow.publishers == flow.subscribers,
        "pairs need as many publishers as subscribers"
    );
    ensure!(flow.publishers > 0 && flow.subscribers > 0, "somebody has to publish and somebody to subscribe");
    let copies = if flow.pattern == Pattern::All { flow.subscribers as u64 } else { 1 };
    let outstanding = (flow.rate == 0.0).then(|| (flow.outstanding / flow.publishers as u64).max(OUTSTANDING_MIN));
    let window = (flow.qos > 0).then_some(flow.window);
    let shared = Rc::new(Shared {
        pattern: flow.pattern,
        credits: (0..flow.publishers).map(|_| Credit::new(copies, window, outstanding)).collect(),
        received: Cell::new(0),
        again: Cell::new(0),
        missed: Cell::new(0),
        measuring: Cell::new(false),
        stopping: Cell::new(false),
        latency: RefCell::default(),
    });
    let prefix = format!("load{:x}", std::process::id());
    // The first error of any task ends it all.
    let (failed, mut failure) = mpsc::unbounded_channel();
    for at in 0..flow.subscribers {
        let mut client =
            Client::connect(options.address, options.protocol, &format!("{prefix}s{at}"), KEEP_ALIVE_SECONDS, at)
                .await?;
        let filter = match flow.pattern {
            Pattern::Pairs => format!("{prefix}/{at}"),
            Pattern::All => format!("{prefix}/#"),
            Pattern::Shared => format!("$share/{prefix}/{prefix}/#"),
        };
        client.subscribe(&filter, flow.qos).await?;
        let (shared, failed) = (shared.clone(), failed.clone());
        spawn_local(async move { subscriber::run(client, shared, at).await.err().map(|error| failed.send(error)) });
    }
    let mut clients = Vec::with_capacity(flow.publishers);
    for at in 0..flow.publishers {
        clients.push(
            Client::connect(
                options.address,
                options.protocol,
                &format!("{prefix}p{at}"),
                KEEP_ALIVE_SECONDS,
                flow.subscribers + at,
            )
            .await?,
        );
    }
    let mut publishers = Vec::with_capacity(flow.publishers);
    for (at, client) in clients.into_iter().enumerate() {
        let template = Template::new(options.protocol, &format!("{prefix}/{at}"), flow.qos, false, flow.size as usize);
        let pace = (flow.rate > 0.0).then(|| {
            let between_ns = 1e9 / flow.rate;
            Pace::new(now_ns() + 10_000_000 + (at as f64 * between_ns) as u64, between_ns * flow.publishers as f64)
        });
        let (shared, failed, pace) = (shared.clone(), failed.clone(), pace.transpose()?);
        publishers.push(spawn_local(async move {
            publisher::run(client, shared, at, template, pace).await.err().map(|error| failed.send(error))
        }));
    }

    let lasting = async {
        pass(flow.warm_up, options, &shared).await;
        shared.latency.borrow_mut().clear();
        shared.measuring.set(true);
        let start = Moment::now(options, &shared);
        pass(flow.seconds, options, &shared).await;
        shared.measuring.set(false);
        (start, Moment::now(options, &shared))
    };
    let (start, end) = tokio::select! {
        both = lasting => both,
        Some(error) = failure.recv() => return Err(error),
    };
    shared.stopping.set(true);
    shared.credits.iter().for_each(Credit::wake);
    let patience = Instant::now() + Duration::from_secs(30);
    for publisher in publishers {
        timeout_at(patience, publisher)
            .await
            .map_err(|_| anyhow!("what was published is not acknowledged after 30 s"))??;
    }
    drain(&shared).await;
    if let Ok(error) = failure.try_recv() {
        return Err(error);
    }
    say(&shared, &start, &end, copies);
    Ok(())
}

/// Lets time pass, with a line of progress each second.
async fn pass(seconds: f64, options: &Options, shared: &Shared) {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut last = (Instant::now(), shared.received.get());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(Duration::from_secs(1))).await;
        let now = (Instant::now(), shared.received.get());
        if !options.quiet {
            let rate = (now.1 - last.1) as f64 / (now.0 - last.0).as_secs_f64();
            eprintln!("{rate:.0} messages/s, {} sent, {} received", shared.sent(), now.1);
        }
        last = now;
    }
}

/// Until all deliveries have come, or none has for a while.
async fn drain(shared: &Shared) {
    let mut seen = (shared.received.get(), Instant::now());
    while shared.credits.iter().any(|credit| credit.undelivered() > 0) && seen.1.elapsed() < DRAIN_QUIET {
        sleep(Duration::from_millis(5)).await;
        if shared.received.get() != seen.0 {
            seen = (shared.received.get(), Instant::now());
        }
    }
}

fn say(shared: &Shared, start: &Moment, end: &Moment, copies: u64) {
    let seconds = (end.at - start.at).as_secs_f64();
    let received = end.received - start.received;
    let latency = shared.latency.borrow();
    let millions = received as f64 / 1e6;
    println!(
        "{}",
        json!({
            "seconds": seconds,
            "sent per second": (end.sent - start.sent) as f64 / seconds,
            "received per second": received as f64 / seconds,
            "received": received,
            "lost": (shared.sent() * copies).saturating_sub(shared.received.get()),
            "came again": shared.again.get(),
            "left out": shared.missed.get(),
            "p50": latency.percentile_ms(0.5),
            "p99": latency.percentile_ms(0.99),
            "p99.9": latency.percentile_ms(0.999),
            "most": latency.most_ms(),
            "broker cpu": end.broker_cpu - start.broker_cpu,
            "broker cores": (end.broker_cpu - start.broker_cpu) / seconds,
            "load cores": (end.own_cpu - start.own_cpu) / seconds,
            "cpu per million": if received > 0 { (end.broker_cpu - start.broker_cpu) / millions } else { 0.0 },
        })
    );
}
