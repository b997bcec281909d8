//! OTLP/HTTP with protobuf bodies.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::client::{HttpClient, TlsError, client};
use super::{Accepted, Failure, MAX_RESPONSE_BYTES, USER_AGENT};
use crate::export::settings::{Compression, OtlpSettings};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

#[derive(Debug)]
pub(super) struct HttpTransport {
    client: HttpClient<Full<Bytes>>,
    endpoint: http::Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl HttpTransport {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, TlsError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        // What the body is, is not the user's to say.
        headers.insert(CONTENT_TYPE, PROTOBUF);
        headers.remove(CONTENT_ENCODING);
        if settings.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            client: client(settings)?,
            endpoint: settings.endpoint.clone(),
            headers,
            compression: settings.compression,
        })
    }

    /// Compresses a body once for all attempts.
    pub(super) fn prepare(&self, body: &Bytes) -> Bytes {
        match self.compression {
            Compression::None => body.clone(),
            Compression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                // Invariant: writing to a `Vec` does not fail.
                gzip.write_all(body).and_then(|()| gzip.finish()).unwrap_or_default().into()
            }
        }
    }

    pub(super) async fn attempt(&self, body: Bytes) -> Result<Accepted, Failure> {
        let mut request = Request::post(self.endpoint.clone())
            .body(Full::new(body))
            .map_err(|error| Failure::Permanent { reason: error.to_string() })?;
        *request.headers_mut() = self.headers.clone();
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| Failure::Retryable { after: None, reason: causes(&error) })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
        if head.status.is_success() {
            // The status says that it was taken: a broken body must not make it a duplicate.
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Ok(accepted(&head.headers, body));
        }
        let message = body.map(|body| message(&body.to_bytes())).unwrap_or_default();
        let reason = format!("{} {message}", head.status);
        Err(match head.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Failure::Retryable { after: retry_after(&head.headers, SystemTime::now()), reason }
            }
            _ => Failure::Permanent { reason },
        })
    }
}

fn accepted(headers: &HeaderMap, body: Bytes) -> Accepted {
    let response = if headers.get(CONTENT_TYPE) == Some(&PROTOBUF) {
        ExportTraceServiceResponse::decode(body).unwrap_or_default()
    } else {
        ExportTraceServiceResponse::default()
    };
    Accepted::from(response)
}

impl From<ExportTraceServiceResponse> for Accepted {
    fn from(response: ExportTraceServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Self {
            rejected: usize::try_from(partial.rejected_spans).unwrap_or(0),
            message: partial.error_message,
        }
    }
}

/// The message of a `google.rpc.Status`, or the text that came instead.
fn message(body: &Bytes) -> String {
    match tonic_types::pb::Status::decode(body.clone()) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// `Retry-After` in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// An error with its causes, of which only the innermost says what happened.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parse = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(10))
        };
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Thu, 01 Jan 1970 00:01:10 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:01 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::UNIX_EPOCH), None);
    }
}
