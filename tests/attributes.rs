//! What spans say of requests: what must not be said, what is said only on request, and what
//! proxies and odd request targets make of it.

use anyhow::Result;
use tracer_tests::service::{self, Nginx};
use tracer_tests::{AgentOptions, Backend, Expected, Launcher, Value, layout, on_each_backend};

fn texts(values: &[&str]) -> Value {
    Value::List(values.iter().map(|&value| Value::from(value)).collect())
}

/// Protects: signatures in queries and credentials in URLs and headers leave the host in no
/// attribute of no span.
#[test]
fn secrets_are_redacted() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        launcher.curl([nginx.url("/hello?page=2&sig=geheim&X-Amz-Signature=geheim&Sig=up")])?;
        let absolute = format!("http://geheim:geheim@{}/hello?sig=geheim", nginx.address());
        launcher.curl(["--request-target", &absolute, &nginx.url("/")])?;
        launcher.curl([
            "--user",
            "geheim:geheim",
            "--cookie",
            "id=geheim",
            &nginx.url("/hello"),
        ])?;
        let spans = agent.finish(6)?;

        let redacted = "page=2&sig=REDACTED&X-Amz-Signature=REDACTED&Sig=up";
        let targets = [format!("/hello?{redacted}"), "/hello?sig=REDACTED".into(), "/hello".into()];
        // nginx wants no credentials in a request target.
        let statuses = [200, 400, 200];
        for ((span, target), status) in spans.servers().iter().zip(&targets).zip(statuses) {
            Expected::served_to_curl(&nginx, "GET", target)?.status(status).check(span);
        }
        let urls = [
            nginx.url(&targets[0]),
            format!("http://REDACTED:REDACTED@{}{}", nginx.address(), targets[1]),
            nginx.url("/hello"),
        ];
        for ((span, url), status) in spans.clients().iter().zip(&urls).zip(statuses) {
            Expected::client("GET", &nginx.url("/"))
                .is("url.full", url.as_str())
                .status(status)
                .check(span);
        }
        assert!(!format!("{spans:?}").contains("geheim"), "{spans}");
        Ok(())
    })
}

/// Protects: a list of one's own replaces the built-in one.
#[test]
fn other_query_keys_can_be_redacted() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(nginx.pid())
            .argument("--redact-query-key=token,key")
            .start()?;
        launcher.curl([nginx.url("/hello?token=geheim&sig=1&key=geheim")])?;
        let spans = agent.finish(1)?;
        Expected::served_to_curl(&nginx, "GET", "/hello?token=REDACTED&sig=1&key=REDACTED")?
            .status(200)
            .check(spans.only()?);
        Ok(())
    })
}

/// Protects: what rules leave out of spans and resources is nowhere, headers known to be secrets are
/// masked without a rule, and limits of the specification hold and say what they cut.
#[test]
fn rules_and_limits_leave_things_out() -> Result<()> {
    let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(Backend::Auto)
        .pid(nginx.pid())
        .argument("--capture-request-header=authorization,x-user,x-card")
        .argument("--redact=http.request.header.x-user=hash")
        .argument("--redact=http.request.header.*=mask:[0-9]{4}")
        .argument("--redact=user_agent.original=delete")
        .argument("--redact=host.name=delete")
        .argument("--redact-path=/{secret}")
        .env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "32")
        .env("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
        .start()?;
    let headers = ["authorization: geheim", "x-user: geheim", "x-card: no 1234"];
    let headers = headers.iter().flat_map(|header| ["--header", header]);
    let long = format!("{}?{}", nginx.url("/hello"), "q".repeat(40));
    launcher.curl(headers.chain([long.as_str()]))?;
    let finished = agent.stop_after(1)?;
    let span = finished.spans.only()?;
    let header = |name: &str| match span.attribute(&format!("http.request.header.{name}")) {
        Some(Value::List(values)) => values.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(header("authorization"), ["REDACTED".into()]);
    assert_eq!(header("x-card"), ["no REDACTED".into()]);
    assert!(matches!(&header("x-user")[..], [Value::Text(digest)] if digest.len() == 32));
    assert_eq!(span.attributes.text("url.path"), Some("/REDACTED"));
    assert_eq!(span.attributes.text("url.query"), Some(&*"q".repeat(32)));
    assert_eq!(span.attribute("user_agent.original"), None);
    assert_eq!(span.resource.text("host.name"), None);
    assert!(!format!("{span:?}").contains("geheim"), "{span:?}");
    let redacted = &finished.report.json["redacted"];
    assert_eq!((redacted["hashed"].as_u64(), redacted["shortened"].as_u64()), (Some(1), Some(1)));
    assert!(finished.log.contains("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: `many` is ignored"));
    Ok(())
}

/// Protects: header values stand on spans of both ends if asked for by name, in any case, as a list
/// of all values of the name; and only then.
#[test]
fn headers_are_captured_by_name() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("add_header X-Cache hit;")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(nginx.pid())
            .pid(launcher.pid())
            .argument("--capture-request-header=X-Request-Id")
            .argument("--capture-request-header=x-absent")
            .argument("--capture-response-header=x-cache,Content-Length")
            .start()?;
        launcher.curl([
            "--header",
            "x-request-ID: 17",
            "--header",
            "X-Request-Id: 18",
            "--header",
            "X-Other: geheim",
            &nginx.url("/hello"),
        ])?;
        let spans = agent.finish(2)?;
        let captured = |expected: Expected| {
            expected
                .is("http.request.header.x-request-id", texts(&["17", "18"]))
                .is("http.response.header.x-cache", texts(&["hit"]))
                .is("http.response.header.content-length", texts(&["6"]))
        };
        captured(Expected::served_to_curl(&nginx, "GET", "/hello")?.status(200))
            .check(spans.servers().only()?);
        captured(Expected::client("GET", &nginx.url("/hello")).status(200))
            .check(spans.clients().only()?);
        Ok(())
    })
}

