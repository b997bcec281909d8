//! One request and its attempts, and what they tell about the receiver.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::retry::Backoff;
use super::trouble::Trouble;
use super::{Accepted, Closing, Failure, OtlpExporter, Sent};
use crate::export::ledger::DropReason;
use crate::export::wire::Request;

/// However little a receiver takes, requests are not made smaller than this.
const LEAST_REQUEST_BYTES: usize = 16 * 1024;
/// Characters of a receiver's message that are logged.
const MAX_LOGGED: usize = 300;

impl OtlpExporter {
    /// One request with all its attempts, or one attempt if it can wait in the spool.
    pub(super) async fn send(
        &self,
        request: &Request,
        closing: &mut Closing,
    ) -> Result<Sent, DropReason> {
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
    pub(super) async fn attempt(
        &self,
        body: Bytes,
        uncompressed: usize,
        closing: &Closing,
    ) -> Result<Accepted, Failure> {
        let (limit, began) = (self.settings.timeout, Instant::now());
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
        let error = match &result {
            Ok(_) => None,
            Err(Failure::Retryable { trouble, .. } | Failure::Permanent { trouble, .. }) => {
                Some(trouble.name())
            }
        };
        self.operations.record(error, began.elapsed());
        self.note(&result, uncompressed);
        result
    }

    /// Learns from an attempt about the receiver, and tells the operator what is new.
    fn note(&self, result: &Result<Accepted, Failure>, uncompressed: usize) {
        let now = Instant::now();
        if let Err(Failure::Retryable { trouble, .. } | Failure::Permanent { trouble, .. }) = result
            && *trouble == Trouble::TooLarge
        {
            self.lower_limit(uncompressed);
        }
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
    pub(super) fn lower_limit(&self, refused: usize) {
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

    pub(super) fn log_partial_success(&self, accepted: &Accepted, rejected: usize) {
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
