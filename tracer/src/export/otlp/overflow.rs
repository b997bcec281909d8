//! Tells the operator of a receiver that does not keep up.

use ::http::Uri;
use tokio::time::Instant;

use crate::export::log_limit::LogLimit;
use crate::export::queue::Queue;

/// Tells the operator when spans begin to come faster than the receiver takes them, and when that
/// is over. On the exporter's side: the thread that submits spans must not wait for a log.
#[derive(Debug, Default)]
pub(super) struct OverflowWatch {
    /// Dropped by the last look.
    seen: u64,
    /// Dropped before the current episode.
    before: Option<u64>,
    limit: LogLimit,
}

impl OverflowWatch {
    pub(super) fn look(&mut self, queue: &Queue, endpoint: &Uri) {
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
