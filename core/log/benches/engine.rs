//! How fast the engine is on this machine: `cargo bench -p core-log --bench engine [-- NAME]`.
//!
//! Writes to a directory under `POLYMQ_BENCH_DIR`, or the build's temporary directory: what it says is true of that
//! disk. What needs a comparison is measured against a plain loop of the same writes, in the same place.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec_record::{Batch, FormatId, Formats};
use core_log::disk::{Disk, RealDisk};
use core_log::{Config, Engine, SystemClock};
use core_rpc::*;

const TOPIC: TopicId = TopicId(1);
const MIB: u64 = 1 << 20;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{:<44} {:>14} {:>28} {:>9}", "", "measured", "bar", "seconds");
    let run = |name: &str, bench: &dyn Fn(&Place) -> Vec<Row>| {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            eprint!("{name} …\r");
            let begin = Instant::now();
            let rows = bench(&Place::new(name));
            for row in rows {
                let seconds = begin.elapsed().as_secs_f64();
                println!("{:<44} {:>14} {:>28} {seconds:>9.1}", row.name, row.measured, row.bar);
            }
            std::io::stdout().flush().unwrap();
        }
    };
    run("start", &start);
    run("relaxed", &|place| runtime.block_on(relaxed(place)));
    run("fsync", &|place| runtime.block_on(fsync(place)));
    run("latency", &|place| runtime.block_on(latency(place)));
    run("small", &|place| runtime.block_on(small(place)));
    run("tail", &|place| runtime.block_on(tail(place)));
    run("cold", &|place| runtime.block_on(cold(place)));
    run("partitions", &|place| runtime.block_on(partitions(place)));
}

struct Row {
    name: String,
    measured: String,
    bar: String,
}

