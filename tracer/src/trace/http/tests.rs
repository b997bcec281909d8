use std::net::SocketAddr;

use super::*;
use crate::event::{ConnId, Endpoint, KernelTime, Pid, StreamOffset, Tid};
use crate::exchange::{
    End, Ends, ExchangeId, Field, Gateway, HttpVersion, RequestHead, ResponseHead,
};
use crate::trace::Value;
use crate::trace::context::IdSource;
use crate::trace::resource::ResourceId;

fn inet(text: &str) -> Endpoint {
    Endpoint::Inet(text.parse::<SocketAddr>().unwrap())
}

fn ends(local: Endpoint, remote: Endpoint) -> Arc<Ends> {
    Arc::new(Ends { local: End::new(local), remote: End::new(remote), unix_pair: (0, 0) })
}

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

fn response(status: u16) -> ResponseHead {
    ResponseHead { status, version: HttpVersion::Http11, headers: Vec::new() }
}

fn exchange(role: Role, method: &str, target: &str, headers: &[(&str, &str)]) -> Exchange {
    let (server, client) = (inet("10.0.0.1:8080"), inet("10.0.0.2:50000"));
    let (local, remote) = match role {
        Role::Server => (server, client),
        Role::Client => (client, server),
    };
    Exchange {
        id: ExchangeId { conn: ConnId(1), offset: StreamOffset(0) },
        role,
        pid: Pid(1),
        tid: Tid(1),
        ends: ends(local, remote),
        request: Arc::new(RequestHead {
            method: method.into(),
            target: target.into(),
            version: HttpVersion::Http11,
            gateway: None,
            headers: fields(headers),
        }),
        response: Some(response(200)),
        start: KernelTime(1_000),
        response_start: Some(KernelTime(2_000)),
        end: KernelTime(3_000),
        request_body: 0,
        response_body: 0,
        outcome: Outcome::Complete,
    }
}

fn build_with(options: SpanOptions, exchange: &Exchange) -> Span {
    let resource = Arc::new(Resource {
        id: ResourceId(1),
        service: "shop".into(),
        attributes: vec![("service.name".into(), Value::Text("shop".into()))],
    });
    let context = IdSource::seeded(1).root();
    SpanBuilder::new(options, ClockOffset(500)).build(exchange, &context, &Origin::Root, resource)
}

fn build(exchange: &Exchange) -> Span {
    build_with(SpanOptions::default(), exchange)
}

