//! Every variable of the environment that the specification has and the agent heeds: what each
//! means, and what a wrong value does. Needs no privileges.

use anyhow::{Result, ensure};
use tracer_tests::{ConfigFile, Shown, tracer};

/// A variable: what it is unset, a value and what that means, and a malformed value if there is one.
struct Row {
    name: &'static str,
    unset: &'static str,
    given: &'static str,
    meaning: &'static str,
    malformed: Option<&'static str>,
}

const fn row(
    name: &'static str,
    unset: &'static str,
    given: &'static str,
    meaning: &'static str,
    malformed: Option<&'static str>,
) -> Row {
    Row { name, unset, given, meaning, malformed }
}

/// Variables without a signal. What is malformed is ignored with a warning, but for endpoints,
/// which are errors (see below), and switches, which are off.
const GENERAL: [Row; 19] = [
    row("OTEL_SDK_DISABLED", "false", "TRUE", "true", Some("yes")),
    row("OTEL_SERVICE_NAME", "", "agent", "agent", None),
    row("OTEL_RESOURCE_ATTRIBUTES", "", "a=b%20c", "a=b c", Some("a=%zz,b=c")),
    row("OTEL_LOG_LEVEL", "", "DEBUG", "debug", Some("loud")),
    row("OTEL_PROPAGATORS", "", "b3,tracecontext", "b3,tracecontext", None),
    row("OTEL_BSP_SCHEDULE_DELAY", "1000", "50", "50", Some("soon")),
    row("OTEL_BSP_MAX_QUEUE_SIZE", "16384", "4096", "4096", Some("0")),
    row("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1024", "64", "64", Some("-1")),
    row("OTEL_BSP_EXPORT_TIMEOUT", "300000", "7000", "7000", Some("7s")),
    row("OTEL_TRACES_EXPORTER", "otlp", "none", "none", Some("zipkin")),
    row("OTEL_METRICS_EXPORTER", "otlp", "Prometheus", "prometheus", None),
    row("OTEL_METRIC_EXPORT_INTERVAL", "60000", "500", "500", Some("0")),
    row("OTEL_METRIC_EXPORT_TIMEOUT", "30000", "400", "400", Some("x")),
    row("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "always_off", "always_off", Some("some")),
    row(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
        "Delta",
        "delta",
        Some("both"),
    ),
    row(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "explicit_bucket_histogram",
        "explicit_bucket_histogram",
        "explicit_bucket_histogram",
        Some("base2_exponential_bucket_histogram"),
    ),
    row("OTEL_TRACES_SAMPLER", "parentbased_always_on", "always_off", "always_off", Some("most")),
    row("OTEL_TRACES_SAMPLER_ARG", "", "0.5", "0.5", None),
    row("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "", "GET,PURGE", "GET,PURGE", None),
];

/// Limits are numbers.
const LIMITS: [(&str, &str); 8] = [
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "128"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128"),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "128"),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", "128"),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "128"),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "128"),
];

/// Variables of OTLP, of which each signal has its own: the end of the name.
const OTLP: [Row; 7] = [
    row("PROTOCOL", "http/protobuf", "GRPC", "grpc", Some("http/xml")),
    row("HEADERS", "", "k=v%20w", "k=********", Some("no-equals")),
    row("TIMEOUT", "10000", "1500", "1500", Some("1.5")),
    row("COMPRESSION", "none", "GZip", "gzip", Some("snappy")),
    row("CERTIFICATE", "", "/ca.pem", "/ca.pem", None),
    row("CLIENT_KEY", "", "/k.pem", "/k.pem", None),
    row("CLIENT_CERTIFICATE", "", "/c.pem", "/c.pem", None),
];

/// What makes OTLP the exporter of both signals.
const EXPORTERS: [(&str, &str); 2] =
    [("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_METRICS_EXPORTER", "otlp")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = EXPORTERS.into_iter().filter(|(name, _)| more.iter().all(|(it, _)| it != name));
    kept.chain(more.iter().copied()).collect()
}

