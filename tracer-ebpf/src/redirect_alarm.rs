//! Stops redirecting the moment the agent is told to end or to stop, long before its listeners
//! close: a connection that was sent to the agent just before finds them still open.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::redirect::state;

use crate::kernel::read;
use crate::offsets::at;
use crate::redirect_maps::set_state;

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// `SIGSTOP`, `SIGTSTP`, `SIGTTIN`, `SIGTTOU`.
const STOPPING: core::ops::RangeInclusive<i32> = 19..=22;
/// `SIGILL`, `SIGABRT`, `SIGBUS`, `SIGFPE`, `SIGSEGV`, `SIGSYS`.
const FAULTS: [i32; 6] = [4, 6, 7, 8, 11, 31];

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, …)`
#[btf_tracepoint(function = "signal_generate")]
pub fn redirect_alarm(ctx: BtfTracePointContext) -> i32 {
    let signal: i32 = ctx.arg(0);
    let matters =
        signal == SIGKILL || signal == SIGCONT || STOPPING.contains(&signal) || is_fault(signal);
    if !matters {
        return 0;
    }
    let task: u64 = ctx.arg::<*const core::ffi::c_void>(2) as u64;
    if u64::from(read::<u32>(task + at::TASK_TGID()).unwrap_or(0)) != at::AGENT_TGID() {
        return 0;
    }
    match signal {
        SIGCONT => set_state(state::STOPPED, 0),
        SIGSTOP => set_state(state::STOPPED, 1),
        // These can be ignored. If they are not, it is soon silent; if they are, it goes on saying
        // that it accepts.
        _ if STOPPING.contains(&signal) => set_state(state::BEAT, 0),
        _ => set_state(state::DYING, 1),
    }
    0
}

#[inline(always)]
fn is_fault(signal: i32) -> bool {
    let mut index = 0;
    while index < FAULTS.len() {
        if FAULTS[index] == signal {
            return true;
        }
        index += 1;
    }
    false
}

/// The agent ends without a signal.
#[inline(always)]
pub(crate) fn agent_exits() {
    set_state(state::DYING, 1);
}
