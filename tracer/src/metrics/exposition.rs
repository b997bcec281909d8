//! What Prometheus reads: its text format 0.0.4, and `OpenMetrics` 1.0 with exemplars.
//!
//! Names follow OpenTelemetry's rules for Prometheus: dots become underscores, the unit and `_total`
//! are appended.

use std::fmt::Write as _;

use super::family::{Family, Number, Point, Unit};
use crate::histogram::{BOUNDS, Distribution, Exemplar};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// What a scraper that accepts these gets.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes all metrics that have values.
pub(super) fn write(families: &[Family], format: Format) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        // Writing to a `String` does not fail.
        let _ = write_family(&mut text, family, format);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write_family(text: &mut String, family: &Family, format: Format) -> std::fmt::Result {
    let (unit, base) = (unit(family.unit), name(family));
    let kind = match family.points.first().map(|point| &point.number) {
        Some(Number::Counter(_) | Number::Seconds(_)) => "counter",
        Some(Number::Histogram(_)) => "histogram",
        _ => "gauge",
    };
    let total = if kind == "counter" { "_total" } else { "" };
    let declared = if format == Format::Text { format!("{base}{total}") } else { base.clone() };
    writeln!(text, "# HELP {declared} {}", family.help)?;
    writeln!(text, "# TYPE {declared} {kind}")?;
    if let (Some(unit), Format::OpenMetrics) = (unit, format) {
        writeln!(text, "# UNIT {declared} {unit}")?;
    }
    for point in &family.points {
        let labels = labels(point);
        match &point.number {
            Number::Counter(count) => writeln!(text, "{base}_total{} {count}", braced(&labels))?,
            Number::Seconds(sum) => writeln!(text, "{base}_total{} {sum:?}", braced(&labels))?,
            Number::Gauge(value) => writeln!(text, "{base}{} {value:?}", braced(&labels))?,
            Number::Histogram(durations) => {
                write_histogram(text, &base, &labels, durations, format)?;
            }
        }
    }
    Ok(())
}

fn write_histogram(
    text: &mut String,
    base: &str,
    labels: &str,
    durations: &Distribution,
    format: Format,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let bounds = BOUNDS.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    let mut below = 0;
    for ((bound, count), exemplar) in bounds.zip(durations.counts).zip(&durations.exemplars) {
        below += count;
        write!(text, "{base}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}")?;
        if let (Some(exemplar), Format::OpenMetrics) = (exemplar, format) {
            write_exemplar(text, exemplar)?;
        }
        text.push('\n');
    }
    writeln!(text, "{base}_sum{} {:?}", braced(labels), durations.sum)?;
    writeln!(text, "{base}_count{} {below}", braced(labels))
}

fn write_exemplar(text: &mut String, exemplar: &Exemplar) -> std::fmt::Result {
    let Exemplar { value, time, trace, span } = exemplar;
    let seconds = *time as f64 / 1e9;
    write!(text, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value:?} {seconds:.3}")
}

fn name(family: &Family) -> String {
    let mut name = family.name.replace('.', "_");
    if let Some(unit) = unit(family.unit)
        && !name.ends_with(unit)
    {
        name.push('_');
        name.push_str(unit);
    }
    name
}

fn unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Seconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::Count(_) => None,
    }
}

fn labels(point: &Point) -> String {
    let mut text = String::new();
    let service = point.service.iter().map(|service| ("service.name", service));
    for (name, value) in service.chain(point.labels.iter().map(|(name, value)| (*name, value))) {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{comma}{}=\"{value}\"", name.replace('.', "_"));
    }
    text
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::context::{SpanId, TraceId};

    fn families() -> Vec<Family> {
        let mut durations = Distribution::default();
        let (trace, span) = (TraceId([1; 16]), SpanId([2; 8]));
        let exemplar = Exemplar { value: 0.007, time: 1_500_000_000, trace, span };
        durations.record(0.007, Some(exemplar));
        let mut requests = Family::new("http.server.request.duration", Unit::Seconds, "Requests.");
        requests.points.push(Point {
            service: Some("a\"b\\c\n".to_owned()),
            labels: vec![("http.route", "/x".to_owned())],
            number: Number::Histogram(Box::new(durations)),
        });
        vec![
            Family::new("tracer.lost", Unit::Count("{event}"), "Lost.")
                .by("reason", [("full", Number::Counter(3))]),
            Family::new("tracer.memory", Unit::Bytes, "Memory.").with(Number::Gauge(1.5)),
            Family::new("tracer.nothing", Unit::Bytes, "Nothing."),
            requests,
        ]
    }

    #[test]
    fn text_for_every_prometheus() {
        let text = write(&families(), Format::Text);
        assert!(text.starts_with(
            "# HELP tracer_lost_total Lost.\n# TYPE tracer_lost_total counter\n\
             tracer_lost_total{reason=\"full\"} 3\n\
             # HELP tracer_memory_bytes Memory.\n# TYPE tracer_memory_bytes gauge\n\
             tracer_memory_bytes 1.5\n\
             # HELP http_server_request_duration_seconds Requests.\n"
        ));
        let labels = "service_name=\"a\\\"b\\\\c\\n\",http_route=\"/x\"";
        let name = "http_server_request_duration_seconds";
        for line in [
            format!("{name}_bucket{{{labels},le=\"0.005\"}} 0\n"),
            format!("{name}_bucket{{{labels},le=\"0.01\"}} 1\n"),
            format!("{name}_bucket{{{labels},le=\"+Inf\"}} 1\n"),
            format!("{name}_sum{{{labels}}} 0.007\n{name}_count{{{labels}}} 1\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_an_end() {
        let text = write(&families(), Format::OpenMetrics);
        assert!(text.contains("# TYPE tracer_lost counter\n"), "{text}");
        assert!(text.contains("# UNIT tracer_memory_bytes bytes\n"), "{text}");
        let exemplar = "le=\"0.01\"} 1 # {trace_id=\"01010101010101010101010101010101\",\
                        span_id=\"0202020202020202\"} 0.007 1.500\n";
        assert!(text.contains(exemplar), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
