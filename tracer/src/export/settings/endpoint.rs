//! Where a destination is: the endpoint options and variables, with their traps.

use std::path::PathBuf;

use http::uri::{PathAndQuery, Scheme, Uri};

use super::{Environment, Protocol, Route, SettingsError, Signal};

const GENERAL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A destination.
pub(super) struct Endpoint {
    /// As the user wrote it.
    pub(super) text: String,
    /// The complete URL for HTTP, scheme and authority for gRPC.
    pub(super) uri: Uri,
    pub(super) route: Route,
}

/// The endpoint variables, to tell whether an endpoint is configured at all.
pub(super) fn endpoint_in(
    signal: Signal,
    environment: &Environment<'_>,
) -> Option<(String, String)> {
    environment.otlp(signal, "ENDPOINT")
}

/// The option's endpoint, else the environment's, else the specification's default.
pub(super) fn resolve(
    given: Option<&String>,
    protocol: Protocol,
    signal: Signal,
    environment: &mut Environment<'_>,
) -> Result<Endpoint, SettingsError> {
    let set = given
        .map(|value| ("--otlp-endpoint".to_owned(), value.clone()))
        .or_else(|| endpoint_in(signal, environment));
    let (source_name, value) = set.unwrap_or_else(|| {
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf | Protocol::HttpJson => "http://localhost:4318",
        };
        (GENERAL_ENDPOINT.to_owned(), default.to_owned())
    });
    let invalid = || SettingsError::Endpoint {
        source_name: source_name.clone(),
        value: without_credentials(&value),
    };

    if let Some(path) = value.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(invalid());
        }
        // Whoever listens there wants to read some host, and gRPC has no path.
        let uri = match protocol {
            Protocol::Grpc => Uri::from_static("http://localhost/"),
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                format!("http://localhost/{}", signal.path()).parse().map_err(|_| invalid())?
            }
        };
        let route = Route::Unix(PathBuf::from(path));
        return Ok(Endpoint { text: value, uri, route });
    }
    let text = match protocol {
        Protocol::Grpc if !value.contains("://") => {
            let insecure = insecure(signal, environment);
            format!("{}://{value}", if insecure { "http" } else { "https" })
        }
        _ => value.clone(),
    };
    let uri: Uri = text.parse().map_err(|_| invalid())?;
    let web = uri.scheme().is_some_and(|it| *it == Scheme::HTTP || *it == Scheme::HTTPS);
    let host = uri.authority().is_some_and(|authority| !authority.host().is_empty());
    if !web || !host || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(invalid());
    }

    let path = match protocol {
        Protocol::Grpc => {
            if uri.path() != "/" {
                environment.warn(&source_name, "gRPC has no URL path; it is ignored");
            }
            "/".to_owned()
        }
        // The signal's own variable is the complete URL, everything else a base.
        Protocol::HttpProtobuf | Protocol::HttpJson
            if source_name == signal.variable("ENDPOINT") =>
        {
            uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
        }
        Protocol::HttpProtobuf | Protocol::HttpJson => {
            format!("{}/{}", uri.path().trim_end_matches('/'), signal.path())
        }
    };
    if protocol != Protocol::Grpc && uri.port_u16() == Some(4317) {
        environment.warn(
            &source_name,
            "port 4317 usually speaks gRPC, but the protocol is over HTTP; \
             use --otlp-protocol grpc if exports fail",
        );
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| invalid())?);
    let uri = Uri::from_parts(parts).map_err(|_| invalid())?;
    let route = Route::to(&uri, environment)?;
    Ok(Endpoint { text: value, uri, route })
}

/// For gRPC endpoints without a scheme; the third name is obsolete.
fn insecure(signal: Signal, environment: &mut Environment<'_>) -> bool {
    let own = signal.variable("INSECURE");
    [own.as_str(), "OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_SPAN_INSECURE"]
        .into_iter()
        .find_map(|variable| environment.truth(variable))
        .unwrap_or(false)
}

/// URLs go to logs, where passwords must not.
fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("REDACTED@{host}"),
        None => url.to_owned(),
    }
}
