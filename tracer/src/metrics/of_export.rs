//! What becomes of spans and where memory goes, as metrics; names of the SDKs where they have one.

use super::family::{Family, Labels, Number, Point, Unit};
use crate::export::{DestinationState, DropReason};

const PROCESSOR: &str = "batching_span_processor";

/// Reasons for which a span never reached an exporter.
const OF_THE_QUEUE: [DropReason; 4] =
    [DropReason::QueueFull, DropReason::QueueBytes, DropReason::Memory, DropReason::Shutdown];

pub(super) fn families(destinations: &[DestinationState]) -> Vec<Family> {
    let span = Unit::Count("{span}");
    let mut size = Family::new("otel.sdk.processor.span.queue.size", span, "Spans that wait.");
    let mut capacity =
        Family::new("otel.sdk.processor.span.queue.capacity", span, "Spans that may wait.");
    let mut processed = Family::new(
        "otel.sdk.processor.span.processed",
        span,
        "Spans that left the queue: for the exporter, or dropped.",
    );
    let mut inflight = Family::new("otel.sdk.exporter.span.inflight", span, "Spans under way.");
    let mut exported =
        Family::new("otel.sdk.exporter.span.exported", span, "Spans delivered, or dropped.");
    let mut spooled = Family::new("tracer.spool.spans", span, "Spans that wait on disk.");
    let mut operation = Family::new(
        "otel.sdk.exporter.operation.duration",
        Unit::Seconds,
        "Duration of requests to receivers.",
    );
    for state in destinations {
        let report = &state.report;
        let queued = |error| labels(PROCESSOR, &report.name, error);
        let sent = |error| labels(state.kind, &report.name, error);
        let gauge = |number: u64| Number::Gauge(number as f64);
        size.points.push(Point::of_agent(queued(None), gauge(state.queued_spans)));
        capacity.points.push(Point::of_agent(queued(None), gauge(state.capacity)));
        let passed = report.submitted
            - OF_THE_QUEUE
                .iter()
                .map(|reason| report.dropped(*reason))
                .sum::<u64>()
                .min(report.submitted)
            - state.queued_spans.min(report.submitted);
        processed.points.push(Point::of_agent(queued(None), Number::Counter(passed)));
        exported.points.push(Point::of_agent(sent(None), Number::Counter(report.sent)));
        for reason in DropReason::ALL {
            let count = report.dropped(reason);
            let (family, labels) = if OF_THE_QUEUE.contains(&reason) {
                (&mut processed, queued(Some(reason.as_str())))
            } else {
                (&mut exported, sent(Some(reason.as_str())))
            };
            family.points.push(Point::of_agent(labels, Number::Counter(count)));
        }
        let under_way = report.pending.saturating_sub(state.queued_spans);
        inflight.points.push(Point::of_agent(sent(None), gauge(under_way)));
        spooled.points.push(Point::of_agent(sent(None), gauge(report.spooled)));
        for (error, durations) in &state.operations {
            let number = Number::Histogram(Box::new(durations.clone()));
            operation.points.push(Point::of_agent(sent(*error), number));
        }
    }
    vec![size, capacity, processed, inflight, exported, spooled, operation]
}

/// Bytes of each part of the agent that can grow.
pub(super) fn memory(
    destinations: &[DestinationState],
    parts: impl IntoIterator<Item = (&'static str, u64)>,
) -> Family {
    let queues = destinations.iter().map(|it| it.queued_bytes).sum();
    let parts = parts.into_iter().chain([("export_queues", queues)]);
    let parts = parts.map(|(component, bytes)| (component, Number::Gauge(bytes as f64)));
    Family::new("tracer.memory", Unit::Bytes, "Memory by part; `resident` is the whole process.")
        .by("component", parts)
}

fn labels(kind: &str, name: &str, error: Option<&str>) -> Labels {
    let mut labels =
        vec![("otel.component.type", kind.to_owned()), ("otel.component.name", name.to_owned())];
    labels.extend(error.map(|error| ("error.type", error.to_owned())));
    labels
}
