//! OTLP/HTTP with protobuf or JSON bodies.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::Request;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::answer::{self, JSON, PROTOBUF};
use super::client::{Connections, TlsError};
use super::dial::tunnels;
use super::trouble::Trouble;
use super::{Accepted, Failure, MAX_RESPONSE_BYTES, USER_AGENT};
use crate::export::settings::{Compression, OtlpSettings, Protocol, Proxy, Route, Signal};

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
        answer::of_http(head.status, &head.headers, body, SystemTime::now())
    }
}

/// A request as JSON, by way of the generated types, so that there is one mapping from spans to
/// OTLP, not two.
fn json<T: Message + Default + serde::Serialize>(body: &Bytes) -> Bytes {
    // Invariant: we encoded it ourselves, and everything in it has a form in JSON.
    let request = T::decode(body.clone()).unwrap_or_default();
    serde_json::to_vec(&request).unwrap_or_default().into()
}
