use super::*;
use crate::config::load::run_command;

fn parse(text: &str) -> Result<ConfigFile, Vec<FileError>> {
    let environment = |name: &str| (name == "TOKEN").then(|| "s e=c".to_owned());
    ConfigFile::parse(text, &environment, &run_command())
}

fn mistakes(text: &str) -> Vec<String> {
    let show = |error: &FileError| format!("{}: {}", error.position.unwrap(), error.message);
    parse(text).unwrap_err().iter().map(show).collect()
}

const WHOLE: &str = r#"
file_format: "1.0"
disabled: false
log_level: warn
attribute_limits:
  attribute_count_limit: 64
resource:
  attributes_list: a=b
  attributes:
    - {name: deployment.environment.name, value: "a,b"}
propagator:
  composite: [{tracecontext: }, {b3: {}}]
tracer_provider:
  processors:
    - batch:
        schedule_delay: 200
        max_queue_size: 4096
        exporter:
          otlp_http:
            endpoint: https://one:4318/v1/traces
            headers: [{name: api-key, value: "${TOKEN}"}]
            tls: {ca_file: /ca.pem}
            timeout: 3000
    - batch:
        schedule_delay: 200
        exporter:
          otlp_grpc: {endpoint: "two:4317", tls: {insecure: true}}
    - simple: {exporter: {console: }}
  limits: {attribute_count_limit: 7, event_attribute_count_limit: 8, link_count_limit: 9}
  sampler:
    parent_based:
      root:
        trace_id_ratio_based: {ratio: 0.25}
meter_provider:
  readers:
    - periodic:
        interval: 5000
        exporter: {otlp_http: {endpoint: "http://m:4318/v1/metrics"}}
    - pull: {exporter: {prometheus/development: {host: 127.0.0.1, port: 9999}}}
instrumentation/development:
  general:
    http:
      server: {request_captured_headers: [x-a], known_methods: [GET, PURGE]}
    sanitization: {url: {sensitive_query_parameters: [key]}}
logger_provider: {processors: []}
tracer:
  port: [80, 8080]
  ring_size: 8M
  route_heuristic: true
  timing_threshold: 0.5
"#;

#[test]
fn everything_becomes_the_variable_that_says_the_same() {
    let file = parse(WHOLE).unwrap();
    let shared = |name| file.variable(name, None).map(|(value, _)| value.as_str());
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_LOG_LEVEL", "warn"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "64"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,deployment.environment.name=a%2Cb"),
        ("OTEL_PROPAGATORS", "tracecontext,b3"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4096"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "8"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "9"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_METRICS_EXPORTER", "otlp,prometheus"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4318/v1/metrics"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "9999"),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,PURGE"),
    ] {
        assert_eq!(shared(name), Some(value), "{name}");
    }
    assert_eq!(file.destinations(), 3);
    let of = |index, name: &str| {
        let name = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        file.variable(&name, Some(index)).map(|(value, _)| value.as_str())
    };
    assert_eq!(of(0, "ENDPOINT"), Some("https://one:4318/v1/traces"));
    assert_eq!(of(0, "HEADERS"), Some("api-key=s%20e%3Dc"));
    assert_eq!(of(0, "CERTIFICATE"), Some("/ca.pem"));
    assert_eq!(of(0, "TIMEOUT"), Some("3000"));
    assert_eq!((of(1, "PROTOCOL"), of(1, "INSECURE")), (Some("grpc"), Some("true")));
    assert_eq!(of(1, "HEADERS"), None, "that of another destination");
    let (_, position) = file.variable("OTEL_BSP_MAX_QUEUE_SIZE", None).unwrap();
    assert_eq!(position.to_string(), "17:25");
    assert_eq!(file.warnings().len(), 1, "{:?}", file.warnings());
}

