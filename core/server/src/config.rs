//! Configuration in layers: a flag before the environment before the TOML file before the default.
//!
//! The file has the flags' names as keys, with `-` or `_`, at its top or in the table `[core]`. The tables of
//! other programs are left to them; a key that is not known is an error.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use core_process::suggest::nearest;
use core_rpc::Address;
use serde::Deserialize;

/// The RPC's port, and loopback: who opens it to a network says so.
const LISTEN_DEFAULT: &str = "127.0.0.1:7401";

/// The table of this program in a file that several share.
const SECTION: &str = "core";

/// The flags of `polymq-core`.
#[derive(Debug, Default, Parser)]
#[command(name = "polymq-core", version, about = "The log core: keeps what the gateways are given")]
pub struct Flags {
    /// The directory of the data; made if it is not there
    #[arg(long, env = "POLYMQ_CORE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen: host:port (port 0 picks one) or unix:/path [default: 127.0.0.1:7401]
    #[arg(long, env = "POLYMQ_CORE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// A file that is written once the core listens: {"core":"ADDRESS"}
    #[arg(long, env = "POLYMQ_CORE_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Where to serve /health and /metrics over HTTP: host:port, port 0 picks one; without it they are not served
    #[arg(long, env = "POLYMQ_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Threads that serve gateways [default: one fewer than there are cores, and one at least]
    #[arg(long, env = "POLYMQ_CORE_WORKER_THREADS", value_name = "N")]
    pub worker_threads: Option<NonZeroUsize>,
    /// A TOML file with these keys
    #[arg(long, env = "POLYMQ_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Shards of a data directory that is made now [default: as many as cores]
    #[arg(long, env = "POLYMQ_CORE_SHARDS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub shards: Option<u32>,
    /// Memory for recent batches, bytes
    #[arg(long, env = "POLYMQ_CORE_CACHE_BYTES", value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
    /// Memory for the keys of a compaction, bytes; with more keys it takes several passes
    #[arg(long, env = "POLYMQ_CORE_COMPACTION_MAP_BYTES", value_name = "BYTES")]
    pub compaction_map_bytes: Option<u64>,
    /// What compaction reads and writes in a second, bytes; 0 is no limit
    #[arg(long, env = "POLYMQ_CORE_COMPACTION_BYTES_PER_SECOND", value_name = "BYTES")]
    pub compaction_bytes_per_second: Option<u64>,
    /// Capacity of one pack file, bytes
    #[arg(long, env = "POLYMQ_CORE_PACK_BYTES", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 31))]
    pub pack_bytes: Option<u64>,
    /// Connects to the core at this address, makes one call and exits: 0 if it answers
    #[arg(long, value_name = "ADDRESS")]
    pub check: Option<Address>,
}

/// What a core is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    /// None: no RPC.
    pub listen: Option<Address>,
    pub ready_file: Option<PathBuf>,
    /// None: neither health nor metrics.
    pub admin_listen: Option<SocketAddr>,
    /// None: as many as there are by default.
    pub worker_threads: Option<NonZeroUsize>,
    pub engine: core_log::Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileKeys {
    data: Option<PathBuf>,
    listen: Option<String>,
    ready_file: Option<PathBuf>,
    admin_listen: Option<SocketAddr>,
    worker_threads: Option<NonZeroUsize>,
    shards: Option<u32>,
    cache_bytes: Option<u64>,
    compaction_map_bytes: Option<u64>,
    compaction_bytes_per_second: Option<u64>,
    pack_bytes: Option<u64>,
}

impl Flags {
    /// Adds what the file says, if there is one, and the defaults.
    pub fn resolve(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            Some(path) => read(path).with_context(|| format!("in {}", path.display()))?,
            None => FileKeys::default(),
        };
        self.over(file)
    }

    fn over(self, file: FileKeys) -> anyhow::Result<Config> {
        let Some(data) = self.data.or(file.data) else {
            bail!("no data directory: give --data DIR or POLYMQ_CORE_DATA");
        };
        let listen = match self.listen {
            Some(address) => address,
            None => file.listen.as_deref().unwrap_or(LISTEN_DEFAULT).parse()?,
        };
        let mut engine = core_log::Config::default();
        engine.shards = self.shards.or(file.shards).or(engine.shards);
        engine.cache_bytes = self.cache_bytes.or(file.cache_bytes).unwrap_or(engine.cache_bytes);
        engine.compaction_map_bytes =
            self.compaction_map_bytes.or(file.compaction_map_bytes).unwrap_or(engine.compaction_map_bytes);
        engine.compaction_bytes_per_second = (self.compaction_bytes_per_second)
            .or(file.compaction_bytes_per_second)
            .unwrap_or(engine.compaction_bytes_per_second);
        engine.pack_bytes = self.pack_bytes.or(file.pack_bytes).unwrap_or(engine.pack_bytes);
        engine.pack_bytes_first = engine.pack_bytes_first.min(engine.pack_bytes);
        let ready_file = self.ready_file.or(file.ready_file);
        let admin_listen = self.admin_listen.or(file.admin_listen);
        let worker_threads = self.worker_threads.or(file.worker_threads);
        Ok(Config { data, listen: Some(listen), ready_file, admin_listen, worker_threads, engine })
    }
}

fn read(path: &Path) -> anyhow::Result<FileKeys> {
    parse(&std::fs::read_to_string(path)?)
}

fn parse(text: &str) -> anyhow::Result<FileKeys> {
    let mut ours = toml::Table::new();
    let mut take = |key: String, value: toml::Value| ours.insert(key.replace('_', "-"), value);
    for (key, value) in toml::from_str::<toml::Table>(text)? {
        match value {
            toml::Value::Table(table) if key == SECTION => table.into_iter().for_each(|(key, value)| {
                take(key, value);
            }),
            toml::Value::Table(_) if nearest(&key, [SECTION]).is_some() => {
                bail!("unknown table [{key}]; did you mean [{SECTION}]?")
            }
            toml::Value::Table(_) => {}
            value => {
                take(key, value);
            }
        }
    }
    Ok(ours.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str], file: &str) -> anyhow::Result<Config> {
        let flags = Flags::try_parse_from([&["polymq-core"], arguments].concat())?;
        flags.over(parse(file)?)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let config = resolve(&["--data", "a"], "").unwrap();
        assert_eq!(config.data, PathBuf::from("a"));
        assert_eq!(config.listen, Some(LISTEN_DEFAULT.parse().unwrap()));

        let file =
            "data = 'b'\nready_file = 'r'\n[core]\nlisten = 'unix:/s'\nshards = 3\nworker_threads = 2\n[other]\nx = 1";
        let config = resolve(&["--data", "a"], file).unwrap();
        assert_eq!((config.data, config.ready_file), (PathBuf::from("a"), Some("r".into())));
        assert_eq!((config.listen, config.engine.shards), (Some("unix:/s".parse().unwrap()), Some(3)));
        assert_eq!(config.worker_threads, NonZeroUsize::new(2));
        assert_eq!(resolve(&["--shards", "5"], file).unwrap().engine.shards, Some(5));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (arguments, file, says) in [
            (&[][..], "", "no data directory"),
            (&["--data", "a", "--listen", "7401"], "", "host:port"),
            (&["--data", "a"], "dta = 'b'", "dta"),
            (&["--data", "a"], "[croe]\nshards = 1", "did you mean [core]?"),
            (&["--data", "a"], "listen = 7401", "listen"),
            (&["--data", "a"], "listen = 'nowhere'", "nowhere"),
            (&["--data", "a", "--shards", "0"], "", "shards"),
        ] {
            let error = format!("{:#}", resolve(arguments, file).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
