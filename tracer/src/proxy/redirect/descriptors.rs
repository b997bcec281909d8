//! Descriptors: how many connections can be served with those that the agent may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proxy::pipes;

/// Those of a connection: both ends.
const EACH: u64 = 2;
/// Those for all else, pipes aside.
const OTHERS: u64 = 512;

/// How many connections can be served with the descriptors that the agent may have, `wanted` at
/// most. Takes as many as it may.
pub(super) fn served(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    let Some(limit) = limit else { return wanted };
    let possible = (limit.saturating_sub(OTHERS + pipes::DESCRIPTORS) / EACH) as usize;
    if possible < wanted {
        tracing::warn!(
            possible,
            wanted,
            "the limit of open files allows fewer connections through the proxy than \
             --propagate-max-connections; further ones go straight"
        );
    }
    possible.min(wanted)
}
