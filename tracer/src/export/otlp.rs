//! The OTLP destination: batches become requests, and requests are retried until the receiver
//! has them, refuses them for good, or time runs out.

mod client;
mod dial;
mod grpc;
mod health;
mod http;
mod retry;
mod spooling;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::{DropReason, Ledger};
use super::log_limit::LogLimit;
use super::queue::{Batch, Queue};
use super::settings::{OtlpSettings, Protocol};
use super::spool::Record;
use super::wire::{self, Request};
pub use client::TlsError;
use grpc::GrpcTransport;
use health::Health;
use http::HttpTransport;
use retry::Backoff;
pub use retry::RetryPolicy;
pub(super) use spooling::Spooling;
use trouble::{Trouble, causes};

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
/// However little a receiver takes, requests are not made smaller than this.
const LEAST_REQUEST_BYTES: usize = 16 * 1024;
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
    Retryable { after: Option<Duration>, trouble: Trouble, reason: String },
    /// The same request will never be taken.
    Permanent { trouble: Trouble, reason: String },
}

/// What became of a request that is not lost.
#[derive(Debug)]
enum Sent {
    Accepted(Accepted),
    /// It waits in the spool.
    Spooled,
}

impl Failure {
    /// The connection could not be made, or broke: as OTLP has it, worth another attempt.
    fn connection(error: &(dyn std::error::Error + 'static), protocol: Protocol) -> Self {
        let trouble = Trouble::of_connection(error, protocol);
        Self::Retryable { after: None, trouble, reason: causes(error) }
    }
}

#[derive(Debug)]
enum Transport {
    Http(HttpTransport),
    Grpc(GrpcTransport),
}

impl Transport {
    /// What is sent for a request, made once for all attempts.
    fn prepare(&self, request: &Request) -> Bytes {
        match self {
            Self::Http(http) => http.prepare(&request.body),
            Self::Grpc(_) => request.body.clone(),
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<Accepted, Failure> {
        match self {
            Self::Http(http) => http.attempt(body).await,
            Self::Grpc(grpc) => grpc.attempt(body).await,
        }
    }

    /// Later attempts do not use the connections that there are.
    fn reconnect(&self) {
        match self {
            Self::Http(http) => http.reconnect(),
            Self::Grpc(grpc) => grpc.reconnect(),
        }
    }
}

/// Sends the spans of one queue to one receiver.
#[derive(Debug)]
pub(super) struct OtlpExporter {
    transport: Transport,
    settings: OtlpSettings,
    health: Health,
    /// Size limit of a request: what was set, or less if the receiver refused that.
    max_request_bytes: AtomicUsize,
    rejections: LogLimit,
    /// Where requests wait that cannot be delivered now; without it they wait in memory.
    spool: Option<Spooling>,
}

/// Whether the agent is about to end, and then how long attempts may go on whose requests can wait
/// in the spool instead.
pub(super) type Closing = watch::Receiver<Option<Instant>>;

impl OtlpExporter {
    /// Reads certificates; connects only when there is something to send.
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, TlsError> {
        let transport = match settings.protocol {
            Protocol::Grpc => Transport::Grpc(GrpcTransport::new(&settings)?),
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                Transport::Http(HttpTransport::new(&settings)?)
            }
        };
        Ok(Self {
            transport,
            health: Health::default(),
            max_request_bytes: AtomicUsize::new(settings.max_request_bytes),
            rejections: LogLimit::default(),
            spool: None,
            settings,
        })
    }

    /// Lets requests wait in a spool.
    pub(super) fn with_spool(self, spool: Spooling) -> Self {
        Self { spool: Some(spool), ..self }
    }

    /// Runs until the queue is closed and everything taken from it is settled.
    ///
    /// Once the agent is `closing`, waiting retries get one last attempt at once. With a spool, it
    /// ends only then, and leaves there what is left.
    pub(super) async fn run(self, queue: Arc<Queue>, closing: Closing) {
        let this = Arc::new(self);
        let mut overflow = OverflowWatch::default();
        let mut draining = JoinSet::new();
        draining.spawn(Arc::clone(&this).drain(Arc::clone(queue.ledger()), closing.clone()));
        let mut under_way = JoinSet::new();
        loop {
            let keeps_up = this.until_free(&mut under_way, &queue).await;
            let Some(batch) = queue.next().await else { break };
            while under_way.try_join_next().is_some() {}
            overflow.look(&queue, &this.settings.endpoint);
            let ledger = Arc::clone(queue.ledger());
            let this = Arc::clone(&this);
            let closing = closing.clone();
            let delivery = async move { this.deliver(&batch, &ledger, closing, keeps_up).await };
            if keeps_up {
                under_way.spawn(delivery);
            } else {
                delivery.await;
            }
        }
        while under_way.join_next().await.is_some() {}
        while draining.join_next().await.is_some() {}
    }

    /// Waits until another request may be under way. With a spool only as long as there is room in
    /// the queue; then it returns false.
    async fn until_free(&self, under_way: &mut JoinSet<()>, queue: &Queue) -> bool {
        while under_way.len() >= self.settings.concurrency.max(1) {
            tokio::select! {
                _ = under_way.join_next() => {}
                () = queue.until_half_full(), if self.spool.is_some() => return false,
            }
        }
        true
    }

    /// Settles a batch: delivers it, or leaves it to the spool if the receiver is away or does not
    /// keep up.
    async fn deliver(&self, batch: &Batch, ledger: &Ledger, mut closing: Closing, keeps_up: bool) {
        let encoded = wire::encode(batch, self.max_request_bytes.load(Ordering::Relaxed));
        ledger.dropped(DropReason::TooLarge, encoded.too_large);
        for request in encoded.requests {
            let can_wait = !keeps_up || self.health.is_down();
            if can_wait && self.spooled(&request).await {
                continue;
            }
            match self.send(&request, &mut closing).await {
                Ok(Sent::Accepted(accepted)) => self.settle(&accepted, request.spans, ledger),
                Ok(Sent::Spooled) => {}
                Err(reason) => ledger.dropped(reason, request.spans),
            }
        }
    }

    /// Whether there is a spool and it took the request.
    async fn spooled(&self, request: &Request) -> bool {
        match &self.spool {
            Some(spool) => spool.put(request).await,
            None => false,
        }
    }

    /// Delivers what is in the spool, the oldest first and one at a time, so that an end at any
    /// time makes at most one request a duplicate. While the receiver is away, these are the
    /// attempts that find out when it is back.
    async fn drain(self: Arc<Self>, ledger: Arc<Ledger>, mut closing: Closing) {
        let Some(spool) = &self.spool else { return };
        while closing.borrow_and_update().is_none() {
            let Some(record) = spool.next().await else {
                tokio::select! {
                    () = spool.filled() => {}
                    // The sender lives as long as the exporter's thread.
                    _ = closing.wait_for(Option::is_some) => {}
                }
                continue;
            };
            let spans = record.spans as usize;
            match self.send_spooled(&record, &mut closing).await {
                // Counted first: what ends in between was sent, and may be again.
                Some(Ok(accepted)) => self.settle(&accepted, spans, &ledger),
                Some(Err(reason)) => ledger.dropped(reason, spans),
                None => return spool.put_back(&record).await,
            }
            spool.acknowledge(&record).await;
        }
    }

    /// One request of the spool with all its attempts; `None` if the agent ends before it is
    /// settled.
    async fn send_spooled(
        &self,
        record: &Record,
        closing: &mut Closing,
    ) -> Option<Result<Accepted, DropReason>> {
        let started = Instant::now();
        let for_ever = RetryPolicy { give_up_after: Duration::MAX, ..self.settings.retry };
        let mut backoff = Backoff::new(for_ever, started);
        let request = Request { body: record.body.clone(), spans: record.spans as usize };
        let body = self.transport.prepare(&request);
        loop {
            let after = match self.attempt(body.clone(), request.body.len(), closing).await {
                Ok(accepted) => return Some(Ok(accepted)),
                Err(Failure::Permanent { .. }) => return Some(Err(DropReason::Refused)),
                Err(Failure::Retryable { after, .. }) => after,
            };
            // A receiver that takes others but never this one must not hold up the spool.
            let over = started.elapsed() > self.settings.retry.give_up_after;
            if over && self.health.worked_since(started) {
                return Some(Err(DropReason::GaveUp));
            }
            let delay = backoff.next_delay(after, Instant::now(), fastrand::f64())?;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = closing.wait_for(Option::is_some) => return None,
            }
        }
    }

