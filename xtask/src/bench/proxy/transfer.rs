//! Bytes that a hop does not read, in one connection, one way.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::Service;

use super::Bench;
use super::hop::Hop;
use crate::bench::report::{Report, Table, median};
use crate::shell::{command, note, step};

const HOPS: [Hop; 3] = [Hop::Direct, Hop::Agent, Hop::HaProxyTcp];
/// As iperf3 reads it: 2^30.
const BYTES: &str = "1G";
/// Seconds that a transfer may take.
const PATIENCE: &str = "60";
/// Which way, and the option of iperf3 for it.
const WAYS: [(&str, Option<&str>); 2] = [("upload", None), ("download", Some("--reverse"))];

pub(super) fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let title = "1 GiB in one connection, iperf3";
    step(title);
    let server = Service::start("iperf3", |port, _| {
        Ok(command("iperf3", ["--server", "--bind", "127.0.0.1", "--port", &port.to_string()]))
    })?;
    for (way, option) in WAYS {
        let rounds = bench.effort.measure(|number| {
            HOPS.iter()
                .map(|hop| {
                    let speed = transfer(bench, *hop, &server, option)
                        .with_context(|| format!("{way}, {}", hop.name()))?;
                    note(format!("round {number}: {way} {:<12} {speed:>6.2} Gbit/s", hop.name()));
                    Ok(speed)
                })
                .collect::<Result<Vec<f64>>>()
        })?;
        let mut table = Table::new(format!("{title}, {way}"), &["", "Gbit/s", "ratio"]);
        for (index, hop) in HOPS.iter().enumerate() {
            let speed = median(rounds.rounds.iter().map(|round| round[index]));
            let ratio = median(rounds.rounds.iter().map(|round| round[index] / round[0]));
            report.figure(format!("transfer.{way}.{}.gigabits_per_second", hop.name()), speed);
            report.figure(format!("transfer.{way}.{}.ratio_to_direct", hop.name()), ratio);
            table.row(vec![hop.name().to_owned(), format!("{speed:.2}"), format!("{ratio:.3}")]);
        }
        report.table(table);
    }
    Ok(())
}

/// Gigabits a second, as the receiver counts them.
fn transfer(bench: &mut Bench, hop: Hop, server: &Service, option: Option<&str>) -> Result<f64> {
    let Bench { launcher, collector, .. } = bench;
    let running = hop.start(launcher.pid(), server.address(), collector)?;
    let (host, port) = (running.address.ip().to_string(), running.address.port().to_string());
    let mut words = vec!["timeout", PATIENCE, "iperf3", "--json", "--bytes", BYTES];
    words.extend(["--client", &host, "--port", &port]);
    words.extend(option);
    let output = launcher.run(words)?.success()?;
    let told: Json = serde_json::from_str(&output.stdout)?;
    let received = &told["end"]["sum_received"]["bits_per_second"];
    let speed = received.as_f64().with_context(|| format!("iperf3 told no speed: {told}"))?;
    if let Some(forwarded) = running.stop()? {
        // One to talk about it, one for the bytes.
        let through = forwarded.connections;
        ensure!(through == 2, "{through} of 2 connections went through the agent");
    }
    Ok(speed / 1e9)
}
