//! What tracing costs: nginx and a Flask service, untraced, traced by the agent, and for Flask
//! instrumented with OpenTelemetry's Python SDK.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tracer_tests::service::{Gunicorn, Nginx, Service};
use tracer_tests::{AgentOptions, Backend, Launcher, Rotel};

use super::bystander::Bystander;
use super::collector;
use super::cpu::{Cpu, Memory};
use super::load::{Load, Measured};
use super::report::{Report, Table, median};
use super::rounds::{Effort, Rounds};
use crate::shell::{note, output, step};

const FIXED_RATE: u32 = 10_000;
const UNTRACED: &str = "untraced";
const TRACED: &str = "agent";

pub(crate) fn run(effort: Effort) -> Result<Report> {
    let mut launcher = Launcher::start()?;
    let elsewhere = collector::discarding()?;
    let rotel = Rotel::blackhole()?;
    let nginx = Nginx::new("location / { }")?.file("hello", b"hello\n")?.start()?;
    let flask = Gunicorn::default().start()?;
    let instrumented = instrumented_flask(&elsewhere.url(""))?;
    check_instrumentation()?;

    let agent = || AgentOptions::new(Backend::Auto).without_file().otlp_http(&elsewhere.url(""));
    let untraced =
        |service| Variant { name: UNTRACED, service, agent: None, ends: 0, imitates: None };
    let nginx_variants =
        || vec![untraced(&nginx), Variant::traced(TRACED, &nginx, agent().pid(nginx.pid()), 1)];
    let mut saturated = nginx_variants();
    let both_ends = agent().pid(nginx.pid()).exe("wrk");
    saturated.push(Variant::traced("agent, both ends", &nginx, both_ends, 2));
    let beside = AgentOptions::new(Backend::Auto).without_file().otlp_grpc(&rotel.grpc_endpoint());
    let beside = beside.pid(nginx.pid());
    saturated.push(Variant::traced("agent, collector beside it", &nginx, beside, 1));
    let bystander = "untraced, idle loop beside it";
    saturated.push(Variant { name: bystander, imitates: Some(TRACED), ..untraced(&nginx) });
    let scenarios = [
        Scenario {
            name: "nginx_saturated",
            title: "nginx, 1 worker, 6-byte file, saturated by wrk -t1 -c32".to_owned(),
            load: Load::Saturating { connections: 32 },
            variants: saturated,
        },
        Scenario {
            name: "nginx_fixed_rate",
            title: format!("the same nginx at {FIXED_RATE} req/s from h2load (HTTP/1.1)"),
            load: Load::Paced { rate: FIXED_RATE },
            variants: nginx_variants(),
        },
        Scenario {
            name: "flask_saturated",
            title: "Flask under gunicorn, 1 sync worker, saturated by wrk -t1 -c4".to_owned(),
            load: Load::Saturating { connections: 4 },
            variants: vec![
                untraced(&flask),
                Variant::traced(TRACED, &flask, agent().pid(flask.pid()), 1),
                Variant { name: "opentelemetry sdk", ..untraced(&instrumented) },
            ],
        },
    ];

    let mut report = Report::new("overhead", conditions(effort)?);
    for scenario in &scenarios {
        step(&scenario.title);
        let measurements = scenario.measure(&mut launcher, effort)?;
        scenario.report(&measurements, &mut report);
    }
    Ok(report)
}

/// Flask as OpenTelemetry's documentation tells to instrument it without code.
fn instrumented_flask(endpoint: &str) -> Result<Service> {
    Gunicorn::default()
        .wrapped_by(&["opentelemetry-instrument"])
        .env("OTEL_SERVICE_NAME", "flask")
        .env("OTEL_TRACES_EXPORTER", "otlp")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .start()
}

/// An SDK that silently exports nothing would look cheap.
fn check_instrumentation() -> Result<()> {
    let mut rotel = Rotel::start()?;
    let flask = instrumented_flask(&rotel.http_endpoint())?;
    flask.get("/hello")?;
    let spans = rotel.wait_for_spans(1).context("the OpenTelemetry SDK exported nothing")?;
    ensure!(spans.servers().only()?.service() == "flask", "unexpected spans:\n{spans}");
    Ok(())
}

fn conditions(effort: Effort) -> Result<Vec<String>> {
    let kernel = output(&mut crate::shell::command("uname", ["-sr"]))?;
    let cpus = std::thread::available_parallelism()?;
    Ok(vec![
        format!("{}, {cpus} CPUs, everything on this machine over loopback.", kernel.trim()),
        effort.condition(),
        "Agent and SDK export every span by OTLP over HTTP to an nginx that discards them, because \
         the work of a receiver is done on another machine as a rule; `collector beside it` exports \
         by gRPC to a rotel that decodes them on these processors."
            .to_owned(),
        "The `idle loop` traces nothing. It uses as much processor time as the agent did in the same \
         round, in bursts as far apart: what that alone costs where all share these processors."
            .to_owned(),
    ])
}

