//! Requests through programs that nobody instrumented come out as one tree each, one request at a
//! time and 32 at once.
//!
//! Every request carries a tag in its query, and so does every call that it causes: the agent does
//! not look at it, the tests do.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context, Result, ensure};
use tracer_tests::http::calling;
use tracer_tests::service::{self, Gunicorn, Nginx};
use tracer_tests::{
    AgentOptions, Backend, Kind, Namespace, Service, Span, Spans, assert_chains, http, layout,
    on_each_backend,
};

/// Requests at once, and how many of them in all.
const LOADS: [(usize, usize); 2] = [(1, 20), (32, 192)];
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e";

/// The agent does not know it, and it has no character that needs escaping.
fn tag(number: usize) -> String {
    format!("tag-{number}-")
}

/// The tag in what a span says of its URL.
fn tag_of(span: &Span) -> Option<&str> {
    let url = span.attributes.text("url.full").or_else(|| span.attributes.text("url.query"))?;
    let start = url.find("tag-")?;
    let digits = url[start + "tag-".len()..].find('-')?;
    Some(&url[start..=start + "tag-".len() + digits])
}

/// Sends `GET path(number)` for each number, `at_once` at a time.
fn drive(
    service: &Service,
    (at_once, count): (usize, usize),
    path: impl Fn(usize) -> String + Sync,
    headers: impl Fn(usize) -> Vec<(&'static str, String)> + Sync,
) -> Result<()> {
    let send = |number: usize| -> Result<()> {
        let headers = headers(number);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = http::get(service.address(), &path(number), &headers)?;
        ensure!(answer.status == 200, "request {number} was answered {answer:?}");
        Ok(())
    };
    thread::scope(|scope| {
        let worker = |first| move || (first..count).step_by(at_once).try_for_each(send);
        let workers: Vec<_> = (0..at_once).map(|first| scope.spawn(worker(first))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic above"))
    })
}

fn by_tag(spans: &Spans) -> BTreeMap<&str, Vec<&Span>> {
    let mut requests: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans.iter() {
        requests.entry(tag_of(span).expect("every URL has a tag")).or_default().push(span);
    }
    requests
}

/// Services of a chain, each of which serves, and calls the next one; the last one serves only.
fn chain<'a>(services: &[&'a str]) -> Vec<(&'a str, Kind)> {
    let calls = services.iter().flat_map(|name| [(*name, Kind::Server), (*name, Kind::Client)]);
    calls.take(2 * services.len() - 1).collect()
}

fn trace(backend: Backend, services: &[&Service]) -> AgentOptions {
    let options = AgentOptions::new(backend);
    services.iter().fold(options, |options, service| options.pid(service.pid()))
}

fn no_headers(_: usize) -> Vec<(&'static str, String)> {
    Vec::new()
}

/// Protects: through threads, an event loop, goroutines and a proxy, each request is one tree.
#[test]
fn a_chain_of_services_is_one_tree() -> Result<()> {
    on_each_backend(|backend| {
        let flask = Gunicorn::default().threads(32).start()?;
        let node = service::node(&layout::service_source("node_server.cjs"))?;
        let go = service::go(&layout::service_source("go_server.go"), &[])?;
        let last = Gunicorn::default().workers(2).start()?;
        let proxy = Nginx::new(&format!("location / {{ proxy_pass http://{}; }}", last.address()))?;
        let proxy = proxy.start()?;
        for load in LOADS {
            let links = chain(&["flask_app", "node_server", "go_server", "nginx", "flask_app"]);
            let agent = trace(backend, &[&flask, &node, &go, &proxy, &last]).start()?;
            let path = |number| {
                let hello = proxy.url(&format!("/hello?{}", tag(number)));
                calling(&node.url(&calling(&go.url(&calling(&hello)))))
            };
            drive(&flask, load, path, no_headers)?;
            let spans = agent.finish(load.1 * links.len())?;
            assert_chains(&by_tag(&spans), load.1, &links);
        }
        Ok(())
    })
}

/// Protects: a service that calls itself has both ends of each call, in the right order.
#[test]
fn a_service_that_calls_itself_is_one_tree() -> Result<()> {
    on_each_backend(|backend| {
        let flask = Gunicorn::default().threads(100).start()?;
        for load in LOADS {
            let links = chain(&["flask_app"; 3]);
            let agent = trace(backend, &[&flask]).start()?;
            let path = |number| {
                let hello = flask.url(&format!("/hello?{}", tag(number)));
                calling(&flask.url(&calling(&hello)))
            };
            drive(&flask, load, path, no_headers)?;
            let spans = agent.finish(load.1 * links.len())?;
            assert_chains(&by_tag(&spans), load.1, &links);
        }
        Ok(())
    })
}

