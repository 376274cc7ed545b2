//! A listening socket: accepts connections, bounds their number, and drains them when it is stopped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that the kernel may hold until they are accepted: a whole fleet may reconnect at once.
const BACKLOG: i32 = 4096;

/// How long to wait after a failed accept, which is usually a lack of file descriptors and does not mend at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How often it is told that accepts fail.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// Opens a listening socket. Port 0 is picked by the kernel; see [`TcpListener::local_addr`].
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The connections that may be open at once. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Seats {
    shared: Arc<SharedSeats>,
}

#[derive(Debug)]
struct SharedSeats {
    max: AtomicUsize,
    /// Also that of the connection that is awaited.
    taken: AtomicUsize,
    open: AtomicUsize,
    /// A seat was given back, or there are more.
    freed: Notify,
}

impl Seats {
    fn new(max: usize) -> Self {
        Seats {
            shared: Arc::new(SharedSeats { max: max.into(), taken: 0.into(), open: 0.into(), freed: Notify::new() }),
        }
    }

    /// How many connections may be open from now on. If more are, they stay.
    pub fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Release);
        self.shared.freed.notify_one();
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Waits for a seat. Only one may wait.
    async fn take(&self) -> Seat {
        while self.shared.taken.load(Ordering::Acquire) >= self.shared.max.load(Ordering::Acquire) {
            // A seat that is given back before this waits is remembered.
            self.shared.freed.notified().await;
        }
        self.shared.taken.fetch_add(1, Ordering::AcqRel);
        Seat { seats: self.clone(), is_open: false }
    }
}

/// A connection's.
struct Seat {
    seats: Seats,
    is_open: bool,
}

impl Seat {
    /// The connection has come.
    fn open(&mut self) {
        self.is_open = true;
        self.seats.shared.open.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.shared.open.fetch_sub(usize::from(self.is_open), Ordering::Relaxed);
        self.seats.shared.taken.fetch_sub(1, Ordering::AcqRel);
        self.seats.shared.freed.notify_one();
    }
}

/// A listener whose connections are being served.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    seats: Seats,
    draining: CancellationToken,
    ending: CancellationToken,
    sessions: TaskTracker,
}

/// Serves each connection in a task of its own. At most `connections_max` are open at once; more wait to be accepted.
///
/// `session` gets the connection and a token that is cancelled when it should end: answer what has been asked, then
/// close.
pub fn serve<F, S>(listener: TcpListener, connections_max: usize, session: F) -> io::Result<Server>
where
    F: Fn(TcpStream, SocketAddr, CancellationToken) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let server = Server {
        address: listener.local_addr()?,
        seats: Seats::new(connections_max),
        draining: CancellationToken::new(),
        ending: CancellationToken::new(),
        sessions: TaskTracker::new(),
    };
    let accepting = accept_all(
        listener,
        server.seats.clone(),
        server.draining.clone(),
        server.ending.clone(),
        server.sessions.clone(),
        session,
    );
    let draining = server.draining.clone();
    server.sessions.spawn(async move {
        tokio::select! {
            _ = draining.cancelled() => {}
            _ = accepting => {}
        }
    });
    Ok(server)
}

/// Accepts that failed, told of now and then: a lack of file descriptors lasts, and each is tried many times a second.
#[derive(Default)]
struct Failures {
    told: Option<Instant>,
    untold: u64,
}

impl Failures {
    /// One more. How many there were since they were last told of, if it is time to.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < TELL_AFTER) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

async fn accept_all<F, S>(
    listener: TcpListener,
    seats: Seats,
    draining: CancellationToken,
    ending: CancellationToken,
    sessions: TaskTracker,
    session: F,
) where
    F: Fn(TcpStream, SocketAddr, CancellationToken) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut failures = Failures::default();
    loop {
        let mut seat = seats.take().await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(times) = failures.one_more(Instant::now()) {
                    tracing::warn!(%error, times, "cannot accept connections; they wait");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // Answers are written whole; waiting to fill a packet would only delay them.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        seat.open();
        let running = session(stream, peer, draining.clone());
        let ending = ending.clone();
        sessions.spawn(async move {
            tokio::select! {
                _ = running => {}
                _ = ending.cancelled() => {}
            }
            drop(seat);
        });
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connections that may be open at once.
    pub fn seats(&self) -> Seats {
        self.seats.clone()
    }

    /// Takes no more connections and asks the open ones to end; those that have not after `grace` are cut.
    pub async fn stop(self, grace: Duration) {
        self.draining.cancel();
        self.sessions.close();
        if tokio::time::timeout(grace, self.sessions.wait()).await.is_err() {
            tracing::warn!(sessions = self.sessions.len(), "cutting connections that did not end in time");
            self.ending.cancel();
            self.sessions.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo(mut stream: TcpStream, _: SocketAddr, draining: CancellationToken) {
        let mut byte = [0];
        loop {
            tokio::select! {
                read = stream.read_exact(&mut byte) => if read.is_err() || stream.write_all(&byte).await.is_err() { return },
                _ = draining.cancelled() => return,
            }
        }
    }

    fn any_port() -> TcpListener {
        bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    #[test]
    fn failed_accepts_are_told_of_now_and_then() {
        let (begin, mut failures) = (Instant::now(), Failures::default());
        assert_eq!(failures.one_more(begin), Some(1));
        assert_eq!(failures.one_more(begin + ACCEPT_RETRY), None);
        assert_eq!(failures.one_more(begin + TELL_AFTER), Some(2));
    }

    #[tokio::test]
    async fn a_stopped_listener_ends_its_sessions() {
        let server = serve(any_port(), 10, echo).unwrap();
        let mut client = TcpStream::connect(server.address()).await.unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'a');
        server.stop(Duration::from_secs(10)).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_session_that_does_not_end_is_cut() {
        let server = serve(any_port(), 10, |stream, _, _| async move {
            let _held = stream;
            std::future::pending().await
        })
        .unwrap();
        let mut client = TcpStream::connect(server.address()).await.unwrap();
        server.stop(Duration::from_millis(10)).await;
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_for_a_seat() {
        let server = serve(any_port(), 1, echo).unwrap();
        let mut first = TcpStream::connect(server.address()).await.unwrap();
        first.write_all(b"a").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'a');
        let mut second = TcpStream::connect(server.address()).await.unwrap();
        second.write_all(b"b").await.unwrap();
        drop(first);
        assert_eq!(second.read_u8().await.unwrap(), b'b');
        // There are more from now on.
        let mut third = TcpStream::connect(server.address()).await.unwrap();
        third.write_all(b"c").await.unwrap();
        server.seats().set_max(2);
        assert_eq!(third.read_u8().await.unwrap(), b'c');
        assert_eq!(server.seats().open(), 2);
    }
}
