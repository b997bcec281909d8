//! OTLP JSON lines: each batch is one `ExportTraceServiceRequest` on a line of its own.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::blocking::deliver;
use super::choice::FileTarget;
use super::log_limit::LogLimit;
use super::queue::{Batch, Queue};
use super::wire;

/// Writes the spans of one queue to one file or stream.
pub(super) struct FileExporter {
    output: Box<dyn Write + Send>,
}

impl FileExporter {
    /// Opens the target, creating a file or appending to it.
    pub(super) fn open(target: &FileTarget) -> io::Result<Self> {
        Ok(Self {
            output: match target {
                FileTarget::Stdout => Box::new(io::stdout()),
                FileTarget::Path(path) => {
                    Box::new(OpenOptions::new().append(true).create(true).open(path)?)
                }
            },
        })
    }

    /// Runs until the queue is closed and written.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        let failures = LogLimit::default();
        while let Some(batch) = queue.next().await {
            let spans = batch.len();
            let write = move |this: &mut Self| this.write(&batch);
            let Some(this) = deliver(self, spans, queue.ledger(), &failures, write).await else {
                return;
            };
            self = this;
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.output.write_all(&line(batch)?)?;
        self.output.flush()
    }
}

/// A batch as one line, which goes out in one write so that readers see whole lines.
fn line(batch: &Batch) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for request in wire::encode(batch, usize::MAX).requests {
        // Through the wire form, so that there is one mapping from spans to OTLP, not two.
        let request = ExportTraceServiceRequest::decode(request.body).map_err(io::Error::other)?;
        serde_json::to_writer(&mut line, &request)?;
        line.push(b'\n');
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::export::fixtures::{batch, resource, span, spans};
    use crate::trace::context::{SpanId, TraceFlags, TraceId};
    use crate::trace::semconv::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
    use crate::trace::{Span, SpanKind, Status, Value};

    #[test]
    fn a_line_is_an_otlp_json_request() {
        let full = Span {
            trace: TraceId([0xab; 16]),
            id: SpanId([0xcd; 8]),
            parent: Some(SpanId([0xef; 8])),
            parent_is_remote: true,
            flags: TraceFlags(3),
            kind: SpanKind::Client,
            status: Status::Error,
            attributes: vec![
                ("n".into(), Value::Int(404)),
                ("l".into(), Value::TextList(vec!["x".into()])),
            ],
            resource: resource(1, "shop"),
            ..span(1_700_000_000_000_000_001)
        };
        let line = line(&batch(vec![full])).unwrap();
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        let mut json: Json = serde_json::from_slice(&line).unwrap();
        let resource_spans = json["resourceSpans"][0].take();
        assert_eq!(resource_spans["schemaUrl"], SCHEMA_URL);
        assert_eq!(
            resource_spans["resource"]["attributes"],
            json!([{"key": "service.name", "value": {"stringValue": "shop"}}])
        );
        let scope_spans = &resource_spans["scopeSpans"][0];
        assert_eq!(scope_spans["scope"]["name"], SCOPE_NAME);
        assert_eq!(scope_spans["scope"]["version"], SCOPE_VERSION);
        let span = &scope_spans["spans"][0];
        for (name, expected) in [
            ("traceId", json!("ab".repeat(16))),
            ("spanId", json!("cd".repeat(8))),
            ("parentSpanId", json!("ef".repeat(8))),
            ("flags", json!(0x303)),
            ("kind", json!(3)),
            ("startTimeUnixNano", json!("1700000000000000001")),
            ("endTimeUnixNano", json!("1700000000000000002")),
            ("status", json!({"code": 2, "message": ""})),
            (
                "attributes",
                json!([
                    {"key": "n", "value": {"intValue": "404"}},
                    {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
                ]),
            ),
        ] {
            assert_eq!(span[name], expected, "{name}");
        }
        assert!(!String::from_utf8(line).unwrap().contains("null"));
    }

    #[test]
    fn files_are_appended_to_and_flushed_batch_by_batch() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spans.jsonl");
        for starts in [0..2, 2..3] {
            let mut exporter = FileExporter::open(&FileTarget::Path(path.clone())).unwrap();
            exporter.write(&batch(spans(starts))).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let counts: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap())
            .map(|request| request.resource_spans[0].scope_spans[0].spans.len())
            .collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn a_full_disk_is_an_error_not_a_panic() {
        let full = FileTarget::Path("/dev/full".into());
        let mut exporter = FileExporter::open(&full).unwrap();
        assert!(exporter.write(&batch(spans(0..1))).is_err());
        assert!(FileExporter::open(&FileTarget::Path("/nonexistent/x".into())).is_err());
    }
}
