//! What traced programs export themselves, by OTLP over HTTP: which requests carry it, and what
//! spans of requests it holds.
//!
//! Of a body only the beginning may be known: it is read as far as it goes, and what cannot be
//! understood tells nothing. Knows message heads, bytes, and nothing of who sent them.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::exchange::RequestHead;
use crate::trace::context::{SpanId, TraceId};

/// Longest body that a compressed one is unpacked to.
const MAX_UNPACKED: u64 = 256 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// `SPAN_KIND_SERVER`
const SERVER: u64 = 2;

/// A span around a request, as its process' SDK reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSpan {
    /// Its trace.
    pub trace: TraceId,
    /// Its parent, which the request named; `None` for a root.
    pub parent: Option<SpanId>,
}

/// Whether a request carries telemetry to a collector.
pub fn is_export(request: &RequestHead) -> bool {
    if request.method != "POST" {
        return false;
    }
    let path = request.target.split(['?', '#']).next().unwrap_or_default();
    let signals = ["/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles"];
    signals.iter().any(|signal| path.ends_with(signal))
        && request.headers.iter().any(|(name, value)| {
            let media = value.split(';').next().unwrap_or_default().trim();
            name == "content-type"
                && ["application/x-protobuf", "application/json"]
                    .iter()
                    .any(|otlp| media.eq_ignore_ascii_case(otlp))
        })
}

/// The spans around requests that the beginning of an exported body holds.
pub fn server_spans(body: &[u8]) -> Vec<ServerSpan> {
    let body = first_chunk(body);
    if body.starts_with(&GZIP) {
        let mut unpacked = Vec::new();
        // It ends in the middle more often than not; what came before is good.
        let _ = GzDecoder::new(body).take(MAX_UNPACKED).read_to_end(&mut unpacked);
        return spans_of(&unpacked);
    }
    spans_of(body)
}

/// What follows the first line of a chunked body. No other body begins with a digit.
fn first_chunk(body: &[u8]) -> &[u8] {
    if !body.first().is_some_and(u8::is_ascii_hexdigit) {
        return body;
    }
    let line = body.windows(2).position(|end| end == b"\r\n");
    line.map_or(&[], |line| &body[line + 2..])
}

fn spans_of(body: &[u8]) -> Vec<ServerSpan> {
    if body.first() == Some(&b'{') { in_json(body) } else { in_protobuf(body) }
}

/// `ExportTraceServiceRequest`, `ResourceSpans`, `ScopeSpans`, `Span`.
fn in_protobuf(body: &[u8]) -> Vec<ServerSpan> {
    let mut found = Vec::new();
    for resource_spans in Messages::new(body, 1) {
        for scope_spans in Messages::new(resource_spans, 2) {
            found.extend(Messages::new(scope_spans, 2).filter_map(server_span));
        }
    }
    found
}

fn server_span(span: &[u8]) -> Option<ServerSpan> {
    let (mut trace, mut parent, mut kind) = (None, None, 0);
    for field in Fields(span) {
        match field {
            (1, Value::Bytes(bytes)) => trace = bytes.try_into().ok().map(TraceId),
            (4, Value::Bytes(bytes)) => parent = bytes.try_into().ok().map(SpanId),
            (6, Value::Number(number)) => kind = number,
            _ => {}
        }
    }
    trace.filter(|_| kind == SERVER).map(|trace| ServerSpan { trace, parent })
}

/// OTLP's JSON names a span's trace first and has kinds as numbers.
fn in_json(body: &[u8]) -> Vec<ServerSpan> {
    let text = String::from_utf8_lossy(body);
    let compact: String = text.split_ascii_whitespace().collect();
    let spans = compact.split("\"traceId\":\"").skip(1);
    let server_span = |span: &str| {
        let kind = span.split("\"kind\":").nth(1)?;
        let is_server = kind.starts_with('2') || kind.starts_with("\"SPAN_KIND_SERVER\"");
        let trace = TraceId::from_hex(&span.get(..32)?.to_ascii_lowercase())?;
        let parent = span.split("\"parentSpanId\":\"").nth(1);
        let parent = parent.and_then(|it| SpanId::from_hex(&it.get(..16)?.to_ascii_lowercase()));
        is_server.then_some(ServerSpan { trace, parent })
    };
    spans.filter_map(server_span).collect()
}

