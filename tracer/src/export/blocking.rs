//! Writing to what may block for as long as somebody likes, a stopped terminal or a full pipe:
//! beside the export thread, and accounted for. Knows nothing of what is written.

use std::io;

use tokio::time::Instant;

use super::ledger::{DropReason, Ledger};
use super::log_limit::LogLimit;

/// Has `writer` write `spans` spans. Gives it back, unless the runtime is going away: what is left
/// is then accounted for as such.
pub(super) async fn deliver<W: Send + 'static>(
    mut writer: W,
    spans: usize,
    ledger: &Ledger,
    failures: &LogLimit,
    write: impl FnOnce(&mut W) -> io::Result<()> + Send + 'static,
) -> Option<W> {
    let written = tokio::task::spawn_blocking(move || {
        let result = write(&mut writer);
        (writer, result)
    });
    let (writer, result) = written.await.ok()?;
    match result {
        Ok(()) => ledger.sent(spans),
        Err(error) => {
            ledger.dropped(DropReason::Unwritable, spans);
            if let Some(suppressed) = failures.admit(Instant::now()) {
                tracing::warn!(%error, spans, suppressed, "cannot write spans");
            }
        }
    }
    Some(writer)
}
