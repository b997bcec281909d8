//! What became of every span of a destination. The sums always match what was submitted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a span did not arrive and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The destination's queue held as many spans as it may.
    QueueFull,
    /// The destination's queue held as many bytes as it may.
    QueueBytes,
    /// The agent was near its limit of memory.
    Memory,
    /// The span alone is larger than a request may be.
    TooLarge,
    /// The receiver said that it will never take the request.
    Refused,
    /// The receiver took the request but for this span: a partial success.
    Rejected,
    /// Every attempt failed until the time for retries was over.
    GaveUp,
    /// The file or terminal could not be written to.
    Unwritable,
    /// The spool was at its size limit: the oldest segment made room.
    SpoolFull,
    /// What the spool had of it could not be read back.
    SpoolDamaged,
    /// It was still waiting when the time to shut down ran out, or came after it.
    Shutdown,
}

impl DropReason {
    /// Every reason, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::QueueFull,
        Self::QueueBytes,
        Self::Memory,
        Self::TooLarge,
        Self::Refused,
        Self::Rejected,
        Self::GaveUp,
        Self::Unwritable,
        Self::SpoolFull,
        Self::SpoolDamaged,
        Self::Shutdown,
    ];

    /// Stable name for reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueBytes => "queue_bytes",
            Self::Memory => "memory",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::GaveUp => "gave_up",
            Self::Unwritable => "unwritable",
            Self::SpoolFull => "spool_full",
            Self::SpoolDamaged => "spool_damaged",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Running counts of one destination, in spans.
#[derive(Debug)]
pub(super) struct Ledger {
    name: String,
    submitted: AtomicU64,
    /// Found in the spool at the start: left by an earlier run.
    recovered: AtomicU64,
    sent: AtomicU64,
    /// In the spool by now.
    spooled: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Ledger {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            submitted: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            dropped: Default::default(),
        }
    }

    pub(super) fn submitted(&self, spans: usize) {
        add(&self.submitted, spans);
    }

    pub(super) fn sent(&self, spans: usize) {
        add(&self.sent, spans);
    }

    pub(super) fn dropped(&self, reason: DropReason, spans: usize) {
        add(&self.dropped[reason as usize], spans);
    }

    /// Spans that an earlier run left in the spool.
    pub(super) fn recovered(&self, spans: u64) {
        self.recovered.fetch_add(spans, Ordering::SeqCst);
        self.spooled.fetch_add(spans, Ordering::SeqCst);
    }

    /// Spans were put into the spool.
    pub(super) fn spooled(&self, spans: usize) {
        add(&self.spooled, spans);
    }

    /// Spans left the spool, delivered or dropped.
    pub(super) fn unspooled(&self, spans: u64) {
        // Never below zero, whatever a damaged spool says.
        let _ = self.spooled.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |spooled| {
            Some(spooled.saturating_sub(spans))
        });
    }

    /// Spans that its queue had no room for, so far.
    pub(super) fn overflowed(&self) -> u64 {
        [DropReason::QueueFull, DropReason::QueueBytes]
            .into_iter()
            .map(|reason| self.dropped[reason as usize].load(Ordering::SeqCst))
            .sum()
    }

    /// The counts by now; what nothing became of yet is `pending`.
    pub(super) fn report(&self) -> ExporterReport {
        // Outcomes are read before `submitted`, so that a difference is never negative.
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let mut report = ExporterReport {
            name: self.name.clone(),
            spooled: count(&self.spooled),
            sent: count(&self.sent),
            dropped: self.dropped.each_ref().map(count),
            recovered: count(&self.recovered),
            ..ExporterReport::default()
        };
        report.submitted = count(&self.submitted);
        report.pending = (report.submitted + report.recovered).saturating_sub(report.settled());
        report
    }

    /// The final counts: what is pending now was dropped by the shutdown.
    pub(super) fn final_report(&self) -> ExporterReport {
        let mut report = self.report();
        report.dropped[DropReason::Shutdown as usize] += std::mem::take(&mut report.pending);
        report
    }
}

fn add(counter: &AtomicU64, spans: usize) {
    counter.fetch_add(spans as u64, Ordering::SeqCst);
}

/// What became of the spans of one destination: `submitted` and `recovered` together are the sum
/// of everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterReport {
    /// The destination as the user named it.
    pub name: String,
    /// All spans that were handed in.
    pub submitted: u64,
    /// Spans that an earlier run had left in the spool.
    pub recovered: u64,
    /// Accepted by the receiver, or written.
    pub sent: u64,
    /// In the spool; in a final report: left there for the next run.
    pub spooled: u64,
    /// Waiting or under way; zero in a final report.
    pub pending: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl ExporterReport {
    /// Spans dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Dropped spans by reason, without the reasons that did not occur.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = DropReason::ALL.into_iter().zip(self.dropped);
        counts.filter(|(_, spans)| *spans > 0)
    }

    fn settled(&self) -> u64 {
        self.sent + self.spooled + self.dropped.iter().sum::<u64>()
    }
}

impl fmt::Display for ExporterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} spans sent", self.name, self.sent)?;
        if self.recovered > 0 {
            write!(f, ", {} of an earlier run found in the spool", self.recovered)?;
        }
        if self.spooled > 0 {
            write!(f, ", {} left in the spool", self.spooled)?;
        }
        for (reason, spans) in self.drops() {
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
        ledger.dropped(DropReason::Rejected, 3);
        ledger.dropped(DropReason::Refused, 7);
        ledger.dropped(DropReason::QueueFull, 20);
        ledger.dropped(DropReason::TooLarge, 1);
        ledger.dropped(DropReason::Shutdown, 2);
        assert_eq!(ledger.report().pending, 27);
        assert_eq!(ledger.report().dropped(DropReason::Shutdown), 2);

        let last = ledger.final_report();
        assert_eq!((last.pending, last.dropped(DropReason::Shutdown)), (0, 29));
        assert_eq!(last.settled(), last.submitted);
        assert_eq!(
            last.to_string(),
            "otlp: 40 spans sent, 20 dropped (queue_full), 1 dropped (too_large), \
             7 dropped (refused), 3 dropped (rejected), 29 dropped (shutdown)"
        );
    }

    #[test]
    fn the_spool_carries_spans_from_run_to_run() {
        let ledger = Ledger::new("otlp".to_owned());
        ledger.recovered(10);
        ledger.submitted(5);
        ledger.spooled(5);
        ledger.sent(4);
        ledger.unspooled(4);
        let report = ledger.final_report();
        assert_eq!((report.spooled, report.pending), (11, 0));
        assert_eq!(report.drops().count(), 0);
        assert_eq!(
            report.to_string(),
            "otlp: 4 spans sent, 10 of an earlier run found in the spool, 11 left in the spool"
        );
    }

    #[test]
    fn reasons_are_in_the_order_of_their_counters() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