/// Protects: what is called after the answer was sent is no child of the request, whatever else
/// the service is doing at the time.
#[test]
fn calls_after_the_answer_are_no_children() -> Result<()> {
    let starts: [fn() -> Result<Service>; 2] = [
        || service::node(&layout::service_source("late_server.cjs")),
        || service::python(&layout::service_source("late_server.py"), &[]),
    ];
    on_each_backend(|backend| {
        for (start, load) in starts.iter().flat_map(|start| LOADS.map(|load| (start, load))) {
            let service = start()?;
            let leaf = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
            let path = |number| {
                let url = leaf.url(&format!("/hello?{}", tag(number)));
                calling(&url).replacen("/call", "/late", 1)
            };
            // A program that runs for the first time reads files in between, which parts a
            // callback.
            drive(&service, load, path, no_headers)?;
            let agent = trace(backend, &[&service]).start()?;
            drive(&service, load, path, no_headers)?;
            let spans = agent.finish(load.1 * 5)?;
            let requests = by_tag(&spans);
            assert_eq!(requests.len(), load.1);
            for (tag, spans) in requests {
                let served = spans.iter().find(|span| span.kind == Kind::Server).context("none")?;
                assert_eq!(spans.len(), 5, "{tag}");
                for call in spans.iter().filter(|span| span.kind == Kind::Client) {
                    let url = call.attributes.text("url.full").unwrap_or_default();
                    let parent = call.parent_span_id.as_ref();
                    if url.ends_with("-late") {
                        assert_eq!(parent, None, "{tag}: {call:#?}");
                    } else {
                        assert_eq!(parent, Some(&served.span_id), "{tag}: {call:#?}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// Protects: a context that comes in, after a kilobyte of other fields too, is continued exactly,
/// and passed on by the service it stays one trace.
#[test]
fn a_context_that_comes_in_is_continued() -> Result<()> {
    on_each_backend(|backend| {
        let node = service::node(&layout::service_source("node_server.cjs"))?;
        let flask = Gunicorn::default().threads(32).start()?;
        for load in LOADS {
            let agent = trace(backend, &[&node, &flask]).start()?;
            let path = |number| calling(&flask.url(&format!("/hello?{}", tag(number))));
            let headers = |number| {
                vec![
                    ("x-filler", "f".repeat(2_000)),
                    ("traceparent", format!("00-{TRACE}{number:04x}-00f067aa0ba9{number:04x}-01")),
                ]
            };
            drive(&node, load, path, headers)?;
            let spans = agent.finish(load.1 * 3)?;
            for (tag, spans) in by_tag(&spans) {
                let number: usize = tag.trim_matches(|c| !char::is_numeric(c)).parse()?;
                let of = |service: &str, kind| {
                    let mut of =
                        spans.iter().filter(|it| it.service() == service && it.kind == kind);
                    of.next().context("a span is missing")
                };
                let served = of("node_server", Kind::Server)?;
                let called = of("node_server", Kind::Client)?;
                let last = of("flask_app", Kind::Server)?;
                for span in [served, called, last] {
                    assert_eq!(span.trace_id, format!("{TRACE}{number:04x}"));
                }
                let remote = format!("00f067aa0ba9{number:04x}");
                assert_eq!(served.parent_span_id, Some(remote));
                assert_eq!(called.parent_span_id.as_ref(), Some(&served.span_id));
                assert_eq!(last.parent_span_id.as_ref(), Some(&called.span_id));
            }
        }
        Ok(())
    })
}

/// Protects: two agents that each see one side of a network join what the services' own headers
/// join, and nothing else.
#[test]
fn two_agents_join_by_headers_alone() -> Result<()> {
    on_each_backend(|backend| {
        let far = Namespace::new()?;
        let address = far.join()?;
        let front = Gunicorn::default().threads(32).start()?;
        let program = layout::service_source("late_server.py");
        let back = service::python_inside(&program, &far, address)?;
        for (load, forwards) in LOADS.iter().flat_map(|load| [(*load, false), (*load, true)]) {
            let near_agent = trace(backend, &[&front]).start()?;
            let far_agent = trace(backend, &[&back]).inside(&far).start()?;
            let path = |number| calling(&back.url(&format!("/hello?{}", tag(number))));
            let headers = |number: usize| {
                let context = format!("00-{TRACE}{number:04x}-00f067aa0ba9{number:04x}-01");
                if forwards { vec![("traceparent", context)] } else { Vec::new() }
            };
            drive(&front, load, path, headers)?;
            let near = near_agent.finish(load.1 * 2)?;
            let far = far_agent.finish(load.1)?;
            let near = by_tag(&near);
            for (tag, spans) in by_tag(&far) {
                let [served] = spans[..] else { panic!("{tag}: {spans:?}") };
                let front: BTreeSet<&str> =
                    near[tag].iter().map(|span| span.trace_id.as_str()).collect();
                assert_eq!(front.len(), 1, "{tag}");
                assert_eq!(front.contains(served.trace_id.as_str()), forwards, "{tag}");
                assert_eq!(served.parent_span_id.is_some(), forwards, "{tag}");
            }
        }
        Ok(())
    })
}
