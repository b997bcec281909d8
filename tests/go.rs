//! Go: `net/http` as server and client, in a binary compiled from its standard library alone.

use anyhow::Result;
use tracer_tests::{Service, check_resource, layout, on_each_backend, scenario, service};

fn start() -> Result<Service> {
    service::go(&layout::service_source("go_server.go"), &[])
}

const RESOURCE: [(&str, &str); 4] = [
    ("service.name", "go_server"),
    ("telemetry.sdk.language", "go"),
    ("process.runtime.name", "go"),
    ("process.executable.name", "go_server"),
];

/// Protects: a goroutine moves between threads; its requests stay whole.
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

#[test]
fn calls_with_net_http() -> Result<()> {
    on_each_backend(|backend| {
        let spans = scenario::calls(backend, &start()?)?;
        check_resource(&spans.clients()[0].resource, &RESOURCE);
        Ok(())
    })
}
