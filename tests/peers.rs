//! The peers themselves, without the agent: what the other tests build on works here.

use anyhow::Result;
use tracer_tests::service::{self, Gunicorn, Nginx, Service};
use tracer_tests::{Launcher, Namespace, Rotel, layout, port};

fn says_hello(service: &Service) -> Result<()> {
    let response = service.get("/hello")?;
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.body.contains("hello\n"), "{response:?}");
    Ok(())
}

#[test]
fn nginx() -> Result<()> {
    let nginx = Nginx::new("location / { }")?.file("hello", b"hello\n")?.start()?;
    says_hello(&nginx)?;
    let front = Nginx::proxy(&format!("http://{}", nginx.address()))?.workers(2).start()?;
    says_hello(&front)
}

#[test]
fn nginx_to_gunicorn_over_a_unix_socket() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (_gunicorn, socket) = Gunicorn::default().start_on_unix_socket(directory.path())?;
    says_hello(&Nginx::proxy(&format!("http://unix:{}", socket.display()))?.start()?)
}

#[test]
fn gunicorn() -> Result<()> {
    says_hello(&Gunicorn::default().workers(2).start()?)?;
    says_hello(&Gunicorn::default().threads(4).start()?)
}

#[test]
fn uvicorn() -> Result<()> {
    says_hello(&service::uvicorn()?)
}

#[test]
fn node() -> Result<()> {
    says_hello(&service::node(&layout::service_source("node_server.cjs"))?)
}

#[test]
fn go() -> Result<()> {
    says_hello(&service::go(&layout::service_source("go_server.go"), &[])?)
}

#[test]
fn java() -> Result<()> {
    says_hello(&service::java(&layout::service_source("JavaServer.java"))?)
}

#[test]
fn services_call_each_other() -> Result<()> {
    let last = service::go(&layout::service_source("go_server.go"), &[])?;
    let url = last.url("/hello");
    for caller in [
        Gunicorn::default().start()?,
        service::uvicorn()?,
        service::node(&layout::service_source("node_server.cjs"))?,
        service::java(&layout::service_source("JavaServer.java"))?,
    ] {
        let response = caller.get(&format!("/call?url={url}"))?;
        assert_eq!(response.status, 200, "{response:?}\n{}", caller.log());
        assert!(response.body.contains("200"), "{response:?}");
    }
    Ok(())
}

#[test]
fn curl_in_a_namespace_reaches_only_its_own_loopback() -> Result<()> {
    let outside = Nginx::new("location / { return 200; }")?.start()?;
    let namespace = Namespace::new()?;
    let mut launcher = Launcher::start_in(&namespace)?;
    let failed = launcher.run(["curl", "-sS", &outside.url("/")])?;
    assert_eq!(failed.code, 7, "{failed:?}");
    Ok(())
}

#[test]
fn rotel_listens_on_both_protocols() -> Result<()> {
    let rotel = Rotel::start()?;
    for endpoint in [rotel.grpc_endpoint(), rotel.http_endpoint()] {
        let port = endpoint.rsplit(':').next().unwrap_or_default().parse()?;
        assert!(port::is_open(port::loopback(port)), "{endpoint}");
    }
    assert_eq!(rotel.spans()?.len(), 0);
    Ok(())
}
