//! The stable HTTP semantic conventions: one finished exchange becomes one span.
//!
//! Where the conventions leave a choice:
//!
//! - A client span ends with the last response byte, not with the response head.
//! - A response with an error status names that status as `error.type`, even if the connection
//!   failed later; a failed connection is named otherwise.
//! - A client that closes before any response counts as failed (`aborted`): from outside, its own
//!   time limit and a cancellation look the same, and it got no answer either way. One that closes
//!   after the response head cancelled on purpose, which is no error.
//! - `server.port` of a server comes from where `server.address` does, and is the scheme's own where
//!   that names none; on a client it falls back to the port it is connected to first.
//! - `network.protocol.version` is the lower one of request and response: what both ends speak.
//! - `url.path` is left out for `CONNECT`, whose target has no path, and is `*` for `OPTIONS *`.
//! - A request handed on by `FastCGI` is an HTTP request of both ends, because that is what is asked
//!   and answered: `network.protocol.name` and `.version` say what carries it. URL, server and
//!   client of the application's span are those of the web server's client; `server.address` and
//!   `server.port` of the web server's own client span are where it connects to.

mod address;
mod attributes;
mod gateway;
mod network;
mod target;

use std::borrow::Cow;
use std::sync::Arc;

use smol_str::{SmolStr, SmolStrBuilder, ToSmolStr};

use super::context::SpanContext;
use super::resource::Resource;
use super::route::{RoutePattern, RouteTable};
use super::semconv::{KNOWN_METHODS, OTHER, attribute, error_type};
use super::span::{Link, Span, SpanKind, Status};
use crate::event::ClockOffset;
use crate::exchange::{Exchange, HeaderInterest, Outcome, Role};
use crate::link::Origin;
use crate::redact::{self, Redactor, split_credentials};
use address::{Authority, Headers, unnamed_authority};
use attributes::{Attributes, CapturedHeader};
use target::Target;

/// Attributes of a usual span, to allocate once and not more: thousands of spans wait in queues.
const USUAL_ATTRIBUTES: usize = 12;
/// No exchange is traced inside TLS yet.
const DEFAULT_SCHEME: &str = "http";

/// What the user decides about spans.
#[derive(Clone, Debug, Default)]
pub struct SpanOptions {
    /// Configured routes.
    pub routes: Vec<RoutePattern>,
    /// Guess so many routes of each server where no pattern matches, see [`super::route`].
    pub infer_routes: Option<usize>,
    /// Header fields to put on spans, by lower-case name.
    pub captured_headers: HeaderInterest,
    /// What is left out.
    pub redaction: redact::Options,
    /// Methods to report as they are instead of the built-in list, case-sensitive.
    pub known_methods: Option<Vec<String>>,
}

/// Turns exchanges into spans.
#[derive(Debug)]
pub struct SpanBuilder {
    clock: ClockOffset,
    routes: RouteTable,
    redactor: Redactor,
    known_methods: Vec<SmolStr>,
    request_headers: Vec<CapturedHeader>,
    response_headers: Vec<CapturedHeader>,
}

impl SpanBuilder {
    /// A builder for exchanges whose times `clock` converts.
    pub fn new(options: SpanOptions, clock: ClockOffset) -> Self {
        let redactor = Redactor::new(options.redaction);
        let captured = |names: Vec<String>, prefix: &str| {
            let mut names = names;
            names.sort();
            names.dedup();
            names
                .into_iter()
                .map(|name| {
                    let attribute = format!("{prefix}{name}");
                    let masked = redactor.masks_header(&name, &attribute);
                    CapturedHeader { name, attribute, masked }
                })
                .collect()
        };
        let request_headers = captured(options.captured_headers.request, "http.request.header.");
        let response_headers = captured(options.captured_headers.response, "http.response.header.");
        Self {
            clock,
            routes: RouteTable::new(options.routes, options.infer_routes),
            redactor,
            known_methods: options.known_methods.map_or_else(
                || KNOWN_METHODS.map(SmolStr::new_static).into(),
                |methods| methods.into_iter().map(SmolStr::from).collect(),
            ),
            request_headers,
            response_headers,
        }
    }

    /// Goes on with other options, and with what was counted.
    pub fn reconfigure(&mut self, options: SpanOptions) {
        let before = std::mem::replace(self, Self::new(options, self.clock));
        self.redactor.go_on_from(&before.redactor);
        self.routes.go_on_from(before.routes);
    }

