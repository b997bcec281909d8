//! Envoy with a configuration of the test's own.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value as Json, json};

use super::Service;
use crate::layout;

/// More connections and requests than anybody makes.
const NO_LIMIT: u32 = 1_000_000;

/// Passes every request to an upstream, from one worker thread. With a collector it makes a span of
/// each, which it exports there by OTLP over HTTP, and adds the context to the request.
pub fn envoy(upstream: SocketAddr, collector: Option<SocketAddr>) -> Result<Service> {
    Service::start("envoy", |port, directory| {
        let configuration = directory.join("envoy.json");
        fs::write(&configuration, bootstrap(port, upstream, collector).to_string())?;
        let mut command = Command::new(layout::envoy()?);
        command.args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]);
        command.arg("-c").arg(configuration);
        Ok(command)
    })
}

fn bootstrap(port: u16, upstream: SocketAddr, collector: Option<SocketAddr>) -> Json {
    let mut clusters = vec![cluster("upstream", upstream.port())];
    let mut connections = json!({
        "@type": api("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front",
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
        }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": api("extensions.filters.http.router.v3.Router") },
        }],
    });
    if let Some(collector) = collector {
        clusters.push(cluster("collector", collector.port()));
        connections["tracing"] = json!({
            "random_sampling": { "value": 100 },
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": api("config.trace.v3.OpenTelemetryConfig"),
                    "service_name": "envoy",
                    "http_service": { "http_uri": {
                        "uri": format!("http://{collector}/v1/traces"),
                        "cluster": "collector",
                        "timeout": "10s",
                    } },
                },
            },
        });
    }
    json!({ "static_resources": {
        "listeners": [{
            "address": address(port),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": connections,
            }] }],
        }],
        "clusters": clusters,
    } })
}

fn cluster(name: &str, port: u16) -> Json {
    let limits = json!({
        "max_connections": NO_LIMIT,
        "max_pending_requests": NO_LIMIT,
        "max_requests": NO_LIMIT,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [limits] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
    })
}

fn address(port: u16) -> Json {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn api(name: &str) -> String {
    format!("type.googleapis.com/envoy.{name}")
}
