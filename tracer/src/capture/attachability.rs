//! Finds out what `run` could attach here by attaching it, for `tracer doctor`.

use aya::Btf;
use serde::Serialize;

use super::kernel_types::KernelTypes;
use super::loader::{Backend, LIFECYCLE, LoadError, Options, Unknown, attach, load_object};

/// Smallest useful ring; nothing is read from it.
const RING_BYTES: u32 = 64 * 1024;

/// Whether one probe can be attached.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeCheck {
    /// The kernel's tracepoint.
    pub tracepoint: &'static str,
    /// The backends that need it.
    pub backends: Vec<Backend>,
    /// Why it cannot be attached; `None` if it can.
    pub refused: Option<String>,
}

/// Attaches every probe of every backend once, selecting no process, and detaches it again.
pub fn check_probes() -> Result<Vec<ProbeCheck>, LoadError> {
    let types = KernelTypes::of_running_kernel()?;
    let btf = Btf::from_sys_fs()?;
    let mut checks = Vec::new();
    for probe in LIFECYCLE {
        let refused = check(Backend::Syscall, *probe, &types, &btf);
        checks.push(ProbeCheck {
            tracepoint: probe.tracepoint,
            backends: Backend::ALL.to_vec(),
            refused,
        });
    }
    for backend in Backend::ALL {
        for probe in backend.programs() {
            let refused = check(backend, *probe, &types, &btf);
            checks.push(ProbeCheck {
                tracepoint: probe.tracepoint,
                backends: vec![backend],
                refused,
            });
        }
    }
    Ok(checks)
}

fn check(
    backend: Backend,
    probe: super::loader::Probe,
    types: &KernelTypes,
    btf: &Btf,
) -> Option<String> {
    let options = Options {
        backend: Some(backend),
        ring_bytes: RING_BYTES,
        message_budget: 0,
        max_connections: 1,
        unknown: Unknown::Skip,
        ports: Vec::new(),
        cgroups: Vec::new(),
    };
    load_object(&options, backend, types, btf)
        .and_then(|mut object| attach(&mut object, probe, btf))
        .err()
        .map(|error| error.to_string())
}
