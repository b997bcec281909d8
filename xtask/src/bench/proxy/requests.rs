//! Requests through a hop: how many, how fast, and at which cost.

use anyhow::{Context, Result, ensure};
use tracer_tests::service::Nginx;

use super::Bench;
use super::hop::{Forwarded, Hop};
use crate::bench::cpu::{Busy, Cpu};
use crate::bench::load::{Load, Measured};
use crate::bench::report::{Report, Table, median};
use crate::bench::rounds::Rounds;
use crate::shell::{note, step};

const HOPS: [Hop; 5] = [Hop::Direct, Hop::Agent, Hop::HaProxy, Hop::Envoy, Hop::EnvoyTraced];
const CONNECTIONS: u32 = 32;
const RATES: [u32; 2] = [5_000, 20_000];

pub(super) fn saturated(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let title = format!("nginx, 1 worker, 6-byte file, saturated by wrk -t1 -c{CONNECTIONS}");
    let load = Load::Saturating { connections: CONNECTIONS };
    scenario(bench, "saturated", &title, load, report)
}

pub(super) fn paced(bench: &mut Bench, report: &mut Report) -> Result<()> {
    for rate in RATES {
        let title = format!("the same nginx at {rate} req/s from h2load (HTTP/1.1)");
        scenario(bench, &format!("paced_{rate}"), &title, Load::Paced { rate }, report)?;
    }
    Ok(())
}

struct Round {
    measured: Measured,
    /// Processor time of the hop, in microseconds.
    hop: f64,
    /// Processor time of the whole machine, in microseconds.
    machine: f64,
    forwarded: Option<Forwarded>,
}

impl Round {
    fn per_request(&self, microseconds: f64) -> f64 {
        microseconds / self.measured.requests as f64
    }
}

fn scenario(
    bench: &mut Bench,
    name: &str,
    title: &str,
    load: Load,
    report: &mut Report,
) -> Result<()> {
    step(title);
    let nginx = Nginx::new("location / { }")?.file("hello", b"hello\n")?.start()?;
    // Page cache and processor clock warm up unmeasured.
    load.run(&mut bench.launcher, &nginx.url("/hello"), 1)?;
    let measured = bench.effort.measure(|number| {
        HOPS.iter()
            .map(|hop| {
                let round = round(bench, *hop, nginx.address(), load)
                    .with_context(|| format!("{title}, {}", hop.name()))?;
                let Measured { per_second, p50_us, p99_us, .. } = round.measured;
                note(format!(
                    "round {number}: {:<13} {per_second:>7.0} req/s {p50_us:>6.0} µs {p99_us:>6.0} µs",
                    hop.name()
                ));
                Ok(round)
            })
            .collect::<Result<Vec<Round>>>()
    })?;
    tabulate(name, title, &measured, report);
    Ok(())
}

fn round(bench: &mut Bench, hop: Hop, server: std::net::SocketAddr, load: Load) -> Result<Round> {
    let Bench { effort, launcher, collector, .. } = bench;
    let running = hop.start(launcher.pid(), server, collector)?;
    let url = format!("http://{}/hello", running.address);
    let used = |pid: Option<u32>| pid.map_or(Ok(Cpu::default()), Cpu::of_tree);
    let (before, busy) = (used(running.pid())?, Busy::so_far()?);
    let measured = load.run(launcher, &url, effort.seconds)?;
    let machine = busy.until_now()?;
    let hop = used(running.pid())?.since(before).total();
    let forwarded = running.stop()?;
    if let Some(forwarded) = &forwarded {
        let heads = forwarded.injected;
        ensure!(heads >= measured.requests, "only {heads} requests went through the agent");
        if forwarded.lost > 0 {
            note(format!("the agent lost {} of {} spans", forwarded.lost, forwarded.spans));
        }
    }
    Ok(Round { measured, hop, machine, forwarded })
}

fn tabulate(name: &str, title: &str, measured: &Rounds<Vec<Round>>, report: &mut Report) {
    let Rounds { rounds, stolen } = measured;
    report.figure(format!("{name}.stolen_share"), *stolen);
    let mut table = Table::new(
        format!("{title} (the host took up to {:.1} %)", stolen * 100.0),
        &["", "req/s", "ratio", "p50 µs", "p99 µs", "hop CPU µs/req", "machine CPU µs/req"],
    );
    for (index, hop) in HOPS.iter().enumerate() {
        let of =
            |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(|set| value(&set[index])));
        let direct = |set: &[Round]| set[0].measured.per_second;
        let ratio = rounds.iter().map(|set| set[index].measured.per_second / direct(set));
        let mut cells = vec![hop.name().to_owned()];
        let mut cell = |figure: &str, value: f64, decimals: usize| {
            report.figure(format!("{name}.{}.{figure}", hop.name()), value);
            cells.push(format!("{value:.decimals$}"));
        };
        cell("requests_per_second", of(&|it| it.measured.per_second), 0);
        cell("ratio_to_direct", median(ratio), 3);
        cell("p50_us", of(&|it| it.measured.p50_us), 0);
        cell("p99_us", of(&|it| it.measured.p99_us), 0);
        cell("hop_cpu_us_per_request", of(&|it| it.per_request(it.hop)), 2);
        cell("machine_cpu_us_per_request", of(&|it| it.per_request(it.machine)), 2);
        table.row(cells);
    }
    report.table(table);
    answers(name, rounds, report);
}

/// How often the linker answered in time.
fn answers(name: &str, rounds: &[Vec<Round>], report: &mut Report) {
    let agents = || rounds.iter().flatten().filter_map(|round| round.forwarded.as_ref());
    let sum = |count: &dyn Fn(&Forwarded) -> u64| agents().map(count).sum::<u64>() as f64;
    let heads = sum(&|it| it.injected);
    let in_time = 1.0 - sum(&|it| it.overdue) / heads.max(1.0);
    let lost = sum(&|it| it.lost);
    report.figure(format!("{name}.agent.answered_in_time_share"), in_time);
    report.figure(format!("{name}.agent.lost"), lost);
    let mut table = Table::new(
        format!("{name}: the wait for the linker's answer, 2 ms at most, over all rounds"),
        &["", "heads", "answered in time", "spans", "lost"],
    );
    table.row(vec![
        "agent".to_owned(),
        format!("{heads:.0}"),
        format!("{:.3} %", in_time * 100.0),
        format!("{:.0}", sum(&|it| it.spans)),
        format!("{lost:.0}"),
    ]);
    report.table(table);
}
