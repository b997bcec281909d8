//! An OTLP receiver we did not write: the `rotel` collector, which prints what it receives.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::layout;
use crate::port;
use crate::process::Process;
use crate::span::{Attributes, Kind, Link, Span, Spans, Status, Value};

/// It keeps nothing of what it took.
const BLACKHOLE: [&str; 2] = ["--exporter", "blackhole"];

/// A running collector.
pub struct Rotel {
    process: Process,
    grpc: u16,
    http: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Rotel {
    /// Prints every span, for [`Rotel::spans`].
    pub fn start() -> Result<Self> {
        Self::start_at(port::free()?, port::free()?)
    }

    /// [`Rotel::start`] at ports that somebody sends to already.
    pub fn start_at(grpc: u16, http: u16) -> Result<Self> {
        let printed = ["--debug-log", "traces", "--debug-log-verbosity", "detailed"];
        Self::launch(grpc, http, &[&BLACKHOLE[..], &printed].concat())
    }

    /// Takes spans and forgets them, for benchmarks.
    pub fn blackhole() -> Result<Self> {
        Self::launch(port::free()?, port::free()?, &BLACKHOLE)
    }

    /// Passes spans on to another receiver, by OTLP over HTTP; for benchmarks.
    pub fn forwarding(endpoint: &str) -> Result<Self> {
        let exporter = [
            "--exporter",
            "otlp",
            "--otlp-exporter-protocol",
            "http",
            "--otlp-exporter-compression",
            "none",
            "--otlp-exporter-endpoint",
            endpoint,
        ];
        Self::launch(port::free()?, port::free()?, &exporter)
    }

    fn launch(grpc: u16, http: u16, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tracer-rotel-").tempdir()?;
        let mut command = Command::new(layout::rotel()?);
        command
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(arguments);
        let log = directory.path().join("log");
        let mut process = Process::start("rotel", &command, &log)?;
        process.wait_until("rotel to listen", |_| {
            let open = [grpc, http].iter().all(|port| port::is_open(port::loopback(*port)));
            Ok(open.then_some(()))
        })?;
        Ok(Self { process, grpc, http, log, _directory: directory })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Endpoint for OTLP over gRPC.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// Base endpoint for OTLP over HTTP, without `/v1/traces`.
    pub fn http_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Spans received so far.
    pub fn spans(&self) -> Result<Spans> {
        parse(&fs::read_to_string(&self.log)?)
    }

    /// Waits until at least `count` spans were received, and gives all there are then.
    pub fn wait_for_spans(&mut self, count: usize) -> Result<Spans> {
        let log = self.log.clone();
        self.process.wait_until(&format!("{count} spans at rotel"), |_| {
            // A report may be cut in the middle while it is written; the next look sees it whole.
            let spans = parse(&fs::read_to_string(&log)?).ok();
            Ok(spans.filter(|spans| spans.len() >= count))
        })
    }
}

/// What an attribute line belongs to.
#[derive(Clone, Copy)]
enum Owner {
    Resource,
    Span,
    Link,
    /// Span events, which the agent does not make.
    Other,
}

/// Reads the collector's detailed debug output, a text report meant for people.
fn parse(report: &str) -> Result<Spans> {
    let mut spans: Vec<Span> = Vec::new();
    let mut resource = Attributes::default();
    let mut scope = String::new();
    let mut owner = Owner::Other;
    for line in report.lines() {
        let trimmed = line.trim_start();
        if let Some(attribute) = trimmed.strip_prefix("-> ") {
            let attributes = match (owner, spans.last_mut()) {
                (Owner::Resource, _) => &mut resource,
                (Owner::Span, Some(span)) => &mut span.attributes,
                (Owner::Link, Some(span)) => match span.links.last_mut() {
                    Some(link) => link_line(link, attribute),
                    None => continue,
                },
                _ => continue,
            };
            if let Some((name, value)) = attribute_line(attribute) {
                attributes.0.insert(name, value);
            }
        } else if trimmed.starts_with("ResourceSpans #") {
            resource = Attributes::default();
            scope.clear();
        } else if trimmed.starts_with("Resource attributes:") {
            owner = Owner::Resource;
        } else if let Some(name) = trimmed.strip_prefix("InstrumentationScope ") {
            name.split(' ').next().unwrap_or_default().clone_into(&mut scope);
        } else if trimmed.starts_with("Span #") {
            spans.push(blank(&resource, &scope));
            owner = Owner::Span;
        } else if trimmed.starts_with("SpanLink #") {
            owner = Owner::Link;
            if let Some(span) = spans.last_mut() {
                span.links.push(Link {
                    trace_id: String::new(),
                    span_id: String::new(),
                    attributes: Attributes::default(),
                });
            }
        } else if trimmed.starts_with("SpanEvent #") {
            owner = Owner::Other;
        } else if let (Owner::Span, Some(span)) = (owner, spans.last_mut()) {
            field(span, trimmed).with_context(|| format!("in rotel's line {line:?}"))?;
        }
    }
    Ok(spans.into_iter().collect())
}

fn blank(resource: &Attributes, scope: &str) -> Span {
    Span {
        trace_id: String::new(),
        span_id: String::new(),
        parent_span_id: None,
        trace_state: String::new(),
        flags: 0,
        name: String::new(),
        kind: Kind::Server,
        start: 0,
        end: 0,
        status: Status::Unset,
        attributes: Attributes::default(),
        resource: resource.clone(),
        scope: scope.to_owned(),
        links: Vec::new(),
    }
}

/// A line such as `Trace ID       : 8b05…` of a span.
fn field(span: &mut Span, line: &str) -> Result<()> {
    let Some((name, value)) = line.split_once(':') else { return Ok(()) };
    let value = value.trim();
    match name.trim() {
        "Trace ID" => value.clone_into(&mut span.trace_id),
        "ID" => value.clone_into(&mut span.span_id),
        "Parent ID" => span.parent_span_id = (!value.is_empty()).then(|| value.to_owned()),
        "Name" => value.clone_into(&mut span.name),
        "TraceState" | "Trace State" => value.clone_into(&mut span.trace_state),
        "Kind" => {
            span.kind = match value {
                "SPAN_KIND_SERVER" => Kind::Server,
                "SPAN_KIND_CLIENT" => Kind::Client,
                other => anyhow::bail!("unexpected kind {other}"),
            }
        }
        "Start time" => span.start = value.parse()?,
        "End time" => span.end = value.parse()?,
        "Status code" => {
            span.status = match value {
                "STATUS_CODE_UNSET" => Status::Unset,
                "STATUS_CODE_OK" => Status::Ok,
                "STATUS_CODE_ERROR" => Status::Error,
                other => anyhow::bail!("unexpected status {other}"),
            }
        }
        _ => {}
    }
    Ok(())
}

/// Takes the id lines of a link, and says where its attributes go.
fn link_line<'a>(link: &'a mut Link, line: &str) -> &'a mut Attributes {
    if let Some(id) = line.strip_prefix("Trace ID: ") {
        id.clone_into(&mut link.trace_id);
    } else if let Some(id) = line.strip_prefix("ID: ") {
        id.clone_into(&mut link.span_id);
    }
    &mut link.attributes
}

