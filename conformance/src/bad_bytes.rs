//! The client that does not follow the protocol: garbage, half frames, absurd lengths, connections that never read.
//!
//! After each of them the broker must still answer a well-behaved connection that was there before, and a new one, and
//! its memory must stay within bounds. What a broker does with the bad connection itself (close it, mostly) is checked
//! where Apache Kafka is definite about it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::broker::Broker;
use crate::report::Outcome;

/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How much memory all bad connections together may cost while they last, bytes.
const GROWTH_BYTES_MAX: u64 = 300 << 20;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;

const UNSUPPORTED_VERSION: i16 = 35;
const CORRUPT_MESSAGE: i16 = 2;

type Case = (&'static str, fn(&str) -> Result<()>);

const CASES: [Case; 13] = [
    ("bad_garbage", garbage),
    ("bad_half_frame", half_frame),
    ("bad_lengths", lengths),
    ("bad_api_key", api_key),
    ("bad_version", version),
    ("bad_api_versions_version", api_versions_version),
    ("bad_array_lengths", array_lengths),
    ("bad_random_bodies", random_bodies),
    ("bad_truncated_bodies", truncated_bodies),
    ("bad_record_batches", record_batches),
    ("bad_never_reads", never_reads),
    ("bad_idle_connections", idle_connections),
    ("bad_slow_writer", slow_writer),
];

/// Runs the cases wanted (none: all) against a running broker; `tell` gets each outcome.
pub fn run(broker: &Broker, cases: &[String], mut tell: impl FnMut(&str, Outcome)) {
    let mut good = None;
    for (name, case) in CASES {
        if !cases.is_empty() && !cases.iter().any(|wanted| wanted == name) {
            continue;
        }
        let start = Instant::now();
        let before = broker.resident_bytes();
        let outcome = case(&broker.bootstrap)
            .and_then(|()| still_well(&broker.bootstrap, &mut good))
            .and_then(|()| within_bounds(before, broker.resident_bytes()));
        tell(
            name,
            match outcome {
                Ok(()) => Outcome::Passed(start.elapsed()),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        );
    }
}

/// How many brokers the metadata names.
pub fn metadata_brokers(bootstrap: &str) -> Result<usize> {
    let mut connection = Connection::open(bootstrap)?;
    let answer = connection.call(METADATA, 1, &(-1i32).to_be_bytes())?;
    let count = answer.get(0..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    Ok(count.context("a metadata answer without brokers")?.max(0) as usize)
}

/// A new connection and the one that has been there all along both get answers.
fn still_well(bootstrap: &str, good: &mut Option<Connection>) -> Result<()> {
    ensure!(metadata_brokers(bootstrap).context("a new connection afterwards")? > 0, "metadata without brokers");
    let connection = match good {
        Some(connection) => connection,
        None => good.insert(Connection::open(bootstrap)?),
    };
    connection.call(METADATA, 1, &(-1i32).to_be_bytes()).context("the well-behaved connection")?;
    Ok(())
}

fn within_bounds(before: Option<u64>, after: Option<u64>) -> Result<()> {
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.saturating_sub(before);
        ensure!(grown < GROWTH_BYTES_MAX, "the broker grew by {} MiB", grown >> 20);
    }
    Ok(())
}

// === the cases ===

fn garbage(bootstrap: &str) -> Result<()> {
    let mut random = Random(1);
    for length in [1usize, 3, 4, 5, 64, 1_000, 100_000] {
        let mut connection = Connection::open(bootstrap)?;
        let bytes: Vec<u8> = (0..length).map(|_| random.draw() as u8).collect();
        connection.try_write(&bytes);
    }
    // What other protocols' clients send to a wrong port.
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"AMQP\0\0\x09\x01",
    ] {
        Connection::open(bootstrap)?.try_write(bytes);
    }
    // "GET " read as a length is over a gigabyte.
    let mut connection = Connection::open(bootstrap)?;
    connection.try_write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.expect_closed()
}

fn half_frame(bootstrap: &str) -> Result<()> {
    let whole = frame(METADATA, 1, &(-1i32).to_be_bytes());
    let mut held = Vec::new();
    for cut in 1..whole.len() {
        let mut connection = Connection::open(bootstrap)?;
        connection.try_write(&whole[..cut]);
        // Half of them stay open, half are closed in the middle of a frame.
        if cut % 2 == 0 {
            held.push((connection, cut));
        }
    }
    still_well(bootstrap, &mut None)?;
    for (mut connection, cut) in held {
        connection.try_write(&whole[cut..]);
        connection.read_frame().with_context(|| format!("a frame whose last bytes came late, cut at {cut}"))?;
    }
    Ok(())
}

fn lengths(bootstrap: &str) -> Result<()> {
    for length in [i32::MAX, i32::MIN, -1, 0, 200_000_000] {
        let mut connection = Connection::open(bootstrap)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0; 64]);
        connection.try_write(&bytes);
        connection.expect_closed().with_context(|| format!("frame length {length}"))?;
    }
    // Too short for a request header.
    for length in 1..8i32 {
        let mut connection = Connection::open(bootstrap)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(vec![0; length as usize]);
        connection.try_write(&bytes);
        connection.expect_closed().with_context(|| format!("frame of {length} bytes"))?;
    }
    Ok(())
}

