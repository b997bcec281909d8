//! The configuration of the real agent: every variable, the file, their order, what is said about
//! mistakes, and what changes while it runs. Only the last needs privileges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;
use tracer_tests::service::Nginx;
use tracer_tests::{AgentOptions, Backend, Launcher, layout, wait};

/// Runs the agent with nothing of the surrounding environment that could configure it.
fn tracer(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(layout::agent()?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("TRACER_") {
            command.env_remove(name);
        }
    }
    Ok(command.args(arguments).envs(variables.iter().copied()).output()?)
}

/// What `tracer config show` says.
struct Shown(Json);

impl Shown {
    fn of(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let arguments = [&["config", "show", "--json"], arguments].concat();
        let output = tracer(&arguments, variables)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(serde_json::from_slice(&output.stdout)?))
    }

    fn value(&self, name: &str) -> &str {
        self.0["settings"][name]["value"].as_str().unwrap_or("(absent)")
    }

    fn source(&self, name: &str) -> &str {
        self.0["settings"][name]["source"].as_str().unwrap_or("(absent)")
    }

    fn warnings(&self) -> Vec<&str> {
        self.0["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
    }
}

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
    row("OTEL_TRACES_SAMPLER", "parentbased_always_on", "always_off", "always_off", None),
    row("OTEL_TRACES_SAMPLER_ARG", "", "0.5", "0.5", None),
    row("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "", "GET,PURGE", "GET,PURGE", None),
];

/// Limits are numbers that this part hands on.
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

struct ConfigFile {
    directory: TempDir,
    path: String,
}