/// `name: Type(value)`; `None` for lines that are not attributes.
fn attribute_line(line: &str) -> Option<(String, Value)> {
    let (name, typed) = line.split_once(": ")?;
    Some((name.to_owned(), typed_value(typed)?))
}

fn typed_value(typed: &str) -> Option<Value> {
    let (kind, rest) = typed.split_once('(')?;
    let inner = rest.strip_suffix(')')?;
    match kind {
        "Str" => Some(Value::Text(inner.to_owned())),
        "Int" => inner.parse().ok().map(Value::Int),
        "Double" => inner.parse().ok().map(Value::Double),
        "Bool" => inner.parse().ok().map(Value::Bool),
        // Good for lists whose texts hold no `), `, which is all the agent exports.
        "Slice" => {
            let mut items = Vec::new();
            for item in inner.split("), ").filter(|item| !item.is_empty()) {
                items.push(typed_value(&format!("{})", item.trim_end_matches(')')))?);
            }
            Some(Value::List(items))
        }
        _ => None,
    }
}

/// Received spans by service, for messages and quick checks.
impl Rotel {
    /// How many spans each service sent.
    pub fn counts(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for span in self.spans()?.iter() {
            *counts.entry(span.service().to_owned()).or_default() += 1;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
INFO Starting Rotel.
ResourceSpans #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(shop)
ScopeSpans #0
ScopeSpans SchemaURL: 
InstrumentationScope tracer 0.1.0
Span #0
    Trace ID       : 8b056451d0eb67eddc7f661c40a75bfa
    Parent ID      : c212b11c1d11a5c7
    ID             : d423c3f774ee39a6
    Name           : GET /a: b
    Kind           : SPAN_KIND_CLIENT
Start time: 1795257391148618297
End time: 1795257391148675815
    Status code    : STATUS_CODE_ERROR
    Status message : 
Attributes:
     -> http.response.status_code: Int(502)
     -> url.full: Str(http://h/a?q=(1))
     -> tags: Slice(Str(a), Bool(true))
Links:
SpanLink #0
     -> Trace ID: 11111111111111111111111111111111
     -> ID: 2222222222222222
     -> TraceState: 
     -> DroppedAttributesCount: 0
     -> Attributes::
          -> why: Str(retry)
Span #1
    Trace ID       : 8b056451d0eb67eddc7f661c40a75bfa
    Parent ID      : 
    ID             : c212b11c1d11a5c7
    Name           : GET
    Kind           : SPAN_KIND_SERVER
";

    #[test]
    fn reads_a_report() {
        let spans = parse(REPORT).unwrap();
        assert_eq!(spans.len(), 2);
        let client = spans.clients();
        let client = client.only().unwrap();
        assert_eq!(client.name, "GET /a: b");
        assert_eq!(client.parent_span_id.as_deref(), Some("c212b11c1d11a5c7"));
        assert_eq!(client.attributes.text("url.full"), Some("http://h/a?q=(1)"));
        assert_eq!(
            client.attribute("tags"),
            Some(&Value::List(vec![Value::from("a"), Value::from(true)]))
        );
        assert_eq!(client.status, Status::Error);
        assert_eq!(client.links[0].span_id, "2222222222222222");
        assert_eq!(client.links[0].attributes.text("why"), Some("retry"));
        let server = spans.servers();
        assert_eq!(server.only().unwrap().parent_span_id, None);
        assert_eq!(server.only().unwrap().service(), "shop");
    }
}
