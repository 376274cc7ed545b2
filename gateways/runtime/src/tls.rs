//! TLS for a gateway's listener: certificates from PEM files, and who a client's certificate says it is.
//!
//! rustls with `ring`; TLS 1.2 and 1.3. The files are read at start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a client may take for its handshake: half a one must not hold a seat for ever.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, then its intermediates, PEM.
    pub certificate: PathBuf,
    /// The server's private key, PEM (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
    /// Authorities whose client certificates are believed, PEM. None: clients show none.
    pub client_authorities: Option<PathBuf>,
    /// A client without a certificate is refused.
    pub client_required: bool,
}

/// Accepts TLS connections.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    pub fn load(files: &TlsFiles) -> anyhow::Result<Tls> {
        let certificates = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .with_context(|| format!("no private key in {}", files.key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates(path)? {
                    roots.add(authority).with_context(|| format!("in {}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if files.client_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let config = builder.with_single_cert(certificates, key).context("the certificate and the key do not fit")?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Shakes hands. The error says why not, for the log.
    pub async fn accept(&self, stream: TcpStream) -> anyhow::Result<Box<TlsStream<TcpStream>>> {
        let accepted = tokio::time::timeout(HANDSHAKE_MAX, self.acceptor.accept(stream)).await;
        Ok(Box::new(accepted.context("the handshake took too long")??))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<_, _>>())
        .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in {}", path.display());
    Ok(certificates)
}

/// The subject of the client's certificate as RFC 2253 writes it (`CN=app,O=Example,C=DE`). None if it showed none.
pub fn client_subject(stream: &TlsStream<TcpStream>) -> Option<String> {
    subject(stream.get_ref().1.peer_certificates()?.first()?)
}

fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let parts = certificate.subject().iter_attributes().map(|attribute| {
        let name = x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry());
        let name = name.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        format!("{name}={}", escaped(attribute.as_str().unwrap_or_default()))
    });
    // The certificate has the widest part first, the text the narrowest.
    let parts: Vec<String> = parts.collect();
    Some(parts.into_iter().rev().collect::<Vec<_>>().join(","))
}

/// RFC 2253 section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (at, character) in value.chars().enumerate() {
        let at_edge = (character == ' ' && (at == 0 || at == last)) || (character == '#' && at == 0);
        if at_edge || matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_the_rfc_says() {
        assert_eq!(escaped(" a,b# "), "\\ a\\,b#\\ ");
        assert_eq!(escaped("#a"), "\\#a");
        assert_eq!(escaped("a b"), "a b");
    }
}
