//! Java: the JDK's own `HttpServer` and `HttpClient`, launched from a single source file.

use anyhow::Result;
use tracer_tests::{Service, check_resource, layout, on_each_backend, scenario, service};

fn start() -> Result<Service> {
    service::java(&layout::service_source("JavaServer.java"))
}

const RESOURCE: [(&str, &str); 4] = [
    ("service.name", "JavaServer"),
    ("telemetry.sdk.language", "java"),
    ("process.runtime.name", "java"),
    ("process.executable.name", "java"),
];

#[test]
fn keeps_connections() -> Result<()> {
    on_each_backend(|backend| {
        let spans = scenario::kept_alive(backend, &start()?)?;
        check_resource(&spans[0].resource, &RESOURCE);
        Ok(())
    })
}

#[test]
fn takes_uploads() -> Result<()> {
    on_each_backend(|backend| scenario::upload(backend, &start()?))
}

/// Protects: the client's first request offers an upgrade to HTTP/2 that the server does not take:
/// the exchange and the connection stay HTTP/1.1.
#[test]
fn calls_with_http_client() -> Result<()> {
    on_each_backend(|backend| {
        let spans = scenario::calls(backend, &start()?)?;
        check_resource(&spans.clients()[0].resource, &RESOURCE);
        Ok(())
    })
}
