//! Finds out what `run` could attach here by attaching it, for `tracer doctor`.

use aya::Btf;
use serde::Serialize;

use super::kernel_types::KernelTypes;
use super::loader::{
    Backend, LIFECYCLE, LoadError, Options, Redirecting, Unknown, attach, load_backend, load_object,
};
use super::redirect::{Groups, Redirect, RedirectError, RedirectScope};

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
    let lifecycle_attaches = checks.iter().all(|check| check.refused.is_none());
    for backend in Backend::ALL {
        let mut own: Vec<ProbeCheck> = backend
            .programs()
            .iter()
            .map(|probe| ProbeCheck {
                tracepoint: probe.tracepoint,
                backends: vec![backend],
                refused: check(backend, *probe, &types, &btf),
            })
            .collect();
        // Each attaches alone: then they must work together, too.
        let each = lifecycle_attaches && own.iter().all(|check| check.refused.is_none());
        if each
            && let Err(error) = load_backend(&options(backend), backend, &types, &btf)
            && let Some(first) = own.first_mut()
        {
            first.refused = Some(error.to_string());
        }
        checks.extend(own);
    }
    Ok(checks)
}

/// Attaches the redirect for nobody, so that it can be tried.
pub fn redirect_alone(
    backend: Backend,
    scope: &RedirectScope,
    groups: &Groups,
) -> Result<Redirect, RedirectError> {
    let types = KernelTypes::of_running_kernel().map_err(LoadError::from)?;
    let btf = Btf::from_sys_fs().map_err(LoadError::from)?;
    let options = Options { redirect: Some(Redirecting::default()), ..options(backend) };
    let mut object = load_object(&options, backend, &types, &btf)?;
    // Links keep what they attach.
    Redirect::load(&mut object, scope, groups)
}

fn check(
    backend: Backend,
    probe: super::loader::Probe,
    types: &KernelTypes,
    btf: &Btf,
) -> Option<String> {
    load_object(&options(backend), backend, types, btf)
        .and_then(|mut object| attach(&mut object, probe, btf))
        .err()
        .map(|error| error.to_string())
}

fn options(backend: Backend) -> Options {
    Options {
        backend: Some(backend),
        ring_bytes: RING_BYTES,
        message_budget: 0,
        max_connections: 1,
        unknown: Unknown::Skip,
        ports: Vec::new(),
        cgroups: Vec::new(),
        redirect: None,
    }
}
