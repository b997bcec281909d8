//! A thread that uses processor time and does nothing: what sharing the processors costs by itself.
//! Knows nothing of what it is compared with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Pause between two bursts: that of an agent with much to do.
const PAUSE: Duration = Duration::from_millis(200);

/// At work until it is dropped.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Uses this share of one processor, from 0 to 1, on average.
    pub(crate) fn start(share: f64) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = move || {
            let begun = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
                let due = begun.elapsed().mul_f64(share.clamp(0.0, 1.0));
                while used() < due && !stopped.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let thread = thread::Builder::new().name("bystander".to_owned()).spawn(body)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic: it only looks at clocks.
            let _ = thread.join();
        }
    }
}

/// Processor time of this thread.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