#[test]
fn own_options_and_those_of_instrumentation_are_options() {
    let file = parse(WHOLE).unwrap();
    let values = |name: &str| {
        let option = file.options.iter().find(|option| option.name == name);
        option.map(|option| option.values.join(" "))
    };
    assert_eq!(values("port").as_deref(), Some("80 8080"));
    assert_eq!(values("ring-size").as_deref(), Some("8M"));
    assert_eq!(values("route-heuristic").as_deref(), Some("true"));
    assert_eq!(values("timing-threshold").as_deref(), Some("0.5"));
    assert_eq!(values("capture-request-header").as_deref(), Some("x-a"));
    assert_eq!(values("redact-query-key").as_deref(), Some("key"));
}

#[test]
fn mistakes_have_a_place_and_a_proposal() {
    for (text, expected) in [
        (
            "file_format: '1.0'\ntracer_provder: {}",
            "2:1: unknown key `tracer_provder`; did you mean `tracer_provider`?",
        ),
        ("file_format: '1.0'\ntracr: {}", "2:1: unknown key `tracr`; did you mean `tracer`?"),
        ("file_format: '2.0'", "1:14: format 2.0 is not known; the agent reads 1.0 and 1.1"),
        ("disabled: true", "1:1: `file_format` is missing; write file_format: \"1.0\""),
        ("file_format: '1.0'\ndisabled: 'yes'", "2:11: this is string \"yes\"; expected a boolean"),
        (
            "file_format: 1.0",
            "1:14: this is a number; expected text; put quotes around what is meant as text",
        ),
        ("file_format: '1.0'\nlog_level: inf", "2:12: unknown value `inf`; did you mean `info`?"),
        ("tracer:\n  ring_szie: 8M", "2:3: unknown option `ring_szie`; did you mean `ring_size`?"),
        (
            "tracer:\n  ring_size: 5M",
            "2:14: 5M is not a power of two, which the kernel asks of its ring buffers; use 4M or 8M",
        ),
        ("tracer:\n  port: [80, {}]", "2:14: this is a mapping; expected text or a number"),
        ("tracer:\n  all: 1", "2:8: this is a number; expected true or false"),
        ("tracer:\n  ring_size: [1, 2]", "2:14: this is a list; expected one value"),
        ("tracer:\n  config: x", "2:3: unknown option `config`"),
        ("tracer: 7", "1:9: `tracer` is a number; expected a mapping of options"),
        ("- 1", "1:1: this is a list; expected a mapping"),
        (
            "file_format: '1.0'\ntracer_provider: {processors: [{}]}",
            "2:32: one of `batch` and `simple` is needed",
        ),
        (
            "file_format: '1.0'\ntracer_provider: {processors: [{simple: {}}]}",
            "2:41: `exporter` is missing",
        ),
        (
            "file_format: '1.0'\ntracer_provider: {sampler: {trace_id_ratio_based: {ratio: 2}}}",
            "2:28: a ratio is a number from 0 to 1",
        ),
    ] {
        assert_eq!(mistakes(text), [expected], "{text}");
    }
    let backend = mistakes("tracer:\n  backend: magic");
    assert!(backend[0].contains("socket"), "{backend:?}");
}

#[test]
fn all_mistakes_of_the_own_section_are_told_in_order() {
    let found = mistakes("tracer:\n  prot: 1\n  ring_size: x\nfile_format: '1.0'\nx: 1");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.is_sorted(), "{found:?}");
}

#[test]
fn a_file_of_options_alone_leaves_the_variables_to_the_environment() {
    let file = parse("tracer: {port: 80}").unwrap();
    assert!(!file.replaces_variables());
    assert!(parse("file_format: '1.0'").unwrap().replaces_variables());
    assert!(!parse("").unwrap().replaces_variables());
}

#[test]
fn processors_cannot_have_different_queues() {
    let text = "file_format: '1.0'\ntracer_provider:\n  processors:\n  \
        - batch: {max_queue_size: 1, exporter: {console: }}\n  \
        - batch: {max_queue_size: 2, exporter: {console: }}";
    assert!(
        mistakes(text)[0].starts_with("5:29: max_queue_size is the same"),
        "{:?}",
        mistakes(text)
    );
}