fn api_key(bootstrap: &str) -> Result<()> {
    for key in [-1, 9_999, i16::MAX] {
        let mut connection = Connection::open(bootstrap)?;
        connection.try_write(&frame(key, 0, &[]));
        connection.expect_closed().with_context(|| format!("api key {key}"))?;
    }
    Ok(())
}

fn version(bootstrap: &str) -> Result<()> {
    for (key, version) in [(METADATA, 99), (METADATA, -1), (PRODUCE, 99), (CREATE_TOPICS, 0), (1, 99)] {
        let mut connection = Connection::open(bootstrap)?;
        connection.try_write(&frame(key, version, &[0; 32]));
        connection.expect_closed().with_context(|| format!("api key {key} version {version}"))?;
    }
    Ok(())
}

/// The one request that may come in a version the broker does not know: it answers in version 0, and the connection lives.
fn api_versions_version(bootstrap: &str) -> Result<()> {
    let mut connection = Connection::open(bootstrap)?;
    for version in [99, 5_000, i16::MAX] {
        let answer = connection.call(API_VERSIONS, version, &[0; 8])?;
        let error = answer.get(0..2).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes);
        ensure!(error == Some(UNSUPPORTED_VERSION), "version {version}: error {error:?}, wanted 35");
        let keys = parse_api_versions(&answer[2..]).context("its list, in the layout of version 0")?;
        ensure!(keys.iter().any(|(key, _, max)| *key == API_VERSIONS && *max >= 3), "its list names ApiVersions");
    }
    connection.call(METADATA, 1, &(-1i32).to_be_bytes()).context("the same connection goes on")?;
    Ok(())
}

/// Array and string lengths of billions with nothing behind them, at every advertised request.
fn array_lengths(bootstrap: &str) -> Result<()> {
    let bodies: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],                         // an array of i32::MAX
        &[0, 0x7f, 0xff, 0xff, 0xff],                      // the same after a tag buffer
        &[0xff, 0xff, 0xff, 0xff, 0x0f],                   // a compact array of u32::MAX - 1
        &[0, 0xff, 0xff, 0xff, 0xff, 0x0f],                // the same after a tag buffer
        &[0, 0x80, 0x80, 0x80, 0x80, 0x08],                // a compact array of i32::MAX
        &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff], // lengths further in
    ];
    each_request(bootstrap, |_| bodies.iter().map(|body| body.to_vec()).collect())
}

fn random_bodies(bootstrap: &str) -> Result<()> {
    let mut random = Random(2);
    each_request(bootstrap, |_| {
        (0..6).map(|_| (0..1 + random.draw() % 200).map(|_| random.draw() as u8).collect()).collect()
    })
}

/// Zeros of every short length: for many requests this ends in the middle of a field.
fn truncated_bodies(bootstrap: &str) -> Result<()> {
    each_request(bootstrap, |_| [0usize, 1, 2, 3, 5, 8, 13, 21, 34].iter().map(|length| vec![0; *length]).collect())
}

