//! Starting and stopping: one thread, one queue and one task for each destination.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::choice::{ExporterChoice, FileTarget};
use super::console::ConsoleExporter;
use super::file::FileExporter;
use super::ledger::{DropReason, ExportReport, Ledger};
use super::observer::{ExportObserver, Observed};
use super::otlp::{OtlpExporter, Spooling, TlsError, strays};
use super::queue::{BatchTrigger, Queue, Submission};
use super::settings::{BatchSettings, Protocol, Settings};
use super::spool::SpoolError;
use crate::trace::Span;

/// Spans written together for people and files, where more make nothing cheaper.
const LOCAL_BATCH: usize = 512;
/// How long spans for people and files may wait to be written together.
const LOCAL_LINGER: Duration = Duration::from_millis(100);
/// Share of the time to shut down in which requests are still attempted that could be spooled.
const LAST_ATTEMPTS: f64 = 0.6;
/// Beyond the time to shut down, for the thread to notice that it has passed.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Why exporters cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// TLS for OTLP.
    #[error("otlp exporter: {0}")]
    Tls(#[from] TlsError),
    /// OTLP was chosen without settings for it.
    #[error("otlp exporter: no settings; build them with `Settings::resolve`")]
    NoOtlpSettings,
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A file cannot be opened.
    #[error("cannot write spans to {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread or its event loop.
    #[error("cannot start the export thread: {0}")]
    Thread(io::Error),
}

/// Where finished spans are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpanSink {
    queues: Arc<[Arc<Queue>]>,
}

impl SpanSink {
    /// Queues spans for every destination. Never blocks: what does not fit is counted as dropped.
    pub fn submit(&self, spans: Vec<Span>) {
        if spans.is_empty() || self.queues.is_empty() {
            return;
        }
        let submission = Submission::share(spans);
        for queue in self.queues.iter() {
            queue.push(&submission);
        }
    }

    /// Counts spans that are given up instead, for every destination.
    pub fn give_up(&self, spans: usize, reason: DropReason) {
        for queue in self.queues.iter() {
            queue.ledger().submitted(spans);
            queue.ledger().dropped(reason, spans);
        }
    }
}

/// The running exporters. Dropping it abandons what is queued; see [`ExportHandle::shutdown`].
#[derive(Debug)]
pub struct ExportHandle {
    queues: Arc<[Arc<Queue>]>,
    observer: ExportObserver,
    closing: watch::Sender<Option<Instant>>,
    deadline: oneshot::Sender<Instant>,
    finished: mpsc::Receiver<()>,
}

