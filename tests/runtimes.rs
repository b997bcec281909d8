//! What is promised of every runtime alike: connections are kept, uploads followed, calls traced
//! with the client its programs use, and each service known by its own name and runtime.
//!
//! One row a runtime, one scenario a promise; each pair of them is a test of its own, so that
//! `go::keeps_connections` says by its name what failed. `cargo test --test runtimes -- go::` runs
//! one runtime's.

use anyhow::Result;
use tracer_tests::service::{self, Gunicorn};
use tracer_tests::{Service, Spans, check_resource, layout, on_each_backend, scenario};

/// A service of `tests/services` in its runtime.
struct Runtime {
    start: fn() -> Result<Service>,
    /// What the resource of its spans must say, beside what every resource says.
    resource: &'static [(&'static str, &'static str)],
}

/// `net/http` as server and client, in a binary compiled from the standard library alone.
const GO: Runtime = Runtime {
    start: || service::go(&layout::service_source("go_server.go"), &[]),
    resource: &[
        ("service.name", "go_server"),
        ("telemetry.sdk.language", "go"),
        ("process.runtime.name", "go"),
        ("process.executable.name", "go_server"),
    ],
};

/// The JDK's own `HttpServer` and `HttpClient`, launched from a single source file.
const JAVA: Runtime = Runtime {
    start: || service::java(&layout::service_source("JavaServer.java")),
    resource: &[
        ("service.name", "JavaServer"),
        ("telemetry.sdk.language", "java"),
        ("process.runtime.name", "java"),
        ("process.executable.name", "java"),
    ],
};

/// Node's HTTP server, with `undici` as its client.
const NODE: Runtime = Runtime {
    start: || service::node(&layout::service_source("node_server.cjs")),
    resource: &[
        ("service.name", "node_server"),
        ("telemetry.sdk.language", "nodejs"),
        ("process.runtime.name", "nodejs"),
        ("process.executable.name", "node"),
    ],
};

/// [`NODE`] with the built-in `fetch` as its client.
const NODE_WITH_FETCH: Runtime = Runtime {
    start: || {
        service::node_with(&layout::service_source("node_server.cjs"), &[("CLIENT", "fetch")])
    },
    ..NODE
};

/// Flask, with `requests` as its client, under gunicorn's sync worker: a connection a request.
const GUNICORN: Runtime = Runtime {
    start: || Gunicorn::default().start(),
    resource: &[
        ("service.name", "flask_app"),
        ("telemetry.sdk.language", "python"),
        ("process.runtime.name", "cpython"),
    ],
};

/// [`GUNICORN`] with its threaded worker, which keeps connections.
const GUNICORN_WITH_THREADS: Runtime =
    Runtime { start: || Gunicorn::default().threads(4).start(), ..GUNICORN };

/// An ASGI application on an event loop, with `httpx` as its client.
const UVICORN: Runtime = Runtime {
    start: service::uvicorn,
    resource: &[
        ("service.name", "asgi_app"),
        ("telemetry.sdk.language", "python"),
        ("process.runtime.name", "cpython"),
    ],
};

impl Runtime {
    /// Protects: requests of every framing on one kept connection stay whole and in order.
    fn keeps_connections(&self) -> Result<()> {
        on_each_backend(|backend| {
            self.check_resources(&scenario::kept_alive(backend, &(self.start)()?)?);
            Ok(())
        })
    }

    /// Protects: a body larger than any buffer is followed both ways, after `100 Continue`.
    fn takes_uploads(&self) -> Result<()> {
        on_each_backend(|backend| scenario::upload(backend, &(self.start)()?))
    }

    /// Protects: calls made while answering are client spans of the same service.
    fn calls(&self) -> Result<()> {
        on_each_backend(|backend| {
            self.check_resources(&scenario::calls(backend, &(self.start)()?)?);
            Ok(())
        })
    }

    fn check_resources(&self, spans: &Spans) {
        for span in spans.iter() {
            check_resource(&span.resource, self.resource);
        }
    }
}

/// A module a runtime, a test a promise.
macro_rules! tests {
    ($($runtime:ident {
        $($(#[$comment:meta])* $test:ident: $row:ident.$promise:ident;)+
    })+) => {$(
        mod $runtime {
            $($(#[$comment])*
            #[test]
            fn $test() -> anyhow::Result<()> {
                super::$row.$promise()
            })+
        }
    )+};
}

tests! {
    go {
        /// Protects: a goroutine moves between threads; its requests stay whole.
        keeps_connections: GO.keeps_connections;
        takes_uploads: GO.takes_uploads;
        calls_with_net_http: GO.calls;
    }
    java {
        keeps_connections: JAVA.keeps_connections;
        takes_uploads: JAVA.takes_uploads;
        /// Protects: the client's first request offers an upgrade to HTTP/2 that the server does
        /// not take: the exchange and the connection stay HTTP/1.1.
        calls_with_http_client: JAVA.calls;
    }
    node {
        keeps_connections: NODE.keeps_connections;
        takes_uploads: NODE.takes_uploads;
        calls_with_undici: NODE.calls;
        calls_with_fetch: NODE_WITH_FETCH.calls;
    }
    gunicorn {
        threads_keep_connections: GUNICORN_WITH_THREADS.keeps_connections;
        takes_uploads: GUNICORN_WITH_THREADS.takes_uploads;
        /// Protects: calls by `requests` inside a request: client spans of the same process.
        calls_with_requests: GUNICORN.calls;
    }
    uvicorn {
        keeps_connections: UVICORN.keeps_connections;
        takes_uploads: UVICORN.takes_uploads;
        /// Protects: calls by `httpx` on an event loop: client spans of the same process.
        calls_with_httpx: UVICORN.calls;
    }
}
