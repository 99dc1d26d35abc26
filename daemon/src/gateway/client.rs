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

/// Reads the certificates of this host from the disk.
fn make() -> Result<Made> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this host cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "certificates of authorities");
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
    Ok(Made { client, trusts: added > 0 })
}
