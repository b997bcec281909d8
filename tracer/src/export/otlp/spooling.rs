//! The spool behind one exporter: its blocking I/O beside the export thread, and accounted for.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::export::ledger::{DropReason, Ledger};
use crate::export::log_limit::LogLimit;
use crate::export::settings::{OtlpSettings, SpoolSettings};
use crate::export::spool::{Record, Spool, SpoolError, holds_requests};
use crate::export::wire::Request;

/// A spool that had trouble is looked at again after so long.
const RECHECK: Duration = Duration::from_secs(5);
/// Characters of an endpoint in the name of a directory.
const MAX_NAME: usize = 80;

/// Where the requests of one receiver wait.
#[derive(Debug)]
pub(in crate::export) struct Spooling {
    spool: Arc<Mutex<Spool>>,
    ledger: Arc<Ledger>,
    filled: Notify,
    overflows: LogLimit,
    failures: LogLimit,
    damages: LogLimit,
}

impl Spooling {
    /// Opens the receiver's own directory. What an earlier run left there will be delivered.
    pub(in crate::export) fn open(
        settings: &SpoolSettings,
        receiver: &OtlpSettings,
        ledger: Arc<Ledger>,
    ) -> Result<Self, SpoolError> {
        let spool = Spool::open(&settings.directory.join(name(receiver)), settings.max_bytes)?;
        ledger.recovered(spool.spans());
        Ok(Self {
            spool: Arc::new(Mutex::new(spool)),
            ledger,
            filled: Notify::new(),
            overflows: LogLimit::default(),
            failures: LogLimit::default(),
            damages: LogLimit::default(),
        })
    }

    /// Puts a request into the spool, synced. Whether that worked.
    pub(super) async fn put(&self, request: &Request) -> bool {
        let Request { body, spans } = request.clone();
        let appended = self
            .with(move |spool, ledger| {
                let appended = spool.append(&body, u32::try_from(spans).unwrap_or(u32::MAX));
                if appended.outcome.is_ok() {
                    ledger.spooled(spans);
                }
                ledger.unspooled(appended.dropped);
                ledger.dropped(DropReason::SpoolFull, appended.dropped as usize);
                appended
            })
            .await;
        let Some(appended) = appended else { return false };
        let now = Instant::now();
        if appended.dropped > 0
            && let Some(suppressed) = self.overflows.admit(now)
        {
            tracing::warn!(
                dropped = appended.dropped,
                suppressed,
                "the spool is at its limit, so that its oldest spans are dropped; bring the \
                 receiver back, or raise --spool-size"
            );
        }
        match appended.outcome {
            Ok(()) => {
                tracing::debug!(spans, "spooled");
                self.filled.notify_one();
                true
            }
            Err(error) => {
                self.log_failure(&error, now);
                false
            }
        }
    }

    /// The oldest request, if there is one.
    pub(super) async fn next(&self) -> Option<Record> {
        let next = self
            .with(|spool, ledger| {
                let next = spool.next();
                if let Ok(next) = &next {
                    ledger.unspooled(next.damaged);
                    ledger.dropped(DropReason::SpoolDamaged, next.damaged as usize);
                }
                next
            })
            .await?;
        let now = Instant::now();
        match next {
            Ok(next) => {
                if next.damaged > 0
                    && let Some(suppressed) = self.damages.admit(now)
                {
                    tracing::warn!(
                        lost = next.damaged,
                        suppressed,
                        "a part of the spool is damaged and kept aside as *.damaged; check the disk"
                    );
                }
                next.record
            }
            Err(error) => {
                self.log_failure(&error, now);
                None
            }
        }
    }

    /// The request needs to wait no longer.
    pub(super) async fn acknowledge(&self, record: &Record) {
        let record = record.clone();
        let done = self
            .with(move |spool, ledger| {
                ledger.unspooled(u64::from(record.spans));
                spool.acknowledge(&record)
            })
            .await;
        if let Some(Err(error)) = done {
            self.log_failure(&error, Instant::now());
        }
    }

    /// The request waits for the next run, unless it had to make room meanwhile.
    pub(super) async fn put_back(&self, record: &Record) {
        let record = record.clone();
        self.with(move |spool, ledger| {
            if !spool.put_back(&record) {
                ledger.unspooled(u64::from(record.spans));
                ledger.dropped(DropReason::SpoolFull, record.spans as usize);
            }
        })
        .await;
    }

    /// Returns when there may be something to deliver.
    pub(super) async fn filled(&self) {
        // Either way: look again.
        let _ = tokio::time::timeout(RECHECK, self.filled.notified()).await;
    }

    /// Beside the export thread; `None` if the runtime is going away. Counts are changed together
    /// with the spool, so that they are right whenever this is abandoned.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool, &Ledger) -> T + Send + 'static,
    ) -> Option<T> {
        let (spool, ledger) = (Arc::clone(&self.spool), Arc::clone(&self.ledger));
        let work = move || work(&mut spool.lock().unwrap_or_else(PoisonError::into_inner), &ledger);
        tokio::task::spawn_blocking(work).await.ok()
    }

    fn log_failure(&self, error: &io::Error, now: Instant) {
        if let Some(suppressed) = self.failures.admit(now) {
            tracing::warn!(
                %error, suppressed,
                "the spool cannot be used, so that spans wait in memory; is its disk full?"
            );
        }
    }
}

/// Directories with requests for receivers that are not among these, so that nobody will deliver
/// them.
pub(in crate::export) fn strays(
    settings: &SpoolSettings,
    receivers: &[OtlpSettings],
) -> Vec<PathBuf> {
    let known: Vec<_> = receivers.iter().map(name).collect();
    let entries = fs::read_dir(&settings.directory).into_iter().flatten().flatten();
    let strange =
        entries.filter(|entry| !known.iter().any(|name| entry.file_name() == name.as_str()));
    strange.map(|entry| entry.path()).filter(|path| holds_requests(path)).collect()
}

/// A directory's name for a receiver: readable, and another one for every endpoint.
fn name(receiver: &OtlpSettings) -> String {
    let endpoint = format!("{}{:?}", receiver.endpoint, receiver.route);
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let host = receiver.endpoint.authority().map_or("", |authority| authority.as_str());
    let readable: String = host.chars().map(plain).take(MAX_NAME).collect();
    format!("{readable}-{:08x}", crc32fast::hash(endpoint.as_bytes()))
}