/// Starts the exporters that `settings` name.
pub fn start(settings: Settings) -> Result<(SpanSink, ExportHandle), ExportError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(ExportError::Thread)?;
    let (closing, closing_seen) = watch::channel(None);
    let (deadline, deadline_seen) = oneshot::channel();
    let (finish, finished) = mpsc::channel();

    let Settings { exporters, otlp, batch, spool, console } = settings;
    let mut tasks = JoinSet::new();
    let mut observed = Vec::new();
    let mut observe = |queue: &Arc<Queue>, kind, operations| {
        observed.push(Observed { queue: Arc::clone(queue), kind, operations });
    };
    for choice in exporters {
        match choice {
            ExporterChoice::Otlp if otlp.is_empty() => return Err(ExportError::NoOtlpSettings),
            ExporterChoice::Otlp => {
                for receiver in &otlp {
                    let queue = Arc::new(queue(receiver.name.clone(), batch));
                    let mut exporter = OtlpExporter::new(receiver.clone())?;
                    let kind = match receiver.protocol {
                        Protocol::Grpc => "otlp_grpc_span_exporter",
                        Protocol::HttpProtobuf => "otlp_http_span_exporter",
                        Protocol::HttpJson => "otlp_http_json_span_exporter",
                    };
                    observe(&queue, kind, Arc::clone(exporter.operations()));
                    if let Some(spool) = &spool {
                        let ledger = Arc::clone(queue.ledger());
                        exporter = exporter.with_spool(Spooling::open(spool, receiver, ledger)?);
                    }
                    tasks.spawn_on(exporter.run(queue, closing_seen.clone()), runtime.handle());
                }
            }
            ExporterChoice::Console => {
                let queue = Arc::new(queue(choice.to_string(), local(batch)));
                observe(&queue, "console_span_exporter", Arc::default());
                tasks.spawn_on(ConsoleExporter::new(console).run(queue), runtime.handle());
            }
            ExporterChoice::File(ref target) => {
                let queue = Arc::new(queue(choice.to_string(), local(batch)));
                observe(&queue, "otlp_file_span_exporter", Arc::default());
                let file = FileExporter::open(target).map_err(|source| ExportError::File {
                    path: match target {
                        FileTarget::Stdout => "-".into(),
                        FileTarget::Path(path) => path.clone(),
                    },
                    source,
                })?;
                tasks.spawn_on(file.run(queue), runtime.handle());
            }
        }
    }

    for stray in spool.iter().flat_map(|spool| strays(spool, &otlp)) {
        tracing::warn!(
            directory = %stray.display(),
            "holds spans for a receiver that is not configured any more; name its endpoint again to \
             deliver them, or remove the directory"
        );
    }

    thread::Builder::new()
        .name("tracer-export".to_owned())
        .spawn(move || {
            runtime.block_on(run(tasks, deadline_seen));
            // A write that blocks must not hold up the end.
            runtime.shutdown_background();
            // Nobody may be waiting any more.
            let _ = finish.send(());
        })
        .map_err(ExportError::Thread)?;

    let queues: Arc<[_]> = observed.iter().map(|it| Arc::clone(&it.queue)).collect();
    let observer = ExportObserver(observed.into());
    Ok((
        SpanSink { queues: Arc::clone(&queues) },
        ExportHandle { queues, observer, closing, deadline, finished },
    ))
}

/// For what is written here, where no distance makes large batches worth their delay.
fn local(settings: BatchSettings) -> BatchSettings {
    BatchSettings {
        max_batch_size: settings.max_batch_size.min(LOCAL_BATCH),
        schedule_delay: LOCAL_LINGER,
        ..settings
    }
}

fn queue(name: String, settings: BatchSettings) -> Queue {
    let trigger = BatchTrigger { size: settings.max_batch_size, linger: settings.schedule_delay };
    Queue::new(settings.queue, trigger, Arc::new(Ledger::new(name)))
}

/// Waits for the destinations, which end when their queues are closed, but not past the deadline.
async fn run(mut tasks: JoinSet<()>, deadline: oneshot::Receiver<Instant>) {
    // A dropped handle means that nobody wants the rest.
    let Ok(deadline) = deadline.await else { return };
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout_at(deadline, all).await.is_err() {
        tracing::warn!("time ran out before all spans were exported");
    }
}

impl ExportHandle {
    /// Looks at the destinations, also while they end.
    pub fn observer(&self) -> ExportObserver {
        self.observer.clone()
    }

    /// The counts by now.
    pub fn report(&self) -> ExportReport {
        ExportReport { exporters: self.queues.iter().map(|it| it.ledger().report()).collect() }
    }

    /// Delivers what is queued, for at most `within`, and ends all exporters. Blocks.
    ///
    /// Requests that wait for a retry get one attempt at once; with a spool, what is left goes there.
    /// Spans that are still not settled then, and those submitted from now on, count as dropped by
    /// the shutdown.
    pub fn shutdown(self, within: Duration) -> ExportReport {
        for queue in self.queues.iter() {
            queue.close();
        }
        // What can wait in the spool needs some of the time to get there.
        let cutoff = Instant::now() + within.mul_f64(LAST_ATTEMPTS);
        self.closing.send_replace(Some(cutoff));
        // The thread waits for this, unless it died; then there is nothing to wait for either.
        if self.deadline.send(Instant::now() + within).is_ok() {
            let _ = self.finished.recv_timeout(within + SHUTDOWN_GRACE);
        }
        let exporters = self.queues.iter().map(|queue| queue.ledger().final_report());
        ExportReport { exporters: exporters.collect() }
    }
}

#[cfg(test)]
mod tests;
