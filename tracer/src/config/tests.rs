use clap::CommandFactory;

use super::*;

fn run(arguments: &[&str]) -> RunOptions {
    let arguments = ["tracer", "run"].iter().chain(arguments);
    match Cli::try_parse_from(arguments).expect("valid").command {
        Command::Run(options) => *options,
        other => panic!("{other:?}"),
    }
}

fn error(arguments: &[&str]) -> String {
    let arguments = ["tracer"].iter().chain(arguments);
    Cli::try_parse_from(arguments).expect_err("invalid").to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_has_a_variable_and_a_help_text() {
    for subcommand in Cli::command().get_subcommands() {
        for argument in subcommand.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(argument.get_help().is_some(), "{} {name}", subcommand.get_name());
            let exempt = argument.is_positional() || matches!(name, "json" | "help" | "version");
            let variable = argument.get_env().map(|name| name.to_string_lossy());
            let named = variable.is_some_and(|variable| variable.starts_with("TRACER_"));
            assert!(named || exempt, "{} {name}", subcommand.get_name());
        }
    }
}

#[test]
fn no_options_are_the_defaults() {
    let parsed = run(&[]);
    let default = RunOptions::default();
    assert_eq!(parsed.capture, default.capture);
    assert_eq!(parsed.target, default.target);
    assert_eq!(parsed.span, default.span);
    assert_eq!(parsed.sampling, default.sampling);
    assert_eq!(parsed.export, default.export);
    assert_eq!(parsed.capture.ring_size.bytes(), 4 << 20);
    assert_eq!(parsed.redact, default.redact);
    assert_eq!(parsed.redact.query_keys(), None);
}

#[test]
fn targets_may_be_lists_or_repeated() {
    let options = run(&[
        "--port=80,443",
        "--port",
        "8080",
        "--pid",
        "7",
        "--exe",
        "{node,nginx},curl",
        "--exe",
        "/opt/**",
        "--cgroup",
        "system.slice",
        "--all",
    ]);
    let expected = crate::target::Selectors {
        ports: vec![80, 443, 8080],
        pids: vec![crate::event::Pid(7)],
        executables: ["{node,nginx}", "curl", "/opt/**"].map(str::to_owned).to_vec(),
        cgroups: vec!["system.slice".to_owned()],
        all: true,
    };
    assert_eq!(options.target.selectors(), expected);
}

#[test]
fn span_options_are_checked() {
    let options = run(&[
        "--route",
        "/users/{id}",
        "--route=/a",
        "--route-heuristic",
        "--capture-request-header",
        "X-Request-Id",
        "--redact-query-key",
        "token,key",
    ]);
    assert_eq!(options.span.routes, ["/users/{id}", "/a"]);
    assert!(options.span.route_heuristic);
    assert_eq!(options.span.request_headers, ["x-request-id"]);
    let keys = Some(vec!["token".to_owned(), "key".to_owned()]);
    assert_eq!(options.redact.query_keys(), keys);
    let nothing = run(&["--redact-query-key", ""]);
    assert_eq!(nothing.redact.query_keys(), Some(Vec::new()));
    assert!(error(&["run", "--route", "users"]).contains("begins with `/`"));
    assert!(error(&["run", "--capture-request-header", "a b"]).contains("not a header name"));
}

#[test]
fn destinations_may_be_several() {
    let options = run(&[
        "--otlp-endpoint=http://a:1,http://b:2",
        "--otlp-endpoint",
        "unix:///run/o.sock",
        "--otlp-protocol=grpc",
        "--otlp-headers=a=1,b=2",
        "--otlp-timeout=3s",
        "--otlp-max-request=1M",
        "--queue-bytes=8M",
        "--queue-drop=oldest",
        "--retry-for=0s",
        "--spool=/var/lib/tracer",
        "--spool-size=2G",
    ])
    .export;
    assert_eq!(options.otlp_endpoint, ["http://a:1", "http://b:2", "unix:///run/o.sock"]);
    assert_eq!(options.otlp_headers, ["a=1,b=2"], "commas are part of the list");
    assert_eq!(options.otlp_timeout.map(Into::into), Some(std::time::Duration::from_secs(3)));
    assert_eq!(options.retry_for.map(Into::into), Some(std::time::Duration::ZERO));
    assert_eq!(options.otlp_max_request, Some(ByteSize(1 << 20)));
    assert_eq!((options.queue_bytes, options.queue_drop), (ByteSize(8 << 20), QueueDrop::Oldest));
    assert_eq!(options.spool.as_deref(), Some(std::path::Path::new("/var/lib/tracer")));
    assert_eq!(options.spool_size, ByteSize(2 << 30));
    assert!(error(&["run", "--queue-drop", "all"]).contains("newest"));
}

#[test]
fn mistakes_say_what_to_write_instead() {
    assert!(error(&["run", "--port", "0"]).contains("from 1 to 65535"));
    assert!(error(&["run", "--port", "http"]).contains("from 1 to 65535"));
    assert!(error(&["run", "--pid", "nginx"]).contains("pgrep"));
    assert!(error(&["run", "--ring-size", "3M"]).contains("use 2M or 4M"));
    assert!(error(&["run", "--message-budget", "1M"]).contains("give 256 to 128K"));
    assert!(error(&["run", "--backend", "magic"]).contains("socket"));
    assert!(error(&["run", "--exe", "a,,b"]).contains("empty"));
    assert!(error(&["record"]).contains("<FILE>"));
}

#[test]
fn other_commands() {
    let parse = |arguments: &[&str]| {
        let arguments = ["tracer"].iter().chain(arguments);
        Cli::try_parse_from(arguments).expect("valid").command
    };
    assert!(matches!(parse(&["targets", "--json", "--port", "80"]), Command::Targets(o) if o.json));
    assert!(matches!(parse(&["doctor", "--json"]), Command::Doctor(options) if options.json));
    assert!(
        matches!(parse(&["record", "f", "--pid", "1"]), Command::Record(o) if o.file.ends_with("f"))
    );
    assert!(matches!(parse(&["replay", "f", "--exporter", "console"]), Command::Replay(o)
        if o.export.exporter.as_deref() == Some("console")));
}
