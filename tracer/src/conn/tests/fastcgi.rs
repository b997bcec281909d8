//! Requests that a web server hands on by `FastCGI`: what is read of them, however they are split.

use proptest::prelude::*;

use super::wire::{Run, Wire};
use crate::conn::{LossReason, Options, Verdict};
use crate::event::{CloseKind, KernelTime};
use crate::exchange::{Exchange, HeaderInterest, Outcome, Role};

const BEGIN: u8 = 1;
const ABORT: u8 = 2;
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;

/// A record of a request, padded as PHP does it.
pub(super) fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let padding = content.len().next_multiple_of(8) - content.len();
    let len = (content.len() as u16).to_be_bytes();
    let id = id.to_be_bytes();
    let mut bytes = vec![1, kind, id[0], id[1], len[0], len[1], padding as u8, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + padding, b'p');
    bytes
}

fn begin(id: u16, role: u8, keeps: bool) -> Vec<u8> {
    record(BEGIN, id, &[0, role, u8::from(keeps), 0, 0, 0, 0, 0])
}

fn end(id: u16, status: u8) -> Vec<u8> {
    // PHP leaves what it finds in the last three bytes.
    record(END, id, &[0, 0, 0, 0, status, b'o', b'l', b'd'])
}

fn params(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        bytes.extend([name.len() as u8]);
        bytes.extend((value.len() as u32 | 1 << 31).to_be_bytes());
        bytes.extend([name.as_bytes(), value.as_bytes()].concat());
    }
    bytes
}

/// A request whose parameters come in records of so many bytes at most.
pub(super) fn asked_in(id: u16, method: &str, uri: &str, body: &[u8], size: usize) -> Vec<u8> {
    let pairs = [
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", uri),
        ("HTTP_HOST", "a.test"),
        ("HTTP_TRACEPARENT", "00-1"),
        ("HTTP_COOKIE", "secret"),
    ];
    let mut bytes = begin(id, 1, true);
    for piece in params(&pairs).chunks(size) {
        bytes.extend(record(PARAMS, id, piece));
    }
    bytes.extend(record(PARAMS, id, b""));
    for piece in body.chunks(size) {
        bytes.extend(record(STDIN, id, piece));
    }
    bytes.extend(record(STDIN, id, b""));
    bytes
}

fn asked(uri: &str) -> Vec<u8> {
    asked_in(1, "GET", uri, b"", 4096)
}

/// A response in records of so many bytes at most.
pub(super) fn answered_in(id: u16, output: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in output.chunks(size) {
        bytes.extend(record(STDOUT, id, piece));
    }
    bytes.extend(end(id, 0));
    bytes
}

fn answered(output: &str) -> Vec<u8> {
    answered_in(1, output.as_bytes(), 4096)
}

const OK: &str = "Content-type: text/plain\r\n\r\nok";

#[test]
fn a_request_is_what_its_parameters_say() {
    for role in [Role::Server, Role::Client] {
        let run = Wire::new(role).request(asked("/x?y=1")).response(answered(OK)).gone().run();
        let exchange = run.one();
        assert_eq!(exchange.role, role);
        assert_eq!((&*exchange.request.method, &*exchange.request.target), ("GET", "/x?y=1"));
        let kept: Vec<_> = exchange.request.headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(kept, [("host", "a.test"), ("traceparent", "00-1")]);
        assert!(exchange.request.gateway.is_some());
        assert_eq!((exchange.request_body, exchange.response_body), (0, 2));
        assert_eq!(run.summary(), [(200, Outcome::Complete, 1010, 1020)]);
        assert_eq!(run.verdicts(), [Verdict::Http]);
    }
}

#[test]
fn status_and_fields_come_from_the_output_and_errors_are_not_output() {
    let mut response = record(STDERR, 1, b"PHP message: oh\n");
    response.extend(answered("Status: 404 Not Found\r\nX-Cache: hit\r\n\r\nno"));
    let wire = Wire::server().request(asked("/")).response(response).gone();
    let interest = HeaderInterest { response: vec!["x-cache".into()], ..Default::default() };
    let run = Run::of(&wire.records, Options { interest, ..Options::default() });
    let response = run.one().response.as_ref().unwrap();
    assert_eq!(response.status, 404);
    assert_eq!(response.headers, [("x-cache".into(), "hit".into())]);
}

/// What PHP leaves unread is read before the next request, or before it closes.
#[test]
fn leftovers_are_no_requests() {
    let whole = asked("/1");
    let (first, left) = whole.split_at(whole.len() - 8);
    let run = Wire::server()
        .request(first)
        .response(answered(OK))
        .request(left)
        .request(first)
        .response(answered(OK))
        .request(left)
        .gone()
        .with_ends()
        .run();
    assert_eq!((run.exchanges().len(), run.lost()), (2, 0));
    assert!(run.exchanges().iter().all(|it| it.outcome == Outcome::Complete));
}

