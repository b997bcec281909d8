//! How the agent's descriptors are shared out among connections. However many come at once, each
//! that is sent to the agent finds two: those that wait to be accepted are counted in.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of the agent's own: programs, maps, links, exporters, listeners, spare pipes.
const OWN: u64 = 256;
/// Both ends of a connection.
const ENDS: u64 = 2;
/// Input and output of a pipe.
const PIPE: u64 = 2;
/// Listeners of a network namespace, each with a queue.
const LISTENERS: u64 = 2;
/// Places for those who wait, of which the kernel half lets half be taken, that many connections
/// at once need.
const FEW_PLACES: u64 = 128;
/// Connections that may wait to be accepted; the kernel takes less if `net.core.somaxconn` is.
const LONGEST_QUEUE: u64 = 65_535;

/// Who gets how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections that are served at once.
    pub(super) connections: usize,
    /// Connections that may wait at each listener beside them.
    pub(super) queue: i32,
    /// Pipes.
    pub(super) pipes: usize,
}

impl Shares {
    /// Takes as many descriptors as the agent may have, to serve this many connections at most.
    pub(super) fn take(connections: usize) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: maximum, maximum };
        let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
        Self::of(limit.unwrap_or(u64::MAX), connections)
    }

    fn of(limit: u64, wanted: usize) -> Self {
        let all = limit.saturating_sub(OWN);
        // A quarter at most; whoever gets none copies.
        let pipes = (all / 4 / PIPE).min(usize::MAX as u64) as usize;
        let pipes = pipes.min(crate::proxy::MOST_PIPES);
        let connections = (all - pipes as u64 * PIPE) / ENDS;
        let waiting = (connections / 10).max(FEW_PLACES.min(connections / 2)).max(LISTENERS);
        let served = connections.saturating_sub(waiting).min(wanted as u64);
        // A queue holds one more than it is told to.
        let queue = ((connections - served) / LISTENERS).saturating_sub(1).min(LONGEST_QUEUE);
        Self { connections: served as usize, queue: queue as i32, pipes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_is_let_in_is_left_without() {
        for limit in [0, 255, 256, 257, 300, 512, 1_024, 4_096, 20_000, 65_536, 524_288, u64::MAX] {
            for wanted in [1, 2, 1_000, 16_384, 1_048_576] {
                let Shares { connections, queue, pipes } = Shares::of(limit, wanted);
                let waiting = if connections > 0 { LISTENERS * (queue as u64 + 1) } else { 0 };
                let at_most = (connections as u64 + waiting) * ENDS + pipes as u64 * PIPE;
                assert!(
                    at_most <= limit.saturating_sub(OWN),
                    "{limit} {wanted}: {connections} {queue} {pipes}"
                );
                assert!(connections <= wanted);
            }
        }
    }

    #[test]
    fn usual_limits_are_enough() {
        let usual = Shares::of(524_288, 16_384);
        assert_eq!((usual.connections, usual.queue), (16_384, 65_535));
        let small = Shares::of(1_024, 16_384);
        assert!(small.connections > 150 && small.queue > 50 && small.pipes > 50, "{small:?}");
    }
}
