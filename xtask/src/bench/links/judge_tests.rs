use super::*;
use tracer_tests::{Attributes, Status, Value};

fn span(kind: Kind, trace: &str, id: &str, parent: Option<&str>, path: &str) -> Span {
    let (name, url) = match kind {
        Kind::Server => ("url.path", path.to_owned()),
        Kind::Client => ("url.full", format!("http://127.0.0.1:9{path}")),
    };
    Span {
        trace_id: trace.to_owned(),
        span_id: id.to_owned(),
        parent_span_id: parent.map(str::to_owned),
        trace_state: String::new(),
        flags: 0,
        name: "GET".to_owned(),
        kind,
        start: 0,
        end: 0,
        status: Status::Unset,
        attributes: Attributes([(name.to_owned(), Value::Text(url))].into()),
        resource: Attributes::default(),
        scope: String::new(),
        links: Vec::new(),
    }
}

fn server(trace: &str, id: &str, tag: u32) -> Span {
    span(Kind::Server, trace, id, None, &format!("/plan/{tag}"))
}

fn client(trace: &str, parent: Option<&str>, tag: u32, number: u8) -> Span {
    span(Kind::Client, trace, "c", parent, &Call { tag: Tag(tag), number }.path())
}

fn asked(calls: &[(u32, u8)]) -> Asked {
    calls.iter().map(|(tag, number)| (Call { tag: Tag(*tag), number: *number }, 1)).collect()
}

fn judged(spans: &[Span], calls: &[(u32, u8)], requests: u32) -> Verdict {
    judge(spans, &asked(calls), &(0..requests).map(|tag| (Tag(tag), 1)).collect(), 1)
}

#[test]
fn a_child_of_its_own_request_is_right() {
    let spans = [server("t", "a", 0), client("t", Some("a"), 0, 0), client("t", Some("a"), 0, 1)];
    let verdict = judged(&spans, &[(0, 0), (0, 1)], 1);
    assert_eq!(verdict.calls, Tally { right: 2, ..Tally::default() });
    assert_eq!(verdict.requests, Tally { right: 1, ..Tally::default() });
    assert_eq!(verdict.outbound, Coverage { expected: 2, missing: 0, surplus: 0 });
    assert_eq!(verdict.inbound, Coverage { expected: 1, missing: 0, surplus: 0 });
    assert_eq!(verdict.examples, Vec::<String>::new());
}

#[test]
fn a_call_without_a_parent_is_an_orphan_and_so_is_its_request() {
    let spans = [server("t", "a", 0), client("t", Some("a"), 0, 0), client("u", None, 0, 1)];
    let verdict = judged(&spans, &[(0, 0), (0, 1)], 1);
    assert_eq!(verdict.calls, Tally { right: 1, orphan: 1, wrong: 0 });
    assert_eq!(verdict.requests, Tally { orphan: 1, ..Tally::default() });
}

#[test]
fn a_child_of_anything_else_is_wrong_and_so_is_its_request() {
    let servers = [server("t", "a", 0), server("u", "b", 1)];
    let other_request = client("u", Some("b"), 0, 0);
    let other_trace = client("u", Some("a"), 0, 0);
    let unknown_parent = client("t", Some("x"), 0, 0);
    for bad in [other_request, other_trace, unknown_parent] {
        let mut spans = servers.to_vec();
        spans.extend([bad, client("t", Some("a"), 0, 1), client("v", None, 0, 2)]);
        let verdict = judged(&spans, &[(0, 0), (0, 1), (0, 2)], 2);
        assert_eq!(verdict.calls, Tally { right: 1, orphan: 1, wrong: 1 });
        // The other request made no call and is not judged.
        assert_eq!(verdict.requests, Tally { wrong: 1, ..Tally::default() });
        assert_eq!(verdict.examples.len(), 1);
    }
}

#[test]
fn a_child_of_another_call_is_wrong() {
    let mut first = client("t", Some("a"), 0, 0);
    first.span_id = "first".to_owned();
    let spans = [server("t", "a", 0), first, client("t", Some("first"), 0, 1)];
    assert_eq!(judged(&spans, &[(0, 0), (0, 1)], 1).calls.wrong, 1);
}

#[test]
fn what_has_no_span_is_missing_and_leaves_its_request_incomplete() {
    let spans = [server("t", "a", 0), client("t", Some("a"), 0, 0)];
    let verdict = judged(&spans, &[(0, 0), (0, 1), (1, 0)], 2);
    assert_eq!(verdict.outbound, Coverage { expected: 3, missing: 2, surplus: 0 });
    assert_eq!(verdict.inbound, Coverage { expected: 2, missing: 1, surplus: 0 });
    assert_eq!(verdict.calls.total(), 1);
    assert_eq!(verdict.requests, Tally { orphan: 2, ..Tally::default() });
    assert_eq!(verdict.examples.len(), 3);
}

