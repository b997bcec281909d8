use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;

use super::*;
use crate::export::fixtures::{batch, resource, span};
use crate::trace::context::{SpanId, TraceId, TraceState};

const NO_LIMIT: usize = usize::MAX / 2;

fn decode(request: &Request) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(request.body.clone()).unwrap()
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.into())
}

#[test]
fn every_field_decodes_as_the_generated_types_have_it() {
    // Lengths of two and three bytes.
    let (long, longer) = ("x".repeat(300), "y".repeat(20_000));
    let full = Span {
        trace: TraceId([0xab; 16]),
        id: SpanId([0xcd; 8]),
        parent: Some(SpanId([0xef; 8])),
        parent_is_remote: true,
        flags: TraceFlags(3),
        state: TraceState("a=1,b=2".into()),
        name: "GET /users/{id}".into(),
        kind: SpanKind::Server,
        start: 1_700_000_000_000_000_000,
        end: u64::MAX,
        status: Status::Error,
        attributes: vec![
            ("t".into(), Value::Text(long.clone().into())),
            ("u".into(), Value::Text(longer.clone().into())),
            ("i".into(), Value::Int(-5)),
            ("d".into(), Value::Double(0.25)),
            ("b".into(), Value::Bool(true)),
            ("l".into(), Value::TextList(vec!["x".into(), String::new()])),
            ("empty".into(), Value::Text("".into())),
        ],
        dropped_attributes: 3,
        links: vec![Link {
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
            attributes: vec![("why", Value::Bool(false))],
            dropped_attributes: 1,
        }],
        dropped_links: 300,
        resource: resource(1, "shop"),
    };
    let plain = Span {
        parent: None,
        parent_is_remote: false,
        flags: TraceFlags(0),
        state: TraceState::default(),
        kind: SpanKind::Client,
        status: Status::Unset,
        attributes: Vec::new(),
        dropped_attributes: 0,
        links: Vec::new(),
        dropped_links: 0,
        ..full.clone()
    };

    let encoded = encode(&batch(vec![full, plain]), NO_LIMIT);
    assert_eq!((encoded.requests.len(), encoded.requests[0].spans), (1, 2));

    let expected_full = proto::Span {
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        trace_state: "a=1,b=2".into(),
        parent_span_id: vec![0xef; 8],
        flags: 0x303,
        name: "GET /users/{id}".into(),
        kind: proto::span::SpanKind::Server as i32,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: u64::MAX,
        attributes: vec![
            pair("t", text(&long)),
            pair("u", text(&longer)),
            pair("i", any_value::Value::IntValue(-5)),
            pair("d", any_value::Value::DoubleValue(0.25)),
            pair("b", any_value::Value::BoolValue(true)),
            pair(
                "l",
                any_value::Value::ArrayValue(ArrayValue {
                    values: ["x", ""].map(|item| AnyValue { value: Some(text(item)) }).into(),
                }),
            ),
            pair("empty", text("")),
        ],
        dropped_attributes_count: 3,
        dropped_links_count: 300,
        links: vec![proto::span::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            attributes: vec![pair("why", any_value::Value::BoolValue(false))],
            dropped_attributes_count: 1,
            ..Default::default()
        }],
        status: Some(proto::Status {
            message: String::new(),
            code: proto::status::StatusCode::Error as i32,
        }),
        ..Default::default()
    };
    let expected_plain = proto::Span {
        trace_state: String::new(),
        parent_span_id: Vec::new(),
        flags: 0x100,
        kind: proto::span::SpanKind::Client as i32,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        links: Vec::new(),
        dropped_links_count: 0,
        status: Some(proto::Status::default()),
        ..expected_full.clone()
    };
    let expected = ExportTraceServiceRequest {
        resource_spans: vec![proto::ResourceSpans {
            resource: Some(ProtoResource {
                attributes: vec![pair("service.name", text("shop"))],
                ..Default::default()
            }),
            scope_spans: vec![proto::ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: SCOPE_NAME.into(),
                    version: SCOPE_VERSION.into(),
                    ..Default::default()
                }),
                spans: vec![expected_full, expected_plain],
                schema_url: SCHEMA_URL.into(),
            }],
            schema_url: SCHEMA_URL.into(),
        }],
    };
    assert_eq!(decode(&encoded.requests[0]), expected);
}

#[test]
fn numbers_decode_whatever_they_take() {
    let numbers = [0, 1, 127, 128, 200, 16_383, 16_384, 65_535, 2_097_151, 2_097_152, i64::MAX, -1];
    let long = "n".repeat(200);
    for number in numbers {
        let attributes =
            vec![("port".into(), Value::Int(number)), (long.clone().into(), Value::Int(number))];
        let encoded = encode(&batch(vec![Span { attributes, ..span(1) }]), NO_LIMIT);
        let decoded = &decode(&encoded.requests[0]).resource_spans[0].scope_spans[0].spans[0];
        let value = any_value::Value::IntValue(number);
        assert_eq!(decoded.attributes, [pair("port", value.clone()), pair(&long, value)]);
    }
}

#[test]
fn each_resource_stands_once_and_keeps_the_order_of_its_spans() {
    let (shop, bank) = (resource(1, "shop"), resource(2, "bank"));
    let of =
        |resource: &Arc<Resource>, start| Span { resource: Arc::clone(resource), ..span(start) };
    let spans = vec![of(&bank, 1), of(&shop, 2), of(&bank, 3), of(&shop, 4)];
    let request = decode(&encode(&batch(spans), NO_LIMIT).requests[0]);
    let starts: Vec<Vec<u64>> = request
        .resource_spans
        .iter()
        .map(|resource| {
            resource.scope_spans[0].spans.iter().map(|span| span.start_time_unix_nano).collect()
        })
        .collect();
    assert_eq!(starts, [[2, 4], [1, 3]]);
}

#[test]
fn requests_stay_within_the_limit_and_lose_nothing() {
    let (shop, bank) = (resource(1, "shop"), resource(2, "bank"));
    let spans: Vec<Span> = (0..200)
        .map(|start| Span {
            attributes: vec![("t".into(), Value::Text("x".repeat(start as usize).into()))],
            resource: Arc::clone(if start % 3 == 0 { &shop } else { &bank }),
            ..span(start)
        })
        .collect();
    let limit = 1_500;
    let encoded = encode(&batch(spans), limit);
    assert!(encoded.requests.len() > 10);
    assert_eq!(encoded.too_large, 0);
    let mut starts = Vec::new();
    for request in &encoded.requests {
        assert!(request.body.len() <= limit, "{} bytes", request.body.len());
        let spans: Vec<_> = decode(request)
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .map(|span| span.start_time_unix_nano)
            .collect();
        assert_eq!(spans.len(), request.spans);
        starts.extend(spans);
    }
    starts.sort_unstable();
    assert_eq!(starts, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_span_over_the_limit_is_counted_and_the_others_go() {
    let huge =
        Span { attributes: vec![("t".into(), Value::Text("x".repeat(5_000).into()))], ..span(1) };
    let encoded = encode(&batch(vec![span(0), huge.clone(), span(2)]), 2_000);
    assert_eq!((encoded.too_large, encoded.requests.len()), (1, 1));
    assert_eq!(encoded.requests[0].spans, 2);

    let encoded = encode(&batch(vec![huge]), 2_000);
    assert_eq!((encoded.too_large, encoded.requests.len()), (1, 0), "no empty request");
}
