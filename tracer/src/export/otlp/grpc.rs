//! OTLP/gRPC. Requests are encoded once, outside of gRPC, and passed through it as bytes.

use std::error::Error;

use bytes::{BufMut, Bytes};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::answer;
use super::client::{Connections, TlsError};
use super::{Accepted, Failure, MAX_RESPONSE_BYTES, USER_AGENT};
use crate::export::settings::{Compression, OtlpSettings, Protocol, Signal};

const EXPORT_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[derive(Debug)]
pub(super) struct GrpcTransport {
    connections: Connections<tonic::body::Body>,
    origin: http::Uri,
    path: PathAndQuery,
    compression: Option<CompressionEncoding>,
    metadata: MetadataMap,
}

impl GrpcTransport {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, TlsError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        headers.remove(CONTENT_TYPE);
        Ok(Self {
            connections: Connections::new(settings)?,
            origin: settings.endpoint.clone(),
            path: PathAndQuery::from_static(match settings.signal {
                Signal::Traces => EXPORT_TRACES,
                Signal::Metrics => EXPORT_METRICS,
            }),
            compression: match settings.compression {
                Compression::None => None,
                Compression::Gzip => Some(CompressionEncoding::Gzip),
                Compression::Zstd => Some(CompressionEncoding::Zstd),
            },
            metadata: MetadataMap::from_headers(headers),
        })
    }

    pub(super) fn reconnect(&self) {
        self.connections.renew();
    }

    pub(super) async fn attempt(&self, body: Bytes) -> Result<Accepted, Failure> {
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let client = self.connections.client();
        let mut grpc = tonic::client::Grpc::with_origin(client, self.origin.clone())
            .max_decoding_message_size(MAX_RESPONSE_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        if let Some(encoding) = self.compression {
            grpc = grpc.send_compressed(encoding);
        }
        grpc.ready().await.map_err(|error| Failure::connection(&error, Protocol::Grpc))?;
        match grpc.unary(request, self.path.clone(), ExportCodec).await {
            Ok(response) => Ok(Accepted::from(response.into_inner())),
            Err(status) => Err(failure(&status)),
        }
    }
}

fn failure(status: &Status) -> Failure {
    // A status with a cause was made on this side: the connection failed, the server said nothing.
    if let Some(cause) = status.source() {
        return Failure::connection(cause, Protocol::Grpc);
    }
    answer::of_grpc(status)
}

/// Encoded requests out, decoded responses in: those of all signals look the same.
#[derive(Clone, Copy, Debug)]
struct ExportCodec;

impl Codec for ExportCodec {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for ExportCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for ExportCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        // An answer that makes no sense is still an answer: the spans have arrived.
        Ok(Some(ExportTraceServiceResponse::decode(buffer).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn codes_decide_whether_to_retry() {
        let retryable = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        for code in (1..=16).map(Code::from_i32) {
            let failure = failure(&Status::new(code, "why"));
            let is_retryable = matches!(failure, Failure::Retryable { after: None, .. });
            assert_eq!(is_retryable, retryable.contains(&code), "{code:?}");
        }
    }

    #[test]
    fn the_receivers_delay_is_taken_over_and_makes_exhaustion_retryable() {
        let delay = Duration::from_millis(1_500);
        for (code, retries) in
            [(Code::ResourceExhausted, true), (Code::Unavailable, true), (Code::Internal, false)]
        {
            let details = ErrorDetails::with_retry_info(Some(delay));
            let failure = failure(&Status::with_error_details(code, "why", details));
            match failure {
                Failure::Retryable { after, .. } => {
                    assert_eq!((after, retries), (Some(delay), true));
                }
                Failure::Permanent { .. } => assert!(!retries, "{code:?}"),
            }
        }
    }
}
