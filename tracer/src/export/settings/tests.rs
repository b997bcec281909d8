use std::collections::HashMap;

use super::*;
use crate::export::choice::FileTarget;

fn resolve_with(
    options: &Options,
    variables: &[(&str, &str)],
) -> Result<(Settings, Vec<String>), SettingsError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Settings::resolve(options, |name| variables.get(name).map(|value| (*value).to_owned()))
}

/// Settings from the environment alone, which must raise no warnings.
fn quiet(variables: &[(&str, &str)]) -> Settings {
    let (settings, warnings) = resolve_with(&Options::default(), variables).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    settings
}

fn otlp(variables: &[(&str, &str)]) -> OtlpSettings {
    let mut variables = variables.to_vec();
    variables.push(("OTEL_TRACES_EXPORTER", "otlp"));
    quiet(&variables).otlp.unwrap()
}

fn warned(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
    resolve_with(&Options::default(), variables).unwrap()
}

#[test]
fn the_exporter_is_the_option_then_the_variable_then_what_an_endpoint_implies() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1");
    let traces_endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1");
    let variable = ("OTEL_TRACES_EXPORTER", "otlp/stdout");
    assert_eq!(quiet(&[]).exporters, [ExporterChoice::Console]);
    assert_eq!(quiet(&[endpoint]).exporters, [ExporterChoice::Otlp]);
    assert_eq!(quiet(&[traces_endpoint]).exporters, [ExporterChoice::Otlp]);
    let empty = [("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_TRACES_EXPORTER", "")];
    assert_eq!(quiet(&empty).exporters, [ExporterChoice::Console], "empty is unset");
    assert_eq!(quiet(&[endpoint, variable]).exporters, [ExporterChoice::File(FileTarget::Stdout)]);
    assert_eq!(quiet(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).exporters, []);

    let options = Options { exporters: Some("console".into()), ..Options::default() };
    let (settings, _) = resolve_with(&options, &[endpoint, variable]).unwrap();
    assert_eq!(settings.exporters, [ExporterChoice::Console]);
    assert!(settings.otlp.is_none());
    let options = Options { otlp_endpoint: Some("http://h:1".into()), ..Options::default() };
    let (settings, _) = resolve_with(&options, &[]).unwrap();
    assert_eq!(settings.exporters, [ExporterChoice::Otlp]);

    let (settings, warnings) = warned(&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")]);
    assert_eq!(settings.exporters, [ExporterChoice::Otlp]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn endpoints_follow_their_rules() {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    const INSECURE: (&str, &str) = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let rows = [
        (vec![], "http://localhost:4318/v1/traces"),
        (vec![(BASE, "http://h:1")], "http://h:1/v1/traces"),
        (vec![(BASE, "https://h/base/")], "https://h/base/v1/traces"),
        (vec![(BASE, "https://h/base")], "https://h/base/v1/traces"),
        (vec![(TRACES, "http://h:1")], "http://h:1/"),
        (vec![(TRACES, "http://h:1/x?y")], "http://h:1/x?y"),
        (vec![(TRACES, "http://t:1/x"), (BASE, "http://h:1")], "http://t:1/x"),
        (vec![GRPC], "http://localhost:4317/"),
        (vec![GRPC, (BASE, "https://h:2")], "https://h:2/"),
        (vec![GRPC, (BASE, "https://h:2"), INSECURE], "https://h:2/"),
        (vec![GRPC, (BASE, "h:2")], "https://h:2/"),
        (vec![GRPC, (BASE, "h:2"), INSECURE], "http://h:2/"),
        (vec![GRPC, (BASE, "[::1]:2"), INSECURE], "http://[::1]:2/"),
    ];
    for (variables, expected) in rows {
        assert_eq!(otlp(&variables).endpoint, expected, "{variables:?}");
    }

    for value in ["h:4318", "localhost", "ftp://h", "http://", "::", "http://u:secret@h"] {
        let error = resolve_with(&Options::default(), &[(BASE, value)]).unwrap_err();
        assert!(matches!(error, SettingsError::Endpoint { source_name: BASE, .. }), "{value}");
        assert!(!error.to_string().contains("secret"));
    }
    let options = Options { otlp_endpoint: Some("http://o:1".into()), ..Options::default() };
    let (settings, _) = resolve_with(&options, &[(TRACES, "http://t:1/x")]).unwrap();
    assert_eq!(settings.otlp.unwrap().endpoint, "http://o:1/v1/traces");

    let (_, warnings) = warned(&[(BASE, "http://h:4317")]);
    assert!(warnings[0].contains("gRPC"), "{warnings:?}");
    let (_, warnings) = warned(&[(BASE, "http://h:4317/path"), GRPC]);
    assert!(warnings[0].contains("path"), "{warnings:?}");
}

#[test]
fn protocol_and_compression_take_known_names_in_any_case() {
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    const COMPRESSION: &str = "OTEL_EXPORTER_OTLP_COMPRESSION";
    assert_eq!(otlp(&[]).protocol, Protocol::HttpProtobuf);
    assert_eq!(otlp(&[(PROTOCOL, "GRPC")]).protocol, Protocol::Grpc);
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
    assert_eq!(otlp(&[(PROTOCOL, "grpc"), traces]).protocol, Protocol::HttpProtobuf);
    assert_eq!(otlp(&[]).compression, Compression::None);
    assert_eq!(otlp(&[(COMPRESSION, "GZip")]).compression, Compression::Gzip);
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none");
    assert_eq!(otlp(&[(COMPRESSION, "gzip"), traces]).compression, Compression::None);

    let exporter = ("OTEL_TRACES_EXPORTER", "otlp");
    let (settings, warnings) =
        warned(&[exporter, (PROTOCOL, "http/json"), (COMPRESSION, "snappy")]);
    let otlp = settings.otlp.unwrap();
    assert_eq!((otlp.protocol, otlp.compression), (Protocol::HttpProtobuf, Compression::None));
    assert_eq!(warnings.len(), 2);

    for options in [
        Options { otlp_protocol: Some("http/json".into()), ..Options::default() },
        Options { otlp_compression: Some("zstd".into()), ..Options::default() },
    ] {
        let error = resolve_with(&options, &[exporter]).unwrap_err();
        assert!(matches!(error, SettingsError::Unsupported { .. }));
    }
}

#[test]
fn headers_are_percent_decoded_and_never_print() {
    const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let headers = otlp(&[(HEADERS, "Authorization=Basic%20c2VjcmV0, X-Tenant = a=b ,")]).headers;
    assert_eq!(headers["authorization"], "Basic c2VjcmV0");
    assert_eq!(headers["x-tenant"], "a=b");
    assert!(!format!("{headers:?}").contains("c2VjcmV0"));

    let traces = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2");
    let headers = otlp(&[(HEADERS, "a=1"), traces]).headers;
    assert_eq!((headers.len(), &headers["b"]), (1, &"2".parse().unwrap()));

    let bad = "good=1,no-equals,bad=%zz,bad name=1,cut=%4,nul=%00";
    let (settings, warnings) = warned(&[("OTEL_TRACES_EXPORTER", "otlp"), (HEADERS, bad)]);
    assert_eq!(settings.otlp.unwrap().headers.len(), 1);
    assert!(warnings[0].contains('5'), "{warnings:?}");

    let options = Options {
        otlp_endpoint: Some("http://h".into()),
        otlp_headers: Some("secret".into()),
        ..Options::default()
    };
    assert_eq!(resolve_with(&options, &[]).unwrap_err(), SettingsError::Headers);
}

#[test]
fn times_and_sizes_are_numbers_or_warnings() {
    let settings = quiet(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "7000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
    ]);
    assert_eq!(
        settings.batch,
        BatchSettings {
            max_queue_size: 100,
            max_batch_size: 10,
            schedule_delay: Duration::from_millis(50),
        }
    );
    let otlp = settings.otlp.unwrap();
    assert_eq!(otlp.timeout, Duration::from_millis(1500));
    assert_eq!(otlp.retry.give_up_after, Duration::from_secs(7));

    let (settings, warnings) = warned(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
    ]);
    assert_eq!(settings.batch, BatchSettings::default());
    assert_eq!(warnings.len(), 3);

    let (settings, warnings) = warned(&[("OTEL_BSP_MAX_QUEUE_SIZE", "5")]);
    assert_eq!(settings.batch.max_batch_size, 5);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn certificates_and_colours() {
    let otlp = otlp(&[
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces-ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
    ]);
    assert_eq!(
        otlp.tls,
        TlsFiles {
            trusted: Some("/traces-ca.pem".into()),
            client_certificate: Some("/c.pem".into()),
            client_key: Some("/k.pem".into()),
        }
    );
    assert_eq!(quiet(&[]).console.colour, None);
    assert_eq!(quiet(&[("NO_COLOR", "1")]).console.colour, Some(false));
}