/// A kept connection with everything that may come on one; steps alternate.
fn conversation() -> Vec<(Vec<u8>, Vec<u8>)> {
    let get_values = |kind| {
        let mut bytes = record(kind, 0, &params(&[("FCGI_MPXS_CONNS", "0")]));
        bytes[2..4].fill(0);
        bytes
    };
    let aborted = [&asked("/5")[..], &record(ABORT, 1, b"")].concat();
    vec![
        (asked("/1"), answered(OK)),
        (
            asked_in(2, "POST", "/2", &b"0123456789".repeat(9), 7),
            answered_in(2, &[b"Status: 201\r\nX: y\r\n\r\n".to_vec(), vec![b'x'; 90]].concat(), 5),
        ),
        (get_values(GET_VALUES), get_values(GET_VALUES_RESULT)),
        (
            asked_in(1, "HEAD", "/3", b"", 1),
            [record(STDERR, 1, b"m"), answered(&OK[..OK.len() - 2])].concat(),
        ),
        (
            [begin(9, 2, true), record(PARAMS, 9, b"")].concat(),
            [record(STDOUT, 9, b"A: b\n\n"), end(9, 0)].concat(),
        ),
        (asked("/4"), end(1, 2)),
        (aborted, answered(OK)),
        (asked("/6"), answered("Location: /\r\n\r\n")),
    ]
}

fn timeless(exchange: &Exchange) -> Exchange {
    let zero = KernelTime(0);
    Exchange {
        tid: crate::event::Tid(0),
        start: zero,
        end: zero,
        response_start: exchange.response_start.map(|_| zero),
        ..exchange.clone()
    }
}

fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

fn exchanges(wire: Wire) -> Vec<Exchange> {
    let run = wire.gone().run();
    // The authorizer's.
    assert_eq!(run.losses(), [(LossReason::NotResponder, 1)]);
    run.exchanges().into_iter().map(timeless).collect()
}