fn row(name: impl Into<String>, measured: impl Into<String>, bar: impl Into<String>) -> Row {
    Row { name: name.into(), measured: measured.into(), bar: bar.into() }
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn mb_per_second(bytes: u64, time: Duration) -> String {
    format!("{:.0} MB/s", rate(bytes, time))
}

/// A directory that goes when the bench is done.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn new(name: &str) -> Place {
        let root =
            std::env::var_os("POLYMQ_BENCH_DIR").map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        let directory = root.join(format!("engine-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Place { directory }
    }

    /// A directory in it, that goes earlier.
    fn inner(&self, name: &str) -> Place {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Place { directory }
    }

    fn disk(&self) -> Arc<RealDisk> {
        Arc::new(RealDisk::open(&self.directory).unwrap())
    }

    fn open(&self, config: Config, partitions: u32, durability: Durability) -> Engine {
        let topic = Topic {
            id: TOPIC,
            namespace: "default".to_owned(),
            name: "bench".to_owned(),
            partitions,
            settings: TopicSettings { durability, ..TopicSettings::default() },
            labels: BTreeMap::new(),
            created_ms: 0,
            version: 1,
        };
        Engine::open(config, self.disk(), Arc::new(SystemClock), Formats::default(), vec![topic]).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn one_shard() -> Config {
    Config { shards: Some(1), ..Config::default() }
}

fn batch(bytes: usize) -> Batch {
    Batch::new(FormatId::RAW, 1, 1, Bytes::from(vec![7; bytes]))
}

fn append_of(index: u32, batch: &Batch) -> Append {
    Append { partition: PartitionId { topic: TOPIC, index }, batch: batch.clone() }
}

/// Appends `count` requests with so many in flight; panics if one is refused. Returns the time it took.
async fn append_all(engine: &Engine, count: u64, in_flight: usize, request: impl Fn(u64) -> AppendRequest) -> Duration {
    let begin = Instant::now();
    let mut waiting = VecDeque::new();
    for number in 0..count {
        waiting.push_back(engine.append(request(number)));
        if waiting.len() == in_flight {
            let answers = waiting.pop_front().unwrap().await;
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        }
    }
    for answer in waiting {
        assert!(answer.await.iter().all(Result::is_ok));
    }
    begin.elapsed()
}

/// Memory of this process that is in use, bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn start(place: &Place) -> Vec<Row> {
    let before = resident();
    let begin = Instant::now();
    let engine = place.open(Config::default(), 1, Durability::Fsync);
    let opened = begin.elapsed();
    let used = resident() - before;
    engine.stop();
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    vec![
        row("start on an empty directory", millis(opened), "< 100 ms"),
        row("  memory it takes", format!("{:.1} MB", used as f64 / 1e6), "a few MB"),
    ]
}

/// How often what is compared with a plain loop is measured; the two take turns, and medians are shown.
const TURNS: usize = 5;

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The median of the ratios of pairs: both of a pair met the same machine.
fn compared(name: &str, pairs: &[(f64, f64)], bar: &str) -> Row {
    let ours = median(pairs.iter().map(|(ours, _)| *ours).collect());
    let plain = median(pairs.iter().map(|(_, plain)| *plain).collect());
    let ratio = median(pairs.iter().map(|(ours, plain)| ours / plain).collect());
    row(name, format!("{ours:.0} MB/s"), format!("{bar}; {ratio:.2} of {plain:.0}"))
}

async fn relaxed(place: &Place) -> Vec<Row> {
    let batch = batch(64 << 10);
    let request = |_| AppendRequest { appends: vec![append_of(0, &batch)] };
    let mut rows = Vec::new();
    let mut pairs = Vec::new();
    for turn in 0..TURNS {
        let plain = plain_writes(place, 64 << 10, 12_000, false);
        let place = place.inner(&format!("turn-{turn}"));
        let engine = place.open(one_shard(), 1, Durability::Relaxed);
        let warm = append_all(&engine, 3000, 64, request).await;
        if turn == 0 {
            rows.push(row("64 KiB batches, relaxed, first 200 MB", mb_per_second(3000 << 16, warm), ""));
        }
        let time = append_all(&engine, 12_000, 64, request).await;
        engine.stop();
        pairs.push((rate(12_000 << 16, time), rate(12_000 << 16, plain)));
    }
    rows.push(compared("64 KiB batches, relaxed, 0.8 GB at once", &pairs, "1000 MB/s"));
    // More than the page cache is allowed to take before the disk has it.
    let place = place.inner("long");
    let engine = place.open(one_shard(), 1, Durability::Relaxed);
    let time = append_all(&engine, 48_000, 64, request).await;
    rows.push(row("64 KiB batches, relaxed, 3.1 GB at once", mb_per_second(48_000 << 16, time), "the disk's rate"));
    rows
}

/// A plain loop: the same sizes into a new file, or with a sync each into one of zeros.
fn plain_writes(place: &Place, bytes: usize, count: u64, synced: bool) -> Duration {
    let disk = place.disk();
    let file = disk.open("plain").unwrap();
    if synced {
        file.zero(0, bytes as u64 * count).unwrap();
        file.sync_data().unwrap();
    }
    let payload = vec![7; bytes];
    let begin = Instant::now();
    for number in 0..count {
        file.write_at(number * bytes as u64, &[IoSlice::new(&payload)]).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
    }
    let time = begin.elapsed();
    // What it left is not to be written while the other is measured.
    file.sync_data().unwrap();
    disk.remove("plain").unwrap();
    time
}

async fn fsync(place: &Place) -> Vec<Row> {
    let mut rows = Vec::new();
    for (bytes, in_flight) in [(64usize << 10, 1usize), (64 << 10, 16), (64 << 10, 64), (1 << 10, 256)] {
        // Half of what is in flight is in a group: the other half gathers.
        let group = bytes * in_flight.div_ceil(2);
        let total = (100 * MIB).min(group as u64 * 1000);
        let engine = place.open(one_shard(), 1, Durability::Fsync);
        let batch = batch(bytes);
        let request = |_| AppendRequest { appends: vec![append_of(0, &batch)] };
        // Past the first, small packs.
        append_all(&engine, 100 * MIB / bytes as u64, in_flight.max(64), request).await;
        let mut pairs = Vec::new();
        for turn in 0..TURNS {
            let plain = || plain_writes(&place.inner(&format!("plain-{turn}")), group, total / group as u64, true);
            let before = (turn % 2 == 0).then(plain);
            let time = append_all(&engine, total / bytes as u64, in_flight, request).await;
            let plain = before.unwrap_or_else(plain);
            pairs.push((rate(total, time), rate(total, plain)));
        }
        engine.stop();
        let name = format!("{} KiB batches, fsync, {in_flight} in flight", bytes >> 10);
        rows.push(compared(&name, &pairs, "0.8 of plain"));
    }
    rows
}

async fn latency(place: &Place) -> Vec<Row> {
    let engine = place.open(one_shard(), 1, Durability::Fsync);
    let batch = batch(1 << 10);
    let mut times = Vec::new();
    for _ in 0..3000 {
        let begin = Instant::now();
        assert!(engine.append(AppendRequest { appends: vec![append_of(0, &batch)] }).await[0].is_ok());
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |part: f64| format!("{:.2} ms", times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e3);
    vec![row("1 KiB, fsync, one after the other: p50", at(0.5), ""), row("  p99", at(0.99), "")]
}

async fn small(place: &Place) -> Vec<Row> {
    let batch = batch(1 << 10);
    let per_second = |count: u64, time: Duration| format!("{:.0} /s", count as f64 / time.as_secs_f64());
    let mut rows = Vec::new();
    for (name, durability) in [("fsync", Durability::Fsync), ("relaxed", Durability::Relaxed)] {
        let engine = place.open(one_shard(), 64, durability);
        let count = 300_000;
        let request = |number| AppendRequest { appends: vec![append_of((number % 64) as u32, &batch)] };
        append_all(&engine, 100_000, 1024, request).await;
        let time = append_all(&engine, count, 1024, request).await;
        rows.push(row(format!("1 KiB batches, {name}, 1 in a request"), per_second(count, time), ""));
        let request = |_| AppendRequest { appends: (0..64).map(|index| append_of(index, &batch)).collect() };
        let time = append_all(&engine, count / 64, 16, request).await;
        rows.push(row(format!("1 KiB batches, {name}, 64 in a request"), per_second(count, time), ""));
        engine.stop();
    }
    rows
}

fn fetch_from(offset: u64, bytes_max: u32) -> FetchRequest {
    let partition = PartitionId { topic: TOPIC, index: 0 };
    FetchRequest {
        partitions: vec![FetchPartition { partition, offset, bytes_max }],
        bytes_min: 1,
        bytes_max,
        wait: Duration::from_secs(5),
        isolation: Isolation::All,
    }
}

/// Reads from `from` to the end, several times. Returns bytes and time.
async fn read_from(engine: &Engine, from: u64, times: u32) -> (u64, Duration) {
    let begin = Instant::now();
    let mut bytes = 0;
    for _ in 0..times {
        let mut offset = from;
        loop {
            let fetched = engine.fetch(fetch_from(offset, 1 << 20)).await.remove(0).unwrap();
            bytes += fetched.batches.iter().map(Batch::stored_bytes).sum::<usize>() as u64;
            offset = fetched.batches.last().unwrap().header.next_offset();
            if offset == fetched.bounds.end_offset {
                break;
            }
        }
    }
    (bytes, begin.elapsed())
}

async fn tail(place: &Place) -> Vec<Row> {
    let engine = place.open(one_shard(), 1, Durability::Relaxed);
    let batch = batch(64 << 10);
    append_all(&engine, 1000, 64, |_| AppendRequest { appends: vec![append_of(0, &batch)] }).await;
    let (bytes, time) = read_from(&engine, 500, 1000).await;
    let mut rows = vec![row("64 KiB batches read from the tail cache", mb_per_second(bytes, time), "3000 MB/s")];
    // A reader that follows a writer: how long after an append was answered its batch is read.
    let writer = engine.clone();
    let writing = tokio::spawn(async move {
        append_all(&writer, 20_000, 64, |_| AppendRequest { appends: vec![append_of(0, &batch)] }).await
    });
    let (mut offset, mut bytes, begin) = (1000, 0, Instant::now());
    while offset < 21_000 {
        let fetched = engine.fetch(fetch_from(offset, 1 << 20)).await.remove(0).unwrap();
        bytes += fetched.batches.iter().map(Batch::stored_bytes).sum::<usize>() as u64;
        offset = fetched.batches.last().unwrap().header.next_offset();
    }
    rows.push(row("64 KiB batches, relaxed, followed by a reader", mb_per_second(bytes, begin.elapsed()), ""));
    writing.await.unwrap();
    rows
}

async fn cold(place: &Place) -> Vec<Row> {
    let engine = place.open(Config { cache_bytes: 0, ..one_shard() }, 1, Durability::Relaxed);
    let large = batch(64 << 10);
    append_all(&engine, 8000, 64, |_| AppendRequest { appends: vec![append_of(0, &large)] }).await;
    let (bytes, time) = read_from(&engine, 0, 2).await;
    let mut rows = vec![row("64 KiB batches read from the page cache", mb_per_second(bytes, time), "")];
    let small = batch(1 << 10);
    append_all(&engine, 200_000, 1024, |_| AppendRequest { appends: vec![append_of(0, &small)] }).await;
    let (bytes, time) = read_from(&engine, 8000, 2).await;
    rows.push(row("1 KiB batches read from the page cache", mb_per_second(bytes, time), ""));
    rows
}

async fn partitions(place: &Place) -> Vec<Row> {
    const PARTITIONS: u32 = 10_000;
    let small = batch(1 << 10);
    let engine = place.open(Config::default(), PARTITIONS, Durability::Relaxed);
    let request = |number| AppendRequest { appends: vec![append_of((number % u64::from(PARTITIONS)) as u32, &small)] };
    // Several packs, each with batches of all partitions.
    append_all(&engine, 600_000, 1024, request).await;
    engine.stop();
    drop(engine);
    let before = resident();
    let begin = Instant::now();
    let engine = place.open(Config::default(), PARTITIONS, Durability::Relaxed);
    let clean = begin.elapsed();
    let used = resident().saturating_sub(before);
    let time = append_all(&engine, 300_000, 1024, request).await;
    engine.stop();
    vec![
        row("open with 10,000 partitions, 0.6 GB", format!("{:.0} ms", clean.as_secs_f64() * 1e3), ""),
        row("  memory it takes more", format!("{:.1} MB", used as f64 / 1e6), ""),
        row("1 KiB batches over 10,000 partitions", format!("{:.0} /s", 300_000.0 / time.as_secs_f64()), ""),
    ]
}
