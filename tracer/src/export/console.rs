//! Finished traces as waterfalls on the terminal.
//!
//! [`render`] draws one trace and knows nothing else; `ConsoleExporter` waits until a trace is
//! quiet and prints it.

mod assembly;
mod tree;
mod waterfall;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use tokio::time::Instant;

use super::blocking::deliver;
use super::log_limit::LogLimit;
use super::queue::{Queue, SharedSpan};
use super::settings::ConsoleSettings;
use assembly::Assembly;
pub use waterfall::render;

/// Prints the traces of one queue.
pub(super) struct ConsoleExporter {
    settings: ConsoleSettings,
    colour: bool,
    output: Box<dyn Write + Send>,
}

impl ConsoleExporter {
    /// Prints to standard output.
    pub(super) fn new(settings: ConsoleSettings) -> Self {
        let colour = settings.colour.unwrap_or_else(|| io::stdout().is_terminal());
        Self { settings, colour, output: Box::new(io::stdout()) }
    }

    /// Runs until the queue is closed and everything is printed.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        let mut assembly = Assembly::new(self.settings);
        let failures = LogLimit::default();
        loop {
            let quiet_at = assembly.next_quiet();
            let batch = tokio::select! {
                batch = queue.next() => Some(batch),
                () = until(quiet_at) => None,
            };
            let now = Instant::now();
            let traces = match &batch {
                Some(Some(batch)) => assembly.add(batch.shared(), now),
                Some(None) => assembly.take_all(),
                None => assembly.take_quiet(now),
            };
            if !traces.is_empty() {
                let spans = traces.iter().map(Vec::len).sum();
                let print = move |this: &mut Self| this.print(&traces);
                let Some(this) = deliver(self, spans, queue.ledger(), &failures, print).await
                else {
                    return;
                };
                self = this;
            }
            if let Some(None) = batch {
                return;
            }
        }
    }

    fn print(&mut self, traces: &[Vec<SharedSpan>]) -> io::Result<()> {
        for trace in traces {
            let drawing = render(trace, self.settings.width, self.colour);
            self.output.write_all(drawing.as_bytes())?;
            self.output.write_all(b"\n")?;
        }
        self.output.flush()
    }
}

/// Sleeps until then, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
