//! The names of the OpenTelemetry semantic conventions that spans use, tied to one schema version.
//!
//! Nothing but constants: which of them a span gets is decided in `trace::http`.

/// Schema that all names below (and those of resources) belong to.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// Instrumentation scope of every span this agent makes.
pub const SCOPE_NAME: &str = env!("CARGO_PKG_NAME");
/// Its version.
pub const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The one value for methods, errors and the like that are not known.
pub const OTHER: &str = "_OTHER";

/// Methods of RFC 9110, PATCH (RFC 5789) and QUERY; any other is reported as [`OTHER`].
pub const KNOWN_METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];

/// Query parameters whose values are signatures or credentials, compared case-sensitively.
pub const SENSITIVE_QUERY_KEYS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// Attribute names.
pub mod attribute {
    #![allow(missing_docs)] // The name says it; the conventions define it.
    pub const CLIENT_ADDRESS: &str = "client.address";
    pub const ERROR_TYPE: &str = "error.type";
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    pub const HTTP_ROUTE: &str = "http.route";
    pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    pub const NETWORK_PEER_PORT: &str = "network.peer.port";
    pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
    pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    pub const SERVER_ADDRESS: &str = "server.address";
    pub const SERVER_PORT: &str = "server.port";
    pub const TRACER_LINK: &str = "tracer.link";
    pub const TRACER_LINK_CANDIDATES: &str = "tracer.link.candidates";
    pub const TRACER_LINK_CONFIDENCE: &str = "tracer.link.confidence";
    pub const URL_FULL: &str = "url.full";
    pub const URL_PATH: &str = "url.path";
    pub const URL_QUERY: &str = "url.query";
    pub const URL_SCHEME: &str = "url.scheme";
    pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";
}

/// Low-cardinality values of `error.type` for exchanges that failed below HTTP.
pub mod error_type {
    /// The observed client gave up before any response; whether by a time limit of its own or
    /// on purpose cannot be seen from outside.
    pub const ABORTED: &str = "aborted";
    /// One side closed in an orderly way before the message was complete.
    pub const CONNECTION_CLOSED: &str = "connection_closed";
    /// The connection was reset.
    pub const CONNECTION_RESET: &str = "connection_reset";
    /// The transport gave up.
    pub const TIMEOUT: &str = "timeout";
}