    /// The span of `exchange`, at the place that `context` gives it for the reason `origin`.
    pub fn build(
        &mut self,
        exchange: &Exchange,
        context: &SpanContext,
        origin: &Origin,
        resource: Arc<Resource>,
    ) -> Span {
        let mut attributes = Attributes(Vec::with_capacity(USUAL_ATTRIBUTES));
        let target = Target::parse(&exchange.request.method, &exchange.request.target);
        let method = self.method(&exchange.request.method, &mut attributes);

        let route = match exchange.role {
            Role::Server => {
                self.describe_server(exchange, &target, &mut attributes);
                let status = exchange.response.as_ref().map(|response| response.status);
                self.routes.route(&resource.service, target.path, status)
            }
            Role::Client => {
                self.describe_client(exchange, &target, &mut attributes);
                None
            }
        };
        let name = span_name(method, route.as_deref());
        if let Some(route) = route {
            attributes.text(attribute::HTTP_ROUTE, route);
        }

        network::describe(exchange, &mut attributes);
        if let Some(response) = &exchange.response {
            attributes.int(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(response.status));
        }
        let error = error_type(exchange);
        let status = if error.is_some() { Status::Error } else { Status::Unset };
        if let Some(error) = error {
            attributes.text(attribute::ERROR_TYPE, error);
        }
        self.describe_captured(exchange, &mut attributes);
        describe_origin(origin, &mut attributes);

        let start = self.clock.unix_nanos(exchange.start);
        let mut span = Span {
            trace: context.trace,
            id: context.span,
            parent: context.parent,
            parent_is_remote: context.parent_is_remote,
            flags: context.flags,
            state: context.state.clone(),
            name,
            kind: match exchange.role {
                Role::Server => SpanKind::Server,
                Role::Client => SpanKind::Client,
            },
            start,
            end: self.clock.unix_nanos(exchange.end).max(start),
            status,
            attributes: attributes.0,
            dropped_attributes: 0,
            links: related(origin),
            dropped_links: 0,
            resource,
        };
        self.redactor.redact(&mut span);
        span
    }

    /// What was left out of spans so far.
    pub fn redacted(&self) -> redact::Counts {
        self.redactor.counts()
    }

    /// How often a request had an inferred route beyond those that its service may have.
    pub fn routes_overflowed(&self) -> u64 {
        self.routes.overflowed()
    }

    /// Reports the method; returns it as the span's name wants it.
    fn method(&self, sent: &SmolStr, attributes: &mut Attributes) -> SmolStr {
        if let Some(known) = self.known_methods.iter().find(|known| *known == sent) {
            attributes.text(attribute::HTTP_REQUEST_METHOD, known.clone());
            return known.clone();
        }
        attributes.fixed(attribute::HTTP_REQUEST_METHOD, OTHER);
        attributes.text(attribute::HTTP_REQUEST_METHOD_ORIGINAL, sent.clone());
        SmolStr::new_static("HTTP")
    }

    fn describe_server(
        &self,
        exchange: &Exchange,
        target: &Target<'_>,
        attributes: &mut Attributes,
    ) {
        let headers = Headers::read(&exchange.request.headers);
        let gateway = exchange.request.gateway.as_deref();
        let scheme = headers.forwarded_scheme().or(target.scheme).or(gateway::scheme(gateway));
        let scheme = scheme.unwrap_or(DEFAULT_SCHEME);
        let default_port = default_port(scheme);
        match scheme {
            "http" => attributes.fixed(attribute::URL_SCHEME, "http"),
            "https" => attributes.fixed(attribute::URL_SCHEME, "https"),
            _ => attributes.text(attribute::URL_SCHEME, scheme),
        }
        if !target.path.is_empty() {
            match self.redactor.url().path(target.path) {
                Cow::Borrowed(path) => {
                    let path = part_of(&exchange.request.target, path);
                    attributes.text(attribute::URL_PATH, path);
                }
                Cow::Owned(path) => attributes.text(attribute::URL_PATH, path),
            }
        }
        if let Some(query) = target.query.filter(|query| !query.is_empty()) {
            attributes.text(attribute::URL_QUERY, self.redactor.url().query(query));
        }

        let forwarded = headers.forwarded_host();
        if let Some(host) = forwarded.or(target.authority).or_else(|| headers.host()) {
            let authority = Authority::parse(split_credentials(host).1);
            let told = gateway::port(gateway).filter(|_| forwarded.is_none());
            attributes.text(attribute::SERVER_ADDRESS, authority.host);
            attributes.port(attribute::SERVER_PORT, authority.port.or(told).or(default_port));
        } else if let Some(server) = gateway.and_then(|gateway| gateway.server.clone()) {
            attributes.text(attribute::SERVER_ADDRESS, server);
            attributes.port(attribute::SERVER_PORT, gateway::port(gateway).or(default_port));
        } else {
            attributes.address(attribute::SERVER_ADDRESS, &exchange.ends.local);
            attributes.port(attribute::SERVER_PORT, exchange.ends.local.port());
        }
        match headers.forwarded_client().or(gateway::client(gateway)) {
            Some(client) => attributes.text(attribute::CLIENT_ADDRESS, client),
            None => attributes.address(attribute::CLIENT_ADDRESS, &exchange.ends.remote),
        }
        if let Some(agent) = headers.user_agent() {
            attributes.text(attribute::USER_AGENT_ORIGINAL, agent.clone());
        }
    }

