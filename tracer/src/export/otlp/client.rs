//! The one HTTP client behind both transports: certificates, connecting, pooling.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::dial::Dial;
use crate::export::settings::{OtlpSettings, Protocol, TlsFiles};

/// Finds out within this time that a receiver is gone although its connection is not.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are not used for longer, so that a name that means another host now is followed,
/// and many agents spread over receivers that were added.
const LONGEST_USE: Duration = Duration::from_mins(5);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error("cannot read {what} from {path}: {source}; it must be a readable PEM file", path = path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: pem::Error,
    },
    /// The system has no certificates.
    #[error("{0}; install ca-certificates or set OTEL_EXPORTER_OTLP_CERTIFICATE")]
    NoRoots(std::io::Error),
    /// Only one of client certificate and key was given.
    #[error(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY are only useful together; set both"
    )]
    HalfIdentity,
    /// The certificates were refused.
    #[error("the configured certificates cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

/// A pooling client whose bodies are of type `B`.
pub(super) type HttpClient<B> = Client<HttpsConnector<Dial>, B>;

/// The connections to one receiver.
#[derive(Debug)]
pub(super) struct Connections<B> {
    connector: HttpsConnector<Dial>,
    grpc: bool,
    current: Mutex<Current<B>>,
}

#[derive(Debug)]
struct Current<B> {
    client: HttpClient<B>,
    since: Instant,
}

impl<B> Connections<B>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
{
    /// Reads certificates; connects only when something is sent.
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, TlsError> {
        let secure = settings.endpoint.scheme() == Some(&http::uri::Scheme::HTTPS);
        let dial = Dial::new(settings);
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls_config(&settings.tls, secure)?);
        let https = if secure { https.https_only() } else { https.https_or_http() };
        let grpc = settings.protocol == Protocol::Grpc;
        let connector = if grpc {
            https.enable_http2().wrap_connector(dial)
        } else {
            https.enable_all_versions().wrap_connector(dial)
        };
        let client = client(&connector, grpc);
        let current = Mutex::new(Current { client, since: Instant::now() });
        Ok(Self { connector, grpc, current })
    }

    /// What to send the next request with.
    pub(super) fn client(&self) -> HttpClient<B> {
        let mut current = self.lock();
        if current.since.elapsed() >= LONGEST_USE {
            self.replace(&mut current);
        }
        current.client.clone()
    }

    /// Later requests use new connections. Requests that are under way keep theirs.
    pub(super) fn renew(&self) {
        self.replace(&mut self.lock());
    }

    fn replace(&self, current: &mut Current<B>) {
        *current = Current { client: client(&self.connector, self.grpc), since: Instant::now() };
    }

    fn lock(&self) -> MutexGuard<'_, Current<B>> {
        // Invariant: it is whole whenever the lock is free.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client<B>(connector: &HttpsConnector<Dial>, grpc: bool) -> HttpClient<B>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(grpc)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector.clone())
}

fn tls_config(files: &TlsFiles, secure: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    if !secure {
        // Never used: the connector speaks plain HTTP, and redirects are not followed.
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let builder = match &files.trusted {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("trusted certificates", path)? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_native_roots().map_err(TlsError::NoRoots)?,
    };
    match (&files.client_certificate, &files.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("the client certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
                what: "the client key",
                path: key.clone(),
                source,
            })?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        }
        _ => Err(TlsError::HalfIdentity),
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { what, path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(file)?
        .collect::<Result<_, _>>()
        .map_err(file)?;
    if certificates.is_empty() {
        return Err(file(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}
