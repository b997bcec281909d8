//! What OpenTelemetry's declarative configuration says, in terms of the variables and options that
//! say the same: so everything behind has one source of settings, not two.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::declarative::{
    Declarative, Encoding, Exporter, Instrumentation, MeterProvider, Otlp, Resource, SpanProcessor,
    TracerProvider,
};
use super::document::{Node, Position};
use super::sampling::sampler;
use super::{FileError, FileOption};

/// Values of variables, by name, and where they stand.
pub(super) type Given = BTreeMap<String, (String, Position)>;

/// What a file says of `OTEL_…`.
#[derive(Debug, Default)]
pub(super) struct Translation {
    /// Of everything but destinations.
    pub(super) shared: Given,
    /// Of each destination of spans.
    pub(super) destinations: Vec<Given>,
    pub(super) options: Vec<FileOption>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn translate(file: &Declarative, root: &Node) -> Result<Translation, FileError> {
    let mut translator = Translator { root, done: Translation::default() };
    translator.whole(file)?;
    Ok(translator.done)
}

struct Translator<'a> {
    root: &'a Node,
    done: Translation,
}

impl Translator<'_> {
    fn whole(&mut self, file: &Declarative) -> Result<(), FileError> {
        self.share("OTEL_SDK_DISABLED", file.disabled, "disabled");
        let level = file.log_level.map(|level| format!("{level:?}").to_lowercase());
        self.share("OTEL_LOG_LEVEL", level, "log_level");
        if let Some(limits) = &file.attribute_limits {
            self.share(
                "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
                limits.attribute_value_length_limit,
                "attribute_limits.attribute_value_length_limit",
            );
            self.share(
                "OTEL_ATTRIBUTE_COUNT_LIMIT",
                limits.attribute_count_limit,
                "attribute_limits.attribute_count_limit",
            );
        }
        if let Some(resource) = &file.resource {
            self.resource(resource);
        }
        if let Some(propagator) = &file.propagator {
            let mut formats: Vec<&str> =
                propagator.composite.iter().flatten().map(|(name, _)| name.as_str()).collect();
            formats.extend(propagator.composite_list.as_deref());
            self.share("OTEL_PROPAGATORS", Some(formats.join(",")), "propagator");
        }
        if let Some(provider) = &file.tracer_provider {
            self.tracer_provider(provider)?;
        }
        if let Some(provider) = &file.meter_provider {
            self.meter_provider(provider)?;
        }
        if let Some(instrumentation) = &file.instrumentation {
            self.instrumentation(instrumentation);
        }
        self.skip(file.logger_provider.is_some(), "logger_provider");
        self.skip(file.distribution.is_some(), "distribution");
        Ok(())
    }

    fn skip(&mut self, present: bool, path: &str) {
        if present {
            let place = self.place(path);
            let warning =
                format!("line {}: {path} does not concern the agent; skipped", place.line);
            self.done.warnings.push(warning);
        }
    }

    fn place(&self, path: &str) -> Position {
        self.root.find(path).map_or(self.root.position, |node| node.position)
    }

    fn error(&self, path: &str, message: &str) -> FileError {
        FileError::at(self.place(path), message)
    }

    fn share(&mut self, variable: &str, value: Option<impl ToString>, path: &str) {
        if let Some(value) = value {
            let place = self.place(path);
            self.done.shared.insert(variable.to_owned(), (value.to_string(), place));
        }
    }

    fn resource(&mut self, resource: &Resource) {
        let listed = resource.attributes_list.iter().cloned();
        let named = resource.attributes.iter().map(|attribute| {
            format!("{}={}", encoded(&attribute.name), encoded(&attribute.value.to_string()))
        });
        let list: Vec<String> = listed.chain(named).collect();
        if !list.is_empty() {
            self.share("OTEL_RESOURCE_ATTRIBUTES", Some(list.join(",")), "resource");
        }
        self.skip(resource.schema_url.is_some(), "resource.schema_url");
        self.skip(resource.detection.is_some(), "resource.detection/development");
    }

    fn tracer_provider(&mut self, provider: &TracerProvider) -> Result<(), FileError> {
        for (index, processor) in provider.processors.iter().enumerate() {
            let path = format!("tracer_provider.processors.{index}");
            self.processor(processor, &path)?;
        }
        if provider.processors.is_empty() {
            self.share("OTEL_TRACES_EXPORTER", Some("none"), "tracer_provider");
        }
        if let Some(limits) = &provider.limits {
            for (name, limit) in [
                ("attribute_value_length_limit", limits.attribute_value_length_limit),
                ("attribute_count_limit", limits.attribute_count_limit),
                ("event_count_limit", limits.event_count_limit),
                ("link_count_limit", limits.link_count_limit),
                ("event_attribute_count_limit", limits.event_attribute_count_limit),
                ("link_attribute_count_limit", limits.link_attribute_count_limit),
            ] {
                // Attributes of events and links have variables without `SPAN`.
                let of_span =
                    !name.ends_with("attribute_count_limit") || name.starts_with("attribute");
                let prefix = if of_span { "OTEL_SPAN_" } else { "OTEL_" };
                let variable = format!("{prefix}{}", name.to_uppercase());
                self.share(&variable, limit, &format!("tracer_provider.limits.{name}"));
            }
        }
        if let Some(chosen) = &provider.sampler {
            let path = "tracer_provider.sampler";
            let (name, ratio) = sampler(chosen, path, &|path, why| self.error(path, why))?;
            self.share("OTEL_TRACES_SAMPLER", Some(name), path);
            self.share("OTEL_TRACES_SAMPLER_ARG", ratio, path);
        }
        self.skip(
            provider.configurator.is_some(),
            "tracer_provider.tracer_configurator/development",
        );
        Ok(())
    }

    fn processor(&mut self, processor: &SpanProcessor, path: &str) -> Result<(), FileError> {
        let (exporter, path) = match (&processor.batch, &processor.simple) {
            (Some(batch), None) => {
                let path = format!("{path}.batch");
                for (variable, key, value) in [
                    ("OTEL_BSP_SCHEDULE_DELAY", "schedule_delay", batch.schedule_delay),
                    ("OTEL_BSP_EXPORT_TIMEOUT", "export_timeout", batch.export_timeout),
                    ("OTEL_BSP_MAX_QUEUE_SIZE", "max_queue_size", batch.max_queue_size),
                    (
                        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                        "max_export_batch_size",
                        batch.max_export_batch_size,
                    ),
                ] {
                    let path = format!("{path}.{key}");
                    let before = self.done.shared.get(variable).map(|(before, _)| before.clone());
                    if let (Some(value), Some(before)) = (value, before)
                        && value.to_string() != before
                    {
                        let message = format!(
                            "{key} is the same for all processors; another one has {before}"
                        );
                        return Err(self.error(&path, &message));
                    }
                    self.share(variable, value, &path);
                }
                (&batch.exporter, path)
            }
            (None, Some(simple)) => (&simple.exporter, format!("{path}.simple")),
            _ => return Err(self.error(path, "one of `batch` and `simple` is needed")),
        };
        let path = format!("{path}.exporter");
        let mut destination = Given::new();
        self.exporter(exporter, "TRACES", &path, &mut destination)?;
        self.done.destinations.push(destination);
        Ok(())
    }

    fn exporter(
        &mut self,
        exporter: &Exporter,
        signal: &str,
        path: &str,
        given: &mut Given,
    ) -> Result<(), FileError> {
        let place = self.place(path);
        let kind = match exporter {
            Exporter { otlp_http: Some(otlp), otlp_grpc: None, console: None, otlp_file: None } => {
                let json = otlp.encoding == Some(Encoding::Json);
                let protocol = if json { "http/json" } else { "http/protobuf" };
                self.otlp(otlp, protocol, signal, &format!("{path}.otlp_http"), given);
                "otlp".to_owned()
            }
            Exporter { otlp_http: None, otlp_grpc: Some(otlp), console: None, otlp_file: None } => {
                if otlp.encoding.is_some() {
                    let path = format!("{path}.otlp_grpc.encoding");
                    return Err(self.error(&path, "gRPC has no encoding but its own"));
                }
                self.otlp(otlp, "grpc", signal, &format!("{path}.otlp_grpc"), given);
                "otlp".to_owned()
            }
            Exporter { otlp_http: None, otlp_grpc: None, console: Some(_), otlp_file: None } => {
                "console".to_owned()
            }
            Exporter { otlp_http: None, otlp_grpc: None, console: None, otlp_file: Some(file) } => {
                match file.output_stream.as_deref() {
                    None | Some("stdout") => "otlp/stdout".to_owned(),
                    Some(url) => match url.strip_prefix("file://") {
                        Some(file) if file.starts_with('/') => format!("file:{file}"),
                        _ => {
                            let message =
                                "write `stdout` or a URL like file:///var/log/spans.jsonl";
                            return Err(self.error(path, message));
                        }
                    },
                }
            }
            _ => {
                let message = "one of `otlp_http`, `otlp_grpc`, `console` and `otlp_file/development` is needed";
                return Err(self.error(path, message));
            }
        };
        given.insert(format!("OTEL_{signal}_EXPORTER"), (kind, place));
        Ok(())
    }

    fn otlp(&self, otlp: &Otlp, protocol: &str, signal: &str, path: &str, given: &mut Given) {
        let here = self.place(path);
        let mut set = |name: &str, value: Option<String>, key: &str| {
            if let Some(value) = value {
                let place = self.root.find(&format!("{path}.{key}")).map(|node| node.position);
                let variable = format!("OTEL_EXPORTER_OTLP_{signal}_{name}");
                given.insert(variable, (value, place.unwrap_or(here)));
            }
        };
        set("PROTOCOL", Some(protocol.to_owned()), "");
        set("ENDPOINT", otlp.endpoint.clone(), "endpoint");
        set("COMPRESSION", otlp.compression.clone(), "compression");
        set("TIMEOUT", otlp.timeout.map(|millis| millis.to_string()), "timeout");
        let listed = otlp.headers_list.iter().cloned();
        let named = otlp.headers.iter().map(|header| {
            let value = header.value.as_deref().unwrap_or_default();
            format!("{}={}", encoded(&header.name), encoded(value))
        });
        let headers: Vec<String> = listed.chain(named).collect();
        set("HEADERS", (!headers.is_empty()).then(|| headers.join(",")), "headers");
        if let Some(tls) = &otlp.tls {
            set("CERTIFICATE", tls.ca_file.clone(), "tls.ca_file");
            set("CLIENT_KEY", tls.key_file.clone(), "tls.key_file");
            set("CLIENT_CERTIFICATE", tls.cert_file.clone(), "tls.cert_file");
            set("INSECURE", tls.insecure.map(|insecure| insecure.to_string()), "tls.insecure");
        }
        let temporality = otlp.temporality_preference.map(|it| format!("{it:?}").to_lowercase());
        set("TEMPORALITY_PREFERENCE", temporality, "temporality_preference");
        let histogram = otlp.default_histogram_aggregation.map(|aggregation| match aggregation {
            super::declarative::HistogramAggregation::ExplicitBucketHistogram => {
                "explicit_bucket_histogram".to_owned()
            }
            super::declarative::HistogramAggregation::Base2ExponentialBucketHistogram => {
                "base2_exponential_bucket_histogram".to_owned()
            }
        });
        set("DEFAULT_HISTOGRAM_AGGREGATION", histogram, "default_histogram_aggregation");
    }

    fn meter_provider(&mut self, provider: &MeterProvider) -> Result<(), FileError> {
        let mut given = Given::new();
        let mut exporters: Vec<String> = Vec::new();
        for (index, reader) in provider.readers.iter().enumerate() {
            let path = format!("meter_provider.readers.{index}");
            match (&reader.periodic, &reader.pull) {
                (Some(periodic), None) => {
                    if exporters.iter().any(|kind| kind != "prometheus") {
                        let message = "the agent sends its metrics to one receiver only";
                        return Err(self.error(&path, message));
                    }
                    let path = format!("{path}.periodic");
                    let interval = format!("{path}.interval");
                    self.share("OTEL_METRIC_EXPORT_INTERVAL", periodic.interval, &interval);
                    let timeout = format!("{path}.timeout");
                    self.share("OTEL_METRIC_EXPORT_TIMEOUT", periodic.timeout, &timeout);
                    let path = format!("{path}.exporter");
                    self.exporter(&periodic.exporter, "METRICS", &path, &mut given)?;
                    let kind = given.remove("OTEL_METRICS_EXPORTER");
                    exporters.extend(kind.map(|(kind, _)| kind));
                }
                (None, Some(pull)) => {
                    let path = format!("{path}.pull.exporter.prometheus/development");
                    let Some(prometheus) = &pull.exporter.prometheus else {
                        return Err(self.error(&path, "`prometheus/development` is needed"));
                    };
                    self.share("OTEL_EXPORTER_PROMETHEUS_HOST", prometheus.host.as_ref(), &path);
                    self.share("OTEL_EXPORTER_PROMETHEUS_PORT", prometheus.port, &path);
                    exporters.push("prometheus".to_owned());
                }
                _ => return Err(self.error(&path, "one of `periodic` and `pull` is needed")),
            }
        }
        self.done.shared.append(&mut given);
        let exporters = if exporters.is_empty() { "none".to_owned() } else { exporters.join(",") };
        self.share("OTEL_METRICS_EXPORTER", Some(exporters), "meter_provider.readers");
        let filter = provider.exemplar_filter.map(|filter| match filter {
            super::declarative::ExemplarFilter::AlwaysOn => "always_on",
            super::declarative::ExemplarFilter::AlwaysOff => "always_off",
            super::declarative::ExemplarFilter::TraceBased => "trace_based",
        });
        self.share("OTEL_METRICS_EXEMPLAR_FILTER", filter, "meter_provider.exemplar_filter");
        self.skip(provider.views.is_some(), "meter_provider.views");
        self.skip(provider.configurator.is_some(), "meter_provider.meter_configurator/development");
        Ok(())
    }

    fn instrumentation(&mut self, instrumentation: &Instrumentation) {
        let Some(general) = &instrumentation.general else { return };
        let path = "instrumentation/development.general";
        let place = self.place(path);
        let mut option = |name: &str, values: Vec<String>| {
            self.done.options.push(FileOption { name: name.to_owned(), values, position: place });
        };
        let sides = || general.http.iter().flat_map(|http| [&http.client, &http.server]).flatten();
        let request: Vec<String> =
            sides().flat_map(|side| side.request_captured_headers.clone()).collect();
        let response: Vec<String> =
            sides().flat_map(|side| side.response_captured_headers.clone()).collect();
        if !request.is_empty() {
            option("capture-request-header", request);
        }
        if !response.is_empty() {
            option("capture-response-header", response);
        }
        let url = general.sanitization.as_ref().and_then(|it| it.url.as_ref());
        if let Some(keys) = url.and_then(|url| url.sensitive_query_parameters.clone()) {
            option("redact-query-key", if keys.is_empty() { vec![String::new()] } else { keys });
        }
        let methods =
            sides().filter_map(|side| side.known_methods.clone()).reduce(|mut all, more| {
                all.extend(more);
                all
            });
        let methods = methods.map(|methods| methods.join(","));
        self.share("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", methods, path);
        let opted = general.stability_opt_in_list.clone();
        self.share("OTEL_SEMCONV_STABILITY_OPT_IN", opted, path);
    }
}

/// Percent-encoding of everything that could mean something in a list.
fn encoded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            result.push(char::from(byte));
        } else {
            // Writing to a `String` does not fail.
            let _ = write!(result, "%{byte:02X}");
        }
    }
    result
}
