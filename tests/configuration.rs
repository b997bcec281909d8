//! The configuration of the real agent: the file, what wins over what, what is said about mistakes,
//! and what changes while it runs. Only the last needs privileges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use tracer_tests::service::Nginx;
use tracer_tests::{AgentOptions, Backend, ConfigFile, Launcher, Shown, layout, tracer, wait};

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
        text(&[], &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")])?,
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
        .env("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
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
    // What is wrong is told when it begins to be.
    let told = |warning: &str, times: usize| -> Result<()> {
        let log = agent.log();
        ensure!(log.matches(warning).count() == times, "not {times} times {warning}: {log}");
        Ok(())
    };
    told("OTEL_SPAN_LINK_COUNT_LIMIT: `many` is ignored", 1)?;
    let limited = "file_format: \"1.0\"\nattribute_limits: {attribute_count_limit: 99}\n\
        logger_provider: {}\ntracer: {route: ['/{any}']}\n";
    reread(limited, "in force now: OTEL_ATTRIBUTE_COUNT_LIMIT")?;
    told("logger_provider does not concern the agent", 1)?;
    reread("tracer: {route: ['/{any}'], spool_size: 8M}\n", "after a restart: --spool-size")?;
    told("OTEL_SPAN_LINK_COUNT_LIMIT: `many` is ignored", 2)?;
    told("logger_provider does not concern the agent", 1)?;
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
