//! Spans as a receiver sees them, out of OTLP JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;

/// `SpanKind` of OTLP, as far as the agent uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `SPAN_KIND_SERVER`
    Server,
    /// `SPAN_KIND_CLIENT`
    Client,
}

/// `Status.code` of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `STATUS_CODE_UNSET`
    Unset,
    /// `STATUS_CODE_OK`
    Ok,
    /// `STATUS_CODE_ERROR`
    Error,
}

/// An attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `stringValue`
    Text(String),
    /// `intValue`
    Int(i64),
    /// `doubleValue`
    Double(f64),
    /// `boolValue`
    Bool(bool),
    /// `arrayValue`
    List(Vec<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Attributes by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(pub BTreeMap<String, Value>);

impl Attributes {
    /// The value of an attribute of any type.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a text attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Lower-case hexadecimal.
    pub trace_id: String,
    /// Lower-case hexadecimal.
    pub span_id: String,
    /// Why it is linked.
    pub attributes: Attributes,
}

/// One span with its resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Lower-case hexadecimal, 32 digits.
    pub trace_id: String,
    /// Lower-case hexadecimal, 16 digits.
    pub span_id: String,
    /// Lower-case hexadecimal, 16 digits; `None` for a root.
    pub parent_span_id: Option<String>,
    /// W3C trace state, empty when there is none.
    pub trace_state: String,
    /// OTLP flags: W3C flags in the low byte, then the is-remote bits. Zero where a receiver does
    /// not show them.
    pub flags: u32,
    /// Name.
    pub name: String,
    /// Server or client.
    pub kind: Kind,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// Status code.
    pub status: Status,
    /// Attributes.
    pub attributes: Attributes,
    /// Attributes of its resource.
    pub resource: Attributes,
    /// Name of its instrumentation scope.
    pub scope: String,
    /// Links.
    pub links: Vec<Link>,
}

impl Span {
    /// `service.name` of its resource.
    pub fn service(&self) -> &str {
        self.resource.text("service.name").unwrap_or_default()
    }

    /// `process.pid` of its resource.
    pub fn pid(&self) -> Option<u32> {
        self.resource.int("process.pid").and_then(|pid| pid.try_into().ok())
    }

    /// A span attribute of any type.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.value(name)
    }

    /// `http.response.status_code`.
    pub fn http_status(&self) -> Option<i64> {
        self.attributes.int("http.response.status_code")
    }
}

/// Some spans, in the order they were exported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// Parses OTLP JSON lines: one `ExportTraceServiceRequest` a line. A last line without its
    /// newline is still being written and left out.
    pub fn from_otlp_json_lines(text: &str) -> Result<Self> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut spans = Vec::new();
        for line in complete.lines().filter(|line| !line.trim().is_empty()) {
            let request: Json =
                serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            append(&mut spans, &request).with_context(|| format!("not OTLP: {line}"))?;
        }
        // In the order they ended, whenever their place in a trace was settled.
        spans.sort_by_key(|span| span.end);
        Ok(Self(spans))
    }

    /// Visits all spans of a file of OTLP JSON lines, however large.
    pub fn each_in_file(file: &Path, mut visit: impl FnMut(Span) -> Result<()>) -> Result<()> {
        let input = File::open(file).with_context(|| file.display().to_string())?;
        let mut spans = Vec::new();
        for line in BufReader::new(input).lines() {
            let request: Json = serde_json::from_str(&line?)?;
            append(&mut spans, &request)?;
            spans.drain(..).try_for_each(&mut visit)?;
        }
        Ok(())
    }

    /// Those for which `keep` holds.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Span) -> bool) -> Self {
        self.0.iter().filter(|span| keep(span)).cloned().collect()
    }

    /// Server spans.
    #[must_use]
    pub fn servers(&self) -> Self {
        self.filter(|span| span.kind == Kind::Server)
    }

    /// Client spans.
    #[must_use]
    pub fn clients(&self) -> Self {
        self.filter(|span| span.kind == Kind::Client)
    }

    /// Those of one service.
    #[must_use]
    pub fn of_service(&self, name: &str) -> Self {
        self.filter(|span| span.service() == name)
    }

    /// Those of one process.
    #[must_use]
    pub fn of_pid(&self, pid: u32) -> Self {
        self.filter(|span| span.pid() == Some(pid))
    }

    /// Those of one trace.
    #[must_use]
    pub fn of_trace(&self, trace_id: &str) -> Self {
        self.filter(|span| span.trace_id == trace_id)
    }

    /// Those whose attribute has this value.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.filter(|span| span.attribute(name) == Some(&value))
    }

    /// Distinct ports at the other end. For server spans: as many as there were connections.
    pub fn peer_ports(&self) -> BTreeSet<Option<i64>> {
        self.0.iter().map(|span| span.attributes.int("network.peer.port")).collect()
    }

    /// In the order in which they started. The order of export is another one: of what happens on
    /// two processors, neither need be told first.
    #[must_use]
    pub fn by_start(mut self) -> Self {
        self.0.sort_by_key(|span| span.start);
        self
    }

    /// The only one there is; fails, showing all, when there are more or none.
    pub fn only(&self) -> Result<&Span> {
        match self.0.as_slice() {
            [span] => Ok(span),
            spans => bail!("expected one span, found {}:\n{self}", spans.len()),
        }
    }
}

