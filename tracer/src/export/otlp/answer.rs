//! What a receiver's answer means: taken, to be tried again, or refused for good.
//!
//! Receivers are other people's programs, and whatever stands between them and here answers in their
//! name: no answer may do more than be misunderstood.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::trouble::Trouble;
use super::{Accepted, Failure};

pub(super) const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is done after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has the request, but for so many spans that it does not want.
    Taken {
        /// Spans it does not want.
        rejected: usize,
    },
    /// The request may be repeated, but not before the time that it named.
    Again {
        /// That time.
        after: Option<Duration>,
    },
    /// The request will never be taken.
    Refused,
}

impl Outcome {
    /// Of an answer over HTTP, whose body may not have arrived.
    pub fn of_http(
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<Bytes>,
        now: SystemTime,
    ) -> Self {
        of_http(status, headers, body, now).into()
    }

    /// Of an error over gRPC: its number, message, and encoded details.
    pub fn of_grpc(code: i32, message: &str, details: Bytes) -> Self {
        let status = Status::with_details(Code::from_i32(code), message, details);
        Err(of_grpc(&status)).into()
    }
}

impl From<Result<Accepted, Failure>> for Outcome {
    fn from(answer: Result<Accepted, Failure>) -> Self {
        match answer {
            Ok(Accepted { rejected, .. }) => Self::Taken { rejected },
            Err(Failure::Retryable { after, .. }) => Self::Again { after },
            Err(Failure::Permanent { .. }) => Self::Refused,
        }
    }
}

/// An answer over HTTP, whose body may not have arrived.
pub(super) fn of_http(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<Bytes>,
    now: SystemTime,
) -> Result<Accepted, Failure> {
    if status.is_success() {
        // The status says that it was taken: a broken body must not make it a duplicate.
        return Ok(accepted(headers, body.unwrap_or_default()));
    }
    let message = body.map(|body| message(&body)).unwrap_or_default();
    let reason = format!("{status} {message}");
    let trouble = Trouble::of_http(status);
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Failure::Retryable { after: retry_after(headers, now), trouble, reason }
        }
        _ => Failure::Permanent { trouble, reason },
    })
}

/// An error that a gRPC server answered with.
pub(super) fn of_grpc(status: &Status) -> Failure {
    let trouble = Trouble::of_grpc(status);
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let reason = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Retryable { after, trouble, reason },
        Code::ResourceExhausted if after.is_some() => Failure::Retryable { after, trouble, reason },
        _ => Failure::Permanent { trouble, reason },
    }
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
