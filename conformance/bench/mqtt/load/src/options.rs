//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Makes load on an MQTT broker; prints one line of JSON, and its progress to stderr.
#[derive(Debug, Parser)]
#[command(name = "mqtt-load")]
pub struct Options {
    /// The broker.
    #[arg(long)]
    pub address: SocketAddr,
    /// Protocol version: 4 (3.1.1) or 5.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=5))]
    pub protocol: u8,
    /// A process of the broker, whose CPU time is measured over the same time as the messages; may be repeated.
    #[arg(long)]
    pub pid: Vec<u32>,
    /// No lines of progress.
    #[arg(long)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages from publishers to subscribers.
    Flow(Flow),
    /// Connections that do nothing; ends when a line comes on stdin.
    Idle(Idle),
    /// Connects and disconnects as fast as it goes.
    Connect(Connect),
    /// Publishes retained messages, then subscribes to all of them.
    Retained(Retained),
}

impl Command {
    /// Does what was asked for, and prints what came of it.
    pub async fn run(&self, options: &Options) -> anyhow::Result<()> {
        match self {
            Self::Flow(flow) => crate::flow::run(options, flow).await,
            Self::Idle(idle) => crate::connects::idle(options, idle).await,
            Self::Connect(connect) => crate::connects::rate(options, connect).await,
            Self::Retained(retained) => crate::retained::run(options, retained).await,
        }
    }
}

/// Who takes whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// Subscriber i those of publisher i.
    Pairs,
    /// Every subscriber all of them.
    All,
    /// The subscribers are one shared group.
    Shared,
}

#[derive(Debug, Args)]
pub struct Flow {
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    #[arg(long, default_value_t = 1)]
    pub subscribers: usize,
    #[arg(long, value_enum, default_value_t = Pattern::Pairs)]
    pub pattern: Pattern,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Bytes of a payload, at least 16.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..))]
    pub size: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Messages a second of all publishers together; 0: as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// QoS 1 and 2: messages of one publisher that may be unacknowledged.
    #[arg(long, default_value_t = 100)]
    pub window: u64,
    /// Messages of all publishers together that may be on their way to subscribers (not with --rate).
    #[arg(long, default_value_t = 5_000)]
    pub outstanding: u64,
}

#[derive(Debug, Args)]
pub struct Idle {
    #[arg(long, default_value_t = 20_000)]
    pub connections: usize,
    /// How many at a time.
    #[arg(long, default_value_t = 100)]
    pub jobs: usize,
    /// Seconds of keep-alive; they must not run out while it lasts.
    #[arg(long, default_value_t = 3_600)]
    pub keep_alive: u16,
    /// Each subscribes to a topic of its own.
    #[arg(long)]
    pub subscribe: bool,
}

#[derive(Debug, Args)]
pub struct Connect {
    /// How many at a time.
    #[arg(long, default_value_t = 50)]
    pub jobs: usize,
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

#[derive(Debug, Args)]
pub struct Retained {
    #[arg(long, default_value_t = 100_000)]
    pub count: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 64)]
    pub size: u32,
    /// Messages that may be unacknowledged.
    #[arg(long, default_value_t = 100)]
    pub window: u64,
    /// Quality of service of the subscription.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
}
