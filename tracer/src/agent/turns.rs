//! Who has the agent when: its own thread, which runs it and pauses, and in the pauses whoever asks
//! in passing. Nobody but the agent's thread waits for a turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Agent, AgentError, Stopped};
use crate::exchange::ExchangeId;
use crate::link::Committed;
use crate::propagation::Attend;

/// An agent that is run by one thread and asked by others. Empty once it has stopped.
struct Turns(Mutex<Option<Agent>>);

/// Runs the agent until `stop` is set.
pub(super) fn run(agent: Agent, stop: &AtomicBool) -> Result<Stopped, AgentError> {
    let attention = agent.capture.attention();
    let turns = Arc::new(Turns(Mutex::new(Some(agent))));
    if let Some(desk) = turns.lock().as_ref().and_then(|agent| agent.propagation.desk.as_ref()) {
        let attendant: Weak<Turns> = Arc::downgrade(&turns);
        desk.attended_by(attendant);
    }
    while !stop.load(Ordering::Relaxed) {
        let pause = turns.lock().as_mut().map(Agent::turn).transpose()?.flatten();
        if let Some(pause) = pause {
            attention.wait(pause);
        }
    }
    let agent = turns.lock().take();
    agent.expect("nobody else takes it").finish()
}

impl Turns {
    /// Whoever panicked with it has left no memory unsafe, and is gone: what the agent knows of
    /// other connections than the one at hand is as good as before.
    fn lock(&self) -> MutexGuard<'_, Option<Agent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attend for Turns {
    fn answer_now(&self, call: ExchangeId) -> Option<Committed> {
        self.0.try_lock().ok()?.as_mut()?.answer_now(call)
    }
}