fn check(row: &Row, variable: &str, shown_as: &str) -> Result<()> {
    let Row { unset, given, meaning, malformed, .. } = row;
    let own = EXPORTERS.iter().any(|(name, _)| *name == variable);
    let shown = Shown::of(&[], &with(&[]))?;
    assert_eq!(shown.value(shown_as), *unset, "{variable} unset");
    if !own {
        assert_eq!(shown.source(shown_as), "default", "{variable} unset");
        let shown = Shown::of(&[], &with(&[(variable, "")]))?;
        assert_eq!(shown.value(shown_as), *unset, "{variable} empty is unset");
        assert_eq!(shown.source(shown_as), "default", "{variable} empty is unset");
    }
    let shown = Shown::of(&[], &with(&[(variable, given)]))?;
    assert_eq!(shown.value(shown_as), *meaning, "{variable}={given}");
    assert_eq!(shown.source(shown_as), variable, "{variable}={given}");
    assert_eq!(shown.warnings(), [""; 0], "{variable}={given}");
    if let Some(malformed) = malformed {
        let shown = Shown::of(&[], &with(&[(variable, malformed)]))?;
        let fallback = if variable == "OTEL_TRACES_EXPORTER" { "console" } else { unset };
        assert_eq!(shown.value(shown_as), fallback, "{variable}={malformed}");
        assert_eq!(shown.source(shown_as), "default", "{variable}={malformed}");
        let complaint = format!("{variable}: ");
        ensure!(
            shown.warnings().iter().any(|warning| warning.starts_with(&complaint)),
            "{variable}={malformed}: {:?}",
            shown.warnings()
        );
    }
    let file = ConfigFile::new("file_format: \"1.0\"\n")?;
    let shown = Shown::of(&["--config", file.path()], &with(&[(variable, given)]))?;
    assert_ne!(shown.source(shown_as), variable, "{variable} counts beside a file");
    if !unset.is_empty() && !own && shown.value(shown_as) != "(absent)" {
        assert_eq!(shown.value(shown_as), *unset, "{variable} counts beside a file");
    }
    Ok(())
}

/// Protects: each variable unset, empty, set, malformed, and beside a file.
#[test]
fn every_general_variable() -> Result<()> {
    for row in &GENERAL {
        check(row, row.name, row.name)?;
    }
    for (name, unset) in LIMITS {
        check(&row(name, unset, "7", "7", Some("many")), name, name)?;
    }
    Ok(())
}

/// Protects: each variable of OTLP for all signals and for each, which wins.
#[test]
fn every_variable_of_otlp_for_each_signal() -> Result<()> {
    for (signal, other) in [("TRACES", "METRICS"), ("METRICS", "TRACES")] {
        for row in &OTLP {
            let general = format!("OTEL_EXPORTER_OTLP_{}", row.name);
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_{}", row.name);
            check(row, &general, &own)?;
            check(row, &own, &own)?;
            let others = format!("OTEL_EXPORTER_OTLP_{other}_{}", row.name);
            let shown = Shown::of(&[], &with(&[(&others, row.given)]))?;
            assert_eq!(shown.value(&own), row.unset, "{others} is another signal's");
            if row.name == "TIMEOUT" {
                let shown = Shown::of(&[], &with(&[(&general, "1"), (&own, "2")]))?;
                assert_eq!((shown.value(&own), shown.source(&own)), ("2", own.as_str()));
            }
        }
    }
    Ok(())
}

/// Protects: paths are appended to the general endpoint only, and a bad endpoint is an error.
#[test]
fn endpoints() -> Result<()> {
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    let both = |variables: &[(&str, &str)]| -> Result<(String, String)> {
        let shown = Shown::of(&[], &with(variables))?;
        Ok((shown.value(TRACES).to_owned(), shown.value(METRICS).to_owned()))
    };
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(
        both(&[])?,
        pair("http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics")
    );
    assert_eq!(
        both(&[(GENERAL, "http://h:1/b/")])?,
        pair("http://h:1/b/v1/traces", "http://h:1/b/v1/metrics")
    );
    assert_eq!(
        both(&[(TRACES, "http://h:1"), (METRICS, "http://m:2/x")])?,
        pair("http://h:1/", "http://m:2/x")
    );
    let insecure = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        (GENERAL, "h:4317"),
        ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true"),
    ];
    assert_eq!(both(&insecure)?, pair("https://h:4317/", "http://h:4317/"));
    for variable in [GENERAL, TRACES, METRICS] {
        let arguments = ["config", "show"];
        let output = tracer(&arguments, &with(&[(variable, "nonsense")]))?;
        let error = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && error.contains(variable), "{variable}: {error}");
    }
    Ok(())
}

/// Protects: the prometheus exporter's address.
#[test]
fn the_address_of_the_prometheus_exporter() -> Result<()> {
    let exporter = ("OTEL_METRICS_EXPORTER", "prometheus");
    let (host, port) = ("OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT");
    let shown = Shown::of(&[], &[exporter])?;
    assert_eq!((shown.value(host), shown.value(port)), ("localhost", "9464"));
    let shown = Shown::of(&[], &[exporter, (host, "127.0.0.2"), (port, "9")])?;
    assert_eq!((shown.value(host), shown.value(port)), ("127.0.0.2", "9"));
    let shown = Shown::of(&[], &[exporter, (port, "high")])?;
    assert_eq!((shown.value(port), shown.warnings().len()), ("9464", 1));
    let shown = Shown::of(&["--metrics", "127.0.0.3:80"], &[exporter, (port, "9")])?;
    assert_eq!((shown.value(host), shown.source(port)), ("127.0.0.3", "--metrics"));
    Ok(())
}