/// Sends bodies to every request at its lowest and highest version; an answer and a closed connection are both fine.
fn each_request(bootstrap: &str, mut bodies: impl FnMut(i16) -> Vec<Vec<u8>>) -> Result<()> {
    let advertised = {
        let answer = Connection::open(bootstrap)?.call(API_VERSIONS, 0, &[])?;
        parse_api_versions(answer.get(2..).context("an ApiVersions answer")?)?
    };
    ensure!(advertised.len() > 10, "only {} requests are advertised", advertised.len());
    for (key, min, max) in advertised {
        // Requests that wait by design (JoinGroup and the like) must not hold this up: nothing is read here.
        for version in [min, max] {
            for body in bodies(key) {
                Connection::open(bootstrap)?.try_write(&frame(key, version, &body));
            }
        }
    }
    Ok(())
}

/// Record batches that are wrong in one way each; the right one is taken, before and after.
fn record_batches(bootstrap: &str) -> Result<()> {
    let topic = format!("bad-bytes-{}", std::process::id() ^ Instant::now().elapsed().subsec_nanos());
    let mut connection = Connection::open(bootstrap)?;
    let deadline = Instant::now() + ANSWER_DEADLINE;
    // The first metadata request creates the topic; it takes writes a little later.
    while produce(&mut connection, &topic, &batch())? != 0 {
        ensure!(Instant::now() < deadline, "a correct batch is not taken");
        metadata_of(&mut connection, &topic)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let good = batch();
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    ensure!(produce(&mut connection, &topic, &flipped)? == CORRUPT_MESSAGE, "a flipped bit is a corrupt message");
    let mut checksum = good.clone();
    checksum[17] ^= 0x80;
    ensure!(produce(&mut connection, &topic, &checksum)? == CORRUPT_MESSAGE, "a wrong checksum is a corrupt message");
    for cut in [1usize, 12, 30, 60, good.len() - 1] {
        let mut connection = Connection::open(bootstrap)?;
        // Apache answers some of these and drops the connection on others; neither may be a success.
        if let Ok(error) = produce(&mut connection, &topic, &good[..cut]) {
            ensure!(error != 0, "a batch cut to {cut} bytes was taken");
        }
    }
    for (at, byte, what) in
        [(16usize, 9u8, "magic 9"), (60, 50, "a record count of 50"), (26, 9, "a last offset delta of 9")]
    {
        let mut wrong = good.clone();
        wrong[at] = byte;
        seal(&mut wrong);
        let mut connection = Connection::open(bootstrap)?;
        if let Ok(error) = produce(&mut connection, &topic, &wrong) {
            ensure!(error != 0, "a batch with {what} was taken");
        }
    }
    ensure!(produce(&mut connection, &topic, &good)? == 0, "the right batch is taken afterwards");
    Ok(())
}

/// Requests pipelined without reading an answer: the broker must stop reading from this connection, not buffer for it.
fn never_reads(bootstrap: &str) -> Result<()> {
    let mut connection = Connection::open(bootstrap)?;
    connection.stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let many: Vec<u8> = (0..500).flat_map(|_| frame(API_VERSIONS, 0, &[])).collect();
    let deadline = Instant::now() + Duration::from_secs(8);
    let mut sent = 0u64;
    while Instant::now() < deadline && sent < 200 << 20 {
        match connection.stream.write(&many) {
            Ok(count) => sent += count as u64,
            Err(_) => return still_well(bootstrap, &mut None),
        }
    }
    bail!("the broker took {sent} bytes of requests whose answers nobody read")
}

fn idle_connections(bootstrap: &str) -> Result<()> {
    let connections: Result<Vec<Connection>> = (0..300).map(|_| Connection::open(bootstrap)).collect();
    let connections = connections.context("300 connections")?;
    still_well(bootstrap, &mut None)?;
    drop(connections);
    Ok(())
}

fn slow_writer(bootstrap: &str) -> Result<()> {
    let mut connection = Connection::open(bootstrap)?;
    for byte in frame(METADATA, 1, &(-1i32).to_be_bytes()) {
        connection.try_write(&[byte]);
        std::thread::sleep(Duration::from_millis(5));
    }
    connection.read_frame().context("a request that came byte by byte")?;
    Ok(())
}

// === the little of the protocol that this needs ===

/// A frame: length i32, then header v1 (api key i16, version i16, correlation id i32, client id string), then the body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let client = b"bad-bytes";
    let mut bytes = Vec::new();
    bytes.extend((2 + 2 + 4 + 2 + client.len() + body.len()).to_be_bytes()[4..].iter());
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7i32.to_be_bytes());
    bytes.extend((client.len() as i16).to_be_bytes());
    bytes.extend(client);
    bytes.extend(body);
    bytes
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap).context("connecting")?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Writes; a broker that closes meanwhile is within its rights.
    fn try_write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The answer's body, behind its correlation id.
    fn call(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(&frame(key, version, body)).context("sending")?;
        let answer = self.read_frame()?;
        ensure!(answer.get(0..4) == Some(&7i32.to_be_bytes()[..]), "the answer has another correlation id");
        Ok(answer[4..].to_vec())
    }

    fn read_frame(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let length = usize::try_from(i32::from_be_bytes(length)).context("a negative answer length")?;
        ensure!(length < 10 << 20, "an answer of {length} bytes");
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("half an answer")?;
        Ok(bytes)
    }

    fn expect_closed(&mut self) -> Result<()> {
        let mut byte = [0; 1];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("it was answered instead of closed"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the connection was not closed within {} s", ANSWER_DEADLINE.as_secs())
            }
            Err(_) => Ok(()),
        }
    }
}

