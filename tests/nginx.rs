//! nginx as anybody runs it: files, sendfile, gzip, conditional requests, errors, and as a proxy
//! over TCP and Unix sockets.

use std::collections::BTreeSet;

use anyhow::Result;
use tracer_tests::service::{self, Gunicorn, Nginx};
use tracer_tests::{
    AgentOptions, Expected, Launcher, check_resource, check_short_lived, layout, on_each_backend,
    port,
};

/// Larger than any buffer on the way, so that `sendfile` takes several calls.
const LARGE: usize = 3 << 20;

/// Protects: a static answer is one server span with all attributes of the conventions and the
/// resource of the worker that gave it; the short-lived client has its own with its own name.
#[test]
fn a_static_file() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        let curl = launcher.curl([nginx.url("/hello?page=2")])?;
        let spans = agent.finish(2)?;

        let served = spans.servers();
        let served = served.only()?;
        Expected::served_to_curl(&nginx, "GET", "/hello?page=2")?.status(200).check(served);
        check_resource(
            &served.resource,
            &[
                ("service.name", "nginx"),
                ("process.command", "nginx"),
                ("process.executable.name", "nginx"),
                ("process.owner", "root"),
                ("telemetry.sdk.language", "generic"),
            ],
        );
        assert_ne!(served.pid(), Some(nginx.pid()), "a worker answered, not the master");
        assert_eq!(served.flags & 0xff, 3);
        assert_eq!(served.scope, "tracer");

        let called = spans.clients();
        let called = called.only()?;
        Expected::client("GET", &nginx.url("/hello?page=2")).status(200).check(called);
        check_short_lived(
            &called.resource,
            &[("service.name", "curl"), ("process.command", "curl")],
        );
        assert_eq!(called.pid(), Some(curl.pid));
        assert_eq!(called.parent_span_id, None);
        assert_eq!(served.parent_span_id.as_ref(), Some(&called.span_id));
        assert!(called.start <= served.start, "a request arrives after it was sent");
        assert!(served.start <= called.end, "a response ends after its request began");
        Ok(())
    })
}

/// Protects: bytes sent by `sendfile`, which no probe reads, are counted: the next message on the
/// connection is found where it is.
#[test]
fn large_files_by_sendfile_on_one_connection() -> Result<()> {
    on_each_backend(|backend| {
        let content = vec![b'x'; LARGE];
        let nginx = Nginx::new("")?.file("large", &content)?.file("small", b"small\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        let paths = ["/large", "/small", "/large", "/small"];
        let got = launcher.curl(paths.map(|path| nginx.url(path)))?;
        assert_eq!(got.stdout.len(), 2 * LARGE + 12);
        let spans = agent.finish(8)?;

        let (servers, clients) = (spans.servers(), spans.clients());
        for (index, path) in paths.into_iter().enumerate() {
            Expected::served_to_curl(&nginx, "GET", path)?.status(200).check(&servers[index]);
            Expected::client("GET", &nginx.url(path)).status(200).check(&clients[index]);
        }
        assert_eq!(servers.peer_ports().len(), 1, "one connection");
        for pair in servers.windows(2).chain(clients.windows(2)) {
            assert!(pair[0].end <= pair[1].start, "one after the other:\n{spans}");
        }
        Ok(())
    })
}

/// Protects: the framing rules for responses without a body, of which `Content-Length` says
/// otherwise (HEAD, 304), and for chunked ones; 4xx is no error of a server.
#[test]
fn responses_of_every_framing_on_one_connection() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new(
            "gzip on; gzip_min_length 1; gzip_types text/plain;
             location = /empty { return 204; }
             location = /broken { return 500; }
             location = /moved { return 301 /file; }",
        )?
        .file("file", &b"0123456789\n".repeat(10_000))?
        .start()?;
        let mut launcher = Launcher::start()?;
        let head = launcher.curl(["-I", &nginx.url("/file")])?.stdout;
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
        };
        let if_none_match = format!("If-None-Match: {}", field("ETag: "));
        let if_modified_since = format!("If-Modified-Since: {}", field("Last-Modified: "));

        let agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        // One command line, one connection: `--next` starts over with the options.
        let silent = ["-s", "--max-time", "30"];
        let file = nginx.url("/file");
        let requests: [(&[&str], &str, &str, u16); 9] = [
            (&["-I"], "HEAD", "/file", 200),
            (&[], "GET", "/file", 200),
            (&["-H", &if_none_match], "GET", "/file", 304),
            (&["-H", &if_modified_since], "GET", "/file", 304),
            (&["--compressed"], "GET", "/file", 200),
            (&[], "GET", "/empty", 204),
            (&[], "GET", "/moved", 301),
            (&[], "GET", "/nothing", 404),
            (&[], "GET", "/broken", 500),
        ];
        let mut words = Vec::new();
        for (options, _, path, _) in requests {
            let url = if path == "/file" { file.clone() } else { nginx.url(path) };
            let next = (!words.is_empty()).then_some("--next");
            let options = next.iter().chain(&silent).chain(options);
            words.extend(options.map(|word| (*word).to_owned()));
            words.push(url);
        }
        launcher.curl(words)?;
        let spans = agent.finish(2 * requests.len())?;

        let (servers, clients) = (spans.servers(), spans.clients());
        for (index, (_, method, path, status)) in requests.into_iter().enumerate() {
            Expected::served_to_curl(&nginx, method, path)?.status(status).check(&servers[index]);
            Expected::client(method, &nginx.url(path)).status(status).check(&clients[index]);
        }
        assert_eq!(servers.peer_ports().len(), 1, "one connection");
        Ok(())
    })
}