struct Scenario<'a> {
    name: &'static str,
    title: String,
    load: Load,
    /// The first one is what the others are compared with.
    variants: Vec<Variant<'a>>,
}

struct Variant<'a> {
    name: &'static str,
    service: &'a Service,
    agent: Option<AgentOptions>,
    /// Spans that the agent makes of a request.
    ends: u64,
    /// The variant whose agent's use of the processors an idle loop imitates.
    imitates: Option<&'static str>,
}

impl<'a> Variant<'a> {
    fn traced(name: &'static str, service: &'a Service, agent: AgentOptions, ends: u64) -> Self {
        Self { name, service, agent: Some(agent), ends, imitates: None }
    }

    fn key(&self) -> String {
        self.name.replace(", ", "_").replace(' ', "_")
    }

    /// `imitated` is the share of one processor that a loop uses beside the service.
    fn measure(
        &self,
        launcher: &mut Launcher,
        load: Load,
        seconds: u32,
        imitated: Option<f64>,
    ) -> Result<Round> {
        let _bystander = imitated.map(Bystander::start).transpose()?;
        let agent = self.agent.as_ref().map(AgentOptions::start).transpose()?;
        let agent_pid = agent.as_ref().map(tracer_tests::Agent::pid);
        let threads_before = agent_pid.map(Cpu::by_thread).transpose()?;
        let server_before = Cpu::of_tree(self.service.pid())?;
        let measured = load.run(launcher, &self.service.url("/hello"), seconds)?;
        let server = Cpu::of_tree(self.service.pid())?.since(server_before);

        let (Some(agent), Some(before)) = (agent, threads_before) else {
            return Ok(Round { measured, server, agent: None });
        };
        let memory = Memory::of(agent.pid())?;
        // The last batches are still on their way; what exporting them takes belongs to the cost,
        // but threads cannot be asked any more once the agent has stopped.
        let mut threads = Cpu::by_thread(agent.pid())?;
        for (name, cpu) in &mut threads {
            *cpu = cpu.since(before.get(name).copied().unwrap_or_default());
        }
        let report = agent.stop()?.report;
        if report.lost() > 0 {
            note(format!("lost: {:?}", report.losses));
        }
        // wrk stops with requests under way, which the server answers and wrk does not count:
        // there may be a few spans more than requests, never fewer.
        let expected = measured.requests * self.ends;
        let missing = expected.saturating_sub(report.spans + report.lost());
        let exported = report.exported.values().sum();
        let (spans, lost) = (report.spans, report.lost());
        Ok(Round {
            measured,
            server,
            agent: Some(AgentRound { threads, memory, spans, exported, lost, missing }),
        })
    }
}

struct Round {
    measured: Measured,
    /// Of the server's processes, probes included.
    server: Cpu,
    agent: Option<AgentRound>,
}

struct AgentRound {
    threads: BTreeMap<String, Cpu>,
    memory: Memory,
    spans: u64,
    exported: u64,
    lost: u64,
    /// Requests that are neither a span nor a counted loss; anything but zero is a bug.
    missing: u64,
}

impl Round {
    fn per_request(&self, microseconds: f64) -> f64 {
        microseconds / self.measured.requests as f64
    }

    /// Processor time of the agent, in microseconds.
    fn agent_cpu(&self) -> f64 {
        let agent = self.agent.iter().flat_map(|agent| agent.threads.values());
        agent.map(|cpu| cpu.total()).sum()
    }
}

