//! Node: its HTTP server, `undici` and the built-in `fetch` as its clients.

use anyhow::Result;
use tracer_tests::{Service, check_resource, layout, on_each_backend, scenario, service};

fn start() -> Result<Service> {
    service::node(&layout::service_source("node_server.cjs"))
}

const RESOURCE: [(&str, &str); 4] = [
    ("service.name", "node_server"),
    ("telemetry.sdk.language", "nodejs"),
    ("process.runtime.name", "nodejs"),
    ("process.executable.name", "node"),
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

#[test]
fn calls_with_undici() -> Result<()> {
    on_each_backend(|backend| {
        let spans = scenario::calls(backend, &start()?)?;
        check_resource(&spans.clients()[0].resource, &RESOURCE);
        Ok(())
    })
}

#[test]
fn calls_with_fetch() -> Result<()> {
    on_each_backend(|backend| {
        let node =
            service::node_with(&layout::service_source("node_server.cjs"), &[("CLIENT", "fetch")])?;
        scenario::calls(backend, &node)?;
        Ok(())
    })
}
