//! Python services beyond what `runtimes.rs` asks of them: gunicorn's kinds of workers, streams of
//! uvicorn, plain scripts, and how a process is called.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;
use tracer_tests::service::{self, Gunicorn};
use tracer_tests::{
    AgentOptions, Expected, Launcher, Service, check_resource, layout, on_each_backend,
};

const PYTHON: [(&str, &str); 2] =
    [("telemetry.sdk.language", "python"), ("process.runtime.name", "cpython")];

/// Protects: one process, one thread, one request a connection: spans of a sync worker, and the
/// service is called by its application, not by gunicorn or python3.
#[test]
fn gunicorn_sync_workers() -> Result<()> {
    on_each_backend(|backend| {
        let gunicorn = Gunicorn::default().workers(2).start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(gunicorn.pid()).start()?;
        let requests: [(&[&str], &str, &str, u16); 7] = [
            (&[], "GET", "/hello", 200),
            (&[], "GET", "/items/7?page=2&sort=up", 200),
            (&[], "GET", "/items/seven", 404),
            (&[], "GET", "/status/500", 500),
            (&["--head"], "HEAD", "/hello", 200),
            (&["--data", "some body"], "POST", "/echo", 200),
            (&[], "GET", "/stream/1000", 200),
        ];
        for (options, _, path, _) in requests {
            let url = gunicorn.url(path);
            launcher.curl(options.iter().copied().chain([url.as_str()]))?;
        }
        let spans = agent.finish(requests.len())?;
        for (span, (_, method, path, status)) in spans.iter().zip(requests) {
            Expected::served_to_curl(&gunicorn, method, path)?.status(status).check(span);
            check_resource(&span.resource, &[("service.name", "flask_app"), PYTHON[0], PYTHON[1]]);
            assert_ne!(span.pid(), Some(gunicorn.pid()), "a worker answered, not the arbiter");
        }
        Ok(())
    })
}

/// Protects: requests that overlap in threads of one process are told apart.
#[test]
fn gunicorn_threads_at_once() -> Result<()> {
    const REQUESTS: usize = 40;
    on_each_backend(|backend| {
        let gunicorn = Gunicorn::default().threads(8).start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(gunicorn.pid()).start()?;
        let mut words = vec!["--parallel".to_owned(), "--parallel-immediate".to_owned()];
        words.extend((0..REQUESTS).map(|number| gunicorn.url(&format!("/items/{number}"))));
        launcher.curl(words)?;
        let spans = agent.finish(REQUESTS)?;
        let mut paths = BTreeSet::new();
        for span in spans.iter() {
            let path = span.attributes.text("url.path").unwrap_or_default();
            Expected::served_to_curl(&gunicorn, "GET", path)?.status(200).check(span);
            paths.insert(path);
        }
        let all: Vec<String> = (0..REQUESTS).map(|number| format!("/items/{number}")).collect();
        assert_eq!(paths, all.iter().map(String::as_str).collect(), "each request once");
        Ok(())
    })
}

/// Protects: a chunked body far beyond the message budget is followed to its end, though little of
/// it is copied: the next message on the connection is found.
#[test]
fn uvicorn_streams_more_than_the_budget() -> Result<()> {
    const BLOCKS: usize = 40;
    on_each_backend(|backend| {
        let uvicorn = service::uvicorn()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(uvicorn.pid())
            .pid(launcher.pid())
            .argument("--message-budget=1K")
            .start()?;
        let blocks = format!("/blocks/{BLOCKS}");
        let paths = [blocks.as_str(), "/hello", blocks.as_str(), "/hello"];
        let output = launcher.curl(paths.map(|path| uvicorn.url(path)))?;
        assert_eq!(output.stdout.len(), 2 * (BLOCKS * 65_536 + "hello\n".len()));
        let spans = agent.finish(8)?;
        for (span, path) in spans.servers().iter().zip(paths) {
            Expected::served_to_curl(&uvicorn, "GET", path)?.status(200).check(span);
        }
        for (span, path) in spans.clients().iter().zip(paths) {
            Expected::client("GET", &uvicorn.url(path)).status(200).check(span);
        }
        Ok(())
    })
}

/// Protects: responses that end with their connection, of HTTP/1.0; a script is called by its own
/// name; what stands on its command line is nobody's business.
#[test]
fn a_script_with_a_secret_on_its_command_line() -> Result<()> {
    on_each_backend(|backend| {
        let script = layout::service_source("old_server.py");
        let service = Service::start("old server", |port, _| {
            let mut command = Command::new(layout::python_program("python3")?);
            command.arg(&script).args(["--password=hunter2", "hunter2"]);
            command.env("PORT", port.to_string());
            Ok(command)
        })?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(service.pid()).pid(launcher.pid()).start()?;
        let output = launcher.curl([service.url("/a"), service.url("/b")])?;
        assert!(output.stdout.ends_with("line 99\n"));
        let spans = agent.finish(4)?;
        for (span, path) in spans.servers().iter().zip(["/a", "/b"]) {
            Expected::served_to_curl(&service, "GET", path)?.http10().status(200).check(span);
            check_resource(&span.resource, &[("service.name", "old_server"), PYTHON[0], PYTHON[1]]);
        }
        for (span, path) in spans.clients().iter().zip(["/a", "/b"]) {
            Expected::client("GET", &service.url(path)).http10().status(200).check(span);
        }
        assert!(!format!("{spans:?}").contains("hunter2"));
        Ok(())
    })
}

/// Protects: a process that states its own name is called so; other attributes it states stand on
/// its resource, percent-decoded; what identifies the process is not its to say.
#[test]
fn a_process_that_names_itself() -> Result<()> {
    on_each_backend(|backend| {
        let attributes = "service.name=store,deployment.environment.name=test,\
                          service.namespace=north%20west,telemetry.sdk.name=other";
        let named = Gunicorn::default().env("OTEL_RESOURCE_ATTRIBUTES", attributes);
        let stores = named.clone().start()?;
        let shops = named.env("OTEL_SERVICE_NAME", "shop").start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(stores.pid()).pid(shops.pid()).start()?;
        launcher.curl([stores.url("/hello"), shops.url("/hello")])?;
        let spans = agent.finish(2)?;
        for (span, name) in spans.iter().zip(["store", "shop"]) {
            check_resource(
                &span.resource,
                &[
                    ("service.name", name),
                    ("service.namespace", "north west"),
                    ("deployment.environment.name", "test"),
                ],
            );
        }
        assert_ne!(
            spans[0].resource.text("service.instance.id"),
            spans[1].resource.text("service.instance.id")
        );
        Ok(())
    })
}
