//! Every setting as it is in force, and where it comes from.

use anyhow::Result;
use tracer::config::{AgentVariables, Configuration, OptionValue, RunOptions, Source, Variables};
use tracer::export::{Compression, MetricsSettings, OtlpSettings, Protocol, Settings, Temporality};
use tracer::redact::Limits;

use super::settings;

/// What is shown of a secret.
const MASKED: &str = "********";
/// The sampler's variables, and what each means if it is not there.
const SAMPLER: [(&str, &str); 2] =
    [("OTEL_TRACES_SAMPLER", "parentbased_always_on"), ("OTEL_TRACES_SAMPLER_ARG", "")];
/// All others that concern the agent; the signals' own variables of OTLP are derived from these.
const OTHERS: [&str; 30] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_LOG_LEVEL",
    "OTEL_PROPAGATORS",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
];

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// All settings, and warnings for the operator.
pub(crate) fn resolve(
    configuration: &Configuration,
    run: &RunOptions,
) -> Result<(Vec<Setting>, Vec<String>)> {
    let Configuration { variables, options, .. } = configuration;
    let (agent, more) = AgentVariables::read(variables);
    let (export, of_export) = settings::export(&run.export, variables)?;
    let (metrics, of_metrics) = settings::metrics(&run.metrics, &run.export, variables)?;
    let (of_limits, _) = Limits::from_environment(|name| variables.get(name));
    let (of_sampling, _) = run.sampling.samplers(|name| variables.get(name));
    let mut warnings = configuration.warnings.clone();
    for warning in [more, of_limits, of_sampling, of_export, of_metrics].into_iter().flatten() {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    let ignored = variables.ignored(OTHERS.into_iter().chain(as_given().map(|(name, _)| name)));
    if !ignored.is_empty() {
        let names = ignored.join(", ");
        warnings.push(format!("the configuration file stands for {names}: ignored"));
    }
    let sources = Sources { variables, options, warnings: &warnings };
    let mut settings: Vec<Setting> = options.iter().map(option).collect();
    sources.general(&agent, &mut settings);
    sources.export(&export, &mut settings);
    sources.metrics(&metrics, &mut settings);
    for (name, default) in as_given() {
        let source = sources.of("", None, &[name]);
        let given = if source == Source::Default { None } else { variables.get(name) };
        push(&mut settings, name, given.unwrap_or(default.to_owned()), source);
    }
    Ok((settings, warnings))
}

/// Variables that are shown as they were given: their meaning is known elsewhere.
fn as_given() -> impl Iterator<Item = (&'static str, &'static str)> {
    SAMPLER.into_iter().chain(Limits::VARIABLES)
}

fn option(option: &OptionValue) -> Setting {
    let value = if option.secret && !option.values.is_empty() {
        MASKED.to_owned()
    } else {
        option.values.join(",")
    };
    Setting { name: format!("--{}", option.name), value, source: option.source.clone() }
}

fn push(to: &mut Vec<Setting>, name: &str, value: impl Into<String>, source: Source) {
    to.push(Setting { name: name.to_owned(), value: value.into(), source });
}

struct Sources<'a> {
    variables: &'a Variables,
    options: &'a [OptionValue],
    warnings: &'a [String],
}