    fn describe_client(
        &self,
        exchange: &Exchange,
        target: &Target<'_>,
        attributes: &mut Attributes,
    ) {
        let gateway = exchange.request.gateway.as_deref();
        let host = target.authority.or_else(|| Headers::read(&exchange.request.headers).host());
        let named = gateway.and_then(|gateway| gateway::authority(gateway, host));
        let host = named.as_deref().or(host);
        let scheme = target.scheme.or(gateway::scheme(gateway)).unwrap_or(DEFAULT_SCHEME);
        attributes.text(attribute::URL_FULL, self.full_url(exchange, scheme, host, target));

        if let Some(host) = host.filter(|_| gateway.is_none()) {
            let authority = Authority::parse(split_credentials(host).1);
            // Towards a proxy, the connection's port is not the origin's.
            let connected = exchange.ends.remote.port().filter(|_| target.scheme.is_none());
            let implied = connected.or_else(|| default_port(scheme));
            attributes.text(attribute::SERVER_ADDRESS, authority.host);
            attributes.port(attribute::SERVER_PORT, authority.port.or(implied));
        } else {
            attributes.address(attribute::SERVER_ADDRESS, &exchange.ends.remote);
            attributes.port(attribute::SERVER_PORT, exchange.ends.remote.port());
        }
    }

    /// The target URI as RFC 9112 section 3.3 rebuilds it, without secrets.
    fn full_url(
        &self,
        exchange: &Exchange,
        scheme: &str,
        host: Option<&str>,
        target: &Target<'_>,
    ) -> String {
        let mut url = String::with_capacity(
            scheme.len() + host.map_or(24, str::len) + exchange.request.target.len() + 3,
        );
        url.push_str(scheme);
        url.push_str("://");
        if let Some(host) = host {
            let (credentials, host) = split_credentials(host);
            url.push_str(credentials);
            url.push_str(host);
        } else {
            url.push_str(&unnamed_authority(exchange.ends.remote.endpoint()));
        }
        // Asterisk form stands for the server as a whole, whose URI has an empty path.
        if target.path != "*" {
            url.push_str(&self.redactor.url().path(target.path));
        }
        if let Some(query) = target.query {
            url.push('?');
            url.push_str(&self.redactor.url().query(query));
        }
        url
    }

    fn describe_captured(&self, exchange: &Exchange, attributes: &mut Attributes) {
        attributes.headers(&self.request_headers, &exchange.request.headers);
        if let Some(response) = &exchange.response {
            attributes.headers(&self.response_headers, &response.headers);
        }
    }
}

fn span_name(method: SmolStr, route: Option<&str>) -> SmolStr {
    let Some(route) = route else { return method };
    let mut name = SmolStrBuilder::new();
    name.push_str(&method);
    name.push(' ');
    name.push_str(route);
    name.finish()
}

/// `part` of `whole`, without a copy where it is all of it.
fn part_of(whole: &SmolStr, part: &str) -> SmolStr {
    if part.len() == whole.len() { whole.clone() } else { part.into() }
}

/// The port of a URL that names none.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// How the parent was found, where no header told it.
fn describe_origin(origin: &Origin, attributes: &mut Attributes) {
    let candidates = match origin {
        Origin::Root | Origin::Remote(_) => return,
        Origin::Child { kind, candidates, confidence, .. } => {
            attributes.fixed(attribute::TRACER_LINK, kind.name());
            if let Some(confidence) = confidence {
                attributes.double(attribute::TRACER_LINK_CONFIDENCE, confidence.probability());
            }
            *candidates
        }
        Origin::Unclear { candidates, .. } => *candidates,
    };
    if candidates > 1 {
        attributes.int(attribute::TRACER_LINK_CANDIDATES, candidates as i64);
    }
}

/// The reference to the trace that a call certainly belongs to, though its parent is not clear.
fn related(origin: &Origin) -> Vec<Link> {
    match origin {
        Origin::Unclear { related: Some(related), .. } => {
            vec![Link::to(related.trace, related.span)]
        }
        _ => Vec::new(),
    }
}

/// Why the operation counts as failed; `None` if it does not.
fn error_type(exchange: &Exchange) -> Option<SmolStr> {
    let status = exchange.response.as_ref().map(|response| response.status);
    let lowest_error = match exchange.role {
        Role::Client => 400,
        Role::Server => 500,
    };
    if let Some(status) = status.filter(|status| *status >= lowest_error) {
        return Some(status.to_smolstr());
    }
    let name = match (exchange.outcome, exchange.role) {
        (Outcome::Complete, _) => return None,
        (Outcome::Reset, _) => error_type::CONNECTION_RESET,
        (Outcome::TimedOut, _) => error_type::TIMEOUT,
        (Outcome::ClosedByPeer, _) | (Outcome::ClosedLocally, Role::Server) => {
            error_type::CONNECTION_CLOSED
        }
        (Outcome::ClosedLocally, Role::Client) if status.is_some() => return None,
        (Outcome::ClosedLocally, Role::Client) => error_type::ABORTED,
    };
    Some(SmolStr::new_static(name))
}

#[cfg(test)]
mod tests;
