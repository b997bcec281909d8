//! `cargo xtask vm KERNEL…`: the agent on other kernels.
//!
//! Boots Debian's own kernel package in an emulated machine whose whole system is one initramfs:
//! the agent, nginx, curl and busybox. Inside, the verifier judges every program, and one real
//! request is traced on each backend the kernel has. No root, no network device, no disk.

mod image;
mod kernel;
mod machine;
mod transcript;

use std::fs;

use anyhow::{Result, bail};
use tracer_tests::layout;

use crate::setup::{self, Part};
use crate::shell::{build_agent, note, step};

use kernel::Kernel;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kernels to boot
    #[arg(required = true, value_enum)]
    kernels: Vec<Kernel>,
    /// Fetch the newest package even if one was fetched before
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(&[Part::Build, Part::Vm])?;
    build_agent()?;
    let home = layout::target().join("vm");
    fs::create_dir_all(&home)?;
    step("Packing nginx, curl and the agent into an initramfs");
    let image = image::build(&home)?;

    let mut failed = Vec::new();
    for kernel in &arguments.kernels {
        step(format!("Kernel {kernel}"));
        let log = home.join(format!("{kernel}.log"));
        let boot = || -> Result<String> {
            let binary = kernel.fetch(&home, arguments.refresh)?;
            let console = machine::boot(*kernel, &binary, &image, &log)?;
            transcript::check(&console, *kernel)
        };
        match boot() {
            Ok(verdict) => note(format!("ok: {verdict}")),
            Err(error) => {
                note(format!("FAILED: {error:#}; the console is in {}", log.display()));
                failed.push(kernel.to_string());
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed on kernel {}", failed.join(", "));
    }
    Ok(())
}
