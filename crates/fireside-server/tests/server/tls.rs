//! HTTPS. The certificate is `tests/server/tls/make.sh`'s.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use fireside_engine::ModelExecutor;
use fireside_server::{Loaded, Tls};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{connect, exchange, request};
use crate::harness::{TestServer, no_gate, start};

const CERTIFICATE: &str = "tests/server/tls/cert.pem";
const KEY: &str = "tests/server/tls/key.pem";
const OTHER_KEY: &str = "tests/server/tls/other-key.pem";

fn tls() -> Tls {
    Tls::from_pem_files(Path::new(CERTIFICATE), Path::new(KEY)).unwrap()
}

/// A server that has no model, which its version needs not.
fn server() -> TestServer {
    let load = |_| -> Result<Loaded<ModelExecutor>, String> { Err("there is none".into()) };
    start(|options| options.tls = Some(tls()), load, no_gate())
}

#[test]
fn a_client_that_trusts_the_certificate_is_answered() {
    let server = server();
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    roots.add(own).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, connect(server.address));
    let close = [("connection", "close")];
    let bytes = request("GET", "/version", &close, b"");
    stream.write_all(&bytes).unwrap();
    let mut answer = String::new();
    // The end of a connection may come without TLS's own.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#"{"version":"#), "{answer}");
}

#[test]
fn plain_http_is_not_answered_and_hurts_nobody() {
    let server = server();
    let plain = request("GET", "/health", &[], b"");
    assert!(exchange(server.address, &plain).is_none_or(|reply| reply.status == 400));
    a_client_that_trusts_the_certificate_is_answered();
}

#[test]
fn files_of_no_use_are_named() {
    let told = |certificate: &str, key: &str| {
        Tls::from_pem_files(Path::new(certificate), Path::new(key)).unwrap_err()
    };
    let missing = told("tests/server/tls/none.pem", KEY);
    assert!(
        missing.starts_with("tests/server/tls/none.pem: "),
        "{missing}"
    );
    let none = told(KEY, KEY);
    assert!(
        none.starts_with("tests/server/tls/key.pem: no certificate"),
        "{none}"
    );
    let other = told(CERTIFICATE, OTHER_KEY);
    assert!(
        other.starts_with("tests/server/tls/other-key.pem: not the key of the certificate"),
        "{other}"
    );
    assert!(told(CERTIFICATE, CERTIFICATE).starts_with("tests/server/tls/cert.pem: "));
}
