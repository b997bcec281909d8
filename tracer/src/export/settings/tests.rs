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
    quiet(&variables).otlp.remove(0)
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
    assert!(settings.otlp.is_empty());
    let options = Options { otlp_endpoints: vec!["http://h:1".into()], ..Options::default() };
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
        (vec![(BASE, "unix:///run/o.sock")], "http://localhost/v1/traces"),
        (vec![GRPC, (BASE, "unix:/run/o.sock")], "http://localhost/"),
    ];
    for (variables, expected) in rows {
        assert_eq!(otlp(&variables).endpoint, expected, "{variables:?}");
    }

    for value in ["h:4318", "localhost", "ftp://h", "http://", "::", "http://u:secret@h", "unix:x"]
    {
        let error = resolve_with(&Options::default(), &[(BASE, value)]).unwrap_err();
        assert!(
            matches!(error, SettingsError::Endpoint { ref source_name, .. } if source_name == BASE),
            "{value}"
        );
        assert!(!error.to_string().contains("secret"));
    }
    let options = Options { otlp_endpoints: vec!["http://o:1".into()], ..Options::default() };
    let (settings, _) = resolve_with(&options, &[(TRACES, "http://t:1/x")]).unwrap();
    assert_eq!(settings.otlp[0].endpoint, "http://o:1/v1/traces");

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
    let (settings, warnings) = warned(&[exporter, (PROTOCOL, "http/xml"), (COMPRESSION, "snappy")]);
    let otlp = &settings.otlp[0];
    assert_eq!((otlp.protocol, otlp.compression), (Protocol::HttpProtobuf, Compression::None));
    assert_eq!(warnings.len(), 2);

    for options in [
        Options { otlp_protocols: vec!["http/xml".into()], ..Options::default() },
        Options { otlp_compression: Some("snappy".into()), ..Options::default() },
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
    assert_eq!(settings.otlp[0].headers.len(), 1);
    assert!(warnings[0].contains('5'), "{warnings:?}");

    let options = Options {
        otlp_endpoints: vec!["http://h".into()],
        otlp_headers: vec!["secret".into()],
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
            queue: QueueBounds { spans: 100, ..BatchSettings::default().queue },
            max_batch_size: 10,
            schedule_delay: Duration::from_millis(50),
        }
    );
    let otlp = &settings.otlp[0];
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

#[test]
fn several_endpoints_have_settings_of_their_own() {
    let options = |protocols: &[&str], headers: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect();
        Options {
            otlp_endpoints: own(&["http://a:1", "http://b:2", "http://a:1"]),
            otlp_protocols: own(protocols),
            otlp_headers: own(headers),
            ..Options::default()
        }
    };
    let (settings, warnings) = resolve_with(&options(&[], &[]), &[]).unwrap();
    let names: Vec<_> = settings.otlp.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["otlp http://a:1", "otlp http://b:2"]);
    assert!(warnings[0].contains("twice"), "{warnings:?}");
    assert_eq!(otlp(&[]).name, "otlp");

    let each = options(&["grpc", "http/json", "grpc"], &["k=a", "k=b", "k=c"]);
    let (settings, _) = resolve_with(&each, &[]).unwrap();
    assert_eq!(settings.otlp[0].protocol, Protocol::Grpc);
    assert_eq!(settings.otlp[1].protocol, Protocol::HttpJson);
    assert_eq!(
        (&settings.otlp[0].headers["k"], &settings.otlp[1].headers["k"]),
        (&"a".parse().unwrap(), &"b".parse().unwrap())
    );
    let (settings, _) = resolve_with(&options(&["grpc"], &[]), &[]).unwrap();
    assert!(settings.otlp.iter().all(|it| it.protocol == Protocol::Grpc));

    let error = resolve_with(&options(&["grpc", "grpc"], &[]), &[]).unwrap_err();
    assert!(error.to_string().contains("2 times for 3 endpoints"), "{error}");
}

#[test]
fn proxies_follow_the_conventional_variables() {
    let rows = [
        (vec![("HTTP_PROXY", "http://p:8")], Some("http://p:8/")),
        (vec![("http_proxy", "http://q:8"), ("HTTP_PROXY", "http://p:8")], Some("http://q:8/")),
        (vec![("HTTPS_PROXY", "http://p:8")], None),
        (vec![("ALL_PROXY", "p:8")], Some("http://p:8/")),
        (vec![("HTTP_PROXY", "http://p:8"), ("NO_PROXY", "h")], None),
        (vec![("HTTP_PROXY", "http://p:8"), ("NO_PROXY", ".h,*")], None),
        (vec![("HTTP_PROXY", "http://p:8"), ("no_proxy", "other")], Some("http://p:8/")),
    ];
    for (mut variables, expected) in rows {
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"));
        let expected = match expected {
            None => Route::Direct,
            Some(uri) => Route::Proxy(Proxy { uri: uri.parse().unwrap(), authorization: None }),
        };
        assert_eq!(otlp(&variables).route, expected, "{variables:?}");
    }
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h:1");
    let Route::Proxy(proxy) = otlp(&[endpoint, ("HTTPS_PROXY", "http://u:secret@p:8")]).route
    else {
        panic!("no proxy")
    };
    assert!(proxy.authorization.is_some() && !format!("{proxy:?}").contains("secret"));
    for local in ["http://localhost:1", "http://127.3.2.1:1", "http://[::1]:1"] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", local), ("HTTP_PROXY", "http://p:8")];
        assert_eq!(otlp(&variables).route, Route::Direct, "{local}");
    }
    let unix = ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///run/o.sock");
    let route = otlp(&[unix, ("HTTP_PROXY", "http://p:8")]).route;
    assert_eq!(route, Route::Unix("/run/o.sock".into()));

    let socks = [endpoint, ("HTTPS_PROXY", "socks5://p:8")];
    let error = resolve_with(&Options::default(), &socks).unwrap_err();
    assert!(error.to_string().contains("socks5"), "{error}");
}

#[test]
fn the_spool_is_for_receivers_alone() {
    let spool = SpoolSettings { directory: "/spool".into(), max_bytes: 1 };
    let with = |exporters: &str| Options {
        exporters: Some(exporters.into()),
        spool: Some(spool.clone()),
        ..Options::default()
    };
    assert_eq!(resolve_with(&with("otlp"), &[]).unwrap().0.spool, Some(spool.clone()));
    let (settings, warnings) = resolve_with(&with("console"), &[]).unwrap();
    assert_eq!((settings.spool, warnings.len()), (None, 1));
}

#[test]
fn retries_may_go_on_for_ever() {
    let options = |time| Options {
        exporters: Some("otlp".into()),
        retry_for: Some(time),
        ..Options::default()
    };
    let policy = |time| resolve_with(&options(time), &[]).unwrap().0.otlp[0].retry.give_up_after;
    assert_eq!(policy(Duration::from_secs(7)), Duration::from_secs(7));
    assert_eq!(policy(Duration::ZERO), Duration::MAX);
}
