//! What is wrong with a receiver, told apart as far as the operator has different things to do.

use std::error::Error;
use std::io;

use http::StatusCode;
use rustls::CertificateError;
use tonic::{Code, Status};

use super::dial::ProxyFailed;
use crate::export::settings::Protocol;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trouble {
    /// The host name is not known.
    UnknownHost,
    /// Nobody listens.
    NobodyListens,
    /// Nothing comes back from the host.
    Unreachable,
    /// Connected, but no answer in time.
    Silent,
    /// Disconnected before the answer was complete.
    HungUp,
    /// The same with gRPC, which is also how some web servers meet it.
    HungUpOnGrpc,
    /// Nothing of its own: the request waited for another one's connection, which failed.
    Shared,
    /// The receiver's certificate is out of date.
    CertificateExpired,
    /// The receiver's certificate is not trusted or for another name.
    CertificateRefused,
    /// The receiver does not speak TLS.
    NotTls,
    /// No agreement on TLS for another reason; may be that it refused our certificate.
    Tls,
    /// gRPC was sent to a receiver of OTLP over HTTP, or to something else that is no gRPC.
    NotGrpc,
    /// HTTP/1 was sent to a gRPC receiver, or to something else that is no HTTP/1.
    NotHttp,
    /// The proxy did not let us through.
    Proxy,
    /// It has no capacity now: 429, 503, `UNAVAILABLE` and others that pass.
    Busy,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Nothing there takes traces.
    WrongPath,
    /// The request is too large for it.
    TooLarge,
    /// Any other refusal.
    Refused,
}

impl Trouble {
    /// Stable name for metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown_host",
            Self::NobodyListens => "nobody_listens",
            Self::Unreachable => "unreachable",
            Self::Silent => "timeout",
            Self::HungUp | Self::HungUpOnGrpc | Self::Shared => "hung_up",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateRefused => "certificate_refused",
            Self::NotTls | Self::Tls => "tls",
            Self::NotGrpc | Self::NotHttp => "wrong_protocol",
            Self::Proxy => "proxy",
            Self::Busy => "busy",
            Self::Unauthorized => "unauthorized",
            Self::WrongPath => "wrong_path",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::UnknownHost => {
                "its host name cannot be looked up; check the spelling of the endpoint, and DNS"
            }
            Self::NobodyListens => {
                "nobody listens there; check that the receiver runs and that the endpoint's port \
                 is right"
            }
            Self::Unreachable => {
                "its host does not answer; check the network, and firewalls in between"
            }
            Self::Silent => {
                "it accepts connections but does not answer in time; check that it is not stuck or \
                 overloaded, or allow more time with --otlp-timeout"
            }
            Self::HungUp => {
                "it closed the connection before it had answered; look into its log, and into that \
                 of a load balancer in between"
            }
            Self::HungUpOnGrpc => {
                "it closed the connection before it had answered; look into its log, and check \
                 that it speaks gRPC at this port, usually 4317, or use --otlp-protocol \
                 http/protobuf"
            }
            Self::Shared => "the connection could not be made",
            Self::CertificateExpired => {
                "its certificate has expired or is not valid yet; renew it, and check the clocks \
                 of both hosts"
            }
            Self::CertificateRefused => {
                "its certificate is not trusted; set OTEL_EXPORTER_OTLP_CERTIFICATE to the \
                 authority that issued it, and use the host name that it was issued for"
            }
            Self::NotTls => "it does not speak TLS at this port; write the endpoint with http://",
            Self::Tls => {
                "TLS cannot be agreed on; check whether it wants a client certificate \
                 (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY)"
            }
            Self::NotGrpc => {
                "it does not speak gRPC at this port; use --otlp-protocol http/protobuf, or the \
                 port for gRPC, usually 4317"
            }
            Self::NotHttp => {
                "it does not speak HTTP/1.1 at this port; use --otlp-protocol grpc, or the port \
                 for HTTP, usually 4318"
            }
            Self::Proxy => {
                "the proxy did not let us through; check HTTP_PROXY and HTTPS_PROXY, or name the \
                 receiver's host in NO_PROXY"
            }
            Self::Busy => "it has no capacity now; nothing needs to be done if that passes soon",
            Self::Unauthorized => {
                "it does not accept our credentials; check --otlp-headers or \
                 OTEL_EXPORTER_OTLP_HEADERS"
            }
            Self::WrongPath => {
                "it takes no traces there; check the endpoint's port and path (the base URL, \
                 without /v1/traces)"
            }
            Self::TooLarge => {
                "the request was too large for it; later ones are made smaller, which \
                 --otlp-max-request does from the start"
            }
            Self::Refused => "it refuses what is sent; look into its log",
        }
    }

    /// Whether it says little, and nothing to who knows of other trouble with the same receiver.
    pub(super) fn is_vague(self) -> bool {
        matches!(self, Self::HungUp | Self::HungUpOnGrpc | Self::Shared)
    }

    /// Whether somebody who knows of this one has nothing more to do because of that one.
    pub(super) fn covers(self, other: Self) -> bool {
        self == other || other.is_vague() || (self == Self::HungUpOnGrpc && other == Self::NotGrpc)
    }

    /// By a status of HTTP that is no success.
    pub(super) fn of_http(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Unauthorized,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Self::Proxy,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::WrongPath,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Busy,
            _ => Self::Refused,
        }
    }

    /// By a status of gRPC that the other side gave.
    pub(super) fn of_grpc(status: &Status) -> Self {
        // What answers without a status of gRPC is something else, such as a web server.
        let foreign = status.message().contains("grpc-status header missing")
            || status.message().contains("invalid compression flag");
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Unauthorized,
            Code::Unavailable => Self::Busy,
            _ if foreign => Self::NotGrpc,
            Code::Unimplemented | Code::NotFound => Self::WrongPath,
            Code::ResourceExhausted | Code::OutOfRange
                if status.message().contains("larger than max")
                    || status.message().contains("too large") =>
            {
                Self::TooLarge
            }
            Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::OutOfRange
            | Code::DataLoss => Self::Busy,
            _ => Self::Refused,
        }
    }

    /// By what went wrong on the connection.
    pub(super) fn of_connection(error: &(dyn Error + 'static), protocol: Protocol) -> Self {
        let mut next = Some(error);
        let mut found = None;
        // The innermost cause that means something says most.
        while let Some(error) = next {
            if error.is::<ProxyFailed>() {
                return Self::Proxy;
            }
            found = of_cause(error, protocol).or(found);
            next = cause(error);
        }
        match found.unwrap_or(Self::HungUp) {
            Self::HungUp if protocol == Protocol::Grpc => Self::HungUpOnGrpc,
            trouble => trouble,
        }
    }
}

