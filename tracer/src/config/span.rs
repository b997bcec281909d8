//! Options on what spans say.

use clap::Args;
use clap::builder::FalseyValueParser;
use http::HeaderName;

/// What spans say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
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
    /// Query parameter whose value is replaced by REDACTED; may be repeated. Replaces the built-in
    /// list of signatures, tokens and passwords; '' alone redacts nothing
    #[arg(
        long = "redact-query-key",
        env = "TRACER_REDACT_QUERY_KEYS",
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub redact_query_keys: Vec<String>,
}

impl SpanOptions {
    /// The list that replaces the built-in one, if one was given.
    pub fn redacted_query_keys(&self) -> Option<Vec<String>> {
        let given = !self.redact_query_keys.is_empty();
        let keys = self.redact_query_keys.iter().filter(|key| !key.is_empty());
        given.then(|| keys.cloned().collect())
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