/// Protects: routes come from configured patterns and name server spans; paths never do.
#[test]
fn routes_are_configured() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("location / { return 200 'ok'; }")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(nginx.pid())
            .pid(launcher.pid())
            .argument("--route=/users/{id}")
            .argument("--route=/users/{id}/orders/{order}")
            .argument("--route=/files/{path...}")
            .start()?;
        let rows = [
            ("/users/7?page=2", Some("/users/{id}")),
            ("/users/7/orders/9", Some("/users/{id}/orders/{order}")),
            ("/files/a/b/c", Some("/files/{path...}")),
            ("/users", None),
            ("/users/7/orders", None),
        ];
        launcher.curl(rows.map(|(target, _)| nginx.url(target)))?;
        let spans = agent.finish(2 * rows.len())?;
        for (span, (target, route)) in spans.servers().iter().zip(rows) {
            let expected = Expected::served_to_curl(&nginx, "GET", target)?.status(200);
            route.into_iter().fold(expected, Expected::route).check(span);
        }
        for (span, (target, _)) in spans.clients().iter().zip(rows) {
            Expected::client("GET", &nginx.url(target)).status(200).check(span);
        }
        Ok(())
    })
}

/// Protects: guessed routes are off unless asked for, and then of low cardinality.
#[test]
fn routes_are_guessed_on_request() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("location / { return 200 'ok'; }")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent =
            AgentOptions::new(backend).pid(nginx.pid()).argument("--route-heuristic").start()?;
        launcher.curl([nginx.url("/users/7"), nginx.url("/users/8")])?;
        let spans = agent.finish(2)?;
        for (span, target) in spans.iter().zip(["/users/7", "/users/8"]) {
            Expected::served_to_curl(&nginx, "GET", target)?
                .status(200)
                .route("/users/{id}")
                .check(span);
        }
        Ok(())
    })
}

/// Protects: behind a proxy that says so, a server's span tells what the first client asked for.
#[test]
fn forwarded_requests() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).start()?;
        let url = nginx.url("/hello");
        launcher.curl([
            "--header",
            "X-Forwarded-For: 203.0.113.9, 10.0.0.1",
            "--header",
            "X-Forwarded-Proto: https",
            "--header",
            "X-Forwarded-Host: shop.example:8443",
            &url,
        ])?;
        let element = "Forwarded: for=\"[2001:db8::17]:4711\";proto=https;host=shop.example";
        launcher.curl(["--header", element, &url])?;
        launcher.curl(["--header", "Host: shop.example", &url])?;
        let spans = agent.finish(3)?;
        let hello = Expected::served_to_curl(&nginx, "GET", "/hello")?.status(200);
        hello
            .clone()
            .is("url.scheme", "https")
            .is("client.address", "203.0.113.9")
            .at_host("shop.example", 8443)
            .check(&spans[0]);
        hello
            .clone()
            .is("url.scheme", "https")
            .is("client.address", "2001:db8::17")
            .at_host("shop.example", 443)
            .check(&spans[1]);
        hello.at_host("shop.example", 80).check(&spans[2]);
        Ok(())
    })
}

/// Protects: any method token, and the request targets that are no path.
#[test]
fn odd_methods_and_targets() -> Result<()> {
    on_each_backend(|backend| {
        let go = service::go(&layout::service_source("go_server.go"), &[])?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(go.pid()).pid(launcher.pid()).start()?;
        launcher.curl(["--request", "BREW", &go.url("/hello")])?;
        launcher.curl(["--request", "get", &go.url("/hello")])?;
        launcher.curl(["--request", "OPTIONS", "--request-target", "*", &go.url("/")])?;
        let absolute = go.url("/hello?a=1");
        launcher.curl(["--request-target", &absolute, &go.url("/")])?;
        let spans = agent.finish(8)?;

        let other = |expected: Expected, sent: &str| {
            expected
                .named("HTTP")
                .is("http.request.method", "_OTHER")
                .is("http.request.method_original", sent)
        };
        let root = format!("http://{}", go.address());
        let rows = [
            (
                other(Expected::served_to_curl(&go, "BREW", "/hello")?, "BREW"),
                other(Expected::client("BREW", &go.url("/hello")), "BREW"),
            ),
            (
                other(Expected::served_to_curl(&go, "get", "/hello")?, "get"),
                other(Expected::client("get", &go.url("/hello")), "get"),
            ),
            (Expected::served_to_curl(&go, "OPTIONS", "*")?, Expected::client("OPTIONS", &root)),
            (
                Expected::served_to_curl(&go, "GET", "/hello?a=1")?,
                Expected::client("GET", &absolute),
            ),
        ];
        for (index, (server, client)) in rows.into_iter().enumerate() {
            server.status(200).check(&spans.servers()[index]);
            client.status(200).check(&spans.clients()[index]);
        }
        Ok(())
    })
}
