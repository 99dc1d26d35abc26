//! The one client for servers of models, made when it is first needed.

use std::time::Duration;

use agentbot_wire::Code;
use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};

/// Time to connect, the handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept that nobody uses.
const KEEP: Duration = Duration::from_secs(90);

/// The client, once it was made.
#[derive(Default)]
pub(super) struct Lazy(OnceCell<Made>);

struct Made {
    client: Client,
    /// Whether this host says whom to trust.
    trusts: bool,
}

impl Lazy {
    /// The client for an address.
    ///
    /// # Errors
    /// `model_failed` for https on a host that has no certificates of authorities.
    pub(super) async fn get(&self, url: &str) -> Result<&Client> {
        let made = self
            .0
            .get_or_try_init(|| async { tokio::task::spawn_blocking(make).await.map_err(Error::internal)? })
            .await?;
        if !made.trusts && url.starts_with("https:") {
            return Err(Error::new(Code::ModelFailed, "this host has no certificates of authorities to trust")
                .hint("install the package ca-certificates, then restart the daemon"));
        }
        Ok(&made.client)
    }
}

/// With the certificates of this host, which are read from the disk.
fn make() -> Result<Made> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this host cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "certificates of authorities");
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<Made> {
    let trusts = !roots.is_empty();
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("agentbotd/", env!("CARGO_PKG_VERSION")))
        // A key goes where the configuration says, and nowhere else.
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(KEEP)
        .build()
        .map_err(Error::internal)?;
    Ok(Made { client, trusts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    /// Made for these tests, together with a certificate for 127.0.0.1; its own key was thrown away.
    fn authority() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(include_bytes!("samples/ca.pem")).unwrap()).unwrap();
        roots
    }

    /// A server on the loopback that answers one request, if its certificate is taken.
    fn server() -> u16 {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("samples/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("samples/server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
            let mut head = [0; 1024];
            if stream.read(&mut head).is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                stream.flush().unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_server_is_believed_whose_authority_this_host_trusts_and_no_other() {
        let made = trusting(authority()).unwrap();
        let url = format!("https://127.0.0.1:{}/", server());
        assert_eq!(made.client.get(url).send().await.unwrap().text().await.unwrap(), "ok");
        let name = made.client.get(format!("https://localhost:{}/", server())).send().await;
        assert!(name.unwrap_err().is_connect(), "the certificate is for another name");

        let stranger = trusting(RootCertStore::empty()).unwrap();
        let refused = stranger.client.get(format!("https://127.0.0.1:{}/", server())).send().await;
        assert!(refused.unwrap_err().is_connect());
    }

    #[tokio::test]
    async fn a_host_without_authorities_is_told_so_and_plain_http_works_there() {
        let lazy = Lazy(OnceCell::new_with(Some(trusting(RootCertStore::empty()).unwrap())));
        let error = lazy.get("https://example.org").await.err().unwrap();
        assert_eq!(error.code(), Code::ModelFailed);
        assert!(error.to_api().hint.unwrap().contains("ca-certificates"));
        assert!(lazy.get("http://127.0.0.1:1").await.is_ok());
    }
}
