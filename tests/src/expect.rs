//! What a span must look like by the HTTP semantic conventions: every attribute by name, and none
//! beside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::launcher::curl_user_agent;
use crate::service::Service;
use crate::span::{Attributes, Kind, Span, Status, Value};

/// A span as it must be, on loopback and HTTP/1.1 unless said otherwise.
///
/// ```no_run
/// # fn check(span: &tracer_tests::Span, address: std::net::SocketAddr) {
/// use tracer_tests::Expected;
///
/// Expected::server("GET", "/items?page=2")
///     .at(address)
///     .status(200)
///     .is("user_agent.original", "curl/7.88.1")
///     .check(span);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Expected {
    kind: Kind,
    name: String,
    status: Status,
    attributes: BTreeMap<String, Wanted>,
}

#[derive(Clone, Debug)]
enum Wanted {
    Is(Value),
    /// A number that cannot be known beforehand, such as an ephemeral port.
    Number,
}

impl Expected {
    /// The span of who answers `target`, a path with or without query.
    pub fn server(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let expected = Self::new(Kind::Server, method)
            .is("url.scheme", "http")
            .is("url.path", path)
            .is("client.address", "127.0.0.1")
            .number("network.peer.port");
        if query.is_empty() { expected } else { expected.is("url.query", query) }
    }

    /// The span of a service that answers curl, which names the service by its address.
    pub fn served_to_curl(service: &Service, method: &str, target: &str) -> Result<Self> {
        Ok(Self::server(method, target).at(service.address()).user_agent(&curl_user_agent()?))
    }

    /// The span of who asks for `url`, at an explicit port of an IP address.
    pub fn client(method: &str, url: &str) -> Self {
        let expected = Self::new(Kind::Client, method).is("url.full", url);
        let authority = url.split('/').nth(2).unwrap_or_default();
        match authority.parse::<SocketAddr>() {
            Ok(address) => expected.at(address).is("network.peer.port", i64::from(address.port())),
            // The caller says where with `at_host` and `peer_port`.
            Err(_) => expected,
        }
    }

    fn new(kind: Kind, method: &str) -> Self {
        let (name, status) = (method.to_owned(), Status::Unset);
        Self { kind, name, status, attributes: BTreeMap::new() }
            .is("http.request.method", method)
            .is("network.peer.address", "127.0.0.1")
            .is("network.protocol.version", "1.1")
    }

    /// Address and port of the server, as the request names them.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        self.at_host(&address.ip().to_string(), address.port())
    }

    /// Name and port of the server, as the request names them.
    #[must_use]
    pub fn at_host(self, host: &str, port: u16) -> Self {
        self.is("server.address", host).is("server.port", i64::from(port))
    }

    /// Port at the other end of the connection.
    #[must_use]
    pub fn peer_port(self, port: u16) -> Self {
        self.is("network.peer.port", i64::from(port))
    }

    /// Over a Unix socket; only the listening side of one has a path.
    #[must_use]
    pub fn over_unix_socket(self, path: &Path) -> Self {
        let this = self.without("network.peer.port");
        match this.kind {
            Kind::Client => this.is("network.peer.address", &*path.to_string_lossy()),
            Kind::Server => this.without("network.peer.address").without("client.address"),
        }
    }

    /// The response's status code, with what follows of it: an error or none.
    #[must_use]
    pub fn status(mut self, code: u16) -> Self {
        let lowest_error = match self.kind {
            Kind::Client => 400,
            Kind::Server => 500,
        };
        self.status = Status::Unset;
        if code >= lowest_error {
            self = self.failed(&code.to_string());
        }
        self.is("http.response.status_code", i64::from(code))
    }

    /// An error of this type.
    #[must_use]
    pub fn failed(mut self, error_type: &str) -> Self {
        self.status = Status::Error;
        self.is("error.type", error_type)
    }

    /// HTTP/1.0
    #[must_use]
    pub fn http10(self) -> Self {
        self.is("network.protocol.version", "1.0")
    }

    /// A route, which is part of the name too.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.name = format!("{} {route}", self.name);
        self.is("http.route", route)
    }

    /// What the client calls itself; only server spans tell.
    #[must_use]
    pub fn user_agent(self, agent: &str) -> Self {
        self.is("user_agent.original", agent)
    }

    /// Another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// An attribute with this value.
    #[must_use]
    pub fn is(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.to_owned(), Wanted::Is(value.into()));
        self
    }

    /// An attribute with some number.
    #[must_use]
    pub fn number(mut self, name: &str) -> Self {
        self.attributes.insert(name.to_owned(), Wanted::Number);
        self
    }

    /// Not this attribute.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.attributes.remove(name);
        self
    }

    /// Fails, naming every difference.
    #[track_caller]
    pub fn check(&self, span: &Span) {
        let differences = self.differences(span);
        assert!(differences.is_empty(), "{differences}of {span:?}");
    }

    fn differences(&self, span: &Span) -> String {
        let mut found = String::new();
        let mut differ = |what: &str, wanted: String, given: String| {
            if wanted != given {
                // Writing to a `String` does not fail.
                let _ = writeln!(found, "{what}: wanted {wanted}, found {given}");
            }
        };
        differ("kind", format!("{:?}", self.kind), format!("{:?}", span.kind));
        differ("name", self.name.clone(), span.name.clone());
        differ("status", format!("{:?}", self.status), format!("{:?}", span.status));
        let names: BTreeSet<&str> =
            self.attributes.keys().map(String::as_str).chain(span.attributes.names()).collect();
        // How the parent was found depends on who else is traced: that is for tests of links.
        for name in names.into_iter().filter(|name| !name.starts_with("tracer.link")) {
            let given = span.attribute(name);
            let wanted = match (self.attributes.get(name), given) {
                (Some(Wanted::Number), Some(Value::Int(_))) => continue,
                (Some(Wanted::Number), _) => "a number".to_owned(),
                (Some(Wanted::Is(value)), _) => format!("{value:?}"),
                (None, _) => "nothing".to_owned(),
            };
            differ(name, wanted, given.map_or("nothing".to_owned(), |it| format!("{it:?}")));
        }
        if span.end < span.start {
            let _ = writeln!(found, "it ends before it starts");
        }
        found
    }
}

