//! A publisher: as many messages as its credit allows, or as many as are due.

use std::cell::RefCell;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::io::unix::AsyncFd;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use crate::client::{Client, Inbox};
use crate::credit::Credit;
use crate::flow::Shared;
use crate::meter::now_ns;
use crate::packets::{self, DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, Template};

/// Bytes of one write.
const WRITE_BYTES: usize = 64 << 10;
/// Without a delivery for so long, what is on its way is taken for lost.
const GIVE_UP: Duration = Duration::from_secs(3);

/// Runs until `shared.stopping`, and then until everything is acknowledged.
pub async fn run(client: Client, shared: Rc<Shared>, at: usize, template: Template, pace: Option<Pace>) -> Result<()> {
    let Client { stream, inbox, .. } = client;
    let (reader, mut writer) = stream.into_split();
    let replies = Rc::new(RefCell::new(Vec::new()));
    let mut reading = tokio::task::spawn_local(acknowledgements(reader, inbox, shared.clone(), at, replies.clone()));
    let credit = &shared.credits[at];
    let mut out = Vec::with_capacity(WRITE_BYTES * 2);
    loop {
        out.clear();
        out.append(&mut replies.borrow_mut());
        let stopping = shared.stopping.get();
        if stopping && credit.unacknowledged() == 0 && out.is_empty() {
            break;
        }
        if !stopping {
            fill(&mut out, credit, at, &template, pace.as_ref());
        }
        if !out.is_empty() {
            writer.write_all(&out).await.context("writing to the broker")?;
            continue;
        }
        tokio::select! {
            waited = timeout(GIVE_UP, credit.wait()) => if waited.is_err() { stalled(credit)? },
            due = async { match &pace { Some(pace) if !stopping && credit.room() > 0 => pace.tick().await, _ => std::future::pending().await } } => due?,
            ended = &mut reading => { ended??; bail!("the broker has closed a publisher's connection") }
        }
    }
    reading.abort();
    writer.write_all(&packets::DISCONNECTS).await?;
    Ok(())
}

/// Appends what may be sent now.
fn fill(out: &mut Vec<u8>, credit: &Credit, at: usize, template: &Template, pace: Option<&Pace>) {
    let now = now_ns();
    let due = pace.map_or(u64::MAX, |pace| pace.due(now));
    let mut room = credit.room();
    let mut number = credit.sent.get();
    while room > 0 && number < due && out.len() < WRITE_BYTES {
        template.append(out, pace.map_or(now, |pace| pace.when(number)), at as u32, number);
        number += 1;
        room -= 1;
    }
    credit.sent.set(number);
}

fn stalled(credit: &Credit) -> Result<()> {
    ensure!(
        credit.unacknowledged() == 0,
        "{} messages are not acknowledged for {} s",
        credit.unacknowledged(),
        GIVE_UP.as_secs()
    );
    credit.give_up();
    Ok(())
}

async fn acknowledgements(
    mut reader: OwnedReadHalf,
    mut inbox: Inbox,
    shared: Rc<Shared>,
    at: usize,
    replies: Rc<RefCell<Vec<u8>>>,
) -> Result<()> {
    let credit = &shared.credits[at];
    loop {
        while let Some(frame) = inbox.next()? {
            match frame.kind() {
                PUBACK | PUBCOMP => {
                    ensure!(frame.reason() < 0x80, "a message was refused with {:#x}", frame.reason());
                    credit.acknowledged.set(credit.acknowledged.get() + 1);
                }
                PUBREC => {
                    ensure!(frame.reason() < 0x80, "a message was refused with {:#x}", frame.reason());
                    packets::acknowledge(&mut replies.borrow_mut(), PUBREL, frame.identifier()?);
                }
                DISCONNECT => {
                    bail!("the broker sent DISCONNECT with the reason {:#x}", frame.body.first().unwrap_or(&0))
                }
                kind => bail!("a publisher was sent a packet of the kind {kind}"),
            }
        }
        if !replies.borrow().is_empty() || shared.stopping.get() {
            credit.wake();
        } else {
            credit.came();
        }
        inbox.fill(&mut reader).await?;
    }
}

/// When the messages of one publisher are due. A timer of the kernel: tokio's are as coarse as a millisecond.
pub struct Pace {
    timer: AsyncFd<OwnedFd>,
    start_ns: u64,
    interval_ns: f64,
}

impl Pace {
    pub fn new(start_ns: u64, interval_ns: f64) -> Result<Self> {
        // SAFETY: it takes numbers and answers a file descriptor that is ours, or -1.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        ensure!(fd >= 0, "no timer: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let nanos = interval_ns.max(50_000.0) as i64;
        let interval = libc::timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
        let every = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: both are valid for the call.
        let set = unsafe {
            libc::timerfd_settime(std::os::fd::AsRawFd::as_raw_fd(&fd), 0, &raw const every, std::ptr::null_mut())
        };
        ensure!(set == 0, "the timer cannot be set: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is open as long as this owns it, and nobody replaces it.
        let timer = unsafe { AsyncFd::register(fd) }.map_err(std::io::Error::from)?;
        Ok(Self { timer, start_ns, interval_ns })
    }

    /// Messages that are due by now, from the first on.
    fn due(&self, now: u64) -> u64 {
        if now < self.start_ns { 0 } else { ((now - self.start_ns) as f64 / self.interval_ns) as u64 + 1 }
    }

    fn when(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * self.interval_ns) as u64
    }

    async fn tick(&self) -> Result<()> {
        let mut ready = self.timer.readable().await?;
        let mut count = 0_u64;
        // SAFETY: eight bytes are read into eight bytes that live as long.
        unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(self.timer.get_ref()), (&raw mut count).cast(), 8) };
        ready.clear_ready();
        Ok(())
    }
}
