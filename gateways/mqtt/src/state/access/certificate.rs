//! Who a client's certificate says it is.

use std::str::FromStr;

/// What of a TLS client's certificate is its user name. A client that has one needs no password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateIdentity {
    /// Nothing: clients log in as elsewhere.
    #[default]
    None,
    /// The subject's common name: mosquitto's `use_identity_as_username`.
    CommonName,
    /// The whole subject, as RFC 2253 writes it: mosquitto's `use_subject_as_username`.
    Subject,
}

impl FromStr for CertificateIdentity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<CertificateIdentity, &'static str> {
        match text {
            "none" => Ok(CertificateIdentity::None),
            "common-name" => Ok(CertificateIdentity::CommonName),
            "subject" => Ok(CertificateIdentity::Subject),
            _ => Err("expected none, common-name or subject"),
        }
    }
}

impl CertificateIdentity {
    /// The user name of a subject in RFC 2253's form. `None`: it has none.
    pub fn user(self, subject: &str) -> Option<String> {
        match self {
            CertificateIdentity::None => None,
            CertificateIdentity::CommonName => common_name(subject),
            CertificateIdentity::Subject => Some(subject.to_owned()).filter(|subject| !subject.is_empty()),
        }
    }
}

/// The narrowest CN, which stands first.
fn common_name(subject: &str) -> Option<String> {
    let mut part = String::new();
    let mut characters = subject.chars();
    loop {
        match characters.next() {
            Some('\\') => part.extend(characters.next()),
            Some(',') | None if part.starts_with("CN=") => {
                return Some(part.split_off(3)).filter(|name| !name.is_empty());
            }
            Some(',') => part.clear(),
            Some(character) => part.push(character),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_name_is_found_and_unescaped() {
        for (subject, name) in [
            ("CN=app,O=Example", Some("app")),
            ("O=Example,CN=app", Some("app")),
            ("CN=Doe\\, Jane,O=Example", Some("Doe, Jane")),
            // A part that only looks like a common name.
            ("O=x\\,CN=evil,C=DE", None),
            ("O=Example", None),
            ("CN=", None),
            ("", None),
        ] {
            assert_eq!(CertificateIdentity::CommonName.user(subject).as_deref(), name, "{subject}");
        }
        assert_eq!(CertificateIdentity::Subject.user("CN=a,O=b").as_deref(), Some("CN=a,O=b"));
        assert_eq!(CertificateIdentity::None.user("CN=a"), None);
        assert!("cn".parse::<CertificateIdentity>().is_err());
    }
}
