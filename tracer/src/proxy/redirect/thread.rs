//! The thread of the proxy, and what the rest of the agent says to it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::Options;
use super::serving::{PULSE, ProxyReport, Serving};
use crate::capture::Redirect;
use crate::event::Pid;
use crate::proxy::Contexts;
use crate::target::ExecutableGlob;

/// News of processes that may wait; what does not fit is found by what it misses.
const NEWS: usize = 4_096;

/// Why the proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread, no runtime.
    #[error("cannot start the proxy's thread: {0}; raise the limits of processes and open files")]
    Thread(io::Error),
    /// The agent's own network namespace.
    #[error("the agent's own network namespace cannot be served: {0}")]
    Home(String),
}

/// What the proxy is told.
pub(super) enum News {
    /// A target is there.
    Target(Pid),
    /// Asks to be told when all earlier news are dealt with.
    Settled(oneshot::Sender<()>),
}

/// Tells the proxy of targets.
#[derive(Clone, Debug)]
pub struct Targets {
    news: mpsc::Sender<News>,
    chosen: Arc<[ExecutableGlob]>,
}

impl Targets {
    /// A traced process is there: its network namespace is covered soon. Returns whether it is one
    /// whose connections are redirected. Does not wait.
    pub fn appeared(&self, pid: Pid) -> bool {
        let chosen = self.chosen.is_empty()
            || std::fs::read_link(format!("/proc/{}/exe", pid.0))
                .is_ok_and(|path| self.chosen.iter().any(|glob| glob.matches(&path)));
        if chosen {
            // One that does not fit is found when a connection misses a listener.
            let _ = self.news.try_send(News::Target(pid));
        }
        chosen
    }

    /// Waits until all targets told of so far are dealt with.
    pub fn settle(&self) {
        let (done, settled) = oneshot::channel();
        if self.news.blocking_send(News::Settled(done)).is_ok() {
            // An error means that the proxy has ended.
            let _ = settled.blocking_recv();
        }
    }
}

/// The running proxy.
pub struct Proxy {
    thread: JoinHandle<Option<ProxyReport>>,
    news: mpsc::Sender<News>,
}

impl Proxy {
    /// Starts to redirect; `beside` runs on the same thread. Ends some time after `stop` is set, and sets `stopped` then. `SIGUSR1`
    /// lets all new connections go straight, `SIGUSR2` ends that.
    pub fn start(
        redirect: Redirect,
        options: Options,
        contexts: Arc<dyn Contexts>,
        beside: impl Future<Output = ()> + Send + 'static,
        stop: Arc<AtomicBool>,
        stopped: Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let (news, inbox) = mpsc::channel(NEWS);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let serve = || serve(redirect, options, contexts, beside, &stop, inbox, &ready);
            let report = catch_unwind(AssertUnwindSafe(serve)).ok().flatten();
            if report.is_none() {
                // Links and listeners went with it: connections go straight.
                tracing::error!("the proxy has ended; connections are no longer propagated");
            }
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(PULSE);
            }
            stopped.store(true, Ordering::Relaxed);
            report
        };
        let thread = thread::Builder::new().name("tracer-proxy".to_owned()).spawn(body);
        let thread = thread.map_err(StartError::Thread)?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { thread, news }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Home("it ended early".to_owned())),
        }
    }

    /// Where targets are told of. If executables are given, only processes that run one of them
    /// are redirected.
    pub fn targets(&self, chosen: Vec<ExecutableGlob>) -> Targets {
        Targets { news: self.news.clone(), chosen: chosen.into() }
    }

    /// The report, once the proxy has stopped; `None` if it ended otherwise.
    pub fn join(self) -> Option<ProxyReport> {
        self.thread.join().ok().flatten()
    }
}

fn serve(
    redirect: Redirect,
    options: Options,
    contexts: Arc<dyn Contexts>,
    beside: impl Future<Output = ()> + 'static,
    stop: &AtomicBool,
    mut inbox: mpsc::Receiver<News>,
    ready: &std::sync::mpsc::SyncSender<Result<(), StartError>>,
) -> Option<ProxyReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(StartError::Thread(error)));
            return None;
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let serving = match Serving::start(redirect, options, contexts) {
            Ok(serving) => serving,
            Err(error) => {
                let _ = ready.send(Err(error));
                return None;
            }
        };
        spawn_local(beside);
        let _ = ready.send(Ok(()));
        serving.run(stop, &mut inbox).await;
        Some(serving.finish().await)
    })
}
