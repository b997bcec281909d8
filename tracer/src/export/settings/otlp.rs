//! OTLP exporter settings: `OTEL_EXPORTER_OTLP_TRACES_*` before `OTEL_EXPORTER_OTLP_*`.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};

use super::{Environment, Options, SettingsError};
use crate::export::otlp::RetryPolicy;

/// Specification default of one attempt.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// gRPC servers commonly refuse messages over 4 MiB.
const DEFAULT_MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024 - 1;
/// Requests under way at once, so that a distant receiver does not limit the rate.
const DEFAULT_CONCURRENCY: usize = 4;
const TRACES_PATH: &str = "v1/traces";

/// Transport of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf in HTTP POST bodies.
    HttpProtobuf,
}

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
}

/// PEM files for TLS; read when the exporter starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates to trust instead of the system's.
    pub trusted: Option<PathBuf>,
    /// Our certificate chain, for receivers that ask for one.
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}

/// Everything about the OTLP destination.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where to: the complete URL for HTTP, scheme and authority for gRPC. `https` means TLS.
    pub endpoint: Uri,
    /// How.
    pub protocol: Protocol,
    /// Sent with each request; values are marked sensitive and so do not print.
    pub headers: HeaderMap,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Of requests.
    pub compression: Compression,
    /// Certificates.
    pub tls: TlsFiles,
    /// When and how long to try again.
    pub retry: RetryPolicy,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Size limit of a request before compression.
    pub max_request_bytes: usize,
}

/// The endpoint variables, to tell whether an endpoint is configured at all.
pub(super) fn endpoint_in(environment: &Environment<'_>) -> Option<(&'static str, String)> {
    environment.otlp(TRACES_ENDPOINT, GENERAL_ENDPOINT)
}

const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const GENERAL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

impl OtlpSettings {
    pub(super) fn resolve(
        options: &Options,
        environment: &mut Environment<'_>,
    ) -> Result<Self, SettingsError> {
        let protocol = protocol(options, environment)?;
        let file = |traces, general| {
            environment.otlp(traces, general).map(|(_, path)| PathBuf::from(path))
        };
        let tls = TlsFiles {
            trusted: file(
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ),
            client_certificate: file(
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ),
            client_key: file(
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
                "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            ),
        };
        let give_up_after = environment.millis("OTEL_BSP_EXPORT_TIMEOUT");
        let default_retry = RetryPolicy::default();
        Ok(Self {
            endpoint: endpoint(options, protocol, environment)?,
            protocol,
            headers: headers(options, environment)?,
            timeout: timeout(options, environment),
            compression: compression(options, environment)?,
            tls,
            retry: RetryPolicy {
                give_up_after: give_up_after.unwrap_or(default_retry.give_up_after),
                ..default_retry
            },
            concurrency: DEFAULT_CONCURRENCY,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
        })
    }
}

fn protocol(
    options: &Options,
    environment: &mut Environment<'_>,
) -> Result<Protocol, SettingsError> {
    const SUPPORTED: &str = "grpc or http/protobuf";
    let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
        "grpc" => Some(Protocol::Grpc),
        "http/protobuf" => Some(Protocol::HttpProtobuf),
        _ => None,
    };
    if let Some(value) = &options.otlp_protocol {
        return parse(value).ok_or_else(|| SettingsError::Unsupported {
            option: "--otlp-protocol",
            value: value.clone(),
            supported: SUPPORTED,
        });
    }
    let set = environment.otlp("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
    if let Some((variable, value)) = set {
        if let Some(protocol) = parse(&value) {
            return Ok(protocol);
        }
        environment.warn(
            variable,
            &format!("`{value}` is not supported; using http/protobuf (known: {SUPPORTED})"),
        );
    }
    Ok(Protocol::HttpProtobuf)
}

fn endpoint(
    options: &Options,
    protocol: Protocol,
    environment: &mut Environment<'_>,
) -> Result<Uri, SettingsError> {
    let set = options
        .otlp_endpoint
        .clone()
        .map(|value| ("--otlp-endpoint", value))
        .or_else(|| endpoint_in(environment));
    let (source_name, value) = set.unwrap_or_else(|| {
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        (GENERAL_ENDPOINT, default.to_owned())
    });
    let invalid = || SettingsError::Endpoint { source_name, value: without_credentials(&value) };

    let text = match protocol {
        Protocol::Grpc if !value.contains("://") => {
            let insecure = insecure(environment);
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
                environment.warn(source_name, "gRPC has no URL path; it is ignored");
            }
            "/".to_owned()
        }
        // The signal's own variable is the complete URL, everything else a base.
        Protocol::HttpProtobuf if source_name == TRACES_ENDPOINT => {
            uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
        }
        Protocol::HttpProtobuf => {
            format!("{}/{TRACES_PATH}", uri.path().trim_end_matches('/'))
        }
    };
    if protocol == Protocol::HttpProtobuf && uri.port_u16() == Some(4317) {
        environment.warn(
            source_name,
            "port 4317 usually speaks gRPC, but the protocol is http/protobuf; \
             set OTEL_EXPORTER_OTLP_PROTOCOL=grpc if exports fail",
        );
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| invalid())?);
    Uri::from_parts(parts).map_err(|_| invalid())
}

