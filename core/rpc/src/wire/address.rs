//! Where a core listens: TCP (`host:port`) or a Unix socket (`unix:/path`).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const UNIX_PREFIX: &str = "unix:";

/// The address of a core. Written and read as `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (a name or an IP, IPv6 in brackets) and port.
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: write host:port or unix:/path")]
pub struct AddressError(String);

/// A listening socket. The file of a Unix socket is removed when it is dropped.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() { Err(error()) } else { Ok(Address::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(error());
        }
        Ok(Address::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host_port) => f.write_str(host_port),
            Address::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

impl Address {
    pub(crate) async fn connect(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Address::Tcp(host_port) => tcp_halves(TcpStream::connect(host_port).await?),
            Address::Unix(path) => Ok(unix_halves(UnixStream::connect(path).await?)),
        }
    }
}

impl Listener {
    /// Binds; port 0 picks a free one (ask [`Listener::address`]). A Unix socket's file that nobody listens on any
    /// more is replaced.
    pub async fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Tcp(host_port) => Ok(Listener::Tcp(TcpListener::bind(host_port).await?)),
            Address::Unix(path) => {
                let bound = UnixListener::bind(path);
                let listener = match bound {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        if UnixStream::connect(path).await.is_ok() {
                            return Err(error);
                        }
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// The address that was bound, with the port that was picked.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?.to_string())),
            Listener::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Listener::Tcp(listener) => tcp_halves(listener.accept().await?.0),
            Listener::Unix(listener, _) => Ok(unix_halves(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // Best effort: a file that stays is replaced by the next bind.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tcp_halves(stream: TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
    // Frames are gathered before they are written, so there is nothing left for the kernel to wait for.
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Box::new(read), Box::new(write)))
}

fn unix_halves(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["127.0.0.1:7401", "core:7401", "[::1]:0", "unix:/run/core.sock"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "7401", ":7401", "host:", "host:70000", "unix:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
