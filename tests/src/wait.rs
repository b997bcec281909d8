//! Waiting for something that happens soon, without asserting how soon.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for a JVM to start on a loaded machine of two cores, whose host may forget it for a
/// minute.
pub const PATIENCE: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(10);

/// Polls until `ready` gives a value; the error names `what` after [`PATIENCE`].
pub fn until<T>(what: &str, ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, ready)
}

/// [`until`] with a patience of one's own.
pub fn until_within<T>(
    patience: Duration,
    what: &str,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("gave up waiting for {what} after {} s", patience.as_secs());
        }
        sleep(POLL);
    }
}