impl Scenario<'_> {
    fn measure(&self, launcher: &mut Launcher, effort: Effort) -> Result<Rounds<Vec<Round>>> {
        // Page cache, interpreter and processor clock warm up unmeasured.
        for variant in &self.variants {
            self.load.run(launcher, &variant.service.url("/hello"), 1)?;
        }
        effort.measure(|number| self.measure_set(launcher, number, effort))
    }

    /// One round of each variant.
    fn measure_set(
        &self,
        launcher: &mut Launcher,
        number: u32,
        effort: Effort,
    ) -> Result<Vec<Round>> {
        let mut set: Vec<Round> = Vec::new();
        for variant in &self.variants {
            let mut before = self.variants.iter().zip(&set);
            let imitated = before.find(|(other, _)| Some(other.name) == variant.imitates);
            let share = |round: &Round| round.agent_cpu() / 1e6 / f64::from(effort.seconds);
            let imitated = imitated.map(|(_, round)| share(round));
            let round = variant
                .measure(launcher, self.load, effort.seconds, imitated)
                .with_context(|| format!("{}, {}", self.title, variant.name))?;
            note(format!(
                "round {number}: {:<26} {:>8.0} req/s",
                variant.name, round.measured.per_second
            ));
            set.push(round);
        }
        Ok(set)
    }

    fn report(&self, measured: &Rounds<Vec<Round>>, report: &mut Report) {
        let Rounds { rounds: sets, stolen } = measured;
        report.figure(format!("{}.stolen_share", self.name), *stolen);
        let mut table = Table::new(
            format!("{} (the host took up to {:.1} %)", self.title, stolen * 100.0),
            &[
                "",
                "req/s",
                "ratio",
                "p50 µs",
                "p99 µs",
                "server µs/req",
                "(system)",
                "added",
                "agent µs/req",
                "agent MiB",
                "(peak)",
                "spans",
                "exported",
                "lost",
                "missing",
            ],
        );
        let mut split = Table::new(
            format!("{}: where the time goes, CPU µs a request", self.name),
            &["", "added to the server (probes)", "agent, by thread"],
        );
        for (index, variant) in self.variants.iter().enumerate() {
            let rounds: Vec<&Round> = sets.iter().map(|set| &set[index]).collect();
            let untraced = sets.iter().map(|set| &set[0]);
            let of =
                |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(|round| value(round)));
            let against = |value: &dyn Fn(&Round, &Round) -> f64| {
                median(rounds.iter().zip(untraced.clone()).map(|(round, base)| value(round, base)))
            };
            let server = |round: &Round| round.per_request(round.server.total());
            let mut cells = vec![variant.name.to_owned()];
            let mut cell = |name: &str, value: f64, decimals: usize| {
                report.figure(format!("{}.{}.{name}", self.name, variant.key()), value);
                cells.push(format!("{value:.decimals$}"));
            };
            cell("requests_per_second", of(&|it| it.measured.per_second), 0);
            let ratio = against(&|it, base| it.measured.per_second / base.measured.per_second);
            cell("throughput_ratio", ratio, 3);
            cell("p50_us", of(&|it| it.measured.p50_us), 0);
            cell("p99_us", of(&|it| it.measured.p99_us), 0);
            cell("server_cpu_us_per_request", of(&server), 2);
            let system = |it: &Round| it.per_request(it.server.system);
            cell("server_system_cpu_us_per_request", of(&system), 2);
            let added = against(&|it, base| server(it) - server(base));
            cell("added_server_cpu_us_per_request", added, 2);
            if variant.agent.is_some() {
                let agent = |value: &dyn Fn(&AgentRound) -> f64| {
                    median(rounds.iter().filter_map(|round| round.agent.as_ref()).map(value))
                };
                let total = |count: &dyn Fn(&AgentRound) -> u64| {
                    let counts = rounds.iter().filter_map(|round| round.agent.as_ref()).map(count);
                    counts.sum::<u64>() as f64
                };
                cell("agent_cpu_us_per_request", of(&|it| it.per_request(it.agent_cpu())), 2);
                cell("agent_rss_mib", agent(&|it| it.memory.resident), 1);
                cell("agent_peak_rss_mib", agent(&|it| it.memory.peak), 1);
                cell("spans", total(&|it| it.spans), 0);
                cell("exported", total(&|it| it.exported), 0);
                cell("lost", total(&|it| it.lost), 0);
                cell("missing", total(&|it| it.missing), 0);

                let threads = threads(&rounds);
                for (name, cpu) in &threads {
                    let figure = format!("agent_thread.{name}.cpu_us_per_request");
                    report.figure(format!("{}.{}.{figure}", self.name, variant.key()), *cpu);
                }
                let threads = threads.iter().map(|(name, cpu)| format!("{name} {cpu:.2}"));
                split.row(vec![
                    variant.name.to_owned(),
                    format!("{added:.2}"),
                    threads.collect::<Vec<_>>().join(", "),
                ]);
            }
            table.row(cells);
        }
        report.table(table);
        report.table(split);
    }
}

/// Median processor time a request, by the agent's thread names.
fn threads(rounds: &[&Round]) -> BTreeMap<String, f64> {
    let mut names = BTreeMap::<&String, Vec<f64>>::new();
    for round in rounds {
        for (name, cpu) in round.agent.iter().flat_map(|agent| &agent.threads) {
            names.entry(name).or_default().push(round.per_request(cpu.total()));
        }
    }
    names.into_iter().map(|(name, values)| (name.clone(), median(values))).collect()
}
