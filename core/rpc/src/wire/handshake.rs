//! The handshake: both sides agree on the RPC's version before the first frame.
//!
//! ```text
//!  client sends                          server answers
//!  0        4      6      8              0        4        6      8      10
//!  ├ "PMQC" ┼ min ─┼ max ─┤              ├ "PMQC" ┼ chosen ┼ min ─┼ max ─┤   chosen 0: none; it then hangs up
//! ```
//! Integers are little-endian u16. The highest version that both speak is chosen.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The versions of the RPC that this build speaks. Version 2 came with transactions, version 3 with transfers and delays, version 4 with
/// numbers of decisions, version 5 with acquires that are answered though they were cancelled, version 6 with
/// transfers for a session; each has another layout than the one before, which no build speaks any more.
pub const VERSIONS: RangeInclusive<u16> = 6..=6;

/// How long either side waits for the other's half.
pub const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);

const MAGIC: [u8; 4] = *b"PMQC";
const NO_VERSION: u16 = 0;

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer does not speak this RPC")]
    Magic,
    #[error(
        "no RPC version in common: this side speaks {} to {}, the peer {} to {}",
        ours.start(), ours.end(), theirs.start(), theirs.end()
    )]
    Version { ours: RangeInclusive<u16>, theirs: RangeInclusive<u16> },
    #[error("the peer did not finish the handshake in time")]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The client's side: returns the version to speak.
pub async fn greet(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    ours: RangeInclusive<u16>,
) -> Result<u16, HandshakeError> {
    let greeting = async {
        let mut hello = [0u8; 8];
        hello[..4].copy_from_slice(&MAGIC);
        put(&mut hello, 4, *ours.start());
        put(&mut hello, 6, *ours.end());
        write.write_all(&hello).await?;
        write.flush().await?;

        let mut reply = [0u8; 10];
        read.read_exact(&mut reply).await?;
        if reply[..4] != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let chosen = get(&reply, 4);
        if !ours.contains(&chosen) {
            return Err(HandshakeError::Version { ours: ours.clone(), theirs: get(&reply, 6)..=get(&reply, 8) });
        }
        Ok(chosen)
    };
    timeout(HANDSHAKE_WAIT_MAX, greeting).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// The server's side: returns the version to speak.
pub async fn answer_greeting(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    ours: RangeInclusive<u16>,
) -> Result<u16, HandshakeError> {
    let answering = async {
        let mut hello = [0u8; 8];
        read.read_exact(&mut hello).await?;
        if hello[..4] != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let theirs = get(&hello, 4)..=get(&hello, 6);
        let chosen = choose(&ours, &theirs);

        let mut reply = [0u8; 10];
        reply[..4].copy_from_slice(&MAGIC);
        put(&mut reply, 4, chosen.unwrap_or(NO_VERSION));
        put(&mut reply, 6, *ours.start());
        put(&mut reply, 8, *ours.end());
        write.write_all(&reply).await?;
        write.flush().await?;
        chosen.ok_or(HandshakeError::Version { ours, theirs })
    };
    timeout(HANDSHAKE_WAIT_MAX, answering).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// The highest version that both speak.
fn choose(ours: &RangeInclusive<u16>, theirs: &RangeInclusive<u16>) -> Option<u16> {
    let highest = *ours.end().min(theirs.end());
    (ours.contains(&highest) && theirs.contains(&highest)).then_some(highest)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(choose(&(1..=3), &(2..=9)), Some(3));
        assert_eq!(choose(&(2..=9), &(1..=3)), Some(3));
        assert_eq!(choose(&(1..=1), &(1..=1)), Some(1));
        assert_eq!(choose(&(1..=1), &(2..=3)), None);
        assert_eq!(choose(&(4..=5), &(1..=3)), None);
        // A peer's range may be nonsense.
        assert_eq!(choose(&(1..=5), &RangeInclusive::new(3, 2)), None);
    }

    async fn meet(client: RangeInclusive<u16>, server: RangeInclusive<u16>) -> [Result<u16, HandshakeError>; 2] {
        let (near, far) = tokio::io::duplex(64);
        let (mut near_read, mut near_write) = tokio::io::split(near);
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let (greeted, answered) = tokio::join!(
            greet(&mut near_read, &mut near_write, client),
            answer_greeting(&mut far_read, &mut far_write, server)
        );
        [greeted, answered]
    }

    #[tokio::test]
    async fn both_sides_learn_the_version_or_why_there_is_none() {
        assert!(matches!(meet(1..=2, 2..=3).await, [Ok(2), Ok(2)]));
        for result in meet(1..=1, 4..=6).await {
            let text = result.expect_err("no common version").to_string();
            assert!(text.contains("1 to 1") && text.contains("4 to 6"), "{text}");
        }
    }
}
