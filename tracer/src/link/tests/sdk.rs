//! Programs with an SDK beside programs without one: no span twice, none lost, none misplaced.

use super::*;
use crate::link::Muted;
use crate::telemetry::ServerSpan;
use crate::trace::context::SpanId;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER_TRACE: &str = "1af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";
const SDK_CALL: &str = "00f067aa0ba902b7";

/// Spans by name, and how many exchanges became none, by reason.
type Told = (BTreeMap<&'static str, Placed<&'static str>>, BTreeMap<&'static str, u64>);

/// Header fields of a context, in one of two forms.
fn context(form: &str, trace: &str, span: &str) -> Vec<(String, String)> {
    match form {
        "w3c" => vec![("traceparent".into(), format!("00-{trace}-{span}-01"))],
        "b3" => vec![("b3".into(), format!("{trace}-{span}-1"))],
        other => panic!("no such form: {other}"),
    }
}

impl Story {
    /// A request to process 1, with this context, at a port.
    fn asked(&mut self, conn: u64, by: By, port: u16, context: &[(String, String)]) -> ExchangeId {
        self.offset += 1;
        let local = format!("10.0.0.1:{port}");
        let headers: Vec<_> = context.iter().map(|(name, it)| (&**name, &**it)).collect();
        self.began(conn, by, Role::Server, self.offset, (&local, "10.9.9.9:1234"), &headers)
    }

    /// A call to elsewhere with this context.
    fn calls(&mut self, conn: u64, by: By, context: &[(String, String)]) -> ExchangeId {
        self.offset += 1;
        let headers: Vec<_> = context.iter().map(|(name, it)| (&**name, &**it)).collect();
        let ends = ("10.0.0.1:999", "10.7.7.7:80");
        self.began(conn, by, Role::Client, self.offset, ends, &headers)
    }

    /// A request of process 1 with one call by an SDK and one that no SDK knows of.
    fn instrumented(
        &mut self,
        inbound: &[(String, String)],
        outbound: &[(String, String)],
        names: [&'static str; 3],
    ) {
        let request = self.asked(1, by(1, 1, 0), 80, inbound);
        let known = self.calls(2, by(1, 1, 0), outbound);
        self.end(known, by(1, 1, 0), Role::Client, names[1]);
        let unknown = self.calls(3, by(1, 1, 0), &[]);
        self.end(unknown, by(1, 1, 0), Role::Client, names[2]);
        self.end(request, by(1, 1, 0), Role::Server, names[0]);
    }

    fn told(mut self) -> Told {
        self.linker.finish(&mut self.ids, &mut self.placed);
        let muted = self.linker.muted().clone();
        (self.placed.into_iter().map(|placed| (placed.exchange, placed)).collect(), muted)
    }
}

fn trace(text: &str) -> TraceId {
    TraceId::from_hex(text).unwrap()
}

fn span(text: &str) -> Option<SpanId> {
    SpanId::from_hex(text)
}

fn names(spans: &BTreeMap<&'static str, Placed<&'static str>>) -> Vec<&'static str> {
    spans.keys().copied().collect()
}

/// One call from process 1 to process 2, of which either end may be seen.
fn call(story: &mut Story, client_first: bool, ends: (bool, bool), context: &[(String, String)]) {
    let headers: Vec<_> = context.iter().map(|(name, it)| (&**name, &**it)).collect();
    let client = |story: &mut Story| {
        let ends = ("10.0.0.1:50", "10.0.0.2:80");
        story.began(11, by(1, 1, 0), Role::Client, 77, ends, &headers)
    };
    let server = |story: &mut Story| {
        let ends = ("10.0.0.2:80", "10.0.0.1:50");
        story.began(12, by(2, 2, 0), Role::Server, 77, ends, &headers)
    };
    let early = (ends.0 && client_first).then(|| client(story));
    let server = ends.1.then(|| server(story));
    let client = early.or_else(|| ends.0.then(|| client(story)));
    if let Some(server) = server {
        story.end(server, by(2, 2, 0), Role::Server, "server");
    }
    if let Some(client) = client {
        story.end(client, by(1, 1, 0), Role::Client, "client");
    }
}

/// The SDK reports the call; whoever answers it is below the SDK's span.
#[test]
fn a_call_with_a_context_of_its_own_is_the_sdks_span() {
    for form in ["w3c", "b3"] {
        for client_first in [true, false] {
            for ends in [(true, true), (false, true), (true, false)] {
                let mut story = Story::new();
                call(&mut story, client_first, ends, &context(form, TRACE, SDK_CALL));
                let (spans, muted) = story.told();
                assert!(!spans.contains_key("client"), "{form} {client_first} {ends:?}");
                let expected = ends.0.then_some((Muted::SdkClient.name(), 1));
                assert_eq!(muted, expected.into_iter().collect());
                let Some(server) = spans.get("server") else { continue };
                assert_eq!(server.place.trace, trace(TRACE));
                assert_eq!(server.place.parent, span(SDK_CALL), "{form} {client_first} {ends:?}");
                assert!(server.place.parent_is_remote);
                assert_eq!(kind(server), None, "a header said so");
            }
        }
    }
}

/// A context that is passed on names the sender of the request, who is not the caller.
#[test]
fn a_context_that_is_passed_on_keeps_our_spans_between() {
    for form in ["w3c", "b3"] {
        for client_first in [true, false] {
            for ends in [(true, true), (false, true), (true, false)] {
                let mut story = Story::new();
                let brought = context(form, TRACE, SENDER);
                let request = story.asked(1, by(1, 1, 0), 80, &brought);
                call(&mut story, client_first, ends, &brought);
                story.end(request, by(1, 1, 0), Role::Server, "request");
                let (spans, muted) = story.told();
                assert_eq!(muted, BTreeMap::new());
                assert_eq!(spans["request"].place.parent, span(SENDER));
                for placed in spans.values() {
                    assert_eq!(placed.place.trace, trace(TRACE));
                }
                if ends.0 {
                    assert!(is_child(&spans, "client", "request"), "{form} {client_first}");
                }
                match ends {
                    (true, true) => assert!(is_child(&spans, "server", "client"), "{form}"),
                    (false, true) => assert_eq!(spans["server"].place.parent, span(SENDER)),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_context_passed_on_after_the_response_is_still_not_an_sdks() {
    let mut story = Story::new();
    let brought = context("w3c", TRACE, SENDER);
    let request = story.asked(1, by(1, 1, 0), 80, &brought);
    story.end(request, by(1, 1, 0), Role::Server, "request");
    call(&mut story, true, (true, true), &brought);
    let (spans, muted) = story.told();
    assert_eq!(muted, BTreeMap::new());
    assert_eq!(spans["client"].place.parent, span(SENDER), "not of a request that was over");
    assert!(is_child(&spans, "server", "client"));
}

/// Two requests with one context, of a sender that sent it on twice: its span is above both.
#[test]
fn a_context_that_two_requests_brought() {
    let mut story = Story::new();
    let brought = context("w3c", TRACE, SENDER);
    let one = story.asked(1, by(1, 1, 0), 80, &brought);
    let other = story.asked(2, by(1, 2, 0), 80, &brought);
    let call = story.calls(3, by(1, 7, 0), &brought);
    story.end(call, by(1, 7, 0), Role::Client, "call");
    story.end(one, by(1, 1, 0), Role::Server, "one");
    story.end(other, by(1, 2, 0), Role::Server, "other");
    let (spans, _) = story.told();
    assert_eq!(names(&spans), ["call", "one", "other"]);
    assert_eq!(spans["call"].place.parent, span(SENDER));
}

/// The SDK stayed in the request's trace with another span: it has one around the request.
#[test]
fn a_request_that_the_sdk_went_on_with_is_the_sdks_span() {
    for form in ["w3c", "b3"] {
        let mut story = Story::new();
        let brought = context(form, TRACE, SENDER);
        story.instrumented(&brought, &context(form, TRACE, SDK_CALL), ["request", "known", "not"]);
        // From now on without proof.
        let request = story.asked(1, by(1, 1, 0), 80, &context(form, OTHER_TRACE, SENDER));
        let unknown = story.calls(3, by(1, 1, 0), &[]);
        story.end(unknown, by(1, 1, 0), Role::Client, "second");
        story.end(request, by(1, 1, 0), Role::Server, "second request");
        let (spans, muted) = story.told();
        assert_eq!(names(&spans), ["not", "second"], "{form}");
        let expected = [(Muted::SdkClient.name(), 1), (Muted::SdkServer.name(), 2)];
        assert_eq!(muted, expected.into());
        for (name, of) in [("not", TRACE), ("second", OTHER_TRACE)] {
            assert_eq!(spans[name].place.trace, trace(of));
            assert_eq!(spans[name].place.parent, span(SENDER), "the nearest span that is known");
        }
    }
}

/// Of the first request, a span of ours may be needed before the SDK shows.
#[test]
fn a_span_that_others_stand_below_stays() {
    let mut story = Story::new();
    let brought = context("w3c", TRACE, SENDER);
    let request = story.asked(1, by(1, 1, 0), 80, &brought);
    story.now += PAIR_WINDOW;
    story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
    let unknown = story.calls(3, by(1, 1, 0), &[]);
    let known = story.calls(2, by(1, 1, 0), &context("w3c", TRACE, SDK_CALL));
    story.end(unknown, by(1, 1, 0), Role::Client, "unknown");
    story.end(known, by(1, 1, 0), Role::Client, "known");
    story.end(request, by(1, 1, 0), Role::Server, "request");
    // Of a second one, it is known that it may not be.
    let request = story.asked(1, by(1, 1, 0), 80, &brought);
    let unknown = story.calls(3, by(1, 1, 0), &[]);
    story.end(unknown, by(1, 1, 0), Role::Client, "second unknown");
    story.end(request, by(1, 1, 0), Role::Server, "second request");
    let (spans, _) = story.told();
    assert_eq!(names(&spans), ["request", "second unknown", "unknown"]);
    assert!(is_child(&spans, "unknown", "request"));
    assert_eq!(spans["second unknown"].place.parent, span(SENDER));
}

/// Without a context in the request, the SDK's calls tell the trace.
#[test]
fn a_trace_that_the_sdk_began() {
    let mut story = Story::new();
    story.instrumented(&[], &context("w3c", TRACE, SDK_CALL), ["request", "known", "unknown"]);
    let second = context("w3c", OTHER_TRACE, SDK_CALL);
    story.instrumented(&[], &second, ["request 2", "known 2", "unknown 2"]);
    let (spans, muted) = story.told();
    assert_eq!(names(&spans), ["unknown", "unknown 2"]);
    assert_eq!(muted[Muted::SdkServer.name()], 2);
    for (name, of) in [("unknown", TRACE), ("unknown 2", OTHER_TRACE)] {
        assert_eq!((spans[name].place.trace, spans[name].place.parent), (trace(of), None));
    }
}

/// Many requests are open and nothing tells which of them the SDK's first call is for.
#[test]
fn whoever_the_sdks_call_is_for_its_program_has_an_sdk() {
    let mut story = Story::new();
    let requests: Vec<_> = (0..32).map(|n| story.asked(n, by(1, 100, 0), 80, &[])).collect();
    let known = story.calls(100, by(1, 7, 9), &context("w3c", TRACE, SDK_CALL));
    story.end(known, by(1, 7, 9), Role::Client, "known");
    for request in requests {
        story.end(request, by(1, 100, 0), Role::Server, "request");
    }
    let (spans, muted) = story.told();
    assert_eq!(names(&spans), [""; 0]);
    assert_eq!(muted[Muted::SdkServer.name()], 32);
}

/// Only the library that calls is instrumented: what it calls are roots, and requests are ours.
#[test]
fn a_program_whose_calls_alone_are_instrumented() {
    let mut story = Story::new();
    let brought = context("w3c", TRACE, SENDER);
    let made = context("w3c", OTHER_TRACE, SDK_CALL);
    story.instrumented(&brought, &made, ["request", "known", "unknown"]);
    story.instrumented(&brought, &made, ["request 2", "known 2", "unknown 2"]);
    let (spans, muted) = story.told();
    assert_eq!(names(&spans), ["request", "request 2", "unknown", "unknown 2"]);
    assert!(is_child(&spans, "unknown", "request") && is_child(&spans, "unknown 2", "request 2"));
    assert_eq!(muted, [(Muted::SdkClient.name(), 2)].into());
}

/// The same without contexts in requests: two traces in one request have no span around them.
#[test]
fn calls_of_one_request_in_different_traces_have_no_span_around_them() {
    let mut story = Story::new();
    for name in ["first request", "second request"] {
        let request = story.asked(1, by(1, 1, 0), 80, &[]);
        for (conn, trace) in [(2, TRACE), (3, OTHER_TRACE)] {
            let call = story.calls(conn, by(1, 1, 0), &context("w3c", trace, SDK_CALL));
            story.end(call, by(1, 1, 0), Role::Client, "call");
        }
        story.end(request, by(1, 1, 0), Role::Server, name);
    }
    let (spans, muted) = story.told();
    assert_eq!(names(&spans), ["second request"]);
    assert_eq!(muted[Muted::SdkServer.name()], 1, "as long as there was but one call");
}

/// A proxy that passes contexts on, of which one request was not seen: its context looks like an
/// SDK's, in the trace of another request. That must not silence the proxy.
#[test]
fn an_unseen_request_does_not_make_a_proxy_instrumented() {
    for brought in [&*context("w3c", TRACE, SENDER), &[]] {
        let mut story = Story::new();
        for _ in 0..4 {
            let request = story.asked(1, by(1, 1, 0), 80, brought);
            let call = story.calls(2, by(1, 1, 0), brought);
            story.end(call, by(1, 1, 0), Role::Client, "passed on");
            story.end(request, by(1, 1, 0), Role::Server, "request");
        }
        let request = story.asked(1, by(1, 1, 0), 80, brought);
        let call = story.calls(2, by(1, 1, 0), &context("w3c", TRACE, SDK_CALL));
        story.end(call, by(1, 1, 0), Role::Client, "of the request not seen");
        story.end(request, by(1, 1, 0), Role::Server, "request beside it");
        let request = story.asked(1, by(1, 1, 0), 80, brought);
        story.end(request, by(1, 1, 0), Role::Server, "request after it");
        let (spans, muted) = story.told();
        let expected = ["passed on", "request", "request after it", "request beside it"];
        assert_eq!(names(&spans), expected);
        assert_eq!(muted, [(Muted::SdkClient.name(), 1)].into());
    }
}

#[test]
fn each_port_of_a_program_is_judged_by_itself() {
    let mut story = Story::new();
    let brought = context("w3c", TRACE, SENDER);
    story.instrumented(&brought, &context("w3c", TRACE, SDK_CALL), ["request", "known", "unknown"]);
    let request = story.asked(1, by(1, 1, 0), 9100, &brought);
    story.end(request, by(1, 1, 0), Role::Server, "other port");
    story.linker.on_gone(Pid(1));
    let request = story.asked(1, by(1, 1, 0), 80, &brought);
    story.end(request, by(1, 1, 0), Role::Server, "other process with this id");
    let (spans, _) = story.told();
    assert_eq!(names(&spans), ["other port", "other process with this id", "unknown"]);
}

/// A program that calls nobody: only what it exports tells who reports its requests.
#[test]
fn a_program_that_exports_spans_of_its_requests() {
    let second = 1_000 * MILLISECOND;
    let exported = ServerSpan { trace: trace(TRACE), parent: span(SENDER) };
    let other = ServerSpan { trace: trace(OTHER_TRACE), ..exported };
    for (report, after, ours) in [
        (Some(exported), 5 * second, ["other port", ""]),
        (Some(exported), 7 * second, ["other port", "request"]),
        (Some(other), 5 * second, ["other port", "request"]),
        (None, 5 * second, ["other port", "request"]),
    ] {
        let mut story = Story::new();
        story.linker.on_instrumented(Pid(1));
        let brought = context("w3c", TRACE, SENDER);
        let request = story.asked(1, by(1, 1, 0), 80, &brought);
        story.end(request, by(1, 1, 0), Role::Server, "request");
        let request = story.asked(2, by(1, 1, 0), 9100, &[]);
        story.end(request, by(1, 1, 0), Role::Server, "other port");
        assert!(story.placed.is_empty(), "held until it is known who reports them");
        story.now += after;
        story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
        let spans: Vec<ServerSpan> = report.into_iter().collect();
        story.linker.on_exported(Pid(1), &spans, &mut story.ids, &mut story.placed);
        let (spans, _) = story.told();
        let ours: Vec<&str> = ours.into_iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(names(&spans), ours, "{report:?} after {after}");
    }
}

/// A span without a parent is of the only port that there is.
#[test]
fn a_program_that_exports_roots() {
    let root = [ServerSpan { trace: trace(TRACE), parent: None }];
    for (ports, ours) in [(&[80][..], &[][..]), (&[80, 81], &["request"])] {
        let mut story = Story::new();
        story.linker.on_instrumented(Pid(1));
        for port in ports {
            let request = story.asked(1, by(1, 1, 0), *port, &[]);
            story.end(request, by(1, 1, 0), Role::Server, "request");
        }
        story.linker.on_exported(Pid(1), &root, &mut story.ids, &mut story.placed);
        let (spans, _) = story.told();
        assert_eq!(names(&spans), ours);
    }
}

/// A call that the SDK does not know of, in a request whose fate is open: it waits as long.
#[test]
fn a_call_waits_for_the_fate_of_its_request() {
    for is_exported in [true, false] {
        let mut story = Story::new();
        story.linker.on_instrumented(Pid(1));
        let request = story.asked(1, by(1, 1, 0), 80, &context("w3c", TRACE, SENDER));
        let unknown = story.calls(3, by(1, 1, 0), &[]);
        story.end(unknown, by(1, 1, 0), Role::Client, "unknown");
        story.end(request, by(1, 1, 0), Role::Server, "request");
        assert!(story.placed.is_empty());
        let span = ServerSpan { trace: trace(TRACE), parent: span(SENDER) };
        let spans = if is_exported { vec![span] } else { Vec::new() };
        story.linker.on_exported(Pid(1), &spans, &mut story.ids, &mut story.placed);
        let (spans, _) = story.told();
        assert_eq!(spans["unknown"].place.trace, trace(TRACE));
        if is_exported {
            assert_eq!(names(&spans), ["unknown"]);
            assert_eq!(spans["unknown"].place.parent, self::span(SENDER));
        } else {
            assert!(is_child(&spans, "unknown", "request"));
        }
    }
}

/// The call at the other end of a held request is exported long before that.
#[test]
fn a_held_request_keeps_its_parent() {
    let mut story = Story::new();
    story.linker.on_instrumented(Pid(2));
    call(&mut story, true, (true, true), &[]);
    assert_eq!(story.placed.len(), 1, "the call");
    story.now += 7_000 * MILLISECOND;
    story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
    assert_eq!(story.placed.len(), 2, "the request, which no SDK reported");
    let (spans, _) = story.told();
    assert!(is_child(&spans, "server", "client"));
}

/// Protects: the bound on requests whose fate is open.
#[test]
fn no_more_than_so_many_requests_wait_for_an_export() {
    let mut story = Story::new();
    story.linker.on_instrumented(Pid(1));
    let bound = 8_192;
    for conn in 0..bound + 10 {
        let request = story.asked(conn, by(1, 1, 0), 80, &context("w3c", TRACE, SENDER));
        story.end(request, by(1, 1, 0), Role::Server, "request");
    }
    story.now += PAIR_WINDOW;
    story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
    assert_eq!(story.placed.len(), 10);
}

/// Whoever sends or receives telemetry: it is none itself, and no call of a request.
#[test]
fn exports_are_no_spans() {
    let protobuf = ("content-type".to_owned(), "application/x-protobuf".to_owned());
    let form = ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
    let rows = [("/v1/traces", &protobuf, true), ("/v1/traces", &form, false)];
    for (target, kind, is_export) in rows {
        let mut story = Story::new();
        let request = story.request(1, by(1, 1, 0));
        story.target = target;
        let headers = [kind.clone()];
        let sent = story.calls(2, by(1, 1, 0), &headers);
        let received = story.asked(3, by(2, 2, 0), 4318, &headers);
        story.end(received, by(2, 2, 0), Role::Server, "received");
        story.end(sent, by(1, 1, 0), Role::Client, "sent");
        story.end(request, by(1, 1, 0), Role::Server, "request");
        let (spans, muted) = story.told();
        let expected =
            if is_export { vec!["request"] } else { vec!["received", "request", "sent"] };
        assert_eq!(names(&spans), expected, "{target} {kind:?}");
        assert_eq!(muted.get(Muted::OtlpExport.name()), is_export.then_some(&2), "{target}");
    }
}

/// Protects: an export that is under way when the agent stops is no lost span.
#[test]
fn an_export_that_is_never_answered_is_no_loss() {
    let mut story = Story::new();
    let protobuf = ("content-type".to_owned(), "application/x-protobuf".to_owned());
    story.target = "/v1/traces";
    let sent = story.calls(1, by(1, 1, 0), &[protobuf]);
    let at = KernelTime(story.now);
    assert!(!story.linker.on_lost(sent, at, &mut story.ids, &mut story.placed));
    let (spans, muted) = story.told();
    assert!(spans.is_empty());
    assert_eq!(muted[Muted::OtlpExport.name()], 1);
}
