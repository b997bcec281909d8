//! The thread `tracer-metrics`: answers scrapers and sends to receivers of OTLP.
//!
//! Nothing is served unless asked for. An agent runs on every host as root; a port that nobody asked
//! for would be one more door, and a conflict where something else has it.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;

use super::delta::Deltas;
use super::exposition::{self, Format};
use super::family::{Family, Number, Point, Unit};
use super::otlp::{self, Period};
use super::watch::Watch;
use super::{of_agent, of_export};
use crate::export::{ExportObserver, MetricsExporter, MetricsSettings, Temporality, TlsError};
use crate::memory::resident_bytes;

/// Scrapers served at once.
const MAX_SCRAPERS: usize = 16;
/// How long one may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last export may take.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Why metrics cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be listened at.
    #[error("cannot serve metrics at {address}: {source}; choose another one with --metrics")]
    Listen {
        /// What was asked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// TLS for OTLP.
    #[error("OTLP of metrics: {0}")]
    Tls(#[from] TlsError),
    /// The thread or its event loop.
    #[error("cannot start the metrics thread: {0}")]
    Thread(io::Error),
}

/// The running thread.
#[derive(Debug)]
pub struct Metrics {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

struct Shared {
    watch: Arc<Watch>,
    export: ExportObserver,
    /// Attributes of the agent's own resource.
    resource: Vec<(String, String)>,
}

impl Metrics {
    /// Begins to serve and to send. `resource` is what the agent says about itself.
    pub fn start(
        settings: MetricsSettings,
        watch: Arc<Watch>,
        export: ExportObserver,
        resource: Vec<(String, String)>,
    ) -> Result<Self, MetricsError> {
        let listener = settings.listen.as_ref().map(|address| listen(address)).transpose()?;
        let receivers = settings.otlp.iter().cloned().map(MetricsExporter::new);
        let receivers: Vec<MetricsExporter> = receivers.collect::<Result<_, _>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MetricsError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared { watch, export, resource: with_name(resource) });
        let thread = thread::Builder::new()
            .name("tracer-metrics".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let serving = serve(listener, Arc::clone(&shared));
                    let sending = send(settings, receivers, shared, stopped);
                    // Sending ends when it is told to; serving never does.
                    tokio::select! {
                        () = serving => {}
                        () = sending => {}
                    }
                });
            })
            .map_err(MetricsError::Thread)?;
        Ok(Self { stop, thread })
    }

    /// Sends what there is to send, and ends the thread.
    pub fn stop(self) {
        self.stop.send_replace(true);
        // A thread that panicked has said so itself.
        let _ = self.thread.join();
    }
}

fn listen(address: &str) -> Result<StdListener, MetricsError> {
    let listener = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| MetricsError::Listen { address: address.to_owned(), source })
}

/// The agent is a service like any other.
fn with_name(mut resource: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut default = |name: &str, value: &str| {
        if resource.iter().all(|(known, _)| known != name) {
            resource.push((name.to_owned(), value.to_owned()));
        }
    };
    default("service.name", env!("CARGO_PKG_NAME"));
    default("service.version", env!("CARGO_PKG_VERSION"));
    resource
}

impl Shared {
    fn families(&self) -> Vec<Family> {
        let destinations = self.export.look();
        let mut families = of_export::families(&destinations);
        let mut parts = vec![("resident", resident_bytes())];
        if let Some(state) = self.watch.latest() {
            families.extend(of_agent::families(&state));
            parts.push(("ring", state.ring_bytes));
            parts.push(("message_heads", state.buffered_bytes as u64));
        }
        let (requests, footprint) = {
            let requests = self.watch.requests();
            (requests.families(), requests.footprint())
        };
        parts.push(("request_durations", footprint as u64));
        families.push(of_export::memory(&destinations, parts));
        families.extend(requests);
        families
    }

    /// For Prometheus, what OTLP has as the resource.
    fn families_with_target(&self) -> Vec<Family> {
        let labels: Vec<(&'static str, String)> = self
            .resource
            .iter()
            .filter_map(|(name, value)| match name.as_str() {
                "service.name" => Some(("service.name", value.clone())),
                "service.version" => Some(("service.version", value.clone())),
                "service.instance.id" => Some(("service.instance.id", value.clone())),
                _ => None,
            })
            .collect();
        let mut target = Family::new("target.info", Unit::Count("1"), "The agent.");
        target.points.push(Point::of_agent(labels, Number::Gauge(1.0)));
        let mut families = self.families();
        families.insert(0, target);
        families
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let text = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = status;
            response
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                let format = Format::accepted(accept.unwrap_or_default());
                let body = exposition::write(&self.families_with_target(), format);
                let mut response = Response::new(Full::from(body));
                let kind = http::HeaderValue::from_static(format.content_type());
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            "/healthz" if self.watch.is_stuck() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the agent is stuck\n")
            }
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.watch.is_ready() && !self.watch.is_stuck() => {
                text(StatusCode::OK, "ready\n")
            }
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready yet\n"),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        }
    }
}

async fn serve(listener: Option<StdListener>, shared: Arc<Shared>) {
    let listener = listener.map(TcpListener::from_std);
    let Some(Ok(listener)) = listener else { return std::future::pending().await };
    let scrapers = Arc::new(Semaphore::new(MAX_SCRAPERS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&scrapers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a scraper of metrics could not connect");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = shared.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            // Scrapers that go away are none of our business.
            let _ = tokio::time::timeout(PATIENCE * 2, connection).await;
            drop(place);
        });
    }
}

async fn send(
    settings: MetricsSettings,
    receivers: Vec<MetricsExporter>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut deltas, begin) = (Deltas::default(), unix_nanos());
    let mut start = begin;
    let mut due = tokio::time::interval(settings.interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due.tick().await;
    loop {
        let last = tokio::select! {
            _ = due.tick() => false,
            // An abandoned handle means the same.
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        if !receivers.is_empty() {
            let mut families = shared.families();
            if settings.temporality == Temporality::Delta {
                deltas.take(&mut families);
            }
            let period = Period { start, now: unix_nanos(), temporality: settings.temporality };
            let request = otlp::request(&families, &shared.resource, period);
            if settings.temporality == Temporality::Delta {
                start = period.now;
            }
            let limit = if last { LAST_EXPORT } else { settings.timeout };
            for receiver in &receivers {
                receiver.send(&request, limit).await;
            }
        }
        if last {
            return;
        }
    }
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
