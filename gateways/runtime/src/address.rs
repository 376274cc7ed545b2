//! Addresses as settings give them and as gateways tell them.

use std::net::SocketAddr;
use std::str::FromStr;

/// `HOST:PORT`; the host may be a name or an address, an IPv6 address in brackets. For a flag's `value_parser`.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| "the port is no number from 0 to 65535")?;
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    Ok((host.to_owned(), port))
}

/// The host and port under which others reach who listens here: what the setting says, where it says something. Its port 0 is
/// the one that is listened on.
pub fn advertised(listen: SocketAddr, setting: Option<&(String, u16)>) -> (String, u16) {
    match setting {
        Some((host, 0)) => (host.clone(), listen.port()),
        Some(advertised) => advertised.clone(),
        None => (listen.ip().to_string(), listen.port()),
    }
}

/// An address to listen on, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl FromStr for OptionalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(OptionalAddress(None));
        }
        text.parse().map(|address| OptionalAddress(Some(address))).map_err(|_| "expected ADDRESS:PORT or none".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_and_port("host:9092"), Ok(("host".into(), 9092)));
        assert_eq!(host_and_port("[::1]:1"), Ok(("::1".into(), 1)));
        assert!(host_and_port("host").is_err());
        assert!(host_and_port(":1").is_err());
        assert!(host_and_port("a:b").is_err());
    }

    #[test]
    fn what_is_advertised_is_what_is_set_or_else_listened_on() {
        let listen = "127.0.0.1:5".parse().unwrap();
        assert_eq!(advertised(listen, None), ("127.0.0.1".into(), 5));
        assert_eq!(advertised(listen, Some(&("host".into(), 0))), ("host".into(), 5));
        assert_eq!(advertised(listen, Some(&("host".into(), 7))), ("host".into(), 7));
    }

    #[test]
    fn a_listener_can_be_left_out() {
        assert_eq!("none".parse(), Ok(OptionalAddress(None)));
        assert_eq!("127.0.0.1:1".parse(), Ok(OptionalAddress(Some(SocketAddr::from(([127, 0, 0, 1], 1))))));
        assert!("15672".parse::<OptionalAddress>().is_err());
    }
}
