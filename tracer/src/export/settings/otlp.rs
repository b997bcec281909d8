//! OTLP exporter settings: `OTEL_EXPORTER_OTLP_TRACES_*` before `OTEL_EXPORTER_OTLP_*`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::header::HeaderMap;

use super::endpoint::{self, Endpoint};
use super::{Environment, Options, Route, SettingsError, Signal, headers};
use crate::export::otlp::RetryPolicy;

/// Specification default of one attempt.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// gRPC servers commonly refuse messages over 4 MiB.
const DEFAULT_MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024 - 1;
/// No receiver has to take more, says OTLP.
const MOST_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// Requests under way at once, so that a distant receiver does not limit the rate.
const DEFAULT_CONCURRENCY: usize = 4;

/// Transport of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf in HTTP POST bodies.
    HttpProtobuf,
    /// JSON in HTTP POST bodies.
    HttpJson,
}

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878. Not in the OTLP specification, but collectors take it.
    Zstd,
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

/// Everything about one OTLP destination.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// For reports: `otlp`, with the endpoint if there are several.
    pub name: String,
    /// What is sent.
    pub signal: Signal,
    /// Where to, as the user wrote it.
    pub given_endpoint: String,
    /// Where to: the complete URL for HTTP, scheme and authority for gRPC. `https` means TLS.
    pub endpoint: Uri,
    /// What is connected to in order to get there.
    pub route: Route,
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

/// An option that is given once for all endpoints, or once for each.
#[derive(Clone, Copy)]
struct PerEndpoint<'a>(&'a [String]);

impl<'a> PerEndpoint<'a> {
    fn new(
        option: &'static str,
        values: &'a [String],
        endpoints: usize,
    ) -> Result<Self, SettingsError> {
        if values.len() > 1 && values.len() != endpoints {
            return Err(SettingsError::Count { option, given: values.len(), endpoints });
        }
        Ok(Self(values))
    }

    fn of(self, endpoint: usize) -> Option<&'a String> {
        self.0.get(endpoint).or_else(|| self.0.first())
    }
}

impl OtlpSettings {
    /// One value an endpoint, in order and without repetitions.
    pub(super) fn resolve_all(
        options: &Options,
        signal: Signal,
        environment: &mut Environment<'_>,
    ) -> Result<Vec<Self>, SettingsError> {
        let given = match &options.otlp_endpoints[..] {
            [] => vec![None],
            endpoints => endpoints.iter().map(Some).collect(),
        };
        let protocols = PerEndpoint::new("--otlp-protocol", &options.otlp_protocols, given.len())?;
        let headers = PerEndpoint::new("--otlp-headers", &options.otlp_headers, given.len())?;
        let mut all: Vec<Self> = Vec::new();
        for (index, endpoint) in given.iter().enumerate() {
            let (protocol, headers) = (protocols.of(index), headers.of(index));
            let one = Self::resolve(*endpoint, protocol, headers, options, signal, environment)?;
            if all.iter().any(|known| known.is_same_receiver(&one)) {
                environment.warn("--otlp-endpoint", &format!("{} is there twice", one.endpoint));
            } else {
                all.push(one);
            }
        }
        Self::name_all(&mut all);
        Ok(all)
    }

    /// Whether both lead to the same place.
    pub(super) fn is_same_receiver(&self, other: &Self) -> bool {
        (&self.endpoint, &self.route) == (&other.endpoint, &other.route)
    }

    /// One receiver is `otlp`; several are told apart by where they are.
    pub(super) fn name_all(receivers: &mut [Self]) {
        if let [one] = receivers {
            "otlp".clone_into(&mut one.name);
            return;
        }
        for receiver in receivers {
            receiver.name = format!("otlp {}", receiver.given_endpoint);
        }
    }

    fn resolve(
        given: Option<&String>,
        protocol_given: Option<&String>,
        headers_given: Option<&String>,
        options: &Options,
        signal: Signal,
        environment: &mut Environment<'_>,
    ) -> Result<Self, SettingsError> {
        let protocol = protocol(protocol_given, signal, environment)?;
        let Endpoint { text, uri, route } =
            endpoint::resolve(given, protocol, signal, environment)?;
        let file = |name| environment.otlp(signal, name).map(|(_, path)| PathBuf::from(path));
        let tls = TlsFiles {
            trusted: file("CERTIFICATE"),
            client_certificate: file("CLIENT_CERTIFICATE"),
            client_key: file("CLIENT_KEY"),
        };
        let give_up_after = match options.retry_for {
            Some(Duration::ZERO) => Some(Duration::MAX),
            Some(time) => Some(time),
            None => environment.millis("OTEL_BSP_EXPORT_TIMEOUT"),
        };
        let default_retry = RetryPolicy::default();
        Ok(Self {
            name: String::new(),
            signal,
            given_endpoint: text,
            endpoint: uri,
            route,
            protocol,
            headers: headers::resolve(headers_given, signal, environment)?,
            timeout: timeout(options, signal, environment),
            compression: compression(options, signal, environment)?,
            tls,
            retry: RetryPolicy {
                give_up_after: give_up_after.unwrap_or(default_retry.give_up_after),
                ..default_retry
            },
            concurrency: DEFAULT_CONCURRENCY,
            max_request_bytes: options
                .otlp_max_request
                .unwrap_or(DEFAULT_MAX_REQUEST_BYTES)
                .min(MOST_REQUEST_BYTES),
        })
    }
}

fn protocol(
    given: Option<&String>,
    signal: Signal,
    environment: &mut Environment<'_>,
) -> Result<Protocol, SettingsError> {
    const SUPPORTED: &str = "grpc, http/protobuf or http/json";
    let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
        "grpc" => Some(Protocol::Grpc),
        "http/protobuf" => Some(Protocol::HttpProtobuf),
        "http/json" => Some(Protocol::HttpJson),
        _ => None,
    };
    if let Some(value) = given {
        return parse(value).ok_or_else(|| SettingsError::Unsupported {
            option: "--otlp-protocol",
            value: value.clone(),
            supported: SUPPORTED,
        });
    }
    if let Some((variable, value)) = environment.otlp(signal, "PROTOCOL") {
        if let Some(protocol) = parse(&value) {
            return Ok(protocol);
        }
        environment.warn(
            &variable,
            &format!("`{value}` is not supported; using http/protobuf (known: {SUPPORTED})"),
        );
    }
    Ok(Protocol::HttpProtobuf)
}

fn timeout(options: &Options, signal: Signal, environment: &mut Environment<'_>) -> Duration {
    options
        .otlp_timeout
        .or_else(|| environment.millis(&signal.variable("TIMEOUT")))
        .or_else(|| environment.millis("OTEL_EXPORTER_OTLP_TIMEOUT"))
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(DEFAULT_TIMEOUT)
}

fn compression(
    options: &Options,
    signal: Signal,
    environment: &mut Environment<'_>,
) -> Result<Compression, SettingsError> {
    const SUPPORTED: &str = "gzip, zstd or none";
    let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
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
    let Some((variable, value)) = environment.otlp(signal, "COMPRESSION") else {
        return Ok(Compression::None);
    };
    Ok(parse(&value).unwrap_or_else(|| {
        environment.warn(&variable, &format!("`{value}` is unknown and ignored; use {SUPPORTED}"));
        Compression::None
    }))
}
