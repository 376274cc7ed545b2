//! Lines to a slow writer, without waiting for it: a thread writes them; while too many wait, they are counted and dropped.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Lines that wait may be so long in all: a burst of thousands.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long the end of the process waits for lines that were not written yet.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where lines go: each `write` is whole lines. Cloning shares it.
#[derive(Clone)]
pub struct Lines(Arc<Queue>);

/// Writes what waits when it is dropped. Lines that come later are written by those who have them.
#[must_use = "what waits when the process ends is lost without it"]
pub struct Flush(Option<Lines>);

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<u8>,
    dropped: u64,
    /// None while the thread writes with it, or where that has ended.
    output: Option<Box<dyn Write + Send>>,
    ending: bool,
    ended: bool,
}

impl Lines {
    /// Starts the thread that writes to `output`.
    pub fn start(output: impl Write + Send + 'static) -> (Lines, Flush) {
        let state =
            State { waiting: Vec::new(), dropped: 0, output: Some(Box::new(output)), ending: false, ended: false };
        let lines = Lines(Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() }));
        let queue = lines.0.clone();
        if thread::Builder::new().name("log-lines".to_owned()).spawn(move || queue.work()).is_err() {
            lines.0.state.lock().ended = true;
        }
        (lines.clone(), Flush(Some(lines)))
    }
}

impl Flush {
    /// For a process whose lines go elsewhere.
    pub fn nothing() -> Flush {
        Flush(None)
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let Some(Lines(queue)) = self.0.take() else { return };
        let deadline = Instant::now() + END_WAIT_MAX;
        let mut state = queue.state.lock();
        state.ending = true;
        queue.changed.notify_all();
        while !state.ended && !queue.changed.wait_until(&mut state, deadline).timed_out() {}
    }
}

impl Queue {
    /// The thread: writes until the end.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.waiting.is_empty() && state.dropped == 0 {
                if state.ending {
                    state.ended = true;
                    self.changed.notify_all();
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            }
            let waiting = std::mem::take(&mut state.waiting);
            let dropped = std::mem::take(&mut state.dropped);
            let Some(mut output) = state.output.take() else { return };
            drop(state);
            // Nobody is there to be told of a log that cannot be written.
            let _ = output.write_all(&waiting);
            if dropped > 0 {
                let _ =
                    writeln!(output, "{dropped} log lines were dropped: they came faster than they could be written");
            }
            let _ = output.flush();
            state = self.state.lock();
            state.output = Some(output);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.ended {
            return match &mut state.output {
                Some(output) => output.write_all(lines).map(|()| lines.len()),
                None => Ok(lines.len()),
            };
        }
        if state.waiting.len() + lines.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
        } else {
            state.waiting.extend_from_slice(lines);
        }
        self.0.changed.notify_all();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a write only when the test lets it.
    struct Slow {
        allowed: mpsc::Receiver<()>,
        begun: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.allowed.recv();
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_and_what_does_not_fit_is_counted() {
        let (allow, allowed) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, flush) = Lines::start(Slow { allowed, begun, written: written.clone() });
        lines.write_all(b"first\n").unwrap();
        begins.recv().unwrap();
        // The output is stuck from here on.
        let long = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..WAITING_BYTES_MAX / 1024 + 5 {
            lines.write_all(&long).unwrap();
        }
        drop(allow);
        drop(flush);
        lines.write_all(b"last\n").unwrap();
        let written = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(written.lines().next(), Some("first"));
        assert_eq!(written.lines().filter(|line| line.starts_with('x')).count(), WAITING_BYTES_MAX / 1024);
        assert!(written.contains("\n5 log lines were dropped"), "{}", &written[written.len() - 100..]);
        assert_eq!(written.lines().last(), Some("last"), "after the end, lines are written at once");
    }
}
