//! Protects: connections that leave HTTP on agreement, and requests by way of a forward proxy: the
//! agreement is an exchange, what follows it is opaque.

use std::process::Command;

use anyhow::Result;
use tracer_tests::conversation::{Conversation, assert_summaries, check};
use tracer_tests::message::{HEAD, get, ok, request};
use tracer_tests::service::Nginx;
use tracer_tests::wire::{end, send, until};
use tracer_tests::{AgentOptions, Backend, Finished, Launcher, Service, on_each_backend};

/// Protects: nothing after a `101` or a tunnel's `200` is read as HTTP; a refusal changes nothing.
#[test]
fn switched_connections_are_opaque() -> Result<()> {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    check(&[
        Conversation {
            host: "upgrade.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
                until(b"\x88\x80"),
            ],
            client: vec![
                send(request("GET", "/ws", "upgrade.test", upgrade)),
                until(HEAD),
                // What looks like a request is a frame's content now.
                send(get("/frame", "upgrade.test")),
                until(HEAD),
                send(b"\x88\x80\x00\x00\x00\x00"),
                end(),
            ],
            spans: &["server GET /ws 101", "client GET /ws 101"],
        },
        // An upgrade that the server does not take.
        Conversation {
            host: "declined.test",
            server: vec![until(HEAD), send(ok("no")), until(HEAD), send(ok("no")), end()],
            client: vec![
                send(request("GET", "/1", "declined.test", upgrade)),
                until("\r\n\r\nno"),
                send(get("/2", "declined.test")),
                until("\r\n\r\nno"),
            ],
            spans: &[
                "server GET /1 200",
                "client GET /1 200",
                "server GET /2 200",
                "client GET /2 200",
            ],
        },
        Conversation {
            host: "tunnel.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 200 Connection established\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 500 Inside\r\nContent-Length: 0\r\n\r\n"),
                end(),
            ],
            client: vec![
                send("CONNECT tunnel.test:443 HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n"),
                until(HEAD),
                send(get("/inside", "tunnel.test")),
                until(HEAD),
            ],
            spans: &["server CONNECT  200", "client CONNECT  200"],
        },
        // A refused tunnel leaves an ordinary connection.
        Conversation {
            host: "refused.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"),
                until(HEAD),
                send(ok("")),
                end(),
            ],
            client: vec![
                send("CONNECT refused.test:443 HTTP/1.1\r\nHost: refused.test:443\r\n\r\n"),
                until(HEAD),
                send(get("/plain", "refused.test")),
                until(HEAD),
            ],
            spans: &[
                "server CONNECT  407",
                "client CONNECT  407 407",
                "server GET /plain 200",
                "client GET /plain 200",
            ],
        },
    ])
}

/// What the origin behind the proxy answers.
const INSIDE: &str = "inside";

fn start_nginx() -> Result<Service> {
    Nginx::new(&format!("location / {{ return 200 '{INSIDE}'; }}"))?.start()
}

/// apache as a forward proxy that tunnels, in one process.
fn start_apache() -> Result<Service> {
    Service::start("apache2", |port, directory| {
        let root = directory.display();
        let modules =
            ["mpm_event", "authz_core", "proxy", "proxy_connect", "proxy_http"].map(|name| {
                format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
            });
        let configuration = format!(
            "{}ServerRoot {root}\nPidFile {root}/pid\nErrorLog /dev/stderr\n\
             ServerName proxy.test\nListen 127.0.0.1:{port}\nStartServers 1\nServerLimit 1\n\
             ThreadsPerChild 4\nMaxRequestWorkers 4\nProxyRequests On\n\
             AllowCONNECT 1-65535\nDefaultRuntimeDir {root}\nUser nobody\nGroup nogroup\n",
            modules.concat()
        );
        let file = directory.join("apache.conf");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new("apache2");
        command.arg("-f").arg(&file).arg("-X");
        Ok(command)
    })
}

/// One request by curl, with these options, to nginx by way of apache; all three are traced.
fn curl_by_proxy(
    backend: Backend,
    nginx: &Service,
    apache: &Service,
    options: &[&str],
) -> Result<Finished> {
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(backend)
        .pid(launcher.pid())
        .pid(nginx.pid())
        .pid(apache.pid())
        .start()?;
    let (proxy, url) = (apache.url(""), nginx.url("/x"));
    let words = ["curl", "-sS", "-x", &proxy, &url];
    let output = launcher.run(words.iter().chain(options))?.success()?;
    assert_eq!(output.stdout, INSIDE);
    agent.stop_after(4)
}

/// Protects: a real tunnel is one exchange and opaque; what the proxy carries on to the origin is a
/// request like any other.
#[test]
fn a_tunnel_through_a_real_proxy() -> Result<()> {
    let (nginx, apache) = (start_nginx()?, start_apache()?);
    on_each_backend(|backend| {
        let spans = curl_by_proxy(backend, &nginx, &apache, &["--proxytunnel"])?.spans;
        assert_summaries(&spans.of_service("curl"), &["client CONNECT  200"]);
        let carried = ["server CONNECT  200", "client GET /x 200"];
        assert_summaries(&spans.of_service("apache2"), &carried);
        assert_summaries(&spans.of_service("nginx"), &["server GET /x 200"]);
        Ok(())
    })
}

/// Protects: of a request in absolute form towards a proxy, the origin is the server and the proxy
/// the peer.
#[test]
fn forwarded_through_a_real_proxy() -> Result<()> {
    let (nginx, apache) = (start_nginx()?, start_apache()?);
    on_each_backend(|backend| {
        let spans = curl_by_proxy(backend, &nginx, &apache, &[])?.spans;
        let curl = spans.of_service("curl");
        let curl = curl.only()?;
        assert_eq!(curl.attributes.text("url.full"), Some(nginx.url("/x").as_str()));
        assert_eq!(curl.attributes.int("server.port"), Some(nginx.port().into()));
        assert_eq!(curl.attributes.int("network.peer.port"), Some(apache.port().into()));
        let forwarded = ["server GET /x 200", "client GET /x 200"];
        assert_summaries(&spans.of_service("apache2"), &forwarded);
        assert_summaries(&spans.of_service("nginx"), &["server GET /x 200"]);
        Ok(())
    })
}
