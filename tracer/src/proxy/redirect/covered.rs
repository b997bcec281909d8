//! The network namespaces in which connections can be redirected: those that have a target. Opens
//! a listener where the first one appears and closes it when the last one is gone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::Socket;

use super::namespace::{Home, Namespace, netns_of};
use super::rehearsal::{RehearsalError, arrive};
use crate::capture::{LoadError, Netns, Redirect};
use crate::event::Pid;

/// Namespaces covered at once, the agent's own included.
const MAX_NAMESPACES: usize = tracer_ebpf::redirect::NAMESPACES as usize;
/// Targets remembered of one namespace; one of them alive is enough to keep it covered.
const MAX_TARGETS: usize = 1_024;
/// Pause before a namespace in which no listener could be opened is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What happened to namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamespaceCounters {
    /// Opened beside the agent's own.
    pub opened: u64,
    /// Closed because their last target was gone.
    pub closed: u64,
    /// Not opened because of the limit.
    pub over_limit: u64,
    /// Not opened because that failed.
    pub failed: u64,
}

/// Why a namespace is not covered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CoverError {
    #[error("cannot enter it: {0}; that needs CAP_SYS_ADMIN")]
    Enter(io::Error),
    #[error("cannot listen on 127.0.0.1 in it: {0}; is its loopback interface down?")]
    Listen(io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Arrive(#[from] RehearsalError),
    #[error("{MAX_NAMESPACES} others are covered already")]
    Limit,
}

/// Listeners of a namespace that is covered from now on.
pub(super) struct Opened {
    pub(super) namespace: Arc<Namespace>,
    pub(super) listeners: Vec<TcpListener>,
}

/// The namespaces that are covered.
pub(super) struct Covered {
    home: Home,
    /// Connections that may wait at a listener.
    queue: i32,
    targets: HashMap<Netns, HashSet<Pid>>,
    failed: HashMap<Netns, Instant>,
    counters: NamespaceCounters,
}

impl Covered {
    pub(super) fn new(home: Home, queue: i32) -> Self {
        Self {
            home,
            queue,
            targets: HashMap::new(),
            failed: HashMap::new(),
            counters: NamespaceCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> NamespaceCounters {
        self.counters
    }

    /// Covers the agent's own namespace, for as long as it runs.
    pub(super) fn cover_home(&mut self, redirect: &mut Redirect) -> Result<Opened, CoverError> {
        let opened = open(redirect, self.home.namespace(), self.queue)?;
        self.targets.insert(self.home.id(), HashSet::new());
        Ok(opened)
    }

    /// Covers the namespace of a target. `None` if it is covered already, if the process is gone,
    /// or if it cannot be.
    pub(super) fn cover(&mut self, redirect: &mut Redirect, pid: Pid) -> Option<Opened> {
        let id = netns_of(pid).ok()?;
        if id == self.home.id() {
            return None;
        }
        if let Some(targets) = self.targets.get_mut(&id) {
            if targets.len() < MAX_TARGETS {
                targets.insert(pid);
            }
            return None;
        }
        if self.failed.get(&id).is_some_and(|at| at.elapsed() < RETRY) {
            return None;
        }
        match self.try_cover(redirect, pid) {
            Ok(opened) => {
                self.counters.opened += 1;
                self.failed.remove(&id);
                tracing::info!(netns = id.0, pid = pid.0, "listening in network namespace");
                self.targets.insert(opened.namespace.id(), HashSet::from([pid]));
                Some(opened)
            }
            Err(error) => {
                match error {
                    CoverError::Limit => self.counters.over_limit += 1,
                    _ => self.counters.failed += 1,
                }
                tracing::warn!(
                    pid = pid.0,
                    netns = id.0,
                    %error,
                    "connections in the network namespace of this process stay unpropagated"
                );
                self.failed.retain(|_, at| at.elapsed() < RETRY);
                self.failed.insert(id, Instant::now());
                None
            }
        }
    }

    fn try_cover(&mut self, redirect: &mut Redirect, pid: Pid) -> Result<Opened, CoverError> {
        if self.targets.len() >= MAX_NAMESPACES {
            return Err(CoverError::Limit);
        }
        let namespace = self.home.namespace_of(pid).map_err(CoverError::Enter)?;
        open(redirect, namespace, self.queue)
    }

    /// Lets connections go straight in namespaces without a target, and gives them; their
    /// listeners are to be closed in a moment.
    pub(super) fn leave_empty(&mut self, redirect: &mut Redirect) -> Vec<Netns> {
        let home = self.home.id();
        let mut left = Vec::new();
        self.targets.retain(|id, targets| {
            targets.retain(|pid| netns_of(*pid).is_ok_and(|now| now == *id));
            if *id == home || !targets.is_empty() {
                return true;
            }
            redirect.close_namespace(*id);
            tracing::info!(netns = id.0, "left network namespace");
            left.push(*id);
            false
        });
        self.counters.closed += left.len() as u64;
        left
    }
}

fn open(redirect: &mut Redirect, namespace: Namespace, queue: i32) -> Result<Opened, CoverError> {
    let v4 = namespace.listen_v4(queue).map_err(CoverError::Listen)?;
    // A namespace may well be without IPv6.
    let v6 = namespace.listen_v6(queue).ok();
    arrive(&namespace, &v4)?;
    for listener in [Some(&v4), v6.as_ref()].into_iter().flatten() {
        redirect.mark_listener(listener)?;
    }
    redirect.open_namespace(namespace.id(), port(&v4), v6.as_ref().and_then(port))?;
    let listeners = [Some(v4), v6].into_iter().flatten().map(Into::into).collect();
    Ok(Opened { namespace: Arc::new(namespace), listeners })
}

fn port(listener: &Socket) -> Option<u16> {
    Some(listener.local_addr().ok()?.as_socket()?.port())
}
