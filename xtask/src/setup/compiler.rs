//! Compilers: rustfmt and clippy for the host, and for the eBPF programs a compiler with the
//! library source (for `-Z build-std`) and `bpf-linker`.
//!
//! Looks for the same compilers in the same order as the agent's build script.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tracer_tests::layout;

use super::debian;
use crate::shell::{self, note, output, run, step, succeeds};

const BPF_LINKER: &str = "0.10.3";
/// The oldest compiler whose edition the eBPF half is written in.
const OLDEST_DISTRIBUTION_RUST: (u32, u32) = (1, 85);
/// A toolchain server that does not answer must not stop set-up: there is a second way.
const RUSTUP_PATIENCE: &str = "300";

/// rustfmt and clippy, which rustup may not have installed.
pub(crate) fn ensure_host_tools() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if succeeds(shell::cargo().args([subcommand, "--version"])) {
            continue;
        }
        step(format!("Installing {component}"));
        run(Command::new("rustup").args(["component", "add", component])).with_context(|| {
            format!("`cargo {subcommand}` is missing and rustup cannot install it")
        })?;
    }
    Ok(())
}

/// A compiler for the BPF target and its linker.
pub(crate) fn ensure_bpf() -> Result<()> {
    ensure_compiler()?;
    ensure_linker()
}

fn ensure_compiler() -> Result<()> {
    if let Some(which) = installed_compiler() {
        note(format!("compiler for eBPF: {which}"));
        return Ok(());
    }
    step("Installing a Rust compiler with library source, for the eBPF programs");
    if shell::find("rustup").is_some() && install_nightly() && installed_compiler().is_some() {
        return Ok(());
    }
    note("rustup has no nightly with rust-src to offer; taking the distribution's compiler");
    for packages in [["rustc-web", "rust-web-src"], ["rustc", "rust-src"]] {
        if debian::candidate_version(packages[0])?.is_none_or(|it| it < OLDEST_DISTRIBUTION_RUST) {
            continue;
        }
        debian::install("the distribution's Rust compiler", &packages)?;
        if let Some(which) = installed_compiler() {
            note(format!("compiler for eBPF: {which}"));
            return Ok(());
        }
    }
    bail!(
        "no Rust compiler with library source can be had: neither `rustup toolchain install \
         nightly --component rust-src` nor a distribution's rustc of {}.{} or newer with its source",
        OLDEST_DISTRIBUTION_RUST.0,
        OLDEST_DISTRIBUTION_RUST.1
    )
}

fn installed_compiler() -> Option<&'static str> {
    if has_library_source(Command::new("rustup").args(["run", "nightly", "rustc"])) {
        return Some("rustup's nightly");
    }
    has_library_source(&mut Command::new("/usr/bin/rustc")).then_some("the distribution's rustc")
}

fn has_library_source(rustc: &mut Command) -> bool {
    rustc.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN").args(["--print", "sysroot"]);
    output(rustc).is_ok_and(|sysroot| {
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        library.join("core/Cargo.toml").exists()
    })
}

/// Whether rustup could install nightly or complete it.
fn install_nightly() -> bool {
    let rustup = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.args([RUSTUP_PATIENCE, "rustup"]).args(arguments).env_remove("RUSTUP_TOOLCHAIN");
        command
    };
    let has_nightly = succeeds(&mut rustup(&["run", "nightly", "rustc", "--version"]));
    let arguments: &[&str] = if has_nightly {
        &["component", "add", "rust-src", "--toolchain", "nightly"]
    } else {
        &["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]
    };
    run(&mut rustup(arguments)).is_ok()
}

fn ensure_linker() -> Result<()> {
    let version =
        output(Command::new("bpf-linker").arg("--version").env("PATH", shell::search_path()));
    if version.is_ok_and(|version| version.split_whitespace().any(|word| word == BPF_LINKER)) {
        return Ok(());
    }
    step(format!("Installing bpf-linker {BPF_LINKER} (cargo install; about a minute)"));
    run(shell::cargo()
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force"])
        .arg("--target-dir")
        .arg(layout::target().join("install")))
}
