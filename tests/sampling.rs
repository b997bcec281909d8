//! Which traces are exported, by the real agent and real services: decided when they begin, told
//! to whoever is called, and decided when they are over.

use anyhow::{Context, Result};
use tracer_tests::http::{calling, get};
use tracer_tests::service::{self, Gunicorn, Nginx};
use tracer_tests::{
    Agent, AgentOptions, Backend, Finished, Kind, Launcher, Service, Spans, Status, layout,
};

const REQUESTS: usize = 200;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// Numbers that a random one of 56 bits may be.
const ALL: u64 = 1 << 56;

/// Two services, the first of which calls the second when asked to.
struct Chain {
    flask: Service,
    node: Service,
}

impl Chain {
    fn start() -> Result<Self> {
        let node = service::node(&layout::service_source("node_server.cjs"))?;
        Ok(Self { flask: Gunicorn::default().start()?, node })
    }

    fn agent(&self, arguments: &[&str]) -> Result<Agent> {
        let options = AgentOptions::new(Backend::Auto).pid(self.flask.pid()).pid(self.node.pid());
        arguments.iter().fold(options, |options, argument| options.argument(*argument)).start()
    }

    /// Has the first service call this path of the second.
    fn call(&self, path: &str, headers: &[(&str, &str)]) -> Result<()> {
        get(self.flask.address(), &calling(&self.node.url(path)), headers).map(drop)
    }
}

fn count(finished: &Finished, group: &str, name: &str) -> u64 {
    finished.report.json[group][name].as_u64().unwrap_or_default()
}

fn randomness(trace_id: &str) -> Result<u64> {
    u64::from_str_radix(&trace_id[18..], 16).context("a trace id has 32 digits")
}

/// Each trace is whole: three spans, each below the one before.
fn assert_whole(spans: &Spans) {
    for root in spans.filter(|span| span.parent_span_id.is_none()).iter() {
        let trace = spans.of_trace(&root.trace_id);
        let kinds: Vec<_> = trace.iter().map(|span| (span.service(), span.kind)).collect();
        for member in [
            ("flask_app", Kind::Server),
            ("flask_app", Kind::Client),
            ("node_server", Kind::Server),
        ] {
            assert!(kinds.contains(&member), "{trace}");
        }
        assert_eq!(trace.len(), 3, "{trace}");
    }
}

/// Stops the agent once it has seen this many exchanges, made into spans or not.
fn stop(agent: Agent, exchanges: usize) -> Result<Finished> {
    let finished = agent.stop()?;
    let seen = finished.report.spans + count(&finished, "unsampled", "head");
    assert_eq!(seen, exchanges as u64, "{}", finished.report.json);
    finished.report.assert_nothing_lost();
    Ok(finished)
}

/// Protects: of traces that begin here a part is recorded, the whole of each, and says so.
#[test]
fn a_part_of_all_traces_is_recorded_whole() -> Result<()> {
    let chain = Chain::start()?;
    let agent = chain.agent(&["--sample", "25%"])?;
    for _ in 0..REQUESTS {
        chain.call("/hello", &[])?;
    }
    let Finished { spans, .. } = stop(agent, 3 * REQUESTS)?;
    assert_whole(&spans);
    for span in spans.iter() {
        assert!(randomness(&span.trace_id)? >= ALL / 4 * 3, "{span:?}");
        assert_eq!((span.flags & 1, span.trace_state.as_str()), (1, "ot=th:c"), "{span:?}");
    }
    // Six standard deviations around a quarter.
    assert!((14..=86).contains(&(spans.len() / 3)), "{}", spans.len());
    Ok(())
}

/// Protects: the decision of whoever asks holds, here and at the service that is called, and a
/// threshold that fits it is kept.
#[test]
fn a_remote_parent_is_respected() -> Result<()> {
    let chain = Chain::start()?;
    let agent = chain.agent(&["--sample", "0%"])?;
    let parent = |flags: &str| format!("00-{TRACE}-b7ad6b7169203331-{flags}");
    let (yes, no) = (parent("01"), parent("00"));
    chain.call("/hello", &[("traceparent", &no)])?;
    chain.call("/hello", &[])?;
    // The randomness is 0x48eb211c80319c: a threshold of 4 kept it, one of 8 did not.
    chain.call("/hello", &[("traceparent", &yes), ("tracestate", "a=1,ot=th:4")])?;
    chain.call("/hello", &[("traceparent", &yes), ("tracestate", "a=1,ot=th:8")])?;
    let finished = stop(agent, 12)?;
    assert_eq!(count(&finished, "unsampled", "head"), 6);
    let spans = finished.spans.by_start();
    let states: Vec<_> =
        spans.servers().of_service("flask_app").iter().map(|it| it.trace_state.clone()).collect();
    assert_eq!(states, ["a=1,ot=th:4", "a=1"]);
    assert!(spans.iter().all(|span| span.trace_id == TRACE), "{spans}");
    Ok(())
}

