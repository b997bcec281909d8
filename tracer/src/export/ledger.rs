//! What became of every span of a destination. The sums always match what was submitted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a span was given up before any attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The destination's queue was full.
    QueueFull,
    /// The span alone is larger than a request may be.
    TooLarge,
    /// It was still waiting when the time to shut down ran out, or came after it.
    Shutdown,
}

impl DropReason {
    /// Stable name for reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Running counts of one destination, in spans.
#[derive(Debug)]
pub(super) struct Ledger {
    name: String,
    submitted: AtomicU64,
    sent: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    queue_full: AtomicU64,
    too_large: AtomicU64,
    after_shutdown: AtomicU64,
}

impl Ledger {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            submitted: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            after_shutdown: AtomicU64::new(0),
        }
    }

    pub(super) fn submitted(&self, spans: usize) {
        add(&self.submitted, spans);
    }

    pub(super) fn sent(&self, spans: usize) {
        add(&self.sent, spans);
    }

    pub(super) fn rejected(&self, spans: usize) {
        add(&self.rejected, spans);
    }

    pub(super) fn failed(&self, spans: usize) {
        add(&self.failed, spans);
    }

    pub(super) fn dropped(&self, reason: DropReason, spans: usize) {
        match reason {
            DropReason::QueueFull => add(&self.queue_full, spans),
            DropReason::TooLarge => add(&self.too_large, spans),
            DropReason::Shutdown => add(&self.after_shutdown, spans),
        }
    }

    /// The counts by now; what nothing became of yet is `pending`.
    pub(super) fn report(&self) -> ExporterReport {
        // Outcomes are read before `submitted`, so that a difference is never negative.
        let outcome = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let mut report = ExporterReport {
            name: self.name.clone(),
            sent: outcome(&self.sent),
            rejected: outcome(&self.rejected),
            failed: outcome(&self.failed),
            queue_full: outcome(&self.queue_full),
            too_large: outcome(&self.too_large),
            shutdown: outcome(&self.after_shutdown),
            ..ExporterReport::default()
        };
        report.submitted = self.submitted.load(Ordering::SeqCst);
        report.pending = report.submitted.saturating_sub(report.settled());
        report
    }

    /// The final counts: what is pending now was dropped by the shutdown.
    pub(super) fn final_report(&self) -> ExporterReport {
        let mut report = self.report();
        report.shutdown += std::mem::take(&mut report.pending);
        report
    }
}

fn add(counter: &AtomicU64, spans: usize) {
    counter.fetch_add(spans as u64, Ordering::SeqCst);
}

/// What became of the spans of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterReport {
    /// The destination as the user named it.
    pub name: String,
    /// All spans that were handed in: the sum of everything below.
    pub submitted: u64,
    /// Accepted by the receiver, or written.
    pub sent: u64,
    /// Refused by the receiver in a partial success.
    pub rejected: u64,
    /// Refused as a whole, not writable, or given up after retries.
    pub failed: u64,
    /// Dropped: [`DropReason::QueueFull`].
    pub queue_full: u64,
    /// Dropped: [`DropReason::TooLarge`].
    pub too_large: u64,
    /// Dropped: [`DropReason::Shutdown`].
    pub shutdown: u64,
    /// Waiting or under way; zero in a final report.
    pub pending: u64,
}

impl ExporterReport {
    /// Dropped spans by reason, without the reasons that did not occur.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        [
            (DropReason::QueueFull, self.queue_full),
            (DropReason::TooLarge, self.too_large),
            (DropReason::Shutdown, self.shutdown),
        ]
        .into_iter()
        .filter(|(_, spans)| *spans > 0)
    }

    fn settled(&self) -> u64 {
        let dropped = self.queue_full + self.too_large + self.shutdown;
        self.sent + self.rejected + self.failed + dropped
    }
}

impl fmt::Display for ExporterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} spans sent", self.name, self.sent)?;
        for (what, spans) in [("rejected by the receiver", self.rejected), ("failed", self.failed)]
        {
            if spans > 0 {
                write!(f, ", {spans} {what}")?;
            }
        }
        for (reason, spans) in self.dropped() {
            write!(f, ", {spans} dropped ({})", reason.as_str())?;
        }
        if self.pending > 0 {
            write!(f, ", {} pending", self.pending)?;
        }
        Ok(())
    }
}

/// What became of all spans, by destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// One report a destination, in the order the user named them.
    pub exporters: Vec<ExporterReport>,
}

impl fmt::Display for ExportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, exporter) in self.exporters.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            exporter.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance() {
        let ledger = Ledger::new("otlp".to_owned());
        ledger.submitted(100);
        ledger.sent(40);
        ledger.rejected(3);
        ledger.failed(7);
        ledger.dropped(DropReason::QueueFull, 20);
        ledger.dropped(DropReason::TooLarge, 1);
        ledger.dropped(DropReason::Shutdown, 2);
        assert_eq!(ledger.report().pending, 27);
        assert_eq!(ledger.report().shutdown, 2);

        let last = ledger.final_report();
        assert_eq!((last.pending, last.shutdown), (0, 29));
        assert_eq!(last.settled(), last.submitted);
        assert_eq!(
            last.to_string(),
            "otlp: 40 spans sent, 3 rejected by the receiver, 7 failed, \
             20 dropped (queue_full), 1 dropped (too_large), 29 dropped (shutdown)"
        );
    }
}