    /// Counts what the receiver took and what not.
    fn settle(&self, accepted: &Accepted, spans: usize, ledger: &Ledger) {
        let rejected = accepted.rejected.min(spans);
        ledger.sent(spans - rejected);
        ledger.dropped(DropReason::Rejected, rejected);
        self.log_partial_success(accepted, rejected);
    }

    /// One request with all its attempts, or one attempt if it can wait in the spool.
    async fn send(&self, request: &Request, closing: &mut Closing) -> Result<Sent, DropReason> {
        let mut backoff = Backoff::new(self.settings.retry, Instant::now());
        let body = self.transport.prepare(request);
        loop {
            let last_attempt = closing.borrow_and_update().is_some();
            let after = match self.attempt(body.clone(), request.body.len(), closing).await {
                Ok(accepted) => return Ok(Sent::Accepted(accepted)),
                Err(Failure::Permanent { .. }) => return Err(DropReason::Refused),
                Err(Failure::Retryable { after, .. }) => after,
            };
            if self.spooled(request).await {
                return Ok(Sent::Spooled);
            }
            if last_attempt {
                return Err(DropReason::Shutdown);
            }
            let Some(delay) = backoff.next_delay(after, Instant::now(), fastrand::f64()) else {
                return Err(DropReason::GaveUp);
            };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = closing.wait_for(Option::is_some) => {}
            }
        }
    }

