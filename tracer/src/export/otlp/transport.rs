//! Either way of OTLP to a receiver.

use bytes::Bytes;

use super::client::TlsError;
use super::grpc::GrpcTransport;
use super::http::HttpTransport;
use super::{Accepted, Failure};
use crate::export::settings::{OtlpSettings, Protocol};
use crate::export::wire::Request;

#[derive(Debug)]
pub(super) enum Transport {
    Http(HttpTransport),
    Grpc(GrpcTransport),
}

impl Transport {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, TlsError> {
        Ok(match settings.protocol {
            Protocol::Grpc => Self::Grpc(GrpcTransport::new(settings)?),
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                Self::Http(HttpTransport::new(settings)?)
            }
        })
    }

    /// What is sent for a request, made once for all attempts.
    pub(super) fn prepare(&self, request: &Request) -> Bytes {
        match self {
            Self::Http(http) => http.prepare(&request.body),
            Self::Grpc(_) => request.body.clone(),
        }
    }

    pub(super) async fn attempt(&self, body: Bytes) -> Result<Accepted, Failure> {
        match self {
            Self::Http(http) => http.attempt(body).await,
            Self::Grpc(grpc) => grpc.attempt(body).await,
        }
    }

    /// Later attempts do not use the connections that there are.
    pub(super) fn reconnect(&self) {
        match self {
            Self::Http(http) => http.reconnect(),
            Self::Grpc(grpc) => grpc.reconnect(),
        }
    }
}
