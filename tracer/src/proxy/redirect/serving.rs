//! Accepts redirected connections and hands them to the forwarder.
//!
//! It says to the kernel half that it accepts from the same thread that does, so that it cannot say
//! so and hang. It ends in the order that fails nobody: first no new connections, then those on
//! their way, then the listeners, then the open ones.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::covered::{CoverError, Covered, NamespaceCounters, Opened};
use super::descriptors::Shares;
use super::namespace::{Home, Namespace};
use super::thread::{News, StartError};
use super::{Options, Permit, Upstream};
use crate::capture::{BEAT, Netns, Redirect, RedirectCounters};
use crate::event::Pid;
use crate::proxy::{Accepted, Captured, Contexts, Forwarder, limit_pipes};

/// How often the agent says that it accepts.
pub(super) const PULSE: Duration = Duration::from_nanos(BEAT.as_nanos() as u64 / 5);
/// Pulses between looks at namespaces.
const LOOK: u32 = 5;
/// Pause in accepting when there are no descriptors left.
const STARVED: Duration = Duration::from_secs(1);
/// Time without a new connection after which none is on its way any more.
const QUIET: Duration = Duration::from_millis(100);
/// Longest wait for that.
const LONGEST_QUIET: Duration = Duration::from_secs(2);
/// Time that a namespace's listeners stay open after it was left.
const LINGER: Duration = Duration::from_secs(1);
/// How often the number of open connections is looked at while they drain.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// What became of connections, since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProxyReport {
    /// In the kernel.
    #[serde(flatten)]
    pub connects: RedirectCounters,
    /// Handed to the forwarder.
    pub accepted: u64,
    /// That came to a listener by themselves, and were closed.
    pub strangers: u64,
    /// Refused by the system when they were to be accepted, for want of descriptors or memory;
    /// they wait.
    pub starved: u64,
    /// Still open when the time to drain was over.
    pub cut: u64,
    /// Open at once, at most.
    pub most_open: u64,
    /// What the forwarder did, by name.
    pub forwarder: BTreeMap<String, u64>,
    /// Network namespaces.
    pub namespaces: NamespaceCounters,
}

/// The proxy at work. Lives on one thread.
pub(super) struct Serving {
    redirect: RefCell<Redirect>,
    covered: RefCell<Covered>,
    /// Tasks that accept, by namespace.
    accepting: RefCell<HashMap<Netns, Vec<AbortHandle>>>,
    forwarder: Forwarder,
    options: Options,
    open: Arc<AtomicUsize>,
    draining: watch::Sender<bool>,
    /// No descriptors until then.
    starved_until: Cell<Option<Instant>>,
    /// By the operator.
    switched_off: Cell<bool>,
    last_accept: Cell<Instant>,
    report: RefCell<ProxyReport>,
}

impl Serving {
    pub(super) fn start(
        redirect: Redirect,
        options: Options,
        contexts: Arc<dyn Contexts>,
    ) -> Result<Rc<Self>, StartError> {
        let home = Home::find().map_err(|error| StartError::Home(error.to_string()))?;
        let wanted = options.max_connections;
        let shares = Shares::take(wanted);
        if shares.connections < wanted {
            tracing::warn!(
                possible = shares.connections,
                wanted,
                "the limit of open files allows fewer connections through the proxy than \
                 --propagate-max-connections; further ones go straight"
            );
        }
        limit_pipes(shares.pipes);
        let options = Options { max_connections: shares.connections, ..options };
        let serving = Rc::new(Self {
            redirect: RefCell::new(redirect),
            covered: RefCell::new(Covered::new(home, shares.queue)),
            accepting: RefCell::default(),
            forwarder: Forwarder::new(contexts, options.heads),
            options,
            open: Arc::default(),
            draining: watch::channel(false).0,
            starved_until: Cell::new(None),
            switched_off: Cell::new(false),
            last_accept: Cell::new(Instant::now()),
            report: RefCell::default(),
        });
        let opened = serving.covered.borrow_mut().cover_home(&mut serving.redirect.borrow_mut());
        let opened = opened.map_err(|error: CoverError| StartError::Home(error.to_string()))?;
        serving.accept_from(opened);
        Ok(serving)
    }

    /// Until told to stop.
    pub(super) async fn run(self: &Rc<Self>, stop: &AtomicBool, inbox: &mut mpsc::Receiver<News>) {
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulses = 0_u32;
        let (mut off, mut on) =
            (switch(SignalKind::user_defined1()), switch(SignalKind::user_defined2()));
        loop {
            tokio::select! {
                _ = pulse.tick() => {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    self.pulse();
                    pulses = pulses.wrapping_add(1);
                    if pulses.is_multiple_of(LOOK) {
                        self.look_at_namespaces();
                    }
                }
                Some(news) = inbox.recv() => match news {
                    News::Target(pid) => self.cover(pid),
                    News::Settled(done) => {
                        let _ = done.send(());
                    }
                },
                () = received(&mut off) => self.switch(false),
                () = received(&mut on) => self.switch(true),
            }
        }
    }

