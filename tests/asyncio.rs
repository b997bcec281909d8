//! Python's asyncio: the calls of requests that are handled at the same time, on one thread, belong
//! to the request whose task made them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tracer_tests::service::{self, Nginx};
use tracer_tests::{AgentOptions, Kind, Launcher, Service, Span, layout, on_each_backend};

/// Requests handled at the same time. They all wait before their first call.
const AT_ONCE: usize = 32;
/// Requests in all.
const REQUESTS: usize = 3 * AT_ONCE;
/// What each is to do: wait, call once, call three times at once, and once more.
const PLAN: &str = "s40.c1.p3.c1";
const CALLS: usize = 5;

/// Protects: `httpx` under uvicorn; calls at once are made by tasks of `asyncio.gather`.
#[test]
fn uvicorn_with_httpx() -> Result<()> {
    check(0, |leaf| asgi(leaf, "httpx"))
}

/// Protects: calls that threads make for a task, by `asyncio.to_thread`. A thread may be faster than
/// the task is to wait for it; nobody knows then whose work it does.
#[test]
fn uvicorn_with_threads() -> Result<()> {
    check(REQUESTS * CALLS / 20, |leaf| asgi(leaf, "to_thread"))
}

/// Protects: aiohttp's server, whose task for a connection waits for another one that handles the
/// request.
#[test]
fn aiohttp() -> Result<()> {
    check(0, |leaf| service::python(&layout::links_source("aiohttp_app.py"), &[("LEAF", leaf)]))
}

fn asgi(leaf: &str, client: &str) -> Result<Service> {
    let environment = [("LEAF", leaf), ("CLIENT", client)];
    service::uvicorn_with(
        &layout::links_source("asgi_app.py"),
        &["--loop", "asyncio"],
        &environment,
    )
}

/// Every call is a child of the request whose tag it carries in its path, but for some `orphans` at
/// most.
fn check(orphans: usize, start: impl Fn(&str) -> Result<Service>) -> Result<()> {
    on_each_backend(|backend| {
        let leaf = Nginx::new("location / { return 200; }")?.start()?;
        let service = start(&format!("http://{}", leaf.address()))?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(service.pid()).start()?;
        let at_once = AT_ONCE.to_string();
        let mut words = ["--parallel", "--parallel-immediate", "--parallel-max", &at_once]
            .map(str::to_owned)
            .to_vec();
        words.extend((0..REQUESTS).map(|tag| service.url(&format!("/plan/{tag}?plan={PLAN}"))));
        launcher.curl(words)?;
        let spans = agent.finish(REQUESTS * (1 + CALLS))?;

        let requests: BTreeMap<&str, &Span> = spans
            .iter()
            .filter(|span| span.kind == Kind::Server)
            .map(|span| Ok((tag(span)?, span)))
            .collect::<Result<_>>()?;
        ensure!(requests.len() == REQUESTS, "not each request once:\n{spans}");
        let calls = spans.iter().filter(|span| span.kind == Kind::Client);
        let (known, unknown): (Vec<_>, Vec<_>) =
            calls.partition(|call| call.parent_span_id.is_some());
        ensure!(unknown.len() <= orphans, "calls of nobody: {unknown:?}");
        for call in known {
            let request = requests[tag(call)?];
            ensure!(
                call.parent_span_id.as_deref() == Some(&*request.span_id)
                    && call.trace_id == request.trace_id,
                "not of its request: {call:?}\n{request:?}"
            );
            ensure!(
                call.attributes.text("tracer.link") == Some("coroutine"),
                "not by its task: {call:?}"
            );
        }
        Ok(())
    })
}

/// The second segment of the path.
fn tag(span: &Span) -> Result<&str> {
    let path = span.attributes.text("url.path").or_else(|| {
        let (_, rest) = span.attributes.text("url.full")?.split_once("://")?;
        rest.find('/').map(|path| &rest[path..])
    });
    path.and_then(|path| path.split('/').nth(2)).with_context(|| format!("no tag: {span:?}"))
}
