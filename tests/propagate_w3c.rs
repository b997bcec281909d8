//! `--propagate proxy` and the rules of W3C Trace Context, level 2: behind services that pass no
//! header on and services that pass on all, what leaves the host has one valid context, and it is
//! that of the span which is reported.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tracer_tests::context_rules::{
    Case, Fate, Fields, PARENT, TRACE, VALID, other_rules, parent, traceparent_rules,
    tracestate_rules,
};
use tracer_tests::http::{self, calling};
use tracer_tests::service;
use tracer_tests::{
    Agent, AgentOptions, Backend, HeadEcho, Service, Span, Spans, layout, on_each_backend,
};

/// Sampled, and random: those of a trace that begins here.
const FRESH: &str = "03";

/// A context as it went over the wire.
#[derive(Debug, PartialEq)]
struct Wire {
    trace: String,
    span: String,
    flags: String,
    state: String,
    lines: BTreeMap<String, Vec<String>>,
}

impl Wire {
    fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }
}

fn wire(head: &str) -> Result<Wire> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').with_context(|| head.to_owned())?;
        lines.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    let one = |name: &str| lines.get(name).map(Vec::as_slice).unwrap_or_default();
    let [parent] = one("traceparent") else { anyhow::bail!("not one traceparent: {head}") };
    ensure!(one("tracestate").len() <= 1, "{head}");
    let parts: Vec<&str> = parent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { anyhow::bail!("{head}") };
    ensure!((version, trace.len(), span.len(), flags.len()) == ("00", 32, 16, 2), "{head}");
    let state = one("tracestate").concat();
    let [trace, span, flags] = [trace, span, flags].map(str::to_owned);
    Ok(Wire { trace, span, flags, state, lines })
}