    /// Says whether connections are accepted.
    fn pulse(&self) {
        let starved = self.starved_until.get().is_some_and(|until| Instant::now() < until);
        let full = self.open.load(Ordering::Relaxed) >= self.options.max_connections;
        if self.switched_off.get() || starved || full {
            self.redirect.borrow_mut().pause();
        } else {
            self.redirect.borrow_mut().beat();
        }
    }

    fn switch(&self, on: bool) {
        self.switched_off.set(!on);
        self.pulse();
        eprintln!(
            "tracer: propagation of new connections switched {}",
            if on { "on" } else { "off" }
        );
    }

    fn look_at_namespaces(self: &Rc<Self>) {
        let missed = self.redirect.borrow_mut().take_missed();
        for (_, pid) in missed {
            self.cover(pid);
        }
        let left = self.covered.borrow_mut().leave_empty(&mut self.redirect.borrow_mut());
        for namespace in left {
            let tasks = self.accepting.borrow_mut().remove(&namespace).unwrap_or_default();
            spawn_local(async move {
                sleep(LINGER).await;
                tasks.iter().for_each(AbortHandle::abort);
            });
        }
    }

    fn cover(self: &Rc<Self>, pid: Pid) {
        let opened = self.covered.borrow_mut().cover(&mut self.redirect.borrow_mut(), pid);
        if let Some(opened) = opened {
            self.accept_from(opened);
        }
    }

    fn accept_from(self: &Rc<Self>, Opened { namespace, listeners }: Opened) {
        let tasks = listeners.into_iter().filter_map(|listener| {
            // Fails only without a runtime.
            let listener = TcpListener::from_std(listener).ok()?;
            let (serving, namespace) = (Rc::clone(self), Arc::clone(&namespace));
            let accepting = async move { serving.accept(&listener, &namespace).await };
            Some(spawn_local(accepting).abort_handle())
        });
        self.accepting.borrow_mut().insert(namespace.id(), tasks.collect());
    }

    async fn accept(&self, listener: &TcpListener, namespace: &Arc<Namespace>) {
        loop {
            match listener.accept().await {
                Ok((stream, application)) => self.accepted(stream, application, namespace),
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    // Nobody new until there is room again; who waits already, waits.
                    self.report.borrow_mut().starved += 1;
                    self.starved_until.set(Some(Instant::now() + STARVED));
                    self.pulse();
                    tracing::warn!(%error, "cannot accept a redirected connection");
                    sleep(STARVED / 10).await;
                }
            }
        }
    }

    fn accepted(&self, stream: TcpStream, application: SocketAddr, namespace: &Arc<Namespace>) {
        self.last_accept.set(Instant::now());
        let Some(handed) = self.redirect.borrow().destination(&stream) else {
            self.report.borrow_mut().strangers += 1;
            return;
        };
        tracing::debug!(
            %application,
            destination = %handed.destination,
            connection = ?handed.connection,
            "accepted"
        );
        let permit = Permit::new(&self.open);
        let open = self.open.load(Ordering::Relaxed);
        let mut report = self.report.borrow_mut();
        report.accepted += 1;
        report.most_open = report.most_open.max(open as u64);
        if open >= self.options.max_connections {
            self.redirect.borrow_mut().pause();
        }
        let captured = |conn| Captured { conn, first: handed.first };
        let accepted = Accepted {
            stream,
            application: canonical(application),
            destination: handed.destination,
            connection: handed.connection.map(captured),
            sockets: Arc::new(Upstream(Arc::clone(namespace))),
            draining: self.draining.subscribe(),
        };
        let forwarder = self.forwarder.clone();
        spawn_local(async move {
            let _place = permit;
            forwarder.serve(accepted).await;
        });
    }

    /// Ends without failing anybody who can be spared.
    pub(super) async fn finish(&self) -> ProxyReport {
        self.redirect.borrow_mut().detach();
        let begun = Instant::now();
        self.last_accept.set(begun);
        while self.last_accept.get().elapsed() < QUIET && begun.elapsed() < LONGEST_QUIET {
            sleep(QUIET / 5).await;
        }
        for tasks in self.accepting.borrow_mut().drain() {
            tasks.1.iter().for_each(AbortHandle::abort);
        }
        self.draining.send_replace(true);
        let deadline = Instant::now() + self.options.drain;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        let mut report = self.report.borrow().clone();
        report.cut = self.open.load(Ordering::Relaxed) as u64;
        report.connects = self.redirect.borrow().counters();
        let events = self.forwarder.counts().iter();
        report.forwarder = events.map(|(_, name, count)| (name, count)).collect();
        report.namespaces = self.covered.borrow().counters();
        report
    }
}

/// Whether an error of `accept` is that of the connection, which is gone, and not of the agent.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

/// A signal that can be done without.
fn switch(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::warn!(%error, "cannot watch for a signal")).ok()
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
