//! The OTLP destination: batches become requests, and requests are retried until the receiver
//! has them, refuses them for good, or time runs out.

mod answer;
mod attempts;
mod client;
mod dial;
mod draining;
mod grpc;
mod health;
mod http;
mod metrics;
mod overflow;
mod retry;
mod spooling;
mod transport;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::{DropReason, Ledger};
use super::log_limit::LogLimit;
use super::observer::Operations;
use super::queue::{Batch, Queue};
use super::settings::{OtlpSettings, Protocol};
use super::wire::{self, Request};
pub use answer::Outcome;
pub use client::TlsError;
use health::Health;
pub use metrics::MetricsExporter;
use overflow::OverflowWatch;
pub use retry::RetryPolicy;
pub(super) use spooling::{Spooling, strays};
use transport::Transport;
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

/// Sends the spans of one queue to one receiver.
#[derive(Debug)]
pub(super) struct OtlpExporter {
    transport: Transport,
    settings: OtlpSettings,
    health: Health,
    /// Size limit of a request: what was set, or less if the receiver refused that.
    max_request_bytes: AtomicUsize,
    rejections: LogLimit,
    operations: Arc<Operations>,
    /// Where requests wait that cannot be delivered now; without it they wait in memory.
    spool: Option<Spooling>,
}

/// Whether the agent is about to end, and then how long attempts may go on whose requests can wait
/// in the spool instead.
pub(super) type Closing = watch::Receiver<Option<Instant>>;

impl OtlpExporter {
    /// Reads certificates; connects only when there is something to send.
    pub(super) fn new(settings: OtlpSettings) -> Result<Self, TlsError> {
        Ok(Self {
            transport: Transport::new(&settings)?,
            health: Health::default(),
            max_request_bytes: AtomicUsize::new(settings.max_request_bytes),
            rejections: LogLimit::default(),
            operations: Arc::default(),
            spool: None,
            settings,
        })
    }

    /// How long its requests take.
    pub(super) fn operations(&self) -> &Arc<Operations> {
        &self.operations
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

    /// Counts what the receiver took and what not.
    fn settle(&self, accepted: &Accepted, spans: usize, ledger: &Ledger) {
        let rejected = accepted.rejected.min(spans);
        ledger.sent(spans - rejected);
        ledger.dropped(DropReason::Rejected, rejected);
        self.log_partial_success(accepted, rejected);
    }
}

#[cfg(test)]
mod tests;
