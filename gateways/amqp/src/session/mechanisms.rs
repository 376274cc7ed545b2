//! SASL mechanisms: what a client says of itself in `connection.start-ok`.

use codec_amqp::{FieldTable, SyntaxError};

/// A mechanism that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RabbitMQ's: LOGIN and PASSWORD in a field table without its length.
    AmqPlain,
    /// Who the client's certificate says it is. Offered over TLS to clients that showed one.
    External,
    /// RFC 4505: the client says nothing, and is who the gateway's settings say. Offered where they say somebody.
    Anonymous,
}

impl Mechanism {
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::AmqPlain => "AMQPLAIN",
            Mechanism::External => "EXTERNAL",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }

    pub fn of(name: &str) -> Option<Mechanism> {
        let all = [Mechanism::Plain, Mechanism::AmqPlain, Mechanism::External, Mechanism::Anonymous];
        all.into_iter().find(|known| known.name() == name)
    }

    /// What is offered to a client, as `connection.start` lists it.
    pub fn offered(has_certificate: bool, has_anonymous: bool) -> &'static str {
        match (has_certificate, has_anonymous) {
            (false, false) => "AMQPLAIN PLAIN",
            (false, true) => "AMQPLAIN PLAIN ANONYMOUS",
            (true, false) => "EXTERNAL AMQPLAIN PLAIN",
            (true, true) => "EXTERNAL AMQPLAIN PLAIN ANONYMOUS",
        }
    }
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub password: Vec<u8>,
}

/// Not its password.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `authorization identity NUL name NUL password`; the identity is not asked for, as RabbitMQ does not.
pub fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    (!password.contains(&0))
        .then(|| Some(Credentials { name: String::from_utf8(name.to_vec()).ok()?, password: password.to_vec() }))?
}

/// A table's fields, without the length before them.
pub fn amqplain(response: &bytes::Bytes) -> Result<Option<Credentials>, SyntaxError> {
    let table = FieldTable::from_fields(response)?;
    let text = |name| table.get_text(name).map(str::to_owned);
    Ok(text("LOGIN").zip(text("PASSWORD")).map(|(name, password)| Credentials { name, password: password.into() }))
}

/// The name of a certificate's owner: its common name, as RabbitMQ's `ssl_cert_login_from = common_name`; where it
/// has none the whole subject.
pub fn external(subject: &str) -> String {
    subject.split(',').find_map(|part| part.strip_prefix("CN=")).unwrap_or(subject).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_takes_two_nuls() {
        let credentials = plain(b"\0guest\0secret").unwrap();
        assert_eq!((credentials.name.as_str(), credentials.password.as_slice()), ("guest", &b"secret"[..]));
        assert_eq!(plain(b"other\0guest\0secret").unwrap().name, "guest");
        assert_eq!(plain(b"guest\0secret"), None);
        assert_eq!(plain(b"\0a\0b\0c"), None);
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn amqplain_is_a_table_without_its_length() {
        let mut response = vec![5];
        response.extend(b"LOGINS\0\0\0\x05guest");
        response.extend(b"\x08PASSWORDS\0\0\0\x06secret");
        let credentials = amqplain(&response.into()).unwrap().unwrap();
        assert_eq!((credentials.name.as_str(), credentials.password.as_slice()), ("guest", &b"secret"[..]));
        assert!(amqplain(&bytes::Bytes::from_static(b"\x05LOGINS\0\0\0\xffguest")).is_err());
    }

    #[test]
    fn a_certificate_is_its_common_name() {
        assert_eq!(external("CN=app,O=Example"), "app");
        assert_eq!(external("O=Example"), "O=Example");
    }
}
