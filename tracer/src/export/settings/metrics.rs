//! What becomes of metrics: `OTEL_METRICS_EXPORTER` and what goes with it.
//!
//! One default differs from an SDK's: without `OTEL_METRICS_EXPORTER` or a metrics endpoint, no
//! metrics are sent. Many receivers of traces take nothing else, and an agent that complains about
//! that on every host helps nobody.

use std::time::Duration;

use super::environment::Environment;
use super::{Options, OtlpSettings, SettingsError, Signal};

const EXPORTER: &str = "OTEL_METRICS_EXPORTER";
const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
const AGGREGATION: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
const EXEMPLARS: &str = "OTEL_METRICS_EXEMPLAR_FILTER";
const EXPLICIT: &str = "explicit_bucket_histogram";

/// What becomes of metrics.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// Where `/metrics` is served, as host and port.
    pub listen: Option<String>,
    /// Receivers of OTLP.
    pub otlp: Vec<OtlpSettings>,
    /// Time between two exports.
    pub interval: Duration,
    /// Limit of one export.
    pub timeout: Duration,
    /// What exports count from.
    pub temporality: Temporality,
    /// Histograms carry examples of what they counted.
    pub exemplars: bool,
}

/// What the numbers of an export count from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// The agent's start.
    #[default]
    Cumulative,
    /// The export before.
    Delta,
}

impl MetricsSettings {
    /// Merges options with the environment; the second part are warnings for the operator.
    pub fn resolve(
        options: &Options,
        listen: Option<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<String>), SettingsError> {
        let mut environment = Environment::new(&environment);
        let Exporters { mut otlp, prometheus } = exporters(&mut environment);
        otlp &= !environment.truth("OTEL_SDK_DISABLED").unwrap_or(false);
        let otlp = if otlp {
            OtlpSettings::resolve_all(options, Signal::Metrics, &mut environment)?
        } else {
            Vec::new()
        };
        let listen = listen.or_else(|| prometheus.then(|| prometheus_address(&mut environment)));
        let settings = Self {
            listen,
            otlp,
            interval: positive(&mut environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            timeout: positive(&mut environment, "OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
            temporality: temporality(&mut environment),
            exemplars: exemplars(&mut environment),
        };
        aggregation(&mut environment);
        Ok((settings, environment.into_warnings()))
    }

    /// Whether anybody wants to know.
    pub fn wanted(&self) -> bool {
        self.listen.is_some() || !self.otlp.is_empty()
    }
}

#[derive(Default)]
struct Exporters {
    otlp: bool,
    prometheus: bool,
}

fn exporters(environment: &mut Environment<'_>) -> Exporters {
    let mut chosen = Exporters::default();
    let Some(list) = environment.text(EXPORTER) else {
        chosen.otlp = environment.text(&Signal::Metrics.variable("ENDPOINT")).is_some();
        return chosen;
    };
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.to_ascii_lowercase().as_str() {
            "otlp" => chosen.otlp = true,
            "prometheus" => chosen.prometheus = true,
            "none" => {}
            _ => environment.warn(
                EXPORTER,
                &format!("`{name}` is not supported and ignored; use otlp, prometheus or none"),
            ),
        }
    }
    chosen
}

fn prometheus_address(environment: &mut Environment<'_>) -> String {
    const PORT: &str = "OTEL_EXPORTER_PROMETHEUS_PORT";
    let host = environment.text("OTEL_EXPORTER_PROMETHEUS_HOST");
    let port = environment.text(PORT).and_then(|text| {
        let port = text.parse::<u16>().ok();
        if port.is_none() {
            environment.warn(PORT, &format!("`{text}` is not a TCP port; ignored"));
        }
        port
    });
    format!("{}:{}", host.as_deref().unwrap_or("localhost"), port.unwrap_or(9464))
}

fn positive(environment: &mut Environment<'_>, variable: &str, default: u64) -> Duration {
    let given = environment.millis(variable).filter(|time| {
        let usable = !time.is_zero();
        if !usable {
            environment.warn(variable, "zero makes no sense; ignored");
        }
        usable
    });
    given.unwrap_or(Duration::from_millis(default))
}

fn temporality(environment: &mut Environment<'_>) -> Temporality {
    match environment.text(TEMPORALITY).map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("cumulative") => Temporality::Cumulative,
        // What has to be low are the SDK's costs; the counters here are synchronous, which it has
        // as deltas.
        Some("delta" | "lowmemory") => Temporality::Delta,
        Some(other) => {
            let problem = format!("`{other}` is unknown and ignored; use cumulative or delta");
            environment.warn(TEMPORALITY, &problem);
            Temporality::Cumulative
        }
    }
}

fn aggregation(environment: &mut Environment<'_>) {
    if let Some(text) = environment.text(AGGREGATION)
        && !text.eq_ignore_ascii_case(EXPLICIT)
    {
        environment.warn(AGGREGATION, &format!("`{text}` is not supported; using {EXPLICIT}"));
    }
}

fn exemplars(environment: &mut Environment<'_>) -> bool {
    match environment.text(EXEMPLARS).map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("trace_based" | "always_on") => true,
        Some("always_off") => false,
        Some(other) => {
            let problem = format!("`{other}` is unknown and ignored; using trace_based");
            environment.warn(EXEMPLARS, &problem);
            true
        }
    }
}