#[derive(Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message that may be cut off; the last one may be, too.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = varint(&mut self.0)?;
        let len = match tag & 7 {
            0 => return Some((tag >> 3, Value::Number(varint(&mut self.0)?))),
            1 => 8,
            2 => varint(&mut self.0)?,
            5 => 4,
            _ => return None,
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Some((tag >> 3, Value::Bytes(bytes)))
    }
}

/// The messages that a message has under one field number.
struct Messages<'a> {
    fields: Fields<'a>,
    number: u64,
}

impl<'a> Messages<'a> {
    fn new(message: &'a [u8], number: u64) -> Self {
        Self { fields: Fields(message), number }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let number = self.number;
        self.fields.find_map(|field| match field {
            (found, Value::Bytes(bytes)) if found == number => Some(bytes),
            _ => None,
        })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::exchange::HttpVersion;

    fn span(trace: u8, parent: Option<u8>, kind: i32) -> Span {
        Span {
            trace_id: vec![trace; 16],
            span_id: vec![9; 8],
            parent_span_id: parent.map(|byte| vec![byte; 8]).unwrap_or_default(),
            name: "GET /hello".into(),
            kind,
            start_time_unix_nano: 1,
            end_time_unix_nano: 2,
            ..Span::default()
        }
    }

    fn request() -> ExportTraceServiceRequest {
        let scope = |spans| ScopeSpans { spans, ..ScopeSpans::default() };
        let first = scope(vec![span(1, Some(7), 3), span(1, Some(8), 2)]);
        let second = scope(vec![span(2, None, 2), span(3, None, 1)]);
        let resource_spans =
            vec![ResourceSpans { scope_spans: vec![first, second], ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    fn expected() -> [ServerSpan; 2] {
        let of = |trace, parent: Option<u8>| ServerSpan {
            trace: TraceId([trace; 16]),
            parent: parent.map(|byte| SpanId([byte; 8])),
        };
        [of(1, Some(8)), of(2, None)]
    }

    #[test]
    fn server_spans_are_found_in_every_encoding() {
        let protobuf = request().encode_to_vec();
        assert_eq!(server_spans(&protobuf), expected());
        let json = serde_json::to_string_pretty(&request()).expect("serializable");
        assert_eq!(server_spans(json.as_bytes()), expected());
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&protobuf).expect("memory is writable");
        let gzip = gzip.finish().expect("memory is writable");
        assert_eq!(server_spans(&gzip), expected());
        let chunked = [format!("{:x}\r\n", protobuf.len()).as_bytes(), &protobuf].concat();
        assert_eq!(server_spans(&chunked), expected());
    }

    /// What is there is read; no beginning gives more than the whole.
    #[test]
    fn a_body_may_be_cut_anywhere() {
        let protobuf = request().encode_to_vec();
        let found: Vec<usize> =
            (0..=protobuf.len()).map(|len| server_spans(&protobuf[..len]).len()).collect();
        assert!(found.is_sorted());
        assert_eq!(found.last(), Some(&2));
        assert!(found.contains(&1));
    }

    #[test]
    fn exports_are_told_by_method_path_and_kind_of_content() {
        let is = |method: &str, target: &str, kind: &str| {
            is_export(&RequestHead {
                method: method.into(),
                target: target.into(),
                version: HttpVersion::Http11,
                gateway: None,
                headers: vec![("content-type".into(), kind.into())],
            })
        };
        assert!(is("POST", "/v1/traces", "application/x-protobuf"));
        assert!(is("POST", "/base/v1/metrics?x=1", "application/json; charset=utf-8"));
        assert!(is("POST", "http://collector:4318/v1/logs", "Application/X-Protobuf"));
        assert!(!is("GET", "/v1/traces", "application/x-protobuf"));
        assert!(!is("POST", "/v1/traces/7", "application/json"));
        assert!(!is("POST", "/v1/traces", "text/html"));
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = server_spans(&body);
        }
    }
}
