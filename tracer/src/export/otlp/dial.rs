//! Connecting to a receiver: over TCP, through a proxy, or to a Unix socket.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use crate::export::settings::{OtlpSettings, Protocol, Proxy, Route};

/// Finds out within some multiple of this that the other end of an idle connection is gone.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// Share of an attempt's time that connecting may take, so that a host that does not answer can be
/// told from a receiver that does not.
const CONNECT_SHARE: f64 = 0.5;

/// Makes connections to one receiver. Names are looked up for each of them.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    Direct(HttpConnector),
    /// To a proxy that is sent whole requests.
    Forward(HttpConnector, Uri),
    /// Through a proxy that passes on bytes.
    Tunnel(Tunnel<HttpConnector>),
    Unix(PathBuf),
}

impl Dial {
    pub(super) fn new(settings: &OtlpSettings) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_connect_timeout(Some(settings.timeout.mul_f64(CONNECT_SHARE)));
        match &settings.route {
            Route::Direct => Self::Direct(tcp),
            Route::Unix(path) => Self::Unix(path.clone()),
            Route::Proxy(proxy) if tunnels(settings) => Self::Tunnel(tunnel(proxy, tcp)),
            Route::Proxy(proxy) => Self::Forward(tcp, proxy.uri.clone()),
        }
    }
}

/// Whether a proxy is to pass on bytes: what is encrypted or no HTTP/1 it could not understand.
pub(super) fn tunnels(settings: &OtlpSettings) -> bool {
    settings.endpoint.scheme() == Some(&Scheme::HTTPS) || settings.protocol == Protocol::Grpc
}

fn tunnel(proxy: &Proxy, tcp: HttpConnector) -> Tunnel<HttpConnector> {
    let tunnel = Tunnel::new(proxy.uri.clone(), tcp);
    match &proxy.authorization {
        Some(authorization) => tunnel.with_auth(authorization.clone()),
        None => tunnel,
    }
}

/// The proxy, not the receiver, is what does not work.
#[derive(Debug)]
pub(super) struct ProxyFailed(BoxError);

type BoxError = Box<dyn Error + Send + Sync>;

impl fmt::Display for ProxyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the proxy cannot be used")
    }
}

impl Error for ProxyFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

fn proxy_failed(error: impl Into<BoxError>) -> BoxError {
    ProxyFailed(error.into()).into()
}

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(tcp) | Self::Forward(tcp, _) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(proxy_failed),
            Self::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, receiver: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let connecting = tcp.call(receiver);
                Box::pin(
                    async move { Ok(Stream::Tcp { stream: connecting.await?, proxied: false }) },
                )
            }
            Self::Forward(tcp, proxy) => {
                let connecting = tcp.call(proxy.clone());
                Box::pin(async move {
                    let stream = connecting.await.map_err(proxy_failed)?;
                    Ok(Stream::Tcp { stream, proxied: true })
                })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(with_port(receiver));
                Box::pin(async move {
                    let stream = connecting.await.map_err(proxy_failed)?;
                    Ok(Stream::Tcp { stream, proxied: false })
                })
            }
            Self::Unix(path) => {
                let path = path.clone();
                Box::pin(async move {
                    let stream = UnixStream::connect(path).await?;
                    Ok(Stream::Unix(TokioIo::new(stream)))
                })
            }
        }
    }
}

/// A proxy has to be told the port, also where it is the usual one.
fn with_port(receiver: Uri) -> Uri {
    if receiver.port().is_some() {
        return receiver;
    }
    let port = if receiver.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let mut parts = receiver.clone().into_parts();
    let named = parts.authority.as_ref().map(|authority| format!("{authority}:{port}"));
    parts.authority = named.and_then(|named| Authority::try_from(named).ok());
    Uri::from_parts(parts).unwrap_or(receiver)
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp {
        stream: TokioIo<TcpStream>,
        /// Requests have to name the whole URL.
        proxied: bool,
    },
    Unix(TokioIo<UnixStream>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp { stream, proxied } => stream.connected().proxy(*proxied),
            Self::Unix(stream) => stream.connected(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp { stream, .. } => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { stream, .. } => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }
}