/// Protects: HTTP/1.0 as clients still speak it, with and without keep-alive; the version is the
/// one that both ends speak, whatever the server's status line says.
#[test]
fn clients_of_http_1_0() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        let url = nginx.url("/hello");
        launcher.curl(["--http1.0", &url])?;
        launcher.curl(["--http1.0", "-H", "Connection: keep-alive", &url, &url])?;
        let spans = agent.finish(6)?;
        for span in spans.servers().iter() {
            Expected::served_to_curl(&nginx, "GET", "/hello")?.http10().status(200).check(span);
        }
        for span in spans.clients().iter() {
            Expected::client("GET", &url).http10().status(200).check(span);
        }
        assert_eq!(spans.servers().peer_ports().len(), 2, "two connections");
        Ok(())
    })
}

/// Protects: a proxied request is four spans in three processes, each with its own view of it.
/// nginx asks upstreams in HTTP/1.0 and closes, unless told otherwise.
#[test]
fn a_proxy_over_tcp() -> Result<()> {
    on_each_backend(|backend| {
        let upstream = Gunicorn::default().threads(4).start()?;
        let nginx = Nginx::proxy(&format!("http://{}", upstream.address()))?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(upstream.pid())
            .pid(nginx.pid())
            .pid(launcher.pid())
            .start()?;
        launcher.curl([nginx.url("/items/7?page=2")])?;
        let spans = agent.finish(4)?;

        let target = "/items/7?page=2";
        Expected::client("GET", &nginx.url(target))
            .status(200)
            .check(spans.of_service("curl").only()?);
        let front = spans.of_service("nginx");
        Expected::served_to_curl(&nginx, "GET", target)?.status(200).check(front.servers().only()?);
        Expected::client("GET", &upstream.url(target))
            .http10()
            .status(200)
            .check(front.clients().only()?);
        Expected::served_to_curl(&upstream, "GET", target)?
            .http10()
            .status(200)
            .check(spans.of_service("flask_app").only()?);
        Ok(())
    })
}

/// Protects: requests that share an upstream connection are told apart, and a server named by
/// something other than its address is called so.
#[test]
fn a_proxy_with_kept_upstream_connections() -> Result<()> {
    const REQUESTS: usize = 20;
    on_each_backend(|backend| {
        let upstream = service::node(&layout::service_source("node_server.cjs"))?;
        let nginx = Nginx::new(
            "location / {
                 proxy_pass http://app;
                 proxy_http_version 1.1;
                 proxy_set_header Connection '';
             }",
        )?
        .http(&format!("upstream app {{ server {}; keepalive 1; }}", upstream.address()))
        .start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(upstream.pid()).pid(nginx.pid()).start()?;
        launcher.curl((0..REQUESTS).map(|_| nginx.url("/hello")))?;
        let spans = agent.finish(3 * REQUESTS)?;

        let front = spans.of_service("nginx");
        for span in front.servers().iter() {
            Expected::served_to_curl(&nginx, "GET", "/hello")?.status(200).check(span);
        }
        for span in front.clients().iter() {
            Expected::client("GET", "http://app/hello")
                .at_host("app", upstream.port())
                .peer_port(upstream.port())
                .status(200)
                .check(span);
        }
        let back = spans.of_service("node_server");
        for span in back.iter() {
            Expected::served_to_curl(&upstream, "GET", "/hello")?
                .at_host("app", 80)
                .status(200)
                .check(span);
        }
        assert_eq!((front.servers().len(), back.servers().len()), (REQUESTS, REQUESTS));
        assert_eq!(back.peer_ports().len(), 1, "one upstream connection");
        Ok(())
    })
}

