//! HTTPS.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with its chain, and its key.
#[derive(Debug, Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads a certificate, followed by those that vouch for it, and its private key (PKCS #8, PKCS #1
    /// or SEC 1), both as PEM.
    ///
    /// # Errors
    ///
    /// One line that names the file: it cannot be read, has nothing of its kind, or key and certificate
    /// do not belong together.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, String> {
        let told =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| told(certificate, &error))?;
        if chain.is_empty() {
            return Err(told(
                certificate,
                &"no certificate in it; expected a PEM file with CERTIFICATE in it",
            ));
        }
        let own = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, own)
            .map_err(|error| {
                told(
                    key,
                    &format_args!("not the key of the certificate: {error}"),
                )
            })?;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}