impl ConfigFile {
    fn new(text: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("tracer.yaml");
        fs::write(&path, text)?;
        let path = path.to_string_lossy().into_owned();
        Ok(Self { directory, path })
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn write(&self, text: &str) -> Result<()> {
        ensure!(self.directory.path().is_dir());
        Ok(fs::write(&self.path, text)?)
    }
}

/// Protects: each variable unset, empty, set, malformed, and beside a file.
#[test]
fn every_general_variable() -> Result<()> {
    for row in &GENERAL {
        check(row, row.name, row.name)?;
    }
    for (name, unset) in LIMITS {
        check(&row(name, unset, "7", "7", None), name, name)?;
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

/// Protects: a flag, then our variable, then the file; the file instead of `OTEL_…`.
#[test]
fn what_wins_over_what() -> Result<()> {
    let file = ConfigFile::new(
        "file_format: \"1.0\"\n\
         tracer_provider:\n\
         \x20 processors:\n\
         \x20   - batch:\n\
         \x20       exporter:\n\
         \x20         otlp_http: {endpoint: \"http://file:1/x\", timeout: 3000}\n\
         \x20   - batch: {exporter: {otlp_grpc: {endpoint: \"http://two:1\"}}}\n\
         tracer:\n\
         \x20 ring_size: 8M\n\
         \x20 port: [80, 443]\n",
    )?;
    let config = ["--config", file.path()];
    let at = |place: &str| format!("{}:{place}", file.path());
    let variables = [("OTEL_EXPORTER_OTLP_TIMEOUT", "1"), ("OTEL_BSP_SCHEDULE_DELAY", "1")];
    let shown = Shown::of(&config, &variables)?;
    assert_eq!(
        (shown.value("--ring-size"), shown.source("--ring-size")),
        ("8M", at("9:14").as_str())
    );
    assert_eq!(shown.value("--port"), "80,443");
    let endpoint = |index| format!("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT[{index}]");
    assert_eq!(shown.value(&endpoint(0)), "http://file:1/x");
    assert_eq!(shown.source(&endpoint(0)), at("6:33"));
    assert_eq!(shown.value(&endpoint(1)), "http://two:1/");
    let timeout = |index| format!("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT[{index}]");
    assert_eq!((shown.value(&timeout(0)), shown.value(&timeout(1))), ("3000", "10000"));
    assert_eq!(shown.value("OTEL_BSP_SCHEDULE_DELAY"), "1000");
    let ignored = shown.warnings().join(" ");
    assert!(ignored.contains("OTEL_EXPORTER_OTLP_TIMEOUT"), "{ignored}");

    let ours = [("TRACER_RING_SIZE", "16M"), ("TRACER_OTLP_TIMEOUT", "5s")];
    let shown = Shown::of(&config, &ours)?;
    assert_eq!(shown.source("--ring-size"), "TRACER_RING_SIZE");
    assert_eq!((shown.value("--ring-size"), shown.value(&timeout(0))), ("16M", "5000"));
    let flags = [&config[..], &["--ring-size", "32M", "--port", "7"]].concat();
    let shown = Shown::of(&flags, &ours)?;
    assert_eq!((shown.value("--ring-size"), shown.value("--port")), ("32M", "7"));
    assert_eq!(shown.source("--port"), "--port");
    let flags = [&config[..], &["--otlp-endpoint", "http://flag:1"]].concat();
    let shown = Shown::of(&flags, &[])?;
    let one = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    assert_eq!(
        (shown.value(one), shown.source(one)),
        ("http://flag:1/v1/traces", "--otlp-endpoint")
    );

    for (variable, warnings) in [("OTEL_CONFIG_FILE", 0), ("OTEL_EXPERIMENTAL_CONFIG_FILE", 1)] {
        let shown = Shown::of(&[], &[(variable, file.path())])?;
        assert_eq!(shown.value("--ring-size"), "8M", "{variable}");
        assert_eq!(shown.warnings().len(), warnings, "{variable}");
    }
    Ok(())
}

/// Protects: secrets never show, wherever they come from.
#[test]
fn secrets_are_masked() -> Result<()> {
    let file = ConfigFile::new(
        "file_format: \"1.0\"\ntracer_provider: {processors: [{batch: {exporter: {otlp_http: \
         {headers: [{name: a, value: \"${KEY}\"}]}}}}]}\n",
    )?;
    let text = |arguments: &[&str], variables: &[(&str, &str)]| -> Result<String> {
        let output = tracer(&[&["config", "show"], arguments].concat(), variables)?;
        ensure!(output.status.success());
        Ok(String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?)
    };
    for shown in [
        text(&["--config", file.path()], &[("KEY", "s3cret")])?,
        text(&["--otlp-headers", "a=s3cret", "--otlp-endpoint", "http://h"], &[])?,
        text(&[], &with(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")]))?,
        text(&["--otlp-endpoint", "http://h"], &[("TRACER_OTLP_HEADERS", "a=s3cret")])?,
    ] {
        assert!(shown.contains("a=********") && !shown.contains("s3cret"), "{shown}");
    }
    Ok(())
}

/// Protects: a mistake is told with its place and a proposal, and fails `run` as well as `check`.
#[test]
fn mistakes_in_a_file() -> Result<()> {
    let file = ConfigFile::new("tracer:\n  ring_szie: 8M\n  port: many\n")?;
    for arguments in [
        &["config", "check", file.path()][..],
        &["run", "--config", file.path()],
        &["config", "show", "--config", file.path()],
    ] {
        let output = tracer(arguments, &[])?;
        let error = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{arguments:?}");
        let expected = format!(
            "tracer: {0}:2:3: unknown option `ring_szie`; did you mean `ring_size`?\n    2 |   \
             ring_szie: 8M\n      |   ^\n{0}:3:9: `many` is not a TCP port; give a number from 1 to \
             65535\n    3 |   port: many\n      |         ^\n",
            file.path()
        );
        assert_eq!(error, expected);
    }
    file.write("tracer: {ring_size: 8M}\n")?;
    let output = tracer(&["config", "check", file.path()], &[])?;
    assert!(output.status.success(), "{output:?}");
    let output = tracer(&["config", "check", "/nowhere.yaml"], &[])?;
    assert!(String::from_utf8(output.stderr)?.contains("/nowhere.yaml"), "names the file");
    Ok(())
}

/// The example of the documentation.
fn example() -> Result<(PathBuf, String)> {
    let docs = layout::workspace().join("docs/configuration.md");
    let text = fs::read_to_string(&docs)?;
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    Ok((docs, example.context("no example")?.to_owned()))
}

/// Protects: the schema is one, it takes what the agent takes, and refuses what that refuses.
#[test]
fn the_schema_agrees_with_the_agent() -> Result<()> {
    let schema = tracer(&["config", "schema"], &[])?.stdout;
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("schema.json"), schema)?;
    let judge = |document: &Json| -> Result<bool> {
        fs::write(directory.path().join("document.json"), document.to_string())?;
        let program = "import json, sys, jsonschema\n\
            schema, document = (json.load(open(name)) for name in sys.argv[1:])\n\
            jsonschema.Draft202012Validator.check_schema(schema)\n\
            sys.exit(0 if jsonschema.Draft202012Validator(schema).is_valid(document) else 3)";
        let mut python = Command::new(layout::python_program("python3")?);
        python.args(["-c", program]);
        let files = ["schema.json", "document.json"].map(|name| directory.path().join(name));
        let status = python.args(files).status()?;
        ensure!(matches!(status.code(), Some(0 | 3)), "{status}");
        Ok(status.success())
    };
    for (document, valid) in [
        (serde_json::json!({"file_format": "1.0", "tracer": {"port": [80, "443"]}}), true),
        (
            serde_json::json!({"file_format": "1.0", "tracer_provider": {"processors": [
            {"batch": {"exporter": {"otlp_http": {"endpoint": "http://h:1/"}}}}]}}),
            true,
        ),
        (serde_json::json!({"file_format": "1.0", "tracer_providr": {}}), false),
        (serde_json::json!({"tracer": {"ring_szie": "8M"}}), false),
        (serde_json::json!({"tracer": {"backend": "magic"}}), false),
        (serde_json::json!({"tracer": {"all": 1}}), false),
    ] {
        // JSON is YAML.
        let file = ConfigFile::new(&document.to_string())?;
        let agent = tracer(&["config", "check", file.path()], &[])?.status.success();
        assert_eq!((agent, judge(&document)?), (valid, valid), "{document}");
    }
    Ok(())
}

/// Protects: the documented example is valid.
#[test]
fn the_documented_example_is_valid() -> Result<()> {
    let (docs, example) = example()?;
    let file = ConfigFile::new(&example)?;
    let output = tracer(&["config", "check", file.path()], &[("API_KEY", "x")])?;
    ensure!(output.status.success(), "{}: {output:?}", docs.display());
    Ok(())
}

/// Protects: shells and `man` understand what is generated for them.
#[test]
fn completions_and_manual() -> Result<()> {
    let script = tracer(&["completions", "bash"], &[])?.stdout;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("tracer.bash");
    fs::write(&path, &script)?;
    let complete = "source \"$0\"; COMP_WORDS=(tracer run --memory-l); COMP_CWORD=2; \
        _tracer tracer --memory-l run; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", complete]).arg(&path).output()?;
    assert_eq!(String::from_utf8(output.stdout)?.trim(), "--memory-limit");
    let manual = String::from_utf8(tracer(&["man", "run"], &[])?.stdout)?;
    assert!(manual.contains(".TH") && manual.contains("\\-\\-memory\\-limit"), "no manual page");
    assert!(!tracer(&["man", "dance"], &[])?.status.success());
    Ok(())
}

/// Protects: SIGHUP changes what can change, says what cannot, and survives a wrong file.
#[test]
fn a_file_is_read_again() -> Result<()> {
    let nginx = Nginx::new("")?.file("a", b"a\n")?.start()?;
    let mut launcher = Launcher::start()?;
    let file = ConfigFile::new("tracer: {route: [/a]}\n")?;
    let mut agent = AgentOptions::new(Backend::Auto)
        .pid(nginx.pid())
        .argument("--config")
        .argument(file.path())
        .start()?;
    launcher.curl([nginx.url("/a")])?;
    agent.wait_for_spans(1)?;

    let reread = |text: &str, expected: &str| -> Result<()> {
        file.write(text)?;
        agent.signal(Signal::HUP)?;
        wait::until(expected, || Ok(agent.log().contains(expected).then_some(())))
    };
    reread("tracer: {route: [/a, oops]}\n", "begins with `/`")?;
    reread("tracer: {route: ['/{any}'], ring_size: 8M}\n", "only after a restart: --ring-size")?;
    ensure!(agent.log().contains("in force now: --route"), "{}", agent.log());
    // The thread that makes spans looks once a second.
    let mut requests = 1;
    wait::until("the new route", || {
        launcher.curl([nginx.url("/a")])?;
        requests += 1;
        let spans = agent.wait_for_spans(requests)?;
        Ok(spans.iter().any(|span| span.name == "GET /{any}").then_some(()))
    })?;
    let finished = agent.stop()?;
    assert_eq!(finished.spans.by_start()[0].name, "GET /a");
    Ok(())
}

/// Protects: an agent that is disabled is alive and traces nothing.
#[test]
fn disabled_is_idle() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut command = Command::new(layout::agent()?);
    command.args(["run", "--port", "9"]).env("OTEL_SDK_DISABLED", "true");
    let mut process = tracer_tests::Process::start("tracer", &command, &log)?;
    process.wait_until("its word", |process| {
        Ok(process.log().contains("disabled by OTEL_SDK_DISABLED").then_some(()))
    })?;
    process.terminate(std::time::Duration::from_secs(10))?;
    let log = fs::read_to_string(Path::new(&log))?;
    ensure!(!log.contains("ready"), "{log}");
    Ok(())
}