#[test]
fn every_kind_of_end() {
    for role in [Role::Server, Role::Client] {
        let wire = conversation().into_iter().fold(Wire::new(role), |wire, (request, response)| {
            wire.request(request).response(response)
        });
        let found: Vec<_> = exchanges(wire)
            .iter()
            .map(|it| {
                (it.request.target.to_string(), it.response.as_ref().map(|r| r.status), it.outcome)
            })
            .collect();
        let (refused, aborted) = match role {
            Role::Server => (Outcome::ClosedLocally, Outcome::ClosedByPeer),
            Role::Client => (Outcome::ClosedByPeer, Outcome::ClosedLocally),
        };
        let expected = [
            ("/1", Some(200), Outcome::Complete),
            ("/2", Some(201), Outcome::Complete),
            ("/3", Some(200), Outcome::Complete),
            ("/4", None, refused),
            ("/5", Some(200), aborted),
            ("/6", Some(302), Outcome::Complete),
        ]
        .map(|(target, status, outcome)| (target.to_owned(), status, outcome));
        assert_eq!(found, expected, "{role:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_exchanges(
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        cuts in prop::collection::vec(
            prop::collection::vec(any::<prop::sample::Index>(), 0..12), 16),
    ) {
        let (mut whole, mut parts) = (Wire::new(role), Wire::new(role));
        for (at, (request, response)) in conversation().iter().enumerate() {
            whole = whole.request(request).response(response);
            for part in split(request, &cuts[2 * at]) {
                parts = parts.request(part);
            }
            for part in split(response, &cuts[2 * at + 1]) {
                parts = parts.response(part);
            }
        }
        let whole = exchanges(whole);
        prop_assert_eq!(whole.len(), 6);
        prop_assert_eq!(exchanges(parts), whole);
    }
}

#[test]
fn bytewise() {
    let (mut parts, mut whole) = (Wire::server(), Wire::server());
    for (request, response) in conversation() {
        whole = whole.request(&request).response(&response);
        parts = request.iter().fold(parts, |wire, byte| wire.request([*byte]));
        parts = response.iter().fold(parts, |wire, byte| wire.response([*byte]));
    }
    assert_eq!(exchanges(parts), exchanges(whole));
}

/// Requests that share a connection at a time: the first is followed, the others are counted.
#[test]
fn multiplexed_requests_are_counted() {
    for role in [Role::Server, Role::Client] {
        let run = Wire::new(role)
            .request(asked("/1"))
            .request(asked_in(2, "GET", "/2", b"", 100))
            .response(record(STDOUT, 2, b"Status: 500\r\n\r\n"))
            .response(record(STDOUT, 1, b"Status: 201\r\n\r\n"))
            .response(end(2, 0))
            .response(end(1, 0))
            .request(asked_in(3, "GET", "/3", b"", 100))
            .response(answered_in(3, OK.as_bytes(), 100))
            .gone()
            .run();
        assert_eq!(run.losses(), [(LossReason::Multiplexed, 1)]);
        let statuses: Vec<_> = run.summary().iter().map(|row| row.0).collect();
        assert_eq!(statuses, [201, 200], "{role:?}");
    }
}

#[test]
fn a_response_may_begin_before_the_request_is_whole() {
    for role in [Role::Server, Role::Client] {
        let request = asked_in(1, "POST", "/1", &[b'x'; 600], 100);
        let response = answered_in(1, &[OK.as_bytes(), &[b'y'; 300]].concat(), 100);
        for copied in [usize::MAX, 150] {
            let run = Wire::new(role)
                .request(&request[..400])
                .response(&response[..50])
                .request_cut(&request[400..], copied)
                .response_cut(&response[50..], copied)
                .request(asked("/2"))
                .response(answered(OK))
                .gone()
                .run();
            assert_eq!((run.exchanges().len(), run.lost()), (2, 0), "{role:?} {copied}");
            assert_eq!(run.summary()[0], (200, Outcome::Complete, 1010, 1040));
        }
    }
}

/// Bodies are not copied; lengths and last bytes tell where they end.
#[test]
fn bodies_are_passed_by_their_lengths() {
    let output = [OK.to_owned().into_bytes(), vec![b'y'; 100_000]].concat();
    let body = vec![b'x'; 100_000];
    for (role, size) in [Role::Server, Role::Client].into_iter().zip([100, 65_000]) {
        let mut wire = Wire::new(role);
        for _ in 0..2 {
            wire = wire.request_cut(asked_in(1, "POST", "/", &body, size), 16_384);
            // As nginx reads, and PHP flushes.
            for part in answered_in(1, &output, size).chunks(4096) {
                wire = wire.response_cut(part, if part.len() < 32 { 32 } else { 1500 });
            }
        }
        let run = wire.gone().with_ends().run();
        assert_eq!((run.exchanges().len(), run.lost()), (2, 0), "{role:?}");
        assert!(run.summary().iter().all(|row| (row.0, row.1) == (200, Outcome::Complete)));
    }
}

#[test]
fn an_application_that_dies_is_told_from_one_that_ends() {
    let response = record(STDOUT, 1, OK.as_bytes());
    let blind = record(STDOUT, 1, &[b'y'; 5000]);
    for (part, copied) in [(&response[..], usize::MAX), (b"", 0), (&blind[..], 100)] {
        let client = Wire::client().request(asked("/")).response(&response);
        let client = if part.is_empty() { client } else { client.response_cut(part, copied) };
        let client = client.closed(CloseKind::ReceiveEnd, 0).gone().run();
        assert_eq!(client.one().outcome, Outcome::ClosedByPeer);
        let server = Wire::server().request(asked("/")).response(&response);
        let server = server.gone().run();
        assert_eq!(server.one().outcome, Outcome::ClosedLocally);
    }
    let silent = Wire::client().request(asked("/")).closed(CloseKind::Gone, 104).run();
    assert_eq!(silent.one().outcome, Outcome::Reset);
    assert_eq!(silent.one().response, None);
}

#[test]
fn heads_are_bounded() {
    let long = "x".repeat(40_000);
    let options = || Options { max_head_bytes: 20_000, ..Options::default() };
    let request = asked_in(1, "GET", &long, b"", 1000);
    let wire = Wire::server().request(request).response(answered(OK));
    let run = Run::of(&wire.request(asked("/")).response(answered(OK)).gone().records, options());
    assert_eq!(run.losses(), [(LossReason::HeadTooLarge, 1)]);
    assert_eq!(run.exchanges().len(), 1);

    let options = Options { max_buffered_bytes: 10_000, ..options() };
    let output = format!("X: {long}\r\n\r\n");
    let wire = Wire::server().request(asked("/")).response(answered_in(1, output.as_bytes(), 1000));
    let run = Run::of(&wire.gone().records, options);
    assert_eq!(run.losses(), [(LossReason::BuffersFull, 1)]);
}

#[test]
fn a_connection_older_than_the_agent_is_joined_at_the_next_request() {
    let rests = [record(STDIN, 1, b""), b"rest of a body".to_vec()];
    for rest in rests {
        let wire = Wire::server().request(&rest).request(asked("/0")).response(answered(OK));
        let run = wire.request(asked("/1")).response(answered(OK)).gone().run();
        assert_eq!(run.exchanges().last().unwrap().request.target, "/1");
        assert_eq!(run.exchanges().len() + run.lost() as usize, 2, "{}", rest.escape_ascii());
    }
    for rest in [answered("<p>rest"), b"rest of a body".to_vec()] {
        for role in [Role::Server, Role::Client] {
            let wire = Wire::new(role).response(&rest).request(asked("/1")).response(answered(OK));
            let run = wire.gone().run();
            // The end of a response tells that there was a request.
            let lost = u32::from(rest.len() > 20);
            assert_eq!((run.exchanges().len(), run.lost()), (1, lost), "{}", rest.escape_ascii());
        }
    }
}

#[test]
fn what_only_looks_like_it_is_given_up_on() {
    for hello in ["\x01\x01\0\x01\0\x08\0\0not this", "\x01\x06\0\x01\0\x02\0\0abcdefgh"] {
        let mut wire = Wire::client();
        for _ in 0..6 {
            wire = wire.request(hello).response("\x01\x0c");
        }
        let run = wire.gone().run();
        assert_eq!(run.verdicts(), [Verdict::Ignore], "{hello:?}");
        assert_eq!((run.exchanges().len(), run.lost()), (0, 0), "{hello:?}");
        assert_eq!(run.connections.buffered_bytes(), 0);
    }
}
