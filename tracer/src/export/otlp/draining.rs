//! Delivering what waits in the spool.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::retry::{Backoff, RetryPolicy};
use super::{Accepted, Closing, Failure, OtlpExporter};
use crate::export::ledger::{DropReason, Ledger};
use crate::export::spool::Record;
use crate::export::wire::Request;

impl OtlpExporter {
    /// Delivers what is in the spool, the oldest first and one at a time, so that an end at any
    /// time makes at most one request a duplicate. While the receiver is away, these are the
    /// attempts that find out when it is back.
    pub(super) async fn drain(self: Arc<Self>, ledger: Arc<Ledger>, mut closing: Closing) {
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
            if over {
                if self.health.worked_since(started) {
                    return Some(Err(DropReason::GaveUp));
                }
                self.health.doubt();
            }
            let delay = backoff.next_delay(after, Instant::now(), fastrand::f64())?;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = closing.wait_for(Option::is_some) => return None,
            }
        }
    }
}
