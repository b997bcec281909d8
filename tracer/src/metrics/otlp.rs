//! The same as an OTLP request: one resource for the agent, one for each traced service.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    self as proto, AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::family::{Family, Number, Point, Unit};
use crate::export::Temporality;
use crate::histogram::{BOUNDS, Distribution, Exemplar};
use crate::trace::semconv::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION, attribute};

/// When and how values count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    /// Nanoseconds since the Unix epoch.
    pub(super) start: u64,
    pub(super) now: u64,
    pub(super) temporality: Temporality,
}

/// All metrics that have values. `agent` are the attributes of the agent's own resource.
pub(super) fn request(
    families: &[Family],
    agent: &[(String, String)],
    period: Period,
) -> ExportMetricsServiceRequest {
    let mut by_service: BTreeMap<Option<&str>, Vec<Metric>> = BTreeMap::new();
    for family in families {
        let mut points: BTreeMap<Option<&str>, Vec<&Point>> = BTreeMap::new();
        for point in &family.points {
            points.entry(point.service.as_deref()).or_default().push(point);
        }
        for (service, points) in points {
            by_service.entry(service).or_default().push(metric(family, &points, period));
        }
    }
    let resource_metrics = by_service
        .into_iter()
        .map(|(service, metrics)| {
            let attributes = match service {
                None => agent.iter().map(|(name, value)| text(name, value)).collect(),
                Some(service) => vec![text("service.name", service)],
            };
            let scope = InstrumentationScope {
                name: SCOPE_NAME.to_owned(),
                version: SCOPE_VERSION.to_owned(),
                ..InstrumentationScope::default()
            };
            let schema_url = SCHEMA_URL.to_owned();
            ResourceMetrics {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics,
                    schema_url: schema_url.clone(),
                }],
                schema_url,
            }
        })
        .collect();
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(family: &Family, points: &[&Point], period: Period) -> Metric {
    let aggregation_temporality = match period.temporality {
        Temporality::Cumulative => AggregationTemporality::Cumulative,
        Temporality::Delta => AggregationTemporality::Delta,
    } as i32;
    let data = match points.first().map(|point| &point.number) {
        Some(Number::Histogram(_)) => metric::Data::Histogram(proto::Histogram {
            data_points: points.iter().filter_map(|point| histogram(point, period)).collect(),
            aggregation_temporality,
        }),
        Some(Number::Gauge(_)) | None => metric::Data::Gauge(proto::Gauge {
            data_points: points.iter().filter_map(|point| number(point, period)).collect(),
        }),
        Some(Number::Counter(_) | Number::Seconds(_)) => metric::Data::Sum(proto::Sum {
            data_points: points.iter().filter_map(|point| number(point, period)).collect(),
            aggregation_temporality,
            is_monotonic: true,
        }),
    };
    let unit = match family.unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Count(what) => what,
    };
    Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(point: &Point, period: Period) -> Option<NumberDataPoint> {
    let value = match point.number {
        Number::Counter(count) => number_data_point::Value::AsInt(count as i64),
        Number::Seconds(value) | Number::Gauge(value) => number_data_point::Value::AsDouble(value),
        Number::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: period.start,
        time_unix_nano: period.now,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: &Point, period: Period) -> Option<HistogramDataPoint> {
    let Number::Histogram(durations) = &point.number else { return None };
    let Distribution { counts, sum, exemplars } = &**durations;
    Some(HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: period.start,
        time_unix_nano: period.now,
        count: durations.count(),
        sum: Some(*sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: BOUNDS.to_vec(),
        exemplars: exemplars.iter().flatten().map(example).collect(),
        ..HistogramDataPoint::default()
    })
}

fn example(exemplar: &Exemplar) -> proto::Exemplar {
    proto::Exemplar {
        time_unix_nano: exemplar.time,
        span_id: exemplar.span.0.to_vec(),
        trace_id: exemplar.trace.0.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        ..proto::Exemplar::default()
    }
}

/// Values that the conventions have as numbers are numbers.
fn attributes(point: &Point) -> Vec<KeyValue> {
    let numeric =
        |name: &str| name == attribute::HTTP_RESPONSE_STATUS_CODE || name == attribute::SERVER_PORT;
    let value = |name: &'static str, value: &String| match value.parse() {
        Ok(number) if numeric(name) => key_value(name, any_value::Value::IntValue(number)),
        _ => text(name, value),
    };
    point.labels.iter().map(|(name, given)| value(name, given)).collect()
}

fn text(name: &str, value: &str) -> KeyValue {
    key_value(name, any_value::Value::StringValue(value.to_owned()))
}

fn key_value(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