impl Deref for Spans {
    type Target = [Span];

    fn deref(&self) -> &[Span] {
        &self.0
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        Self(spans.into_iter().collect())
    }
}

/// A line a span, for failure messages.
impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for span in &self.0 {
            writeln!(
                f,
                "{} {} < {} {:?} {:?} {} status={:?} {:?}",
                span.trace_id,
                span.span_id,
                span.parent_span_id.as_deref().unwrap_or("-"),
                span.kind,
                span.service(),
                span.name,
                span.http_status(),
                span.attributes.0
            )?;
        }
        Ok(())
    }
}

fn append(spans: &mut Vec<Span>, request: &Json) -> Result<()> {
    for group in list(request, "resourceSpans") {
        let resource = attributes(&group["resource"])?;
        for scoped in list(group, "scopeSpans") {
            let scope = text(&scoped["scope"], "name");
            for json in list(scoped, "spans") {
                spans.push(span(json, &resource, &scope)?);
            }
        }
    }
    Ok(())
}

fn span(json: &Json, resource: &Attributes, scope: &str) -> Result<Span> {
    let links = list(json, "links").iter().map(|link| {
        Ok(Link {
            trace_id: text(link, "traceId"),
            span_id: text(link, "spanId"),
            attributes: attributes(link)?,
        })
    });
    Ok(Span {
        trace_id: id(json, "traceId", 32)?,
        span_id: id(json, "spanId", 16)?,
        parent_span_id: match text(json, "parentSpanId") {
            parent if parent.is_empty() => None,
            _ => Some(id(json, "parentSpanId", 16)?),
        },
        trace_state: text(json, "traceState"),
        flags: number(&json["flags"]).unwrap_or_default().try_into()?,
        name: text(json, "name"),
        kind: kind(&json["kind"])?,
        start: number(&json["startTimeUnixNano"]).context("no startTimeUnixNano")?.try_into()?,
        end: number(&json["endTimeUnixNano"]).context("no endTimeUnixNano")?.try_into()?,
        status: status(&json["status"]["code"])?,
        attributes: attributes(json)?,
        resource: resource.clone(),
        scope: scope.to_owned(),
        links: links.collect::<Result<_>>()?,
    })
}

fn kind(json: &Json) -> Result<Kind> {
    match json {
        Json::Number(number) if number.as_u64() == Some(2) => Ok(Kind::Server),
        Json::Number(number) if number.as_u64() == Some(3) => Ok(Kind::Client),
        other => bail!("kind {other} is neither server (2) nor client (3)"),
    }
}

fn status(json: &Json) -> Result<Status> {
    match json {
        Json::Null => Ok(Status::Unset),
        Json::Number(number) if number.as_u64() == Some(0) => Ok(Status::Unset),
        Json::Number(number) if number.as_u64() == Some(1) => Ok(Status::Ok),
        Json::Number(number) if number.as_u64() == Some(2) => Ok(Status::Error),
        other => bail!("unknown status code {other}"),
    }
}

