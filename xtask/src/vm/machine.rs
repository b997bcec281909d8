//! The emulated machine. Its serial console is all that comes out of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tracer_tests::Process;

use super::kernel::Kernel;

/// Boot takes seconds even under emulation; the verifier of an old kernel may take its time.
const PATIENCE: Duration = Duration::from_mins(4);

/// Boots, waits for the machine to switch itself off, and gives what its console printed.
pub(crate) fn boot(kernel: Kernel, binary: &Path, image: &Path, log: &Path) -> Result<String> {
    if log.exists() {
        fs::remove_file(log)?;
    }
    let backends = kernel.backends().join(",");
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulated cmpxchg16b goes wrong under load (qemu 7.2: double faults in the allocator), and
    // kernels do without it when the processor has none.
    qemu.args(["-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1", "-m", "1G"])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(binary)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet loglevel=3 panic=-1 tracer.backends={backends}"));
    let mut machine = Process::start("the virtual machine", &qemu, log)?;
    machine.wait(PATIENCE).context("it hangs")?;
    // The serial line ends its lines with both characters.
    Ok(machine.log().replace('\r', ""))
}
