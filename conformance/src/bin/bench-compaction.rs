//! What compaction costs: fills a partition with 5 GB of records of a million keys, compacts it, and says how long it took, in
//! how much memory, what is left, and what a writer beside it noticed.
//!
//!     cargo run --release -p conformance --bin bench-compaction [-- GIGABYTES [KEYS [CODEC]]]
//!
//! Everything in this process, on the disk of `POLYMQ_BENCH_DIR` (or the temporary directory).

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec_record::kafka_batch::{BatchEncoder, Codec, Headers, Record, records};
use codec_record::{Batch, FormatId, Formats};
use core_log::disk::RealDisk;
use core_log::{Config, Engine, SystemClock};
use core_rpc::*;

const COMPACTED: PartitionId = PartitionId { topic: TopicId(1), index: 0 };
const BESIDE: PartitionId = PartitionId { topic: TopicId(2), index: 0 };
const VALUE_BYTES: usize = 1000;
const BATCH_RECORDS: usize = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: f64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (gigabytes, keys) = (number(0, 5.0), number(1, 1e6) as u64);
    let codec = Codec::ALL
        .into_iter()
        .find(|codec| arguments.get(2).is_some_and(|wanted| format!("{codec:?}").eq_ignore_ascii_case(wanted)));
    let root = std::env::var_os("POLYMQ_BENCH_DIR").map_or(std::env::temp_dir(), PathBuf::from);
    let directory = root.join(format!("compaction-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(run(&directory, (gigabytes * 1e9) as u64, keys, codec.unwrap_or(Codec::None)));
    std::fs::remove_dir_all(&directory)?;
    done
}

async fn run(directory: &Path, bytes: u64, keys: u64, codec: Codec) -> anyhow::Result<()> {
    let engine = open(directory)?;
    let begin = Instant::now();
    let (appended, last) = fill(&engine, bytes, keys, codec).await;
    let (seconds, mb) = (begin.elapsed().as_secs_f64(), appended as f64 / 1e6);
    println!("filled       {mb:>8.0} MB in {seconds:.1} s, {} keys of {keys}, {codec:?}", last.len());
    let size = async || anyhow::Ok(engine.inspect(vec![COMPACTED]).await.remove(0)?.size_bytes);
    let before = size().await?;
    println!("writer alone {}", percentiles(beside(&engine, &timer(Duration::from_secs(10))).await));

    let idle_mb = memory_mb("VmRSS");
    // Forget the greatest amount so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move { beside(&engine, &stop).await }
    });
    let begin = Instant::now();
    engine.clean(0).await;
    let seconds = begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::SeqCst);
    println!("writer then  {}", percentiles(writer.await?));
    let after = size().await?;
    let (before_mb, after_mb) = (before as f64 / 1e6, after as f64 / 1e6);
    println!("compacted    {before_mb:>8.0} MB to {after_mb:.0} MB in {seconds:.1} s, {:.0} MB/s", before_mb / seconds);
    println!("memory       {:>8.0} MB at most, {idle_mb:.0} MB before", memory_mb("VmHWM"));
    println!("on the disk  {:>8.0} MB", disk_bytes(directory)? as f64 / 1e6);
    check(&engine, &last).await?;
    println!("checked      the last record of each key is there, and no other");
    engine.stop();
    Ok(())
}

fn open(directory: &Path) -> anyhow::Result<Engine> {
    let topic = |id, settings| Topic {
        id: TopicId(id),
        namespace: "default".to_owned(),
        name: id.to_string(),
        partitions: 1,
        settings,
        labels: BTreeMap::new(),
        created_ms: 0,
        version: 1,
    };
    let compaction = Compaction { tombstone_retention_ms: 0, lag_ms_min: 0, lag_ms_max: None, dirty_ppm_min: 500_000 };
    let compacted =
        TopicSettings { durability: Durability::Relaxed, compaction: Some(compaction), ..Default::default() };
    let topics = vec![topic(1, compacted), topic(2, TopicSettings::default())];
    // Only when it is told to.
    let config = Config { shards: Some(1), clean_interval: Duration::ZERO, ..Config::default() };
    Ok(Engine::open(config, Arc::new(RealDisk::open(directory)?), Arc::new(SystemClock), Formats::all(), topics)?)
}

/// SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Appends records of random keys. Returns how many bytes, and the last offset of each key.
async fn fill(engine: &Engine, bytes: u64, keys: u64, codec: Codec) -> (u64, BTreeMap<u64, u64>) {
    let value = Bytes::from((0..VALUE_BYTES as u64).map(|at| mixed(at / 3) as u8).collect::<Vec<u8>>());
    let (mut appended, mut offset, mut last) = (0, 0, BTreeMap::new());
    let mut waiting = VecDeque::new();
    while appended < bytes {
        let record = |position: usize| {
            let key = mixed(offset + position as u64) % keys;
            let key = Bytes::from(format!("key-{key:012}"));
            let value = Some(value.clone());
            Record {
                offset_delta: position as i32,
                timestamp_ms: 1,
                key: Some(key),
                value,
                headers: Headers::default(),
            }
        };
        let list: Vec<Record> = (0..BATCH_RECORDS).map(record).collect();
        for position in 0..BATCH_RECORDS as u64 {
            last.insert(mixed(offset + position) % keys, offset + position);
        }
        offset += BATCH_RECORDS as u64;
        let payload = BatchEncoder { codec, ..BatchEncoder::default() }.encode(&list);
        appended += payload.len() as u64;
        let batch = Batch::new(FormatId::KAFKA_BATCH_V2, BATCH_RECORDS as u32, 1, payload);
        waiting.push_back(engine.append(AppendRequest { appends: vec![Append { partition: COMPACTED, batch }] }));
        if waiting.len() > 16
            && let Some(answer) = waiting.pop_front()
        {
            answer.await.remove(0).expect("it is appended");
        }
    }
    for answer in waiting {
        answer.await.remove(0).expect("it is appended");
    }
    (appended, last)
}

/// True after a time.
fn timer(after: Duration) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::time::sleep(after).await;
            stop.store(true, Ordering::SeqCst);
        }
    });
    stop
}

/// Appends a kilobyte to another topic of the same shard every five milliseconds, synced. Returns how long each took.
async fn beside(engine: &Engine, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut due = tokio::time::interval(Duration::from_millis(5));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::SeqCst) {
        due.tick().await;
        let batch = Batch::new(FormatId::RAW, 1, 1, Bytes::from(vec![7; 1000]));
        let begin = Instant::now();
        engine
            .append(AppendRequest { appends: vec![Append { partition: BESIDE, batch }] })
            .await
            .remove(0)
            .expect("it is appended");
        took.push(begin.elapsed());
    }
    took
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms, of {}", at(0.5), at(0.99), at(1.0), took.len())
}

/// From the system's account of this process.
fn memory_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok());
    kilobytes.unwrap_or(0.0) * 1024.0 / 1e6
}

fn disk_bytes(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Reads it all: the records must be the last of each key, at their offsets.
async fn check(engine: &Engine, last: &BTreeMap<u64, u64>) -> anyhow::Result<()> {
    let bounds = engine.inspect(vec![COMPACTED]).await.remove(0)?.bounds;
    let (mut offset, mut found) = (bounds.start_offset, 0);
    while offset < bounds.end_offset {
        let request = FetchRequest {
            partitions: vec![FetchPartition { partition: COMPACTED, offset, bytes_max: u32::MAX }],
            bytes_min: 1,
            bytes_max: 16 << 20,
            wait: Duration::ZERO,
            isolation: Isolation::All,
        };
        let fetched = engine.fetch(request).await.remove(0)?;
        anyhow::ensure!(!fetched.batches.is_empty(), "nothing from {offset} on");
        for batch in fetched.batches {
            for record in records(&batch.payload, usize::MAX)? {
                let record = record?;
                let at = batch.header.base_offset + record.offset_delta as u64;
                let key = record.key.as_deref().and_then(|key| std::str::from_utf8(&key[4..]).ok()?.parse().ok());
                anyhow::ensure!(key.and_then(|key: u64| last.get(&key)) == Some(&at), "{key:?} at {at}");
                found += 1;
            }
            offset = batch.header.next_offset();
        }
    }
    anyhow::ensure!(found == last.len(), "{found} records of {} keys", last.len());
    Ok(())
}