fn attributes(owner: &Json) -> Result<Attributes> {
    let mut attributes = BTreeMap::new();
    for entry in list(owner, "attributes") {
        let name = text(entry, "key");
        let parsed = value(&entry["value"]).with_context(|| format!("attribute {name}"))?;
        ensure!(attributes.insert(name, parsed).is_none(), "attribute {} twice", entry["key"]);
    }
    Ok(Attributes(attributes))
}

fn value(json: &Json) -> Result<Value> {
    let (tag, inner) =
        json.as_object().and_then(|object| object.iter().next()).context("an empty value")?;
    Ok(match tag.as_str() {
        "stringValue" => Value::Text(inner.as_str().context("not text")?.to_owned()),
        "intValue" => Value::Int(number(inner).context("not an integer")?),
        "doubleValue" => Value::Double(inner.as_f64().context("not a number")?),
        "boolValue" => Value::Bool(inner.as_bool().context("not a boolean")?),
        "arrayValue" => {
            Value::List(list(inner, "values").iter().map(value).collect::<Result<_>>()?)
        }
        other => bail!("unknown value type {other}"),
    })
}

/// 64-bit integers are text in OTLP JSON, and numbers are accepted.
fn number(json: &Json) -> Option<i64> {
    match json {
        Json::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

fn id(json: &Json, field: &str, digits: usize) -> Result<String> {
    let id = text(json, field);
    let hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    ensure!(hexadecimal && id.len() == digits, "{field} is not {digits} digits: {id:?}");
    Ok(id)
}

fn text(json: &Json, field: &str) -> String {
    json[field].as_str().unwrap_or_default().to_owned()
}

fn list<'a>(json: &'a Json, field: &str) -> &'a [Json] {
    json[field].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","#,
        r#""value":{"stringValue":"shop"}},{"key":"process.pid","value":{"intValue":"42"}}]},"#,
        r#""scopeSpans":[{"scope":{"name":"tracer"},"spans":[{"traceId":"#,
        r#""0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"","#,
        r#""flags":257,"name":"GET","kind":2,"startTimeUnixNano":"1700000000000000001","#,
        r#""endTimeUnixNano":"1700000000000000009","attributes":[{"key":"#,
        r#""http.response.status_code","value":{"intValue":200}},{"key":"tags","value":"#,
        r#"{"arrayValue":{"values":[{"stringValue":"a"},{"boolValue":true}]}}}],"#,
        r#""status":{"code":2}}]}]}]}"#
    );

    #[test]
    fn reads_a_request() {
        let spans = Spans::from_otlp_json_lines(&format!("{LINE}\n")).unwrap();
        let span = spans.only().unwrap();
        assert_eq!(span.service(), "shop");
        assert_eq!(span.pid(), Some(42));
        assert_eq!(span.kind, Kind::Server);
        assert_eq!(span.status, Status::Error);
        assert_eq!(span.parent_span_id, None);
        assert_eq!(span.end - span.start, 8);
        assert_eq!(span.http_status(), Some(200));
        assert_eq!(
            span.attribute("tags"),
            Some(&Value::List(vec![Value::from("a"), Value::from(true)]))
        );
        assert_eq!(spans.with("http.response.status_code", 200).len(), 1);
        assert_eq!(spans.with("http.response.status_code", 404).len(), 0);
        assert_eq!(spans.clients().len(), 0);
    }

    #[test]
    fn leaves_out_a_line_that_is_still_being_written() {
        let text = format!("{LINE}\n{}", &LINE[..100]);
        assert_eq!(Spans::from_otlp_json_lines(&text).unwrap().len(), 1);
        assert_eq!(Spans::from_otlp_json_lines(LINE).unwrap().len(), 0);
    }

    #[test]
    fn refuses_what_no_receiver_would_take() {
        for broken in [
            LINE.replace("b7ad6b7169203331", "B7AD6B7169203331"),
            LINE.replace(r#""kind":2"#, r#""kind":9"#),
            LINE.replace("process.pid", "service.name"),
            LINE.replace("intValue\":\"42", "intValue\":\"x"),
            "{".to_owned(),
        ] {
            Spans::from_otlp_json_lines(&format!("{broken}\n")).unwrap_err();
        }
    }
}