/// For gRPC endpoints without a scheme; the third name is obsolete.
fn insecure(environment: &mut Environment<'_>) -> bool {
    [
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
    ]
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

fn headers(
    options: &Options,
    environment: &mut Environment<'_>,
) -> Result<HeaderMap, SettingsError> {
    if let Some(list) = &options.otlp_headers {
        let (headers, bad) = parse_headers(list);
        return if bad == 0 { Ok(headers) } else { Err(SettingsError::Headers) };
    }
    let set = environment.otlp("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
    let Some((variable, list)) = set else { return Ok(HeaderMap::new()) };
    let (headers, bad) = parse_headers(&list);
    if bad > 0 {
        let problem = format!(
            "{bad} of its headers are malformed and ignored; write name=value,name2=value2"
        );
        environment.warn(variable, &problem);
    }
    Ok(headers)
}

/// A list in the form of W3C Baggage without properties; also counts malformed members.
fn parse_headers(list: &str) -> (HeaderMap, usize) {
    let mut headers = HeaderMap::new();
    let mut bad = 0;
    for member in list.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        match parse_header(member) {
            Some((name, value)) => {
                headers.insert(name, value);
            }
            None => bad += 1,
        }
    }
    (headers, bad)
}

fn parse_header(member: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = member.split_once('=')?;
    let name = HeaderName::from_bytes(percent_decode(name.trim())?.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(&percent_decode(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn timeout(options: &Options, environment: &mut Environment<'_>) -> Duration {
    options
        .otlp_timeout
        .or_else(|| environment.millis("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))
        .or_else(|| environment.millis("OTEL_EXPORTER_OTLP_TIMEOUT"))
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(DEFAULT_TIMEOUT)
}

fn compression(
    options: &Options,
    environment: &mut Environment<'_>,
) -> Result<Compression, SettingsError> {
    const SUPPORTED: &str = "gzip or none";
    let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
        "gzip" => Some(Compression::Gzip),
        "none" => Some(Compression::None),
        _ => None,
    };
    if let Some(value) = &options.otlp_compression {
        return parse(value).ok_or_else(|| SettingsError::Unsupported {
            option: "--otlp-compression",
            value: value.clone(),
            supported: SUPPORTED,
        });
    }
    let set =
        environment.otlp("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION");
    let Some((variable, value)) = set else { return Ok(Compression::None) };
    Ok(parse(&value).unwrap_or_else(|| {
        environment.warn(variable, &format!("`{value}` is unknown and ignored; use {SUPPORTED}"));
        Compression::None
    }))
}
