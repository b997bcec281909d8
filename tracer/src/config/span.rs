//! Options on what spans say.

use clap::Args;
use clap::builder::FalseyValueParser;
use http::HeaderName;

use crate::redact::DEFAULT_LIMIT;

/// What spans say.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Spans")]
pub struct SpanOptions {
    /// Route pattern such as '/users/{id}': requests that match get it as `http.route` and in
    /// their name; may be repeated, the first match counts
    #[arg(
        long = "route",
        env = "TRACER_ROUTES",
        value_delimiter = ' ',
        value_parser = route,
        value_name = "PATTERN"
    )]
    pub routes: Vec<String>,
    /// Guess routes of paths that no --route matches, by replacing what looks like an identifier
    #[arg(long, env = "TRACER_ROUTE_HEURISTIC", value_parser = FalseyValueParser::new())]
    pub route_heuristic: bool,
    /// Guessed routes that a service may have; what comes beyond is reported as `_OTHER`
    #[arg(
        long,
        env = "TRACER_MAX_ROUTES",
        default_value_t = DEFAULT_LIMIT,
        value_name = "COUNT"
    )]
    pub max_routes: usize,
    /// Request header whose values go on spans; may be repeated. No header does unless named
    #[arg(
        long = "capture-request-header",
        env = "TRACER_CAPTURE_REQUEST_HEADERS",
        value_delimiter = ',',
        value_parser = header_name,
        value_name = "NAME"
    )]
    pub request_headers: Vec<HeaderName>,
    /// Response header whose values go on spans; may be repeated
    #[arg(
        long = "capture-response-header",
        env = "TRACER_CAPTURE_RESPONSE_HEADERS",
        value_delimiter = ',',
        value_parser = header_name,
        value_name = "NAME"
    )]
    pub response_headers: Vec<HeaderName>,
}

impl Default for SpanOptions {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            route_heuristic: false,
            max_routes: DEFAULT_LIMIT,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }
}

fn route(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains('?') {
        Ok(text.to_owned())
    } else {
        Err("a route is a path: it begins with `/` and has no query, like '/users/{id}'".to_owned())
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.trim().parse().map_err(|_| "not a header name; write it like `x-request-id`".to_owned())
}
