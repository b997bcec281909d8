//! Parents in Go programs, where neither threads nor time tell: each call is made for the request
//! whose goroutine, or whose goroutine's child, waits for it.

use std::collections::HashMap;

use anyhow::Result;
use tracer_tests::service::{self, Nginx};
use tracer_tests::{AgentOptions, Backend, Launcher, Span, Spans, layout, on_each_backend};

const AT_ONCE: usize = 32;
const REQUESTS: usize = 600;

/// The last part of a path, which names the request.
fn tag(span: &Span) -> &str {
    let path = span.attributes.text("url.path").or_else(|| span.attributes.text("url.full"));
    path.unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

/// What a call's path begins with.
fn purpose(span: &Span) -> &str {
    let url = span.attributes.text("url.full").unwrap_or_default();
    url.split('/').nth(3).unwrap_or_default()
}

/// Spans of a run of many requests of these kinds at once.
fn drive(backend: Backend, kinds: &[&str]) -> Result<Spans> {
    let callee = Nginx::new("location / { return 200; }")?.start()?;
    let source = layout::service_source("go_tasks.go");
    let service = service::go(&source, &[("LEAF", &callee.url(""))])?;
    let mut launcher = Launcher::start()?;
    let mut agent = AgentOptions::new(backend).pid(service.pid()).start()?;
    let mut words = vec!["--parallel".to_owned(), "--parallel-immediate".to_owned()];
    words.extend(["--parallel-max".to_owned(), AT_ONCE.to_string()]);
    words.extend((0..REQUESTS).map(|number| {
        let kind = kinds[number % kinds.len()];
        service.url(&format!("/{kind}/{number}"))
    }));
    launcher.curl(words)?;
    agent.wait_for_spans(REQUESTS)?;
    let finished = agent.stop()?;
    assert_eq!(finished.spans.servers().len(), REQUESTS);
    Ok(finished.spans)
}

/// Calls by what they are for: how many there are, how many have their request for a parent, and
/// how many have another one.
fn judge(spans: &Spans) -> HashMap<&str, (usize, usize, usize)> {
    let servers = spans.servers();
    let requests: HashMap<&str, &Span> =
        servers.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut judged = HashMap::new();
    for call in spans.iter().filter(|span| span.kind == tracer_tests::Kind::Client) {
        let (all, right, wrong) = judged.entry(purpose(call)).or_insert((0, 0, 0));
        *all += 1;
        if let Some(parent) = &call.parent_span_id {
            let is_own = requests.get(parent.as_str()).is_some_and(|it| tag(it) == tag(call));
            *if is_own { right } else { wrong } += 1;
            if !is_own {
                eprintln!("wrong: {call:?}");
            }
        }
    }
    judged
}

/// Protects: at any concurrency, calls of a request's own goroutine and of those it waits for have
/// that request for a parent, and calls for no request have none.
#[test]
fn calls_follow_goroutines() -> Result<()> {
    on_each_backend(|backend| {
        let spans = drive(backend, &["tasks"])?;
        let judged = judge(&spans);
        for (purpose, expected) in [("own", REQUESTS), ("child", 2 * REQUESTS)] {
            let (all, right, wrong) = judged[purpose];
            assert_eq!((all, wrong), (expected, 0), "{purpose}: {judged:?}");
            assert!(right * 100 >= all * 99, "{purpose}: {judged:?}");
        }
        let (all, _, wrong) = judged["tick"];
        assert!(all > 0 && wrong == 0, "{judged:?}");
        Ok(())
    })
}

/// Protects: a goroutine that outlives its request is not taken for a later request's, though the
/// goroutine that started it serves that one by then.
#[test]
fn goroutines_that_outlive_their_request_are_not_the_next_ones() -> Result<()> {
    on_each_backend(|backend| {
        let spans = drive(backend, &["notify", "tasks"])?;
        let judged = judge(&spans);
        for purpose in ["own", "child", "late", "tick"] {
            let (all, _, wrong) = judged[purpose];
            assert!(all > 0 && wrong == 0, "{purpose}: {judged:?}");
        }
        let (all, right, _) = judged["own"];
        assert!(right * 100 >= all * 99, "{judged:?}");
        Ok(())
    })
}
