//! The process's own HTTP port: `/health` for who starts and watches it, `/metrics` in Prometheus' text format.
//!
//! HTTP/1.1, one request a connection; nothing else is served, so no library is needed for it. Loopback unless configured: it asks
//! nobody who they are.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How long one request may take, from its connection to its answer's last byte.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long it may take to ask: who does not takes a seat from those who do.
const HEAD_MAX: Duration = Duration::from_secs(2);
/// The longest request line and headers.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Requests at once; more wait.
const REQUESTS_MAX: usize = 64;

/// Writes some metrics.
pub type Source = Arc<dyn Fn(&mut Metrics) + Send + Sync>;

/// Says whether the process can do its work, and if not, why.
pub type Health = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Metrics as text.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// All that was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Begins a metric; its values follow. `kind`: `counter`, `gauge` or `histogram`.
    pub fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A value of the metric that was begun.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A histogram: of each bound how many were not above it, then how many there were and their sum.
    pub fn histogram(&mut self, name: &str, help: &str, at_most: &[(f64, u64)], count: u64, sum: f64) {
        self.begin(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, below) in at_most {
            self.value(&bucket, &[("le", &bound.to_string())], *below as f64);
        }
        self.value(&bucket, &[("le", "+Inf")], count as f64);
        self.value(&format!("{name}_sum"), &[], sum);
        self.value(&format!("{name}_count"), &[], count as f64);
    }

    /// A metric with one value.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.begin(name, kind, help);
        self.value(name, &[], value);
    }
}

/// A running port. It ends with this.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Admin {
    /// Listens at the address, or where nobody said one (None), at `default`; there it is done without if the address is taken, as by
    /// another process of ours on the same machine.
    pub async fn start(
        listen: Option<SocketAddr>,
        default: Option<SocketAddr>,
        sources: Vec<Source>,
        health: Health,
    ) -> io::Result<Option<Admin>> {
        let Some(address) = listen.or(default) else { return Ok(None) };
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) if listen.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(%address, "no health and metrics: the port is taken");
                return Ok(None);
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))),
        };
        let address = listener.local_addr()?;
        tracing::info!(%address, "health and metrics");
        let serving = tokio::spawn(serve(listener, Arc::new(sources), health));
        Ok(Some(Admin { address, serving }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: TcpListener, sources: Arc<Vec<Source>>, health: Health) {
    let seats = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Ok(seat) = seats.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Usually a lack of file descriptors, which does not mend at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (sources, health) = (sources.clone(), health.clone());
        tokio::spawn(async move {
            // Nobody is told of a request that is not finished.
            let _ = tokio::time::timeout(REQUEST_MAX, answer(stream, &sources, &health)).await;
            drop(seat);
        });
    }
}

async fn answer(mut stream: TcpStream, sources: &[Source], health: &Health) -> io::Result<()> {
    let Ok(head) = tokio::time::timeout(HEAD_MAX, read_head(&mut stream)).await else { return Ok(()) };
    let Some(head) = head? else { return Ok(()) };
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => {
            let mut metrics = Metrics::default();
            process(&mut metrics);
            sources.iter().for_each(|source| source(&mut metrics));
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics.text)
        }
        (b"GET" | b"HEAD", b"/health") => match health().await {
            Ok(()) => ("200 OK", TEXT, "ok\n".to_owned()),
            Err(reason) => ("503 Service Unavailable", TEXT, format!("{reason}\n")),
        },
        (b"GET" | b"HEAD", _) => ("404 Not Found", TEXT, "there are /health and /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", TEXT, "GET it\n".to_owned()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if method != b"HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// The request line and headers. None: the peer has gone before their end, or they have none.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

/// What the operating system says of this process; nothing where it says nothing.
fn process(metrics: &mut Metrics) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, which may have blanks, ends with the last parenthesis.
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    // From the state (the third field) on: 14 and 15 are the time in ticks of 10 ms, 20 the threads, 24 the resident pages of 4 KiB.
    if let (Some(user), Some(system), Some(threads), Some(pages)) =
        (fields.get(11), fields.get(12), fields.get(17), fields.get(21))
    {
        let seconds = (user + system) / 100.0;
        metrics.single("process_cpu_seconds_total", "counter", "User and system time.", seconds);
        metrics.single("process_threads", "gauge", "Threads.", *threads);
        metrics.single("process_resident_memory_bytes", "gauge", "Resident memory.", pages * 4096.0);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        metrics.single("process_open_fds", "gauge", "Open file descriptors.", open.count() as f64);
    }
    if let Some(most) = files_max() {
        metrics.single("process_max_fds", "gauge", "File descriptors that may be open.", most);
    }
}

/// The soft limit; None where there is none, or the system does not say.
fn files_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn healthy(outcome: Result<(), &'static str>) -> Health {
        Arc::new(move || Box::pin(async move { outcome.map_err(str::to_owned) }))
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let source: Source = Arc::new(|metrics| {
            metrics.begin("asked_total", "counter", "Asked.");
            metrics.value("asked_total", &[("api", "Fetch"), ("version", "3")], 7.0);
            metrics.value("asked_total", &[], 0.5);
            metrics.value("asked_total", &[("by", "a\"\\\n")], 1.0);
            metrics.histogram("took_seconds", "Took.", &[(0.1, 2), (1.0, 2)], 3, 4.5);
        });
        let any = Some("127.0.0.1:0".parse().unwrap());
        let admin = Admin::start(any, None, vec![source], healthy(Ok(()))).await.unwrap().unwrap();
        let answer = ask(admin.address(), "GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains(&format!("content-length: {}", body.len())));
        let asked = "# TYPE asked_total counter\nasked_total{api=\"Fetch\",version=\"3\"} 7\nasked_total 0.5\n";
        assert!(body.contains(asked) && body.contains("process_resident_memory_bytes "), "{body}");
        assert!(body.contains("asked_total{by=\"a\\\"\\\\\\n\"} 1\n"), "{body}");
        let took = "# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.1\"} 2\ntook_seconds_bucket{le=\"1\"} 2\n\
                    took_seconds_bucket{le=\"+Inf\"} 3\ntook_seconds_sum 4.5\ntook_seconds_count 3\n";
        assert!(body.contains(took), "{body}");
        assert!(ask(admin.address(), "GET /health HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\nok\n"));
        assert!(ask(admin.address(), "HEAD /health HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\n"));
        assert!(ask(admin.address(), "GET /x HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(admin.address(), "POST /health HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));

        // A taken port is an error only for who asked for it.
        let taken = Some(admin.address());
        let refused = Admin::start(taken, None, Vec::new(), healthy(Ok(()))).await.unwrap_err();
        assert!(refused.to_string().contains(&admin.address().to_string()), "{refused}");
        assert!(Admin::start(None, taken, Vec::new(), healthy(Ok(()))).await.unwrap().is_none());
        assert!(Admin::start(None, None, Vec::new(), healthy(Ok(()))).await.unwrap().is_none());
        let sick = Admin::start(any, None, Vec::new(), healthy(Err("no core"))).await.unwrap().unwrap();
        let answer = ask(sick.address(), "GET /health HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no core\n"));
    }
}
