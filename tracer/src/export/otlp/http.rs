//! OTLP/HTTP with protobuf or JSON bodies.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::client::{Connections, TlsError};
use super::dial::tunnels;
use super::trouble::Trouble;
use super::{Accepted, Failure, MAX_RESPONSE_BYTES, USER_AGENT};
use crate::export::settings::{Compression, OtlpSettings, Protocol, Proxy, Route, Signal};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// A status without the rest of its response is answer enough after so long.
const BODY_PATIENCE: Duration = Duration::from_secs(2);
/// Levels at which compression costs less than the rest of an export.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::fast();
const ZSTD_LEVEL: i32 = 1;

#[derive(Debug)]
pub(super) struct HttpTransport {
    connections: Connections<Full<Bytes>>,
    endpoint: http::Uri,
    headers: HeaderMap,
    protocol: Protocol,
    signal: Signal,
    compression: Compression,
}

impl HttpTransport {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, TlsError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        // What the body is, is not the user's to say.
        let json = settings.protocol == Protocol::HttpJson;
        headers.insert(CONTENT_TYPE, if json { JSON } else { PROTOBUF });
        headers.remove(CONTENT_ENCODING);
        if let Route::Proxy(Proxy { authorization: Some(authorization), .. }) = &settings.route
            && !tunnels(settings)
        {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let encoding = match settings.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Ok(Self {
            connections: Connections::new(settings)?,
            endpoint: settings.endpoint.clone(),
            headers,
            protocol: settings.protocol,
            signal: settings.signal,
            compression: settings.compression,
        })
    }

    pub(super) fn reconnect(&self) {
        self.connections.renew();
    }

    /// Converts and compresses a protobuf body once for all attempts.
    pub(super) fn prepare(&self, body: &Bytes) -> Bytes {
        let body = match self.protocol {
            Protocol::HttpJson => match self.signal {
                Signal::Traces => json::<ExportTraceServiceRequest>(body),
                Signal::Metrics => json::<ExportMetricsServiceRequest>(body),
            },
            Protocol::HttpProtobuf | Protocol::Grpc => body.clone(),
        };
        // Invariant: writing to a `Vec` does not fail.
        match self.compression {
            Compression::None => body,
            Compression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), GZIP_LEVEL);
                gzip.write_all(&body).and_then(|()| gzip.finish()).unwrap_or_default().into()
            }
            Compression::Zstd => {
                zstd::stream::encode_all(&body[..], ZSTD_LEVEL).unwrap_or_default().into()
            }
        }
    }

    pub(super) async fn attempt(&self, body: Bytes) -> Result<Accepted, Failure> {
        let mut request =
            Request::post(self.endpoint.clone()).body(Full::new(body)).map_err(|error| {
                Failure::Permanent { trouble: Trouble::Refused, reason: error.to_string() }
            })?;
        *request.headers_mut() = self.headers.clone();
        let response = self
            .connections
            .client()
            .request(request)
            .await
            .map_err(|error| Failure::connection(&error, self.protocol))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect();
        let body = tokio::time::timeout(BODY_PATIENCE, body).await;
        let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        if head.status.is_success() {
            // The status says that it was taken: a broken body must not make it a duplicate.
            return Ok(accepted(&head.headers, body.unwrap_or_default()));
        }
        let message = body.map(|body| message(&body)).unwrap_or_default();
        let reason = format!("{} {message}", head.status);
        let trouble = Trouble::of_http(head.status);
        Err(match head.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = retry_after(&head.headers, SystemTime::now());
                Failure::Retryable { after, trouble, reason }
            }
            _ => Failure::Permanent { trouble, reason },
        })
    }
}

/// A request as JSON, by way of the generated types, so that there is one mapping from spans to
/// OTLP, not two.
fn json<T: Message + Default + serde::Serialize>(body: &Bytes) -> Bytes {
    // Invariant: we encoded it ourselves, and everything in it has a form in JSON.
    let request = T::decode(body.clone()).unwrap_or_default();
    serde_json::to_vec(&request).unwrap_or_default().into()
}

fn accepted(headers: &HeaderMap, body: Bytes) -> Accepted {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let response = if kind == PROTOBUF {
        ExportTraceServiceResponse::decode(body).unwrap_or_default()
    } else if kind == JSON {
        response_in_json(&body).unwrap_or_default()
    } else {
        ExportTraceServiceResponse::default()
    };
    Accepted::from(response)
}

/// 64-bit numbers are texts in JSON, but receivers that write numbers are understood as well.
fn response_in_json(body: &[u8]) -> Option<ExportTraceServiceResponse> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = json.get("partialSuccess")?;
    let rejected = partial
        .get("rejectedSpans")
        .and_then(|rejected| rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()));
    let message = partial.get("errorMessage").and_then(serde_json::Value::as_str);
    Some(ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: rejected.unwrap_or(0),
            error_message: message.unwrap_or("").to_owned(),
        }),
    })
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
    if let Ok(status) = tonic_types::pb::Status::decode(body.clone())
        && !status.message.is_empty()
    {
        return status.message;
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match json.as_ref().and_then(|status| status.get("message")?.as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
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