/// The next cause. Of an error inside an I/O error, the standard library shows only the causes.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// An error with its causes, of which only the innermost says what happened.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = cause(error);
    while let Some(error) = next {
        let more = error.to_string();
        // An error around another one may print as that one.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause(error);
    }
    text
}

fn of_cause(error: &(dyn Error + 'static), protocol: Protocol) -> Option<Trouble> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    let text = error.to_string();
    // Errors of HTTP/2 keep but the text of what happened below.
    if text.contains("received fatal alert") {
        return Some(Trouble::Tls);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return of_io(error.kind());
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>()
        && error.is_parse()
    {
        return Some(Trouble::NotHttp);
    }
    // The types of these are private.
    if text == "request was canceled" {
        return Some(Trouble::Shared);
    }
    // Who speaks HTTP/2 speaks first.
    if text == "received unexpected message from connection" {
        return Some(Trouble::NotHttp);
    }
    if text.starts_with("dns error") {
        return Some(Trouble::UnknownHost);
    }
    // What is no HTTP/2 at all looks like a frame that cannot be.
    let no_frame = text.contains("frame with invalid size") || text.contains("FRAME_SIZE_ERROR");
    (protocol == Protocol::Grpc && no_frame).then_some(Trouble::NotGrpc)
}

fn of_io(kind: io::ErrorKind) -> Option<Trouble> {
    match kind {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Some(Trouble::NobodyListens),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => Some(Trouble::Unreachable),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Trouble::HungUp),
        _ => None,
    }
}

fn of_tls(error: &rustls::Error) -> Trouble {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Trouble::CertificateExpired,
        rustls::Error::InvalidCertificate(_) => Trouble::CertificateRefused,
        rustls::Error::InvalidMessage(_) => Trouble::NotTls,
        _ => Trouble::Tls,
    }
}
