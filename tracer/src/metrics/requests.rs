//! Rate, errors and duration of the requests that traced services answered and made, by the
//! semantic conventions, of every span before sampling.

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::family::{Family, Labels, Number, Point, Unit};
use crate::histogram::{Distribution, Exemplar};
use crate::trace::context::TraceFlags;
use crate::trace::semconv::attribute;
use crate::trace::{Span, SpanKind, Value};

/// Sets of attributes counted apart for each of the two metrics, as OpenTelemetry limits them;
/// what comes later is counted together.
pub(super) const MAX_SERIES: usize = 2_000;
/// Marks what is counted together.
const OVERFLOW: &str = "otel.metric.overflow";

/// Attributes of the servers' metric.
const SERVER: [&str; 6] = [
    attribute::HTTP_REQUEST_METHOD,
    attribute::URL_SCHEME,
    attribute::HTTP_RESPONSE_STATUS_CODE,
    attribute::ERROR_TYPE,
    attribute::HTTP_ROUTE,
    attribute::NETWORK_PROTOCOL_VERSION,
];
/// Attributes of the clients' metric.
const CLIENT: [&str; 6] = [
    attribute::HTTP_REQUEST_METHOD,
    attribute::SERVER_ADDRESS,
    attribute::SERVER_PORT,
    attribute::HTTP_RESPONSE_STATUS_CODE,
    attribute::ERROR_TYPE,
    attribute::NETWORK_PROTOCOL_VERSION,
];

/// What a series is told from others by: the service, and the values of the attributes above.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Series {
    service: SmolStr,
    values: [Option<Short>; 6],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Short {
    Text(SmolStr),
    Int(i64),
}

/// The durations of requests.
#[derive(Debug)]
pub struct RequestDurations {
    server: Durations,
    client: Durations,
    exemplars: bool,
}

#[derive(Debug)]
struct Durations {
    attributes: &'static [&'static str; 6],
    series: FxHashMap<Series, Distribution>,
    /// Of everything that there was no room for.
    others: Distribution,
    bound: usize,
}

impl RequestDurations {
    /// Nothing counted yet.
    pub fn new(exemplars: bool) -> Self {
        Self::bounded(exemplars, MAX_SERIES)
    }

    fn bounded(exemplars: bool, bound: usize) -> Self {
        let durations = |attributes| Durations {
            attributes,
            series: FxHashMap::default(),
            others: Distribution::default(),
            bound,
        };
        Self { server: durations(&SERVER), client: durations(&CLIENT), exemplars }
    }

    /// Counts the request that a span stands for.
    pub fn record(&mut self, span: &Span) {
        let seconds = (span.end - span.start) as f64 / 1e9;
        let sampled = span.flags.0 & TraceFlags::SAMPLED.0 != 0;
        let exemplar = (self.exemplars && sampled).then_some(Exemplar {
            value: seconds,
            time: span.end,
            trace: span.trace,
            span: span.id,
        });
        match span.kind {
            SpanKind::Server => self.server.record(span, seconds, exemplar),
            SpanKind::Client => self.client.record(span, seconds, exemplar),
        }
    }

    /// Bytes of memory that it takes, near enough.
    pub fn footprint(&self) -> usize {
        let series = self.server.series.capacity() + self.client.series.capacity();
        series * size_of::<(Series, Distribution)>()
    }

    /// Both metrics.
    pub fn families(&self) -> [Family; 2] {
        [
            self.server.family(Family::new(
                "http.server.request.duration",
                Unit::Seconds,
                "Duration of HTTP requests that traced services answered.",
            )),
            self.client.family(Family::new(
                "http.client.request.duration",
                Unit::Seconds,
                "Duration of HTTP requests that traced services made.",
            )),
        ]
    }
}

impl Durations {
    fn record(&mut self, span: &Span, seconds: f64, exemplar: Option<Exemplar>) {
        let series = Series::of(span, self.attributes);
        let room = self.series.len() < self.bound;
        match self.series.get_mut(&series) {
            Some(durations) => durations.record(seconds, exemplar),
            None if room => self.series.entry(series).or_default().record(seconds, exemplar),
            None => self.others.record(seconds, exemplar),
        }
    }

