//! The agent's own counts as metrics.

use super::family::{Family, Number, Point, Unit};
use super::watch::AgentState;
use crate::capture::KernelCounters;

pub(super) fn families(state: &AgentState) -> Vec<Family> {
    let mut families = spans(state);
    families.extend(sampling(state));
    families.extend(captured(&state.kernel));
    families.extend(connections(state));
    families.push(links(state));
    families.extend(probes(state));
    if let Some(shed) = &state.shed {
        families.push(
            Family::new(
                "tracer.memory.shed",
                Unit::Count("{item}"),
                "What was given up to stay below the memory limit.",
            )
            .by("what", counters([("newest_spans", shed.newest_spans), ("events", shed.events)])),
        );
    }
    families.push(
        Family::new("tracer.processes", Unit::Count("{process}"), "Processes looked at.").by(
            "outcome",
            [
                ("resolved", Number::Counter(state.processes.resolved)),
                ("unknown", Number::Counter(state.processes.unknown)),
                ("evicted", Number::Counter(state.processes.evicted)),
            ],
        ),
    );
    families
}

fn counters<'a>(
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) -> impl Iterator<Item = (&'a str, Number)> {
    counts.into_iter().map(|(name, count)| (name, Number::Counter(count)))
}

fn spans(state: &AgentState) -> Vec<Family> {
    let core = &state.core;
    let made = core.server_spans + core.client_spans;
    vec![
        Family::new("otel.sdk.span.started", Unit::Count("{span}"), "Spans begun.").by(
            "otel.span.sampling_result",
            counters([("RECORD_AND_SAMPLE", made), ("DROP", core.unsampled)]),
        ),
        Family::new("tracer.spans", Unit::Count("{span}"), "Spans made, by kind.")
            .by("kind", counters([("server", core.server_spans), ("client", core.client_spans)])),
        Family::new(
            "tracer.exchanges.lost",
            Unit::Count("{exchange}"),
            "Exchanges that happened and became no span.",
        )
        .by(
            "reason",
            counters(
                core.lost_exchanges
                    .iter()
                    .map(|(reason, count)| (*reason, *count))
                    .chain([("connection_end_lost", state.kernel.lost_exchanges)]),
            ),
        ),
        Family::new(
            "tracer.exchanges.muted",
            Unit::Count("{exchange}"),
            "Exchanges that are left to the SDKs of traced programs.",
        )
        .by("reason", counters(state.muted.iter().map(|(reason, count)| (*reason, *count)))),
    ]
}

fn sampling(state: &AgentState) -> Vec<Family> {
    let unsampled = counters(state.unsampled.iter().map(|(decided, spans)| (*decided, *spans)));
    let mut families = vec![
        Family::new(
            "tracer.spans.unsampled",
            Unit::Count("{span}"),
            "Spans that are not exported because their traces are not sampled.",
        )
        .by("decided", unsampled),
    ];
    if let Some(tail) = &state.tail {
        families.push(
            Family::new(
                "tracer.tail.traces",
                Unit::Count("{trace}"),
                "Traces that a policy kept or did not when they were over.",
            )
            .by(
                "outcome",
                counters([("kept", tail.kept_traces), ("dropped", tail.dropped_traces)]),
            ),
        );
        families.push(
            Family::new(
                "tracer.tail.early",
                Unit::Count("{trace}"),
                "Traces that were decided on before they were over.",
            )
            .by(
                "reason",
                counters([
                    ("traces", tail.early_traces),
                    ("trace_spans", tail.early_trace_spans),
                    ("bytes", tail.early_bytes),
                    ("open", tail.early_open),
                ]),
            ),
        );
    }
    families
}

fn captured(kernel: &KernelCounters) -> Vec<Family> {
    let events = [
        ("ring_full_data", kernel.ring_full_data),
        ("ring_full_open", kernel.ring_full_open),
        ("ring_full_close", kernel.ring_full_close),
        ("ring_full_connect", kernel.ring_full_connect),
        ("ring_full_process", kernel.ring_full_process),
        ("connection_table_full", kernel.connection_table_full),
        ("process_table_full", kernel.process_table_full),
        ("malformed", kernel.malformed_records),
    ];
    let bytes = [
        ("ring_full", kernel.ring_full_bytes),
        ("io_uring", kernel.io_uring_bytes),
        ("fault", kernel.fault_bytes),
        ("unknown_call", kernel.unknown_call_bytes),
    ];
    vec![
        Family::new("tracer.events.captured", Unit::Count("{event}"), "Events from the kernel.")
            .with(Number::Counter(kernel.records)),
        Family::new("tracer.events.lost", Unit::Count("{event}"), "Events that were lost.")
            .by("reason", counters(events)),
        Family::new("tracer.captured", Unit::Bytes, "Payload that was copied from the kernel.")
            .with(Number::Counter(kernel.copied_bytes)),
        Family::new("tracer.lost", Unit::Bytes, "Payload that could not be read.")
            .by("reason", counters(bytes)),
    ]
}

fn connections(state: &AgentState) -> Vec<Family> {
    let counts = &state.connections;
    let standings = state
        .standings
        .iter()
        .map(|(standing, connections)| (*standing, Number::Gauge(*connections as f64)));
    vec![
        Family::new(
            "tracer.connections.open",
            Unit::Count("{connection}"),
            "Connections by what is known of them: a protocol, or why they are ignored.",
        )
        .by("verdict", standings),
        Family::new(
            "tracer.connections.opened",
            Unit::Count("{connection}"),
            "Connections that were announced.",
        )
        .with(Number::Counter(counts.opened)),
        Family::new(
            "tracer.connections.given.up",
            Unit::Count("{connection}"),
            "Connections that are not looked at any more.",
        )
        .by(
            "reason",
            counters([
                ("table_full", counts.evicted),
                ("unknown_protocol", state.kernel.ignored_connections),
            ]),
        ),
        Family::new(
            "tracer.stream.gaps",
            Unit::Count("{gap}"),
            "Places where bytes were not seen.",
        )
        .with(Number::Counter(counts.gaps)),
    ]
}

fn links(state: &AgentState) -> Family {
    let mut family = Family::new(
        "tracer.links",
        Unit::Count("{span}"),
        "Spans by service and by what decided their parent.",
    );
    family.points.extend(state.links.counts().map(|(service, kind, spans)| Point {
        service: Some(service.to_owned()),
        labels: vec![("kind", kind.to_owned())],
        number: Number::Counter(spans),
    }));
    family
}

fn probes(state: &AgentState) -> Vec<Family> {
    let runs = state.probes.iter().map(|(name, runs, _)| (name.clone(), Number::Counter(*runs)));
    let times = state
        .probes
        .iter()
        .map(|(name, _, nanos)| (name.clone(), Number::Seconds(*nanos as f64 / 1e9)));
    vec![
        Family::new(
            "tracer.probe.runs",
            Unit::Count("{run}"),
            "Runs of the kernel half's programs.",
        )
        .by("program", runs),
        Family::new("tracer.probe.time", Unit::Seconds, "Time in the kernel half's programs.")
            .by("program", times),
    ]
}