fn text(value: &'static str) -> Value {
    Value::Text(value.into())
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    span.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_server_span_has_exactly_these_attributes() {
    let span = build(&exchange(
        Role::Server,
        "GET",
        "/users/7?q=x&sig=secret",
        &[("host", "shop.example:8080"), ("user-agent", "curl/8")],
    ));
    let mut attributes = span.attributes.clone();
    attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(
        attributes,
        [
            ("client.address", text("10.0.0.2")),
            ("http.request.method", text("GET")),
            ("http.response.status_code", Value::Int(200)),
            ("network.peer.address", text("10.0.0.2")),
            ("network.peer.port", Value::Int(50000)),
            ("network.protocol.version", text("1.1")),
            ("server.address", text("shop.example")),
            ("server.port", Value::Int(8080)),
            ("url.path", text("/users/7")),
            ("url.query", text("q=x&sig=REDACTED")),
            ("url.scheme", text("http")),
            ("user_agent.original", text("curl/8")),
        ]
        .map(|(name, value)| (Cow::Borrowed(name), value))
    );
    assert_eq!((&*span.name, span.kind, span.status), ("GET", SpanKind::Server, Status::Unset));
    assert_eq!((span.start, span.end), (1_500, 3_500));
}

#[test]
fn a_client_span_has_exactly_these_attributes() {
    let span = build(&exchange(
        Role::Client,
        "POST",
        "/pay?Signature=s",
        &[("host", "bank.example"), ("user-agent", "curl/8")],
    ));
    let mut attributes = span.attributes.clone();
    attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(
        attributes,
        [
            ("http.request.method", text("POST")),
            ("http.response.status_code", Value::Int(200)),
            ("network.peer.address", text("10.0.0.1")),
            ("network.peer.port", Value::Int(8080)),
            ("network.protocol.version", text("1.1")),
            ("server.address", text("bank.example")),
            ("server.port", Value::Int(8080)),
            ("url.full", text("http://bank.example/pay?Signature=REDACTED")),
        ]
        .map(|(name, value)| (Cow::Borrowed(name), value))
    );
    assert_eq!((&*span.name, span.kind), ("POST", SpanKind::Client));
}

#[test]
fn names_are_method_and_route_never_a_path() {
    let routes =
        SpanOptions { routes: vec!["/users/{id}".parse().unwrap()], ..SpanOptions::default() };
    let rows = [
        (Role::Server, "GET", "/users/7?x=1", "GET /users/{id}", Some("/users/{id}")),
        (Role::Server, "BREW", "/users/7", "HTTP /users/{id}", Some("/users/{id}")),
        (Role::Server, "GET", "/elsewhere", "GET", None),
        (Role::Server, "BREW", "/elsewhere", "HTTP", None),
        (Role::Client, "GET", "/users/7", "GET", None),
        (Role::Server, "get", "/elsewhere", "HTTP", None),
        (Role::Server, "QUERY", "/elsewhere", "QUERY", None),
    ];
    for (role, method, target, name, route) in rows {
        let span = build_with(routes.clone(), &exchange(role, method, target, &[]));
        assert_eq!(span.name, name, "{method} {target}");
        assert_eq!(attribute(&span, "http.route").as_deref(), route, "{method} {target}");
    }
}

#[test]
fn inferred_routes_are_opt_in() {
    let inferring = SpanOptions { infer_routes: Some(1), ..SpanOptions::default() };
    let request = exchange(Role::Server, "GET", "/users/7", &[]);
    assert_eq!(build_with(inferring, &request).name, "GET /users/{id}");
    assert_eq!(build(&request).name, "GET");
}

#[test]
fn unknown_methods_keep_their_original_beside_other() {
    let span = build(&exchange(Role::Client, "BREW", "/", &[]));
    assert_eq!(attribute(&span, "http.request.method").as_deref(), Some("_OTHER"));
    assert_eq!(attribute(&span, "http.request.method_original").as_deref(), Some("BREW"));

    let own = SpanOptions { known_methods: Some(vec!["BREW".into()]), ..SpanOptions::default() };
    let span = build_with(own.clone(), &exchange(Role::Client, "BREW", "/", &[]));
    assert_eq!(span.name, "BREW");
    assert_eq!(attribute(&span, "http.request.method_original"), None);
    assert_eq!(build_with(own, &exchange(Role::Client, "GET", "/", &[])).name, "HTTP");
}

#[test]
fn status_and_error_type_follow_role_status_and_outcome() {
    use Outcome::{ClosedByPeer, ClosedLocally, Complete, Reset, TimedOut};
    use Role::{Client, Server};
    let rows = [
        (Server, Some(101), Complete, None),
        (Server, Some(302), Complete, None),
        (Server, Some(404), Complete, None),
        (Client, Some(404), Complete, Some("404")),
        (Server, Some(500), Complete, Some("500")),
        (Client, Some(503), Complete, Some("503")),
        (Client, Some(999), Complete, Some("999")),
        (Client, None, Reset, Some("connection_reset")),
        (Server, None, Reset, Some("connection_reset")),
        (Client, Some(200), Reset, Some("connection_reset")),
        (Client, Some(500), Reset, Some("500")),
        (Server, Some(404), Reset, Some("connection_reset")),
        (Client, None, TimedOut, Some("timeout")),
        (Server, None, TimedOut, Some("timeout")),
        (Client, None, ClosedByPeer, Some("connection_closed")),
        (Server, Some(200), ClosedByPeer, Some("connection_closed")),
        (Client, None, ClosedLocally, Some("aborted")),
        (Client, Some(200), ClosedLocally, None),
        (Server, None, ClosedLocally, Some("connection_closed")),
        (Server, Some(200), ClosedLocally, Some("connection_closed")),
    ];
    for (role, status, outcome, error) in rows {
        let mut exchange = exchange(role, "GET", "/", &[]);
        exchange.response = status.map(response);
        exchange.outcome = outcome;
        let span = build(&exchange);
        let case = format!("{role:?} {status:?} {outcome:?}");
        assert_eq!(attribute(&span, "error.type").as_deref(), error, "{case}");
        assert_eq!(span.status == Status::Error, error.is_some(), "{case}");
        let code = status.map(|status| status.to_string());
        assert_eq!(attribute(&span, "http.response.status_code"), code, "{case}");
    }
}

#[test]
fn servers_believe_forwarded_then_x_forwarded_then_the_target_then_host() {
    let forwarded = ("forwarded", "for=1.1.1.1;host=f.example:81;proto=https");
    let unofficial = [
        ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
        ("x-forwarded-host", "x.example"),
        ("x-forwarded-proto", "https"),
    ];
    let host = ("host", "h.example:82");
    let check = |target: &str, headers: &[(&str, &str)], expected: [Option<&str>; 4]| {
        let span = build(&exchange(Role::Server, "GET", target, headers));
        let names = ["client.address", "server.address", "server.port", "url.scheme"];
        let actual = names.map(|name| attribute(&span, name));
        assert_eq!(actual.each_ref().map(Option::as_deref), expected, "{target} {headers:?}");
    };
    let all = [forwarded, unofficial[0], unofficial[1], unofficial[2], host];
    check("/", &all, [Some("1.1.1.1"), Some("f.example"), Some("81"), Some("https")]);
    check("/", &all[1..], [Some("2.2.2.2"), Some("x.example"), Some("443"), Some("https")]);
    check("/", &[host], [Some("10.0.0.2"), Some("h.example"), Some("82"), Some("http")]);
    let absolute = "https://u:p@a.example:83/x";
    check(absolute, &[host], [Some("10.0.0.2"), Some("a.example"), Some("83"), Some("https")]);
    check("/", &[], [Some("10.0.0.2"), Some("10.0.0.1"), Some("8080"), Some("http")]);
}

#[test]
fn full_urls_are_rebuilt_for_every_target_form() {
    let h = Some("h.example:81");
    let rows = [
        ("GET", "/a?b", h, "http://h.example:81/a?b", "h.example", "81"),
        ("GET", "/a", None, "http://10.0.0.1:8080/a", "10.0.0.1", "8080"),
        (
            "GET",
            "https://u:p@o.example/a?sig=1",
            h,
            "https://REDACTED:REDACTED@o.example/a?sig=REDACTED",
            "o.example",
            "443",
        ),
        ("GET", "http://o.example", h, "http://o.example/", "o.example", "80"),
        ("OPTIONS", "*", h, "http://h.example:81", "h.example", "81"),
        ("CONNECT", "t.example:443", h, "http://t.example:443", "t.example", "443"),
        ("GET", "/a", Some("[::1]:9"), "http://[::1]:9/a", "::1", "9"),
    ];
    for (method, target, host, url, address, port) in rows {
        let headers: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        let span = build(&exchange(Role::Client, method, target, &headers));
        assert_eq!(attribute(&span, "url.full").as_deref(), Some(url));
        assert_eq!(attribute(&span, "server.address").as_deref(), Some(address));
        assert_eq!(attribute(&span, "server.port").as_deref(), Some(port));
    }
}

#[test]
fn targets_without_path_or_query_claim_none() {
    let span = build(&exchange(Role::Server, "CONNECT", "t.example:443", &[]));
    assert_eq!(attribute(&span, "url.path"), None);
    let span = build(&exchange(Role::Server, "OPTIONS", "*", &[]));
    assert_eq!(attribute(&span, "url.path").as_deref(), Some("*"));
    let span = build(&exchange(Role::Server, "GET", "/?", &[]));
    assert_eq!(attribute(&span, "url.query"), None);
}

#[test]
fn unix_sockets_have_a_path_and_no_port() {
    let mut exchange = exchange(Role::Client, "GET", "/a", &[]);
    exchange.ends = ends(inet("10.0.0.1:8080"), Endpoint::Unix("/run/app.sock".into()));
    Arc::make_mut(&mut exchange.request).version = HttpVersion::Http10;
    exchange.response = None;
    let span = build(&exchange);
    assert_eq!(attribute(&span, "network.peer.address").as_deref(), Some("/run/app.sock"));
    assert_eq!(attribute(&span, "network.peer.port"), None);
    assert_eq!(attribute(&span, "server.port"), None);
    assert_eq!(attribute(&span, "url.full").as_deref(), Some("http://localhost/a"));
    assert_eq!(attribute(&span, "network.protocol.version").as_deref(), Some("1.0"));

    Arc::make_mut(&mut exchange.request).headers = fields(&[("host", "localhost")]);
    assert_eq!(attribute(&build(&exchange), "server.port").as_deref(), Some("80"), "of the URL");

    exchange.ends = ends(inet("10.0.0.1:8080"), Endpoint::Unix(String::new()));
    assert_eq!(attribute(&build(&exchange), "network.peer.address"), None);
}

/// A request that a web server hands on by `FastCGI`.
fn handed_on(role: Role, gateway: Gateway, headers: &[(&str, &str)]) -> Exchange {
    let mut exchange = exchange(role, "GET", "/a?b", headers);
    Arc::make_mut(&mut exchange.request).gateway = Some(Box::new(gateway));
    exchange
}

#[test]
fn a_request_that_was_handed_on_is_the_web_servers_client_s() {
    let gateway = Gateway {
        scheme: Some("https".into()),
        server: Some("shop.test".into()),
        port: Some(8443),
        client: Some("192.0.2.7".into()),
    };
    #[rustfmt::skip]
    let rows: [(&[(&str, &str)], _, _, _, _); 4] = [
        (&[], "shop.test", "8443", "192.0.2.7", "https://shop.test:8443/a?b"),
        (&[("host", "h.test")], "h.test", "8443", "192.0.2.7", "https://h.test:8443/a?b"),
        (&[("host", "h.test:1")], "h.test", "1", "192.0.2.7", "https://h.test:1/a?b"),
        (&[("host", "h.test:1"), ("x-forwarded-host", "f.test"), ("x-forwarded-for", "192.0.2.8")],
         "f.test", "443", "192.0.2.8", "https://h.test:1/a?b"),
    ];
    for (headers, address, port, client, url) in rows {
        let span = build(&handed_on(Role::Server, gateway.clone(), headers));
        assert_eq!(attribute(&span, "server.address").as_deref(), Some(address));
        assert_eq!(attribute(&span, "server.port").as_deref(), Some(port));
        assert_eq!(attribute(&span, "client.address").as_deref(), Some(client));
        assert_eq!(attribute(&span, "url.scheme").as_deref(), Some("https"));
        assert_eq!(attribute(&span, "network.peer.address").as_deref(), Some("10.0.0.2"));
        assert_eq!(attribute(&span, "network.protocol.name").as_deref(), Some("fastcgi"));
        assert_eq!(attribute(&span, "network.protocol.version").as_deref(), Some("1.0"));

        let span = build(&handed_on(Role::Client, gateway.clone(), headers));
        assert_eq!(attribute(&span, "url.full").as_deref(), Some(url));
        assert_eq!(attribute(&span, "server.address").as_deref(), Some("10.0.0.1"));
        assert_eq!(attribute(&span, "server.port").as_deref(), Some("8080"));
        assert_eq!(attribute(&span, "network.protocol.name").as_deref(), Some("fastcgi"));
    }
    let span = build(&handed_on(Role::Client, Gateway::default(), &[]));
    assert_eq!(attribute(&span, "url.full").as_deref(), Some("http://10.0.0.1:8080/a?b"));
    let span = build(&handed_on(Role::Server, Gateway::default(), &[]));
    assert_eq!(attribute(&span, "client.address").as_deref(), Some("10.0.0.2"));
    assert_eq!(
        attribute(&build(&exchange(Role::Server, "GET", "/", &[])), "network.protocol.name"),
        None
    );
}

#[test]
fn the_version_is_the_lower_one() {
    use HttpVersion::{Http10, Http11};
    let rows = [
        (Http10, None, "1.0"),
        (Http11, None, "1.1"),
        (Http10, Some(Http11), "1.0"),
        (Http11, Some(Http10), "1.0"),
        (Http11, Some(Http11), "1.1"),
    ];
    for (request, answered, version) in rows {
        let mut exchange = exchange(Role::Server, "GET", "/", &[]);
        Arc::make_mut(&mut exchange.request).version = request;
        exchange.response = answered.map(|version| ResponseHead { version, ..response(200) });
        let span = build(&exchange);
        assert_eq!(attribute(&span, "network.protocol.version").as_deref(), Some(version));
    }
}

#[test]
fn headers_are_captured_only_by_name() {
    let mut exchange = exchange(
        Role::Server,
        "GET",
        "/",
        &[("x-tenant", "a"), ("cookie", "secret"), ("x-tenant", "b")],
    );
    exchange.response.as_mut().unwrap().headers = fields(&[("x-cache", "hit")]);
    let list =
        |values: &[&str]| Value::TextList(values.iter().map(|value| (*value).to_owned()).collect());
    let captured = |span: &Span| -> Vec<(String, Value)> {
        let headers = span.attributes.iter().filter(|(name, _)| name.contains(".header."));
        headers.map(|(name, value)| (name.to_string(), value.clone())).collect()
    };
    assert_eq!(captured(&build(&exchange)), []);

    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let options = SpanOptions {
        captured_headers: HeaderInterest {
            request: names(&["x-tenant", "x-tenant", "x-absent"]),
            response: names(&["x-cache"]),
        },
        ..SpanOptions::default()
    };
    assert_eq!(
        captured(&build_with(options, &exchange)),
        [
            ("http.request.header.x-tenant".to_owned(), list(&["a", "b"])),
            ("http.response.header.x-cache".to_owned(), list(&["hit"])),
        ]
    );
}

#[test]
fn secrets_are_left_out_of_headers_paths_and_urls() {
    let header = |name: &str| (format!("http.request.header.{name}"), name.to_owned());
    let options = |rules: &[&str]| SpanOptions {
        captured_headers: HeaderInterest {
            request: vec!["cookie".to_owned(), "x-tenant".to_owned()],
            response: Vec::new(),
        },
        redaction: redact::Options {
            paths: vec!["/reset/{token}".parse().unwrap()],
            rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            ..redact::Options::default()
        },
        ..SpanOptions::default()
    };
    let fields = [("host", "a"), ("cookie", "sid=1"), ("cookie", "b=2"), ("x-tenant", "t")];
    let target = "/reset/geheim?token=geheim&page=1";
    let served = build_with(options(&[]), &exchange(Role::Server, "GET", target, &fields));
    assert_eq!(attribute(&served, "url.path").as_deref(), Some("/reset/REDACTED"));
    assert_eq!(attribute(&served, "url.query").as_deref(), Some("token=REDACTED&page=1"));
    let called = build_with(options(&[]), &exchange(Role::Client, "GET", target, &fields));
    let url = "http://a/reset/REDACTED?token=REDACTED&page=1";
    assert_eq!(attribute(&called, "url.full").as_deref(), Some(url));

    let values = |span: &Span, name: &str| {
        let (attribute, _) = header(name);
        span.attributes.iter().find(|(known, _)| *known == attribute).map(|(_, it)| it.clone())
    };
    let list = |values: &[&str]| {
        Some(Value::TextList(values.iter().map(|value| (*value).to_owned()).collect()))
    };
    assert_eq!(values(&served, "cookie"), list(&["REDACTED", "REDACTED"]));
    assert_eq!(values(&served, "x-tenant"), list(&["t"]));

    let rules = options(&["http.request.header.cookie=mask:sid=[^;]*", "url.*=delete"]);
    let span = build_with(rules, &exchange(Role::Server, "GET", target, &fields));
    assert_eq!(values(&span, "cookie"), list(&["REDACTED", "b=2"]));
    assert_eq!(attribute(&span, "url.path"), None);
}

#[test]
fn the_context_decides_the_place_and_time_never_runs_backwards() {
    let mut exchange = exchange(Role::Server, "GET", "/", &[]);
    exchange.end = KernelTime(10);
    let resource =
        Arc::new(Resource { id: ResourceId(1), service: "s".into(), attributes: Vec::new() });
    let mut ids = IdSource::seeded(1);
    let root = ids.root();
    let child = ids.child_of(&root);
    let span = SpanBuilder::new(SpanOptions::default(), ClockOffset(0)).build(
        &exchange,
        &child,
        &Origin::Root,
        resource,
    );
    assert_eq!((span.trace, span.id, span.parent), (root.trace, child.span, Some(root.span)));
    assert_eq!(span.start, span.end);
}