/// Protects: Unix sockets are followed like TCP, also for bodies larger than any buffer.
#[test]
fn a_proxy_over_a_unix_socket() -> Result<()> {
    on_each_backend(|backend| {
        let directory = tempfile::tempdir()?;
        let (gunicorn, socket) = Gunicorn::default().start_on_unix_socket(directory.path())?;
        let nginx = Nginx::new(&format!(
            "client_max_body_size 10m;
             location / {{ proxy_pass http://unix:{}; }}",
            socket.display()
        ))?
        .start()?;
        let body = directory.path().join("body");
        std::fs::write(&body, vec![b'x'; LARGE])?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(gunicorn.pid()).pid(nginx.pid()).start()?;
        launcher.curl([nginx.url("/hello")])?;
        let upload = format!("@{}", body.display());
        let plain = "Content-Type: application/octet-stream";
        let echoed = launcher.curl(["-H", plain, "--data-binary", &upload, &nginx.url("/echo")])?;
        assert_eq!(echoed.stdout.len(), LARGE);
        launcher.curl([nginx.url("/status/503")])?;
        let spans = agent.finish(9)?;

        let (front, back) = (spans.of_service("nginx"), spans.of_service("flask_app"));
        let (servers, clients) = (front.servers(), front.clients());
        let requests =
            [("GET", "/hello", 200), ("POST", "/echo", 200), ("GET", "/status/503", 503)];
        for (index, (method, path, status)) in requests.into_iter().enumerate() {
            Expected::served_to_curl(&nginx, method, path)?.status(status).check(&servers[index]);
            Expected::client(method, &format!("http://localhost{path}"))
                .at_host("localhost", 80)
                .over_unix_socket(&socket)
                .http10()
                .status(status)
                .check(&clients[index]);
            Expected::served_to_curl(&nginx, method, path)?
                .at_host("localhost", 80)
                .over_unix_socket(&socket)
                .http10()
                .status(status)
                .check(&back[index]);
        }
        Ok(())
    })
}

/// Protects: a dead upstream is an error of the proxy; a call that never became a request is no
/// span.
#[test]
fn a_dead_upstream() -> Result<()> {
    on_each_backend(|backend| {
        let nobody = port::loopback(port::free()?);
        let nginx = Nginx::proxy(&format!("http://{nobody}"))?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).start()?;
        launcher.curl([nginx.url("/hello")])?;
        let spans = agent.finish(1)?;
        Expected::served_to_curl(&nginx, "GET", "/hello")?.status(502).check(spans.only()?);
        Ok(())
    })
}

/// Protects: workers share the listening socket, and each span names the one that answered.
#[test]
fn several_workers() -> Result<()> {
    const REQUESTS: usize = 40;
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.workers(4).start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).start()?;
        let urls = (0..REQUESTS).map(|number| nginx.url(&format!("/hello?{number}")));
        let mut words = vec!["--parallel".to_owned(), "--parallel-immediate".to_owned()];
        words.extend(urls);
        launcher.curl(words)?;
        let spans = agent.finish(REQUESTS)?;
        let mut numbers = BTreeSet::new();
        for span in spans.iter() {
            let number = span.attributes.text("url.query").unwrap_or_default();
            numbers.insert(number.to_owned());
            Expected::served_to_curl(&nginx, "GET", &format!("/hello?{number}"))?
                .status(200)
                .check(span);
            assert_ne!(span.pid(), Some(nginx.pid()), "the master answers nobody");
        }
        assert_eq!(numbers.len(), REQUESTS, "each request once");
        Ok(())
    })
}
