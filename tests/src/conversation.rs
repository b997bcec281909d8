//! Conversations between two scripted peers, and the spans that must come of them: the table form
//! of every wire-level family (`tests/framing.rs` and its neighbours).
//!
//! A span is compared by its [`summaries`] line, which tells a wrong exchange from a right one at a
//! glance; all attributes of ordinary exchanges are [`Expected`](crate::Expected)'s business.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::launcher::Launcher;
use crate::message::{HEAD, ok};
use crate::on_each_backend;
use crate::span::{Kind, Span, Spans};
use crate::wire::{Step, end, play, send, until};

/// What two peers do on one connection, and the spans it must give.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use tracer_tests::conversation::{Conversation, check};
/// use tracer_tests::message::{HEAD, get, ok};
/// use tracer_tests::wire::{end, send, until};
///
/// check(&[Conversation {
///     host: "whole.test",
///     server: vec![until(HEAD), send(ok("hello")), end()],
///     client: vec![send(get("/", "whole.test")), until("hello")],
///     spans: &["server GET / 200", "client GET / 200"],
/// }])
/// # }
/// ```
pub struct Conversation {
    /// Host name in every request; it tells the conversations of one run apart.
    pub host: &'static str,
    /// What the peer that was connected to does.
    pub server: Vec<Step>,
    /// What the peer that connects does.
    pub client: Vec<Step>,
    /// A line a span, as [`summaries`] writes them, in any order.
    pub spans: &'static [&'static str],
}

/// Plays all conversations under one agent, on each backend. Fails unless each gave its spans, there
/// is no span besides, and nothing was lost.
pub fn check(conversations: &[Conversation]) -> Result<()> {
    on_each_backend(|backend| {
        let (mut launcher, mut agent) = Launcher::start_traced(backend)?;
        for Conversation { host, server, client, .. } in conversations {
            play(&mut launcher, server, client).context(*host)?;
        }
        let count = conversations.iter().map(|conversation| conversation.spans.len()).sum();
        // Spans that do not come are told below, conversation by conversation.
        let waited = agent.wait_for_spans(count);
        let finished = agent.stop()?;
        for Conversation { host, spans: expected, .. } in conversations {
            let found = finished.spans.with("server.address", *host);
            assert_eq!(summaries(&found), sorted(expected), "{host}: {}", finished.report.json);
        }
        waited?;
        assert_eq!(finished.spans.len(), count, "others too:\n{}", finished.spans);
        finished.report.assert_nothing_lost();
        Ok(())
    })
}

/// Plays one request, given as its head, that is answered with an empty `200 OK`.
pub fn exchange(launcher: &mut Launcher, request: &str) -> Result<()> {
    play(launcher, &[until(HEAD), send(ok("")), end()], &[send(request), until(HEAD)])
}

/// Fails unless these are the spans, by their [`summaries`], in any order.
#[track_caller]
pub fn assert_summaries(spans: &Spans, expected: &[&str]) {
    assert_eq!(summaries(spans), sorted(expected), "of:\n{spans}");
}

/// A line a span, sorted: kind, method, path, status code or `-`, and the error if there is one.
/// `server GET /path 200`, `client GET / - connection_reset`.
pub fn summaries(spans: &Spans) -> Vec<String> {
    let mut lines: Vec<String> = spans.iter().map(summary).collect();
    lines.sort();
    lines
}

fn summary(span: &Span) -> String {
    let kind = match span.kind {
        Kind::Server => "server",
        Kind::Client => "client",
    };
    let attribute = |name| span.attributes.text(name);
    let url = attribute("url.full").and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
    let path = attribute("url.path")
        .or_else(|| url.map(|rest| rest.find('/').map_or("", |slash| &rest[slash..])))
        .map(|path| path.split_once('?').map_or(path, |(path, _)| path));
    let mut text = format!(
        "{kind} {} {}",
        attribute("http.request.method").unwrap_or("?"),
        path.unwrap_or("")
    );
    match span.http_status() {
        Some(status) => write!(text, " {status}"),
        None => write!(text, " -"),
    }
    .expect("writing to a `String` does not fail");
    if let Some(error) = attribute("error.type") {
        text.extend([" ", error]);
    }
    text
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans() -> Spans {
        let server = r#"{"kind":2,"attributes":[
            {"key":"http.request.method","value":{"stringValue":"GET"}},
            {"key":"url.path","value":{"stringValue":"/a"}},
            {"key":"http.response.status_code","value":{"intValue":"200"}}]"#;
        let client = r#"{"kind":3,"attributes":[
            {"key":"http.request.method","value":{"stringValue":"GET"}},
            {"key":"url.full","value":{"stringValue":"http://a.test/a?b=c"}},
            {"key":"error.type","value":{"stringValue":"aborted"}}]"#;
        let rest = r#","traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",
            "name":"GET","startTimeUnixNano":"1","endTimeUnixNano":"2"}"#;
        let line = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{server}{rest},{client}{rest}]}}]}}]}}"#
        );
        Spans::from_otlp_json_lines(&(line.replace('\n', "") + "\n")).unwrap()
    }

    #[test]
    fn a_summary_tells_path_status_and_error_of_either_kind() {
        assert_eq!(summaries(&spans()), ["client GET /a - aborted", "server GET /a 200"]);
    }

    #[test]
    fn order_does_not_matter() {
        assert_summaries(&spans(), &["server GET /a 200", "client GET /a - aborted"]);
    }

    #[test]
    #[should_panic(expected = "left: [\"client GET /a - aborted\", \"server GET /a 200\"]")]
    fn another_status_is_told() {
        assert_summaries(&spans(), &["client GET /a - aborted", "server GET /a 500"]);
    }
}
