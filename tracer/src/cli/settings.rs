//! From configuration to what the exporters take.

use anyhow::Result;
use tracer::config::{ByteSize, ExportOptions, MetricsOptions, QueueDrop, Variables};
use tracer::export::{MetricsSettings, Options, Overflow, Settings, SpoolSettings};

/// Where spans go, and warnings for the operator.
pub(crate) fn export(
    options: &ExportOptions,
    variables: &Variables,
) -> Result<(Settings, Vec<String>)> {
    let given = given(options);
    let chosen = given.exporters.is_some() || !given.otlp_endpoints.is_empty();
    if chosen || variables.destinations() == 0 {
        return Ok(Settings::resolve(&given, |name| variables.get(name))?);
    }
    let of = |index| Settings::resolve(&given, |name: &str| variables.of_destination(index, name));
    let (mut settings, mut warnings) = of(0)?;
    for index in 1..variables.destinations() {
        let (more, its_warnings) = of(index)?;
        warnings.extend(its_warnings);
        warnings.extend(settings.join(more));
    }
    // What all destinations share is complained about once.
    let mut told = std::collections::HashSet::new();
    warnings.retain(|warning| told.insert(warning.clone()));
    Ok((settings, warnings))
}

/// Share of the memory that may be spans that wait, of all destinations together.
const QUEUES: u64 = 4;

/// Makes queues no larger than the memory allows.
pub(crate) fn fit(settings: &mut Settings, memory_limit: Option<u64>) {
    let Some(limit) = memory_limit else { return };
    let destinations = settings.exporters.len().max(settings.otlp.len()).max(1) as u64;
    let share = usize::try_from(limit / QUEUES / destinations).unwrap_or(usize::MAX);
    settings.batch.queue.bytes = settings.batch.queue.bytes.min(share);
}

/// Where metrics go, and warnings for the operator.
pub(crate) fn metrics(
    options: &MetricsOptions,
    export: &ExportOptions,
    variables: &Variables,
) -> Result<(MetricsSettings, Vec<String>)> {
    let listen = options.metrics.map(|address| address.to_string());
    Ok(MetricsSettings::resolve(&given(export), listen, |name| variables.get(name))?)
}

fn given(options: &ExportOptions) -> Options {
    Options {
        exporters: options.exporter.clone(),
        otlp_endpoints: options.otlp_endpoint.clone(),
        otlp_protocols: options.otlp_protocol.clone(),
        otlp_headers: options.otlp_headers.clone(),
        otlp_compression: options.otlp_compression.clone(),
        otlp_timeout: options.otlp_timeout.map(Into::into),
        otlp_max_request: options.otlp_max_request.map(bytes),
        retry_for: options.retry_for.map(Into::into),
        spool: options
            .spool
            .clone()
            .map(|directory| SpoolSettings { directory, max_bytes: options.spool_size.0 }),
        max_queue_size: options.queue_spans,
        max_queue_bytes: Some(bytes(options.queue_bytes)),
        overflow: match options.queue_drop {
            QueueDrop::Newest => Overflow::Newest,
            QueueDrop::Oldest => Overflow::Oldest,
        },
        ..Options::default()
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