    /// One attempt, and what it tells about the receiver.
    async fn attempt(
        &self,
        body: Bytes,
        uncompressed: usize,
        closing: &Closing,
    ) -> Result<Accepted, Failure> {
        let limit = self.settings.timeout;
        let result = tokio::select! {
            result = self.transport.attempt(body) => result,
            () = tokio::time::sleep(limit) => Err(Failure::Retryable {
                after: None,
                trouble: Trouble::Silent,
                reason: format!("no answer within {limit:?}"),
            }),
            () = cutoff(closing.clone()), if self.spool.is_some() => {
                let reason = "no answer before the end of the agent".to_owned();
                return Err(Failure::Retryable { after: None, trouble: Trouble::Silent, reason });
            }
        };
        self.note(&result, uncompressed);
        result
    }

    /// Learns from an attempt about the receiver, and tells the operator what is new.
    fn note(&self, result: &Result<Accepted, Failure>, uncompressed: usize) {
        let now = Instant::now();
        match result {
            Ok(_) => self.log_return(self.health.worked(now)),
            Err(Failure::Retryable { trouble, reason, .. }) => {
                if *trouble == Trouble::Silent {
                    // The host may have gone away without a word, and its name moved on.
                    self.transport.reconnect();
                }
                if self.health.failed(*trouble, true, now) {
                    tracing::warn!(
                        endpoint = %self.settings.endpoint, reason = cut(reason),
                        "the OTLP receiver takes no spans, which will be tried again: {}",
                        trouble.advice()
                    );
                }
            }
            Err(Failure::Permanent { trouble, reason }) => {
                if *trouble == Trouble::TooLarge {
                    self.lower_limit(uncompressed);
                }
                if self.health.failed(*trouble, false, now) {
                    tracing::warn!(
                        endpoint = %self.settings.endpoint, reason = cut(reason),
                        "the OTLP receiver refused spans, which are dropped: {}",
                        trouble.advice()
                    );
                }
            }
        }
    }

    /// A request of so many bytes was too large: later ones have at most half as many.
    fn lower_limit(&self, refused: usize) {
        let limit = (refused / 2).max(LEAST_REQUEST_BYTES);
        self.max_request_bytes.fetch_min(limit, Ordering::Relaxed);
    }

    fn log_return(&self, after: Option<Duration>) {
        if let Some(after) = after {
            tracing::info!(
                endpoint = %self.settings.endpoint, after = ?Duration::from_secs(after.as_secs()),
                "the OTLP receiver takes spans again"
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

/// Tells the operator when spans begin to come faster than the receiver takes them, and when that
/// is over. On the exporter's side: the thread that submits spans must not wait for a log.
#[derive(Debug, Default)]
struct OverflowWatch {
    /// Dropped by the last look.
    seen: u64,
    /// Dropped before the current episode.
    before: Option<u64>,
    limit: LogLimit,
}

impl OverflowWatch {
    fn look(&mut self, queue: &Queue, endpoint: &::http::Uri) {
        let dropped = queue.ledger().overflowed();
        let grew = dropped > self.seen;
        match self.before {
            None if grew && self.limit.admit(Instant::now()).is_some() => {
                self.before = Some(self.seen);
                tracing::warn!(
                    %endpoint,
                    "spans come faster than the OTLP receiver takes them, so that some are \
                     dropped; make it faster, or give --spool a directory for them, or raise \
                     --queue-spans and --queue-bytes if such times are short"
                );
            }
            Some(before) if !grew && !queue.is_half_full() => {
                self.before = None;
                tracing::info!(%endpoint, dropped = dropped - before, "no more spans are dropped");
            }
            _ => {}
        }
        self.seen = dropped;
    }
}

/// Returns when attempts have to end whose requests can wait in the spool.
async fn cutoff(mut closing: Closing) {
    // The sender lives as long as the exporter's thread.
    let at = closing.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_LOGGED).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
