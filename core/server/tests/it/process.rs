//! The binary `polymq-core`: how it starts, what it says, how it ends, and what survives `kill -9`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use core_rpc::*;

use crate::support::*;

/// A started process; killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn start(folder: &Path, listen: &str) -> Process {
        let _ = std::fs::remove_file(ready_file(folder));
        let child = command(folder, listen).stderr(Stdio::null()).spawn().expect("spawns");
        let mut process = Process(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready_file(folder).exists() {
            assert!(process.0.try_wait().expect("waits").is_none(), "the process ended");
            assert!(Instant::now() < deadline, "ready in time");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: sends a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ready_file(folder: &Path) -> PathBuf {
    folder.join("ready.json")
}

fn command(folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polymq-core"));
    command.arg("--data").arg(folder.join("data")).args(["--listen", listen, "--shards", "2"]);
    command.arg("--ready-file").arg(ready_file(folder));
    command
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polymq-core")).args(arguments).output().expect("runs")
}

#[test]
fn it_starts_is_checked_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), "127.0.0.1:0");
    let ready = std::fs::read_to_string(ready_file(folder.path())).unwrap();
    let address = ready.strip_prefix(r#"{"core":""#).and_then(|rest| rest.strip_suffix(r#""}"#)).expect("its form");
    assert!(run(&["--check", address]).status.success());

    process.signal(libc::SIGTERM);
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    assert!(!ready_file(folder.path()).exists());
    let check = run(&["--check", address]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stderr).contains(address));
}

#[test]
fn what_keeps_it_from_starting_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start(folder.path(), "127.0.0.1:0");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = folder.path().join("data");
    for (data, listen, says) in [
        (data.as_path(), "127.0.0.1:0", "in use by another process"),
        (file.as_path(), "127.0.0.1:0", "cannot use the data directory"),
        (Path::new("/proc/nowhere"), "127.0.0.1:0", "cannot use the data directory"),
        (other.path(), taken.as_str(), "cannot listen on"),
        (other.path(), "unix:/nowhere/core.sock", "cannot listen on"),
    ] {
        let output = run(&["--data", &data.display().to_string(), "--listen", listen]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(says) && error.trim_end().lines().count() == 1, "{error}");
    }
}

/// A client that repeats what got no answer, and a server that is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_or_doubled_by_kills() {
    const KILLS: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("core.sock").display());
    let mut process = Process::start(folder.path(), &listen);
    let core = RemoteCore::new(listen.parse().unwrap());
    let topic = topic(&core, "t", 4).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let appenders: Vec<_> = (0..4u32)
        .map(|index| {
            let (core, partition, stop) = (core.clone(), part(&topic, index), stop.clone());
            tokio::spawn(async move {
                let mut sequence = 0;
                while !stop.is_cancelled() {
                    let batch = sequenced(&sequence.to_string().into_bytes(), i64::from(index), 0, sequence);
                    match append_one(&core, partition, batch).await {
                        Ok(appended) => {
                            assert_eq!(appended.base_offset, sequence as u64);
                            sequence += 1;
                        }
                        Err(AppendError::Unavailable) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                sequence
            })
        })
        .collect();
    let mut seen = 0;
    for _ in 0..KILLS {
        // Under load: some more must have been kept first.
        within("progress", async {
            loop {
                let fetched = core.fetch(fetch_request(part(&topic, 0), seen, MINUTE)).await.remove(0);
                let Ok(fetched) = fetched else { continue };
                if fetched.bounds.end_offset >= seen + 20 {
                    seen = fetched.bounds.end_offset;
                    break;
                }
            }
        })
        .await;
        process.signal(libc::SIGKILL);
        drop(process);
        process = Process::start(folder.path(), &listen);
    }
    stop.cancel();
    for (index, appender) in appenders.into_iter().enumerate() {
        let appended = within("appenders end", appender).await.unwrap();
        let kept = read_all(&core, part(&topic, index as u32), 0).await;
        assert_eq!(kept.len(), appended as usize);
        for (sequence, batch) in kept.iter().enumerate() {
            assert_eq!(batch.payload, sequence.to_string().as_bytes());
            assert!(batch.payload_is_intact());
        }
    }
    process.signal(libc::SIGTERM);
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
}
