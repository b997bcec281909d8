//! Memory of a hop that holds connections on which nothing happens.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tracer_tests::layout;
use tracer_tests::service::Nginx;

use super::Bench;
use super::hop::Hop;
use crate::bench::cpu::Memory;
use crate::bench::report::{Report, Table};
use crate::shell::{note, step};

const HOPS: [Hop; 4] = [Hop::Agent, Hop::HaProxy, Hop::Envoy, Hop::EnvoyTraced];
const FEW: u64 = 1_000;
const MANY: u64 = 10_000;
/// Descriptors that a hop has for other things than the two ends of connections.
const OTHER_DESCRIPTORS: u64 = 1_200;
/// Spans of the connections' requests are on their way meanwhile.
const SETTLE: Duration = Duration::from_secs(8);

pub(super) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let possible = bench.descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2;
    let many = MANY.min(possible / FEW * FEW);
    ensure!(many > FEW, "the limit of open files is too low to measure idle connections");
    let title = format!("Resident memory with idle connections, {FEW} and {many}");
    step(&title);
    if many < MANY {
        note(format!("the limit of open files allows {many} connections instead of {MANY}"));
    }
    report.figure("idle.connections", many as f64);
    let mut table = Table::new(
        format!("{title}; each has carried one request"),
        &["", "none, MiB", "few, MiB", "many, MiB", "bytes a connection"],
    );
    for hop in HOPS {
        let rss = [0, FEW, many].map(|count| resident(bench, hop, count));
        let [none, few, most] = rss;
        let (none, few, most) = (none?, few?, most?);
        let each = (most - none) * 1024.0 * 1024.0 / many as f64;
        for (name, value) in [("none", none), ("few", few), ("many", most)] {
            report.figure(format!("idle.{}.{name}_rss_mib", hop.name()), value);
        }
        report.figure(format!("idle.{}.bytes_per_connection", hop.name()), each);
        let mut cells = vec![hop.name().to_owned()];
        cells.extend([none, few, most].map(|mebibytes| format!("{mebibytes:.1}")));
        cells.push(format!("{each:.0}"));
        note(cells.join("  "));
        table.row(cells);
    }
    report.table(table);
    Ok(())
}

/// Of a fresh hop that holds so many connections, in MiB.
fn resident(bench: &mut Bench, hop: Hop, count: u64) -> Result<f64> {
    let nginx = Nginx::new("location / { }")?
        .http("keepalive_timeout 600s;")
        .connections(2 * MANY as u32)
        .file("hello", b"hello\n")?
        .start()?;
    let Bench { launcher, collector, .. } = bench;
    let running = hop.start(launcher.pid(), nginx.address(), collector)?;
    let (host, port) = (running.address.ip().to_string(), running.address.port().to_string());
    let words = layout::python("idle.py", &[&count.to_string(), &host, &port, "/hello"])?;
    let idle = launcher.spawn(words)?;
    idle.wait_for("idle")?;
    sleep(SETTLE);
    let pid = running.pid().unwrap_or_default();
    let resident = Memory::of(pid)?.resident;
    idle.signal(Signal::TERM)?;
    ensure!(launcher.wait(&idle)? == 0, "the client failed: {}", idle.output());
    if let Some(forwarded) = running.stop()? {
        let through = forwarded.connections;
        ensure!(through == count, "{through} of {count} connections went through the agent");
    }
    Ok(resident)
}