impl Sources<'_> {
    /// The option if it was given, else the first of the variables that says something usable.
    fn of(&self, option: &str, destination: Option<usize>, variables: &[&str]) -> Source {
        let given = self.options.iter().find(|given| given.name == option);
        if let Some(given) = given.filter(|given| given.source != Source::Default) {
            return given.source.clone();
        }
        let usable = |name: &&&str| {
            let value = match destination {
                Some(index) => self.variables.of_destination(index, name),
                None => self.variables.get(name),
            };
            let complaint = format!("{name}: ");
            value.is_some_and(|value| !value.trim().is_empty())
                && !self.warnings.iter().any(|warning| warning.starts_with(&complaint))
        };
        let found = variables.iter().find(usable);
        found.and_then(|name| self.variables.source(destination, name)).unwrap_or(Source::Default)
    }

    fn general(&self, agent: &AgentVariables, to: &mut Vec<Setting>) {
        let mut tell = |name, value: String| {
            let source = self.of("", None, &[name]);
            push(to, name, value, source);
        };
        tell("OTEL_SDK_DISABLED", agent.disabled.to_string());
        tell("OTEL_LOG_LEVEL", agent.log_level.unwrap_or_default().to_owned());
        let methods = agent.known_methods.as_ref().map(|methods| methods.join(","));
        tell("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", methods.unwrap_or_default());
        let name = agent.resource.iter().find(|(name, _)| name == "service.name");
        tell("OTEL_SERVICE_NAME", name.map(|(_, value)| value.clone()).unwrap_or_default());
        let pairs = agent.resource.iter().map(|(name, value)| format!("{name}={value}"));
        tell("OTEL_RESOURCE_ATTRIBUTES", pairs.collect::<Vec<_>>().join(","));
        for name in ["OTEL_PROPAGATORS", "OTEL_SEMCONV_STABILITY_OPT_IN"] {
            tell(name, self.variables.get(name).unwrap_or_default());
        }
    }

    fn export(&self, export: &Settings, to: &mut Vec<Setting>) {
        let exporters: Vec<String> = export.exporters.iter().map(ToString::to_string).collect();
        let exporters = if exporters.is_empty() { "none".to_owned() } else { exporters.join(",") };
        let first = (self.variables.destinations() > 0).then_some(0);
        let source = self.of("exporter", first, &["OTEL_TRACES_EXPORTER"]);
        push(to, "OTEL_TRACES_EXPORTER", exporters, source);
        let batch = &export.batch;
        for (name, option, value) in [
            ("OTEL_BSP_SCHEDULE_DELAY", "", millis(batch.schedule_delay)),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "queue-spans", batch.queue.spans.to_string()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "", batch.max_batch_size.to_string()),
        ] {
            let source = self.of(option, None, &[name]);
            push(to, name, value, source);
        }
        if let Some(receiver) = export.otlp.first() {
            let name = "OTEL_BSP_EXPORT_TIMEOUT";
            let source = self.of("retry-for", None, &[name]);
            push(to, name, millis(receiver.retry.give_up_after), source);
        }
        for (index, receiver) in export.otlp.iter().enumerate() {
            let destination = (self.variables.destinations() > 0).then_some(index);
            let suffix = if export.otlp.len() > 1 { format!("[{index}]") } else { String::new() };
            self.receiver(receiver, "TRACES", destination, &suffix, to);
        }
    }

    fn receiver(
        &self,
        receiver: &OtlpSettings,
        signal: &str,
        destination: Option<usize>,
        suffix: &str,
        to: &mut Vec<Setting>,
    ) {
        let file = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
        };
        let headers: Vec<String> =
            receiver.headers.keys().map(|name| format!("{name}={MASKED}")).collect();
        for (name, option, value) in [
            ("ENDPOINT", "otlp-endpoint", receiver.endpoint.to_string()),
            ("PROTOCOL", "otlp-protocol", protocol(receiver.protocol).to_owned()),
            ("HEADERS", "otlp-headers", headers.join(",")),
            ("TIMEOUT", "otlp-timeout", millis(receiver.timeout)),
            ("COMPRESSION", "otlp-compression", compression(receiver.compression).to_owned()),
            ("CERTIFICATE", "", file(&receiver.tls.trusted)),
            ("CLIENT_CERTIFICATE", "", file(&receiver.tls.client_certificate)),
            ("CLIENT_KEY", "", file(&receiver.tls.client_key)),
        ] {
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_{name}");
            let general = format!("OTEL_EXPORTER_OTLP_{name}");
            let source = self.of(option, destination, &[&own, &general]);
            push(to, &format!("{own}{suffix}"), value, source);
        }
    }

    fn metrics(&self, metrics: &MetricsSettings, to: &mut Vec<Setting>) {
        let (host, port) = (["OTEL_EXPORTER_PROMETHEUS_HOST"], ["OTEL_EXPORTER_PROMETHEUS_PORT"]);
        let exporters = match (metrics.otlp.is_empty(), &metrics.listen) {
            (true, None) => "none",
            (false, None) => "otlp",
            (true, Some(_)) => "prometheus",
            (false, Some(_)) => "otlp,prometheus",
        };
        let source = self.of("metrics", None, &["OTEL_METRICS_EXPORTER"]);
        push(to, "OTEL_METRICS_EXPORTER", exporters, source);
        let address = metrics.listen.as_deref().and_then(|listen| listen.rsplit_once(':'));
        let (host_value, port_value) = address.unwrap_or_default();
        let source = self.of("metrics", None, &host);
        push(to, host[0], host_value, source);
        let source = self.of("metrics", None, &port);
        push(to, port[0], port_value, source);
        let temporality = match metrics.temporality {
            Temporality::Cumulative => "cumulative",
            Temporality::Delta => "delta",
        };
        for (name, value) in [
            ("OTEL_METRIC_EXPORT_INTERVAL", millis(metrics.interval)),
            ("OTEL_METRIC_EXPORT_TIMEOUT", millis(metrics.timeout)),
            (
                "OTEL_METRICS_EXEMPLAR_FILTER",
                if metrics.exemplars { "trace_based" } else { "always_off" }.to_owned(),
            ),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality.to_owned()),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "explicit_bucket_histogram".to_owned(),
            ),
        ] {
            let source = self.of("", None, &[name]);
            push(to, name, value, source);
        }
        if let Some(receiver) = metrics.otlp.first() {
            self.receiver(receiver, "METRICS", None, "", to);
        }
    }
}

fn millis(time: std::time::Duration) -> String {
    if time == std::time::Duration::MAX { "never".to_owned() } else { time.as_millis().to_string() }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Grpc => "grpc",
        Protocol::HttpProtobuf => "http/protobuf",
        Protocol::HttpJson => "http/json",
    }
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}
