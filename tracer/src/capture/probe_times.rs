//! How often and how long the kernel half's programs run, as the kernel itself measures it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::programs::Program;
use aya::sys::{Stats, enable_stats};

/// Begins to measure, for as long as the descriptor is open.
pub(super) fn enable() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(|error| error.io_error)
}

/// Name, runs and nanoseconds of each loaded program.
pub(super) fn read(object: &Ebpf) -> Vec<(String, u64, u64)> {
    let times = object.programs().filter_map(|(name, program)| {
        let Program::BtfTracePoint(program) = program else { return None };
        let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        Some((name.to_owned(), field(&info, "run_cnt:")?, field(&info, "run_time_ns:")?))
    });
    let mut times: Vec<_> = times.collect();
    times.sort();
    times
}

fn field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says_of_a_program() {
        let info = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1200\nrun_cnt:\t3\n";
        assert_eq!(field(info, "run_cnt:"), Some(3));
        assert_eq!(field(info, "run_time_ns:"), Some(1_200));
        assert_eq!(field(info, "verified_insns:"), None);
    }
}