#[test]
fn a_second_span_of_one_call_is_surplus_unless_it_was_made_twice() {
    let twice = || client("t", Some("a"), 0, 0);
    let spans = [server("t", "a", 0), twice(), twice()];
    assert_eq!(judged(&spans, &[(0, 0)], 1).outbound.surplus, 1);
    let retried = [(Call { tag: Tag(0), number: 0 }, 2)].into();
    let verdict = judge(&spans, &retried, &[(Tag(0), 1)].into(), 1);
    assert_eq!(verdict.outbound, Coverage { expected: 2, missing: 0, surplus: 0 });
    assert_eq!(verdict.requests.right, 1);
}

#[test]
fn a_request_that_was_sent_twice_may_have_been_read_once_or_twice() {
    let unread = [server("t", "a", 0)];
    let read = [server("t", "a", 0), server("u", "b", 0)];
    let sent = [(Tag(0), 2)].into();
    for spans in [&unread[..], &read] {
        let verdict = judge(spans, &asked(&[]), &sent, 1);
        assert_eq!(verdict.inbound, Coverage { expected: 1, missing: 0, surplus: 0 });
    }
    assert_eq!(judge(&read, &asked(&[]), &[(Tag(0), 1)].into(), 1).inbound.surplus, 1);
    assert_eq!(judge(&[], &asked(&[]), &sent, 1).inbound.missing, 1);
}

#[test]
fn a_span_of_nothing_that_was_asked_is_surplus_and_not_judged() {
    let stray = span(Kind::Client, "t", "c", None, "/elsewhere");
    let verdict = judged(&[server("t", "a", 0), stray], &[], 1);
    assert_eq!(verdict.outbound, Coverage { expected: 0, missing: 0, surplus: 1 });
    assert_eq!(verdict.calls.total(), 0);
}

#[test]
fn proxies_are_judged_by_the_path_that_they_pass_on() {
    let entry = span(Kind::Server, "t", "a", None, "/leaf/0/0");
    let verdict = judged(&[entry, client("t", Some("a"), 0, 0)], &[(0, 0)], 1);
    assert_eq!(verdict.calls, Tally { right: 1, ..Tally::default() });
}

#[test]
fn evidence_is_counted_by_kind() {
    let mut linked = client("t", Some("a"), 0, 0);
    linked.attributes.0.insert("tracer.link".to_owned(), Value::from("thread"));
    let verdict = judged(&[server("t", "a", 0), linked], &[(0, 0)], 1);
    assert_eq!(verdict.links, [("thread".to_owned(), 1)].into());
}

/// Request 0 as a web server (process 1) and an application (process 2) see it, with one call.
fn handed_on() -> Vec<Span> {
    let of = |process: i64, id: &str, parent: Option<&str>, mut span: Span| {
        span.resource.0.insert("process.pid".to_owned(), Value::Int(process));
        (span.span_id, span.parent_span_id) = (id.to_owned(), parent.map(str::to_owned));
        span
    };
    vec![
        of(1, "a", None, server("t", "", 0)),
        of(1, "b", Some("a"), span(Kind::Client, "t", "", None, "/plan/0?plan=c1")),
        of(2, "c", Some("b"), server("t", "", 0)),
        of(2, "d", Some("c"), client("t", None, 0, 0)),
    ]
}

fn judged_behind(spans: &[Span]) -> Verdict {
    judge(spans, &asked(&[(0, 0)]), &[(Tag(0), 1)].into(), 2)
}

#[test]
fn behind_a_web_server_the_whole_way_counts() {
    let verdict = judged_behind(&handed_on());
    assert_eq!(verdict.calls, Tally { right: 1, ..Tally::default() });
    assert_eq!(verdict.inbound, Coverage { expected: 3, missing: 0, surplus: 0 });
    assert_eq!(verdict.outbound, Coverage { expected: 1, missing: 0, surplus: 0 });

    for lower in 1..4 {
        let mut spans = handed_on();
        spans[lower].parent_span_id = None;
        assert_eq!(judged_behind(&spans).calls.orphan, 1, "{lower} has no parent");
        let mut spans = handed_on();
        spans[lower - 1].attributes.0.insert("url.path".to_owned(), Value::from("/plan/1"));
        assert_eq!(judged_behind(&spans).calls.wrong, 1, "above {lower} is another request");
    }
}

#[test]
fn a_call_given_to_the_web_server_before_its_application_is_wrong() {
    let mut spans = handed_on();
    spans[3].parent_span_id = Some("a".to_owned());
    assert_eq!(judged_behind(&spans).calls.wrong, 1);
}

#[test]
fn steps_without_a_span_are_missing() {
    for step in 0..3 {
        let mut spans = handed_on();
        spans.remove(step);
        assert_eq!(judged_behind(&spans).inbound.missing, 1, "{step}");
    }
}
