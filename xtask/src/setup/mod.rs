//! What a fresh machine lacks, installed in steps that can be repeated.
//!
//! System packages need root and come from the distribution; everything else goes below Cargo's
//! target directory or where Cargo and rustup put their things. Every client (apt, pip, npm,
//! cargo, rustup) is used as the machine configures it.

mod compiler;
mod debian;
mod peers;

pub(crate) use debian::update_lists as refresh_package_lists;

use anyhow::Result;
use tracer_tests::{layout, service};

use crate::shell::step;

/// Something that a task may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Compiling the agent.
    Build,
    /// The services of the demo.
    Demo,
    /// Servers, clients and receivers of the end-to-end tests and benchmarks.
    Test,
    /// The further services of `bench links`.
    Links,
    /// The further proxies of `bench proxy`, and what measures them.
    Proxies,
    /// Virtual machines.
    Vm,
}

/// Installs what is missing for these parts.
pub(crate) fn ensure(parts: &[Part]) -> Result<()> {
    step(format!("Set-up for {}", names(parts)));
    let build = parts.contains(&Part::Build);
    if build {
        compiler::ensure_host_tools()?;
    }
    debian::ensure(parts)?;
    if build {
        compiler::ensure_bpf()?;
    }
    let test = parts.contains(&Part::Test);
    if test {
        peers::ensure_python("tests/requirements.txt")?;
        peers::ensure_node()?;
        service::go_program(&layout::service_source("go_server.go"))?;
    } else if parts.contains(&Part::Demo) {
        peers::ensure_python("demo/requirements.txt")?;
    }
    if parts.contains(&Part::Links) {
        peers::ensure_python("tests/apps/links/requirements.txt")?;
        service::go_program(&layout::links_source("links_app.go"))?;
        service::java_classes(&layout::links_source("LinksApp.java"))?;
    }
    if parts.contains(&Part::Proxies) {
        peers::ensure_python("tests/proxies.txt")?;
    }
    step("Set-up is complete");
    Ok(())
}

fn names(parts: &[Part]) -> String {
    let names: Vec<String> = parts.iter().map(|part| format!("{part:?}").to_lowercase()).collect();
    names.join(", ")
}