/// Has the relay call so often, and gives what each call said.
fn relayed(relay: &Service, url: &str, fields: &Fields, times: usize) -> Result<Vec<String>> {
    let path = format!("{}&times={times}", calling(url));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let answer = http::get(relay.address(), &path, &fields)?;
    ensure!(answer.status == 200, "{answer:?}");
    answer.body.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn check(case: &Case, wire: &Wire, spans: &Spans) {
    let told = format!("{}: {:?} became {wire:?}", case.rule, case.fields);
    assert_ne!(wire.span, PARENT, "{told}");
    let on_the_wire = (&*wire.flags, &*wire.state);
    match &case.fate {
        Fate::Continues(flags, state) => {
            assert_eq!((&*wire.trace, on_the_wire), (TRACE, (*flags, &**state)), "{told}");
        }
        Fate::Restarts => {
            assert_ne!(wire.trace, TRACE, "{told}");
            assert_eq!(on_the_wire, (FRESH, ""), "{told}");
        }
    }
    if !wire.is_sampled() {
        // Whoever began it does not want it, and so no span of it is exported.
        assert!(spans.iter().all(|span| span.span_id != wire.span), "{told}");
        return;
    }
    let only = |id: &str| -> Span {
        let with = spans.iter().filter(|span| span.span_id == id).collect::<Vec<_>>();
        assert_eq!(with.len(), 1, "{told}");
        with[0].clone()
    };
    let call = only(&wire.span);
    assert_eq!(call.trace_id, wire.trace, "{told}");
    // What is too long for the wire is whole in the span.
    assert!(call.trace_state.starts_with(&wire.state), "{told}");
    assert!(call.trace_state == wire.state || call.trace_state.len() > 512, "{told}");
    let request = only(call.parent_span_id.as_ref().expect(&told));
    assert_eq!(request.trace_id, wire.trace, "{told}");
    let above = matches!(case.fate, Fate::Continues(..)).then_some(PARENT);
    assert_eq!(request.parent_span_id.as_deref(), above, "{told}");
}

fn agent(backend: Backend, relay: &Service) -> AgentOptions {
    let options = AgentOptions::new(backend).pid(relay.pid()).propagate();
    // What is asked here is what is answered, not how fast a loaded machine is.
    options.argument("--propagate-wait").argument("5s")
}

fn python(forward: &str) -> Result<Service> {
    service::python(&layout::service_source("relay_server.py"), &[("FORWARD", forward)])
}

/// Runs all cases, each with one call and one with several, through a relay.
fn obeys(start: impl Fn() -> Result<Service>, forwards: bool) -> Result<()> {
    let echo = HeadEcho::start()?;
    let cases: Vec<_> =
        traceparent_rules().into_iter().chain(tracestate_rules()).chain(other_rules()).collect();
    on_each_backend(|backend| {
        let relay = start()?;
        let agent = agent(backend, &relay).start()?;
        let (mut wires, mut count) = (Vec::new(), 0);
        for (at, case) in cases.iter().enumerate() {
            // Calls of one request are of one trace, and each is a span of its own.
            let times = if at % 5 == 0 { 3 } else { 1 };
            let heads = relayed(&relay, &echo.url("/"), &case.fields, times)?;
            ensure!(heads.len() == times, "{}: {heads:?}", case.rule);
            for head in heads {
                wires.push((case, wire(&head).with_context(|| case.rule)?));
            }
            let sampled = wires.last().is_some_and(|(_, wire)| wire.is_sampled());
            count += if sampled { 1 + times } else { 0 };
        }
        let spans = agent.finish(count)?;
        for (case, wire) in &wires {
            check(case, wire, &spans);
            let sent = |name: &str| {
                let fields = case.fields.iter().filter(|it| it.0.eq_ignore_ascii_case(name));
                fields.map(|it| it.1.trim().to_owned()).collect::<Vec<_>>()
            };
            let came = |name: &str| wire.lines.get(name).cloned().unwrap_or_default();
            let baggage = if forwards { sent("baggage") } else { vec![] };
            assert_eq!(came("baggage"), baggage, "{}", case.rule);
            // Where B3 stood it says what `traceparent` says.
            let b3 = format!("{}-{}-1", wire.trace, wire.span);
            let stood = forwards && !sent("b3").is_empty();
            assert_eq!(came("b3"), if stood { vec![b3] } else { vec![] }, "{}", case.rule);
        }
        Ok(())
    })
}

/// Protects: the table, by threads that pass nothing on.
#[test]
fn a_relay_that_forwards_nothing() -> Result<()> {
    obeys(|| python("none"), false)
}

/// Protects: the table, by threads that pass everything on.
#[test]
fn a_relay_that_forwards_all() -> Result<()> {
    obeys(|| python("all"), true)
}

fn node(forward: &str) -> Result<Service> {
    service::node_with(&layout::service_source("relay_server.cjs"), &[("FORWARD", forward)])
}

/// Protects: the table, by an event loop with kept connections, that passes nothing on.
#[test]
fn an_event_loop_that_forwards_nothing() -> Result<()> {
    obeys(|| node("none"), false)
}

/// Protects: the table, by an event loop with kept connections, that passes everything on.
#[test]
fn an_event_loop_that_forwards_all() -> Result<()> {
    obeys(|| node("all"), true)
}

/// Protects: a context that the service made itself, as one with an SDK does, stays byte for byte.
#[test]
fn a_context_of_the_services_own_stays() -> Result<()> {
    let echo = HeadEcho::start()?;
    on_each_backend(|backend| {
        let relay = python("own")?;
        let agent = agent(backend, &relay).start()?;
        for fields in [vec![], parent(VALID)] {
            for head in relayed(&relay, &echo.url("/"), &fields, 3)? {
                let own = "TraceParent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01\r\n\
                           TRACESTATE: own=1 ,\tother=2\r\n\r\n";
                assert!(head.ends_with(own), "{head}");
                assert_eq!(head.to_lowercase().matches("traceparent").count(), 1, "{head}");
            }
        }
        let report = agent.stop()?.report.json;
        assert_eq!(report["propagation"]["contexts"]["kept"], 6, "{report}");
        Ok(())
    })
}

/// What leaves with the agent's `OTEL_PROPAGATORS` set so.
fn with_propagators(echo: &HeadEcho, relay: &Service, list: &str) -> Result<Wire> {
    let agent: Agent = agent(Backend::Auto, relay).env("OTEL_PROPAGATORS", list).start()?;
    let heads = relayed(relay, &echo.url("/"), &parent(VALID), 1)?;
    agent.stop()?;
    wire(&heads.concat())
}

/// Protects: `OTEL_PROPAGATORS` of the agent says which formats are written beside W3C's.
#[test]
fn formats_are_those_asked_for() -> Result<()> {
    let echo = HeadEcho::start()?;
    let relay = python("none")?;
    for (list, single, multiple) in [
        ("", false, false),
        ("tracecontext,baggage", false, false),
        ("tracecontext,b3", true, false),
        ("b3multi", false, true),
        ("b3,b3multi,jaeger", true, true),
    ] {
        let wire = with_propagators(&echo, &relay, list).with_context(|| list.to_owned())?;
        let came = |name: &str| wire.lines.get(name).cloned().unwrap_or_default();
        let when = |asked: bool, value: &str| if asked { vec![value.to_owned()] } else { vec![] };
        assert_eq!(wire.trace, TRACE);
        assert_eq!(came("b3"), when(single, &format!("{TRACE}-{}-1", wire.span)), "{list}");
        assert_eq!(came("x-b3-traceid"), when(multiple, TRACE), "{list}");
        assert_eq!(came("x-b3-spanid"), when(multiple, &wire.span), "{list}");
        assert_eq!(came("x-b3-sampled"), when(multiple, "1"), "{list}");
        assert_eq!(came("x-b3-parentspanid"), Vec::<String>::new(), "{list}");
    }
    let Err(refused) = with_propagators(&echo, &relay, "none") else {
        anyhow::bail!("`none` was taken")
    };
    assert!(format!("{refused:#}").contains("OTEL_PROPAGATORS is `none`"), "{refused:#}");
    Ok(())
}