    fn family(&self, mut family: Family) -> Family {
        family.points.extend(self.series.iter().map(|(series, durations)| Point {
            service: Some(series.service.to_string()),
            labels: series.labels(self.attributes),
            number: Number::Histogram(Box::new(durations.clone())),
        }));
        // One order each time, for people who compare.
        family.points.sort_by(|one, other| {
            (&one.service, &one.labels).cmp(&(&other.service, &other.labels))
        });
        if self.others.count() > 0 {
            let number = Number::Histogram(Box::new(self.others.clone()));
            family.points.push(Point::of_agent(vec![(OVERFLOW, "true".to_owned())], number));
        }
        family
    }
}

impl Series {
    fn of(span: &Span, attributes: &[&'static str; 6]) -> Self {
        let mut values = [const { None }; 6];
        for (name, value) in &span.attributes {
            let Some(index) = attributes.iter().position(|wanted| wanted == name) else { continue };
            values[index] = match value {
                Value::Text(text) => Some(Short::Text(text.clone())),
                Value::Int(number) => Some(Short::Int(*number)),
                _ => None,
            };
        }
        Self { service: SmolStr::new(&span.resource.service), values }
    }

    fn labels(&self, attributes: &[&'static str; 6]) -> Labels {
        let given = attributes.iter().zip(&self.values);
        given
            .filter_map(|(name, value)| {
                Some((
                    *name,
                    match value.as_ref()? {
                        Short::Text(text) => text.to_string(),
                        Short::Int(number) => number.to_string(),
                    },
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;

    fn answered(start: u64, route: &str, status: i64) -> Span {
        let attributes = vec![
            (attribute::HTTP_REQUEST_METHOD.into(), Value::Text("GET".into())),
            (attribute::URL_PATH.into(), Value::Text("/private/7".into())),
            (attribute::HTTP_ROUTE.into(), Value::Text(route.into())),
            (attribute::HTTP_RESPONSE_STATUS_CODE.into(), Value::Int(status)),
        ];
        Span { attributes, end: start + 20_000_000, ..span(start) }
    }

    #[test]
    fn requests_are_told_apart_by_what_the_conventions_name_and_nothing_else() {
        let mut durations = RequestDurations::new(true);
        for start in 0..3 {
            durations.record(&answered(start, "/a", 200));
        }
        durations.record(&answered(9, "/a", 500));
        durations.record(&Span { kind: SpanKind::Client, ..answered(9, "/a", 200) });
        let [server, client] = durations.families();
        assert_eq!((server.points.len(), client.points.len()), (2, 1));
        assert_eq!(server.points[0].service.as_deref(), Some("shop"));
        let expected = [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/a"),
        ];
        let labels: Vec<_> =
            server.points[0].labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(labels, expected);
        let Number::Histogram(durations) = &server.points[0].number else { panic!("no histogram") };
        assert_eq!((durations.count(), durations.counts[2]), (3, 3));
        assert_eq!(durations.exemplars[2].map(|it| it.trace), Some(span(2).trace));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_together() {
        let mut durations = RequestDurations::bounded(false, 2);
        for route in ["/a", "/b", "/c", "/d", "/a"] {
            durations.record(&answered(1, route, 200));
        }
        let [server, _] = durations.families();
        let counts: Vec<_> = server
            .points
            .iter()
            .map(|point| match &point.number {
                Number::Histogram(durations) => durations.count(),
                _ => 0,
            })
            .collect();
        assert_eq!(counts, [2, 1, 2]);
        assert_eq!(server.points[2].labels, [(OVERFLOW, "true".to_owned())]);
    }

    #[test]
    fn only_sampled_spans_are_examples() {
        let mut durations = RequestDurations::new(true);
        durations.record(&Span { flags: TraceFlags(0), ..answered(1, "/a", 200) });
        let [server, _] = durations.families();
        let Number::Histogram(durations) = &server.points[0].number else { panic!("no histogram") };
        assert_eq!(durations.exemplars, [None; 15]);
    }
}
