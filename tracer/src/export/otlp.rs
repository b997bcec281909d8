//! The OTLP destination: batches become requests, and requests are retried until the receiver
//! has them, refuses them for good, or time runs out.

mod client;
mod grpc;
mod http;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::{DropReason, Ledger};
use super::log_limit::LogLimit;
use super::queue::{Batch, Queue};
use super::settings::{OtlpSettings, Protocol};
use super::wire::{self, Request};
pub use client::TlsError;
use grpc::GrpcTransport;
use http::HttpTransport;
use retry::Backoff;
pub use retry::RetryPolicy;

/// `Agent/version OTel-OTLP-Exporter-Rust/version`, as OTLP asks.
const USER_AGENT: &str = concat!(
    env!("CARGO_PKG_NAME"),
    "/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);
/// Size limit of a response.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// Characters of a receiver's message that are logged.
const MAX_LOGGED: usize = 300;

/// The receiver took the request, or most of it.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    /// Spans it refused nevertheless.
    rejected: usize,
    /// Its explanation or warning.
    message: String,
}

/// An attempt that did not work.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Worth another attempt, but not before the receiver's own delay if it named one.
    Retryable { after: Option<Duration>, reason: String },
    /// The same request will never be taken.
    Permanent { reason: String },
}

#[derive(Debug)]
enum Transport {
    Http(HttpTransport),
    Grpc(GrpcTransport),
}

/// Sends the spans of one queue to one receiver.
#[derive(Debug)]
pub(super) struct OtlpExporter {
    transport: Transport,
    settings: OtlpSettings,
    retries: LogLimit,
    failures: LogLimit,
    rejections: LogLimit,
}

impl OtlpExporter {
    /// Reads certificates; connects only when there is something to send.
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, TlsError> {
        let transport = match settings.protocol {
            Protocol::Grpc => Transport::Grpc(GrpcTransport::new(&settings)?),
            Protocol::HttpProtobuf => Transport::Http(HttpTransport::new(&settings)?),
        };
        Ok(Self {
            transport,
            settings,
            retries: LogLimit::default(),
            failures: LogLimit::default(),
            rejections: LogLimit::default(),
        })
    }

    /// Runs until the queue is closed and everything taken from it is settled.
    ///
    /// Once `closing` turns true, waiting retries get one last attempt at once.
    pub(super) async fn run(self, queue: Arc<Queue>, closing: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() >= this.settings.concurrency.max(1) {
                under_way.join_next().await;
            }
            let Some(batch) = queue.next().await else { break };
            while under_way.try_join_next().is_some() {}
            let this = Arc::clone(&this);
            let ledger = Arc::clone(queue.ledger());
            let closing = closing.clone();
            under_way.spawn(async move { this.deliver(&batch, &ledger, closing).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn deliver(&self, batch: &Batch, ledger: &Ledger, mut closing: watch::Receiver<bool>) {
        let encoded = wire::encode(batch, self.settings.max_request_bytes);
        ledger.dropped(DropReason::TooLarge, encoded.too_large);
        for request in encoded.requests {
            match self.send(&request, &mut closing).await {
                Ok(accepted) => {
                    let rejected = accepted.rejected.min(request.spans);
                    ledger.sent(request.spans - rejected);
                    ledger.rejected(rejected);
                    self.log_partial_success(&accepted, rejected);
                }
                Err(reason) => {
                    ledger.failed(request.spans);
                    self.log_failure(&reason, request.spans);
                }
            }
        }
    }

    /// One request with all its attempts; the error is the last reason.
    async fn send(
        &self,
        request: &Request,
        closing: &mut watch::Receiver<bool>,
    ) -> Result<Accepted, String> {
        let mut backoff = Backoff::new(self.settings.retry, Instant::now());
        let body = match &self.transport {
            Transport::Http(http) => http.prepare(&request.body),
            Transport::Grpc(_) => request.body.clone(),
        };
        loop {
            let last_attempt = *closing.borrow_and_update();
            let attempt = async {
                match &self.transport {
                    Transport::Http(http) => http.attempt(body.clone()).await,
                    Transport::Grpc(grpc) => grpc.attempt(body.clone()).await,
                }
            };
            let (after, reason) = match tokio::time::timeout(self.settings.timeout, attempt).await {
                Ok(Ok(accepted)) => return Ok(accepted),
                Ok(Err(Failure::Permanent { reason })) => return Err(reason),
                Ok(Err(Failure::Retryable { after, reason })) => (after, reason),
                Err(_) => (None, format!("no answer within {:?}", self.settings.timeout)),
            };
            if last_attempt {
                return Err(reason);
            }
            let Some(delay) = backoff.next_delay(after, Instant::now(), fastrand::f64()) else {
                return Err(reason);
            };
            self.log_retry(&reason, request.spans);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // The sender lives as long as the exporter's thread.
                _ = closing.wait_for(|closing| *closing) => {}
            }
        }
    }

    fn log_retry(&self, reason: &str, spans: usize) {
        if let Some(suppressed) = self.retries.admit(Instant::now()) {
            tracing::warn!(
                endpoint = %self.settings.endpoint, spans, suppressed, reason = cut(reason),
                "OTLP export will be tried again; check that the receiver runs and the endpoint \
                 is right"
            );
        }
    }

    fn log_failure(&self, reason: &str, spans: usize) {
        if let Some(suppressed) = self.failures.admit(Instant::now()) {
            tracing::warn!(
                endpoint = %self.settings.endpoint, spans, suppressed, reason = cut(reason),
                "OTLP export failed; check that the receiver runs and the endpoint is right"
            );
        }
    }

    fn log_partial_success(&self, accepted: &Accepted, rejected: usize) {
        if rejected == 0 && accepted.message.is_empty() {
            return;
        }
        if let Some(suppressed) = self.rejections.admit(Instant::now()) {
            tracing::warn!(
                endpoint = %self.settings.endpoint, rejected, suppressed,
                message = cut(&accepted.message),
                "the OTLP receiver did not take everything"
            );
        }
    }
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_LOGGED).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