/// Protects: the variables of the specification, and that a wrong one is told and ignored.
#[test]
fn the_environment_names_the_sampler() -> Result<()> {
    let chain = Chain::start()?;
    for (sampler, spans, warned) in
        [("always_off", 0, false), ("always_on", 3, false), ("sometimes", 3, true)]
    {
        let options = AgentOptions::new(Backend::Auto).pid(chain.flask.pid()).pid(chain.node.pid());
        let agent = options.env("OTEL_TRACES_SAMPLER", sampler).start()?;
        chain.call("/hello", &[])?;
        let finished = stop(agent, 3)?;
        assert_eq!(finished.spans.len(), spans, "{sampler}");
        assert_eq!(
            finished.log.contains("OTEL_TRACES_SAMPLER: `sometimes`"),
            warned,
            "{}",
            finished.log
        );
    }
    Ok(())
}

/// Protects: a service that is off has no spans and is not even watched where it only answers,
/// while those that call it have all of theirs; and what it calls knows that it is off.
#[test]
fn a_service_may_be_off() -> Result<()> {
    let chain = Chain::start()?;
    let agent = chain.agent(&["--sample", "node_server=off"])?;
    chain.call("/hello", &[])?;
    let mut launcher = Launcher::start()?;
    let many = format!("{}?[1-{REQUESTS}]", chain.node.url("/hello"));
    launcher.curl(["--no-progress-meter", &many])?;
    let finished = agent.stop_after(2)?;
    assert!(finished.spans.iter().all(|span| span.service() == "flask_app"));
    finished.report.assert_nothing_lost();
    let json = &finished.report.json;
    assert_eq!(json["unsampled_connections"].as_u64(), Some(1), "the one of many requests: {json}");
    let seen = count(&finished, "unsampled", "head");
    assert!((64..REQUESTS as u64).contains(&seen), "the others were not looked at: {json}");

    let agent = chain.agent(&["--sample", "flask_app=off"])?;
    chain.call("/hello", &[])?;
    assert!(stop(agent, 3)?.spans.is_empty(), "what it calls follows it");
    Ok(())
}

/// Protects: the header that goes on the wire carries the decision that the span has.
#[test]
fn the_header_carries_the_decision() -> Result<()> {
    let server = Nginx::new(r"location / { return 200 '$http_traceparent $http_tracestate\n'; }")?
        .start()?;
    for (sample, flags, state) in [("100%", "03", "ot=th:0"), ("0%", "02", ""), ("on", "03", "")] {
        let mut launcher = Launcher::start()?;
        let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
        let agent = options.argument("--sample").argument(sample);
        let agent = agent.argument("--propagate-wait").argument("2s").start()?;
        let told = launcher.curl([server.url("/")])?.stdout;
        let (parent, told_state) =
            told.trim_end_matches('\n').split_once(' ').context("no header")?;
        assert!(parent.ends_with(&format!("-{flags}")), "{sample}: {told}");
        assert_eq!(told_state, state, "{sample}");
        let spans = if flags == "03" { agent.finish(1)? } else { stop(agent, 1)?.spans };
        for span in spans.iter() {
            assert_eq!(parent, format!("00-{}-{}-{flags}", span.trace_id, span.span_id));
            assert_eq!(span.trace_state, state);
        }
    }
    Ok(())
}

/// Protects: of traces that are over, those that the policy names are exported whole, with what
/// came by chance marked, and all others counted.
#[test]
fn a_policy_keeps_errors_whole_and_a_part_of_the_rest() -> Result<()> {
    let chain = Chain::start()?;
    let policy = "error or latency>1m or probability 25%";
    let agent = chain.agent(&["--tail", policy, "--tail-wait", "1s"])?;
    for number in 0..REQUESTS {
        let path = if number % 10 == 0 { "/status/503" } else { "/hello" };
        chain.call(path, &[])?;
    }
    let finished = stop(agent, 3 * REQUESTS)?;
    assert_whole(&finished.spans);
    let failed = |trace: &Spans| trace.iter().any(|span| span.status == Status::Error);
    let (mut errors, mut others) = (0, 0);
    for root in finished.spans.filter(|span| span.parent_span_id.is_none()).iter() {
        let trace = finished.spans.of_trace(&root.trace_id);
        let by_chance = !failed(&trace);
        *if by_chance { &mut others } else { &mut errors } += 1;
        for span in trace.iter() {
            assert_eq!(span.trace_state, if by_chance { "ot=th:c" } else { "" }, "{trace}");
        }
        assert!(!by_chance || randomness(&root.trace_id)? >= ALL / 4 * 3);
    }
    assert_eq!(errors, REQUESTS / 10);
    assert!((10..=80).contains(&others), "{others}");
    let kept = (errors + others) as u64;
    assert_eq!(count(&finished, "tail", "kept_traces"), kept);
    assert_eq!(count(&finished, "tail", "dropped_traces"), REQUESTS as u64 - kept);
    let dropped =
        count(&finished, "unsampled", "tail") + count(&finished, "unsampled", "tail_late");
    assert_eq!(dropped, 3 * (REQUESTS as u64 - kept), "{}", finished.report.json);
    Ok(())
}

/// Protects: a policy that cannot be read is refused with the place of the trouble.
#[test]
fn a_bad_policy_is_refused() -> Result<()> {
    let agent = AgentOptions::new(Backend::Auto).pid(std::process::id());
    let error = agent.argument("--tail").argument("error or latncy>1s").start().err();
    let error = format!("{:#}", error.context("it must not start")?);
    assert!(error.contains("column 10") && error.contains("latncy"), "{error}");
    Ok(())
}