/// What a resource says of any traced process.
const ALWAYS: [&str; 13] = [
    "host.arch",
    "host.name",
    "os.type",
    "process.command",
    "process.creation.time",
    "process.pid",
    "service.instance.id",
    "service.name",
    "telemetry.distro.name",
    "telemetry.distro.version",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
];
/// What it says if the process lived long enough to be asked.
const OF_SERVICES: [&str; 3] =
    ["process.executable.name", "process.executable.path", "process.owner"];
/// What it says where the host knows it.
const SOMETIMES: [&str; 7] = [
    "container.id",
    "container.name",
    "host.id",
    "os.description",
    "os.name",
    "os.version",
    "process.runtime.name",
];

/// Fails unless a resource has what that of every service has, these attributes with these values,
/// and nothing else.
#[track_caller]
pub fn check_resource(resource: &Attributes, values: &[(&str, &str)]) {
    for name in OF_SERVICES {
        assert!(resource.value(name).is_some(), "no {name} in {resource:?}");
    }
    check_short_lived(resource, values);
}

/// [`check_resource`] of a process that may have been gone when the agent heard of it.
#[track_caller]
pub fn check_short_lived(resource: &Attributes, values: &[(&str, &str)]) {
    for name in ALWAYS {
        assert!(resource.value(name).is_some(), "no {name} in {resource:?}");
    }
    for (name, value) in values {
        assert_eq!(resource.text(name), Some(*value), "{name} of {resource:?}");
    }
    for name in resource.names() {
        let known = [&ALWAYS[..], &OF_SERVICES, &SOMETIMES].concat().contains(&name);
        let expected = values.iter().any(|(expected, _)| *expected == name);
        assert!(known || expected, "unexpected {name} in {resource:?}");
    }
    let id = resource.text("service.instance.id").unwrap_or_default();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "service.instance.id is no UUID: {id}");
    assert_eq!(resource.text("os.type"), Some("linux"));
    assert_eq!(resource.text("telemetry.sdk.name"), Some("tracer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        let attributes = [
            ("http.request.method", Value::from("GET")),
            ("url.scheme", Value::from("http")),
            ("url.path", Value::from("/a")),
            ("client.address", Value::from("127.0.0.1")),
            ("network.peer.address", Value::from("127.0.0.1")),
            ("network.peer.port", Value::from(50_000)),
            ("network.protocol.version", Value::from("1.1")),
            ("server.address", Value::from("127.0.0.1")),
            ("server.port", Value::from(80)),
            ("http.response.status_code", Value::from(200)),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
        Span {
            trace_id: "0".repeat(31) + "1",
            span_id: "0".repeat(15) + "1",
            parent_span_id: None,
            trace_state: String::new(),
            flags: 0,
            name: "GET".to_owned(),
            kind: Kind::Server,
            start: 1,
            end: 2,
            status: Status::Unset,
            attributes: Attributes(attributes.into_iter().collect()),
            resource: Attributes::default(),
            scope: "tracer".to_owned(),
            links: Vec::new(),
        }
    }

    #[test]
    fn what_matches_passes_and_every_difference_is_named() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let expected = Expected::server("GET", "/a").at(address).status(200);
        assert_eq!(expected.differences(&span()), "");

        let mut other = span();
        other.attributes.0.remove("url.scheme");
        other.attributes.0.insert("extra".to_owned(), Value::from(true));
        other.end = 0;
        let differences = expected.clone().status(503).differences(&other);
        let lines: Vec<&str> = differences.lines().collect();
        assert_eq!(
            lines,
            [
                "status: wanted Error, found Unset",
                "error.type: wanted Text(\"503\"), found nothing",
                "extra: wanted nothing, found Bool(true)",
                "http.response.status_code: wanted Int(503), found Int(200)",
                "url.scheme: wanted Text(\"http\"), found nothing",
                "it ends before it starts",
            ]
        );
    }
}
