//! Metrics on the same ways as spans. They are not tried again: the next ones tell the same.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use tokio::time::Instant;

use super::client::TlsError;
use super::health::Health;
use super::transport::Transport;
use super::{Accepted, Failure, OtlpSettings, Trouble};
use crate::export::wire::Request;

/// Sends metrics to one receiver.
#[derive(Debug)]
pub struct MetricsExporter {
    transport: Transport,
    settings: OtlpSettings,
    health: Health,
}

impl MetricsExporter {
    /// Reads certificates; connects only when there is something to send.
    pub fn new(settings: OtlpSettings) -> Result<Self, TlsError> {
        Ok(Self { transport: Transport::new(&settings)?, settings, health: Health::default() })
    }

    /// One attempt, within the limit and that of the receiver.
    pub async fn send(&self, request: &ExportMetricsServiceRequest, limit: Duration) {
        let request = Request { body: request.encode_to_vec().into(), spans: 0 };
        let body = self.transport.prepare(&request);
        let limit = limit.min(self.settings.timeout);
        let result = tokio::time::timeout(limit, self.transport.attempt(body)).await;
        let result = result.unwrap_or_else(|_| {
            self.transport.reconnect();
            let reason = format!("no answer within {limit:?}");
            Err(Failure::Retryable { after: None, trouble: Trouble::Silent, reason })
        });
        let (now, endpoint) = (Instant::now(), &self.settings.endpoint);
        match result {
            Ok(Accepted { rejected: 0, .. }) => {
                if let Some(after) = self.health.worked(now) {
                    tracing::info!(%endpoint, ?after, "the OTLP receiver takes metrics again");
                }
            }
            Ok(Accepted { rejected, message }) => {
                tracing::warn!(%endpoint, rejected, message, "the OTLP receiver refused metrics");
            }
            Err(
                Failure::Retryable { trouble, reason, .. } | Failure::Permanent { trouble, reason },
            ) => {
                if self.health.failed(trouble, true, now) {
                    tracing::warn!(
                        %endpoint, reason,
                        "the OTLP receiver takes no metrics: {}; OTEL_METRICS_EXPORTER=none stops them",
                        trouble.advice()
                    );
                }
            }
        }
    }
}