/// ApiVersions answer v0 behind its error code: an array of (api key, lowest, highest version).
fn parse_api_versions(bytes: &[u8]) -> Result<Vec<(i16, i16, i16)>> {
    let count = i32::from_be_bytes(bytes.get(0..4).context("no count")?.try_into()?);
    let entries = bytes.get(4..4 + 6 * usize::try_from(count)?).context("fewer entries than counted")?;
    let number = |bytes: &[u8]| i16::from_be_bytes([bytes[0], bytes[1]]);
    Ok(entries.chunks(6).map(|entry| (number(entry), number(&entry[2..]), number(&entry[4..]))).collect())
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Metadata v1 of one topic, which creates it where that is allowed.
fn metadata_of(connection: &mut Connection, topic: &str) -> Result<()> {
    let mut body = 1i32.to_be_bytes().to_vec();
    string(&mut body, topic);
    connection.call(METADATA, 1, &body)?;
    Ok(())
}

/// Produce v7 of these bytes to partition 0; answers the partition's error code.
fn produce(connection: &mut Connection, topic: &str, records: &[u8]) -> Result<i16> {
    let mut body = (-1i16).to_be_bytes().to_vec(); // no transactional id
    body.extend((-1i16).to_be_bytes()); // acks all
    body.extend(5_000i32.to_be_bytes()); // timeout, ms
    body.extend(1i32.to_be_bytes());
    string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend((records.len() as i32).to_be_bytes());
    body.extend(records);
    let answer = connection.call(PRODUCE, 7, &body)?;
    // topics i32, name, partitions i32, index i32, error i16
    let at = 4 + 2 + topic.len() + 4 + 4;
    Ok(i16::from_be_bytes(answer.get(at..at + 2).context("a short produce answer")?.try_into()?))
}

/// A record batch v2 of one record:
/// base offset 8, length 4, leader epoch 4, magic 1 (at 16), CRC 4 (at 17), attributes 2 (at 21), last offset delta 4,
/// base time 8, max time 8, producer id 8, epoch 2, sequence 4, count 4 (at 57), then the record.
fn batch() -> Vec<u8> {
    let record = [9 * 2, 0, 0, 0, 1, 6, b'o', b'n', b'e', 0]; // length, attributes, time, offset, null key, value "one", no headers
    let mut bytes = vec![0; 8];
    bytes.extend((4 + 1 + 4 + 2 + 4 + 8 + 8 + 8 + 2 + 4 + 4 + record.len() as i32).to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend([0; 4]);
    bytes.extend(0i16.to_be_bytes());
    bytes.extend(0i32.to_be_bytes());
    bytes.extend(1_700_000_000_000i64.to_be_bytes());
    bytes.extend(1_700_000_000_000i64.to_be_bytes());
    bytes.extend((-1i64).to_be_bytes());
    bytes.extend((-1i16).to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend(1i32.to_be_bytes());
    bytes.extend(record);
    seal(&mut bytes);
    bytes
}

/// Writes the CRC32C of all from the attributes on.
fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
}

/// A small seeded generator (splitmix64): the same bytes in every run.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
