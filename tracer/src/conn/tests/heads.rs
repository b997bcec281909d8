//! Message heads: spelling, size, splits, interim and final responses.

use super::wire::{Run, Wire};
use crate::conn::{LossReason, Observation, Options, Verdict};
use crate::event::{KernelTime, Tid};
use crate::exchange::{HttpVersion, Outcome, Role};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: example\r\nAccept: */*\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_server_exchange_runs_from_first_byte_read_to_last_byte_written() {
    let run = Wire::server().request(GET).response(OK).run();
    let exchange = run.one();
    assert_eq!(exchange.role, Role::Server);
    assert_eq!((exchange.start, exchange.end), (KernelTime(1010), KernelTime(1020)));
    assert_eq!(exchange.response_start, Some(KernelTime(1020)));
    assert_eq!(exchange.request.method, "GET");
    assert_eq!(exchange.request.target, "/a?b=c");
    assert_eq!(exchange.request.version, HttpVersion::Http11);
    assert_eq!(exchange.request.headers, [("host".into(), "example".into())]);
    assert_eq!(exchange.response.as_ref().map(|r| r.status), Some(200));
    assert_eq!((exchange.request_body, exchange.response_body), (0, 2));
    assert_eq!(exchange.outcome, Outcome::Complete);
    assert_eq!(run.verdicts(), [Verdict::Http]);
}

#[test]
fn beginnings_name_the_threads_that_moved_the_first_bytes() {
    let run = Wire::client().request(GET).response(OK).run();
    let id = run.one().id;
    let began: Vec<_> = run
        .out
        .iter()
        .filter_map(|observation| match observation {
            Observation::RequestBegan { id, role, tid, at, .. }
            | Observation::ResponseBegan { id, role, tid, at, .. } => Some((*id, *role, *tid, *at)),
            _ => None,
        })
        .collect();
    let expected = [
        (id, Role::Client, Tid(1), KernelTime(1010)),
        (id, Role::Client, Tid(2), KernelTime(1020)),
    ];
    assert_eq!(began, expected);
}

#[test]
fn heads_may_come_byte_by_byte() {
    let mut wire = Wire::client();
    for byte in GET.bytes() {
        wire = wire.request([byte]);
    }
    for byte in OK.bytes() {
        wire = wire.response([byte]);
    }
    let run = wire.run();
    let exchange = run.one();
    let (first, last) = (1010, 1000 + 10 * (GET.len() + OK.len()) as u64);
    assert_eq!((exchange.start.0, exchange.end.0), (first, last));
    assert_eq!(exchange.response_start, Some(KernelTime(first + 10 * GET.len() as u64)));
}

#[test]
fn a_head_method_split_where_it_could_be_a_response() {
    for split in 1..6 {
        let (first, rest) = "HEAD / HTTP/1.1\r\n\r\n".split_at(split);
        let run = Wire::server()
            .request(first)
            .request(rest)
            .response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .run();
        assert_eq!(run.one().start, KernelTime(1010), "{split}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests = [0, 1, 2].map(|i| format!("GET /{i} HTTP/1.1\r\n\r\n")).concat();
    let responses =
        [0, 1, 2].map(|i| format!("HTTP/1.1 20{i} X\r\nContent-Length: 1\r\n\r\nx")).concat();
    let run = Wire::server().request(requests).response(responses).gone().run();
    assert_eq!(run.losses(), []);
    let pairs: Vec<_> = run
        .exchanges()
        .iter()
        .map(|e| (e.request.target.clone(), e.response.as_ref().unwrap().status))
        .collect();
    assert_eq!(pairs, [("/0".into(), 200), ("/1".into(), 201), ("/2".into(), 202)]);
}

#[test]
fn any_method_and_any_target_form() {
    for line in [
        "PURGE /x HTTP/1.1",
        "M-SEARCH * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://user:secret@example/x?y HTTP/1.1",
        "x!#$%&'*+-.^_`|~ / HTTP/1.0",
    ] {
        let run = Wire::server().request(format!("{line}\r\n\r\n")).response(OK).run();
        let request = &run.one().request;
        assert_eq!(format!("{} {}", request.method, request.target), line[..line.len() - 9]);
    }
}

#[test]
fn a_trace_context_at_the_end_of_sixty_kilobytes_is_found() {
    let filler = format!("X-Filler: {}\r\n", "x".repeat(1000)).repeat(60);
    let head = format!("GET / HTTP/1.1\r\n{filler}TraceParent: 00-abc\r\n\r\n");
    let mut wire = Wire::server();
    for chunk in head.as_bytes().chunks(16 * 1024) {
        wire = wire.request(chunk);
    }
    let run = wire.response(OK).gone().run();
    assert_eq!(run.one().request.headers, [("traceparent".into(), "00-abc".into())]);
}

#[test]
fn many_fields_are_read_and_too_many_are_a_loss() {
    let head = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(Wire::server().request(head(500)).response(OK).gone().run().one().end.0, 1020);
    let run = Wire::server()
        .request(GET)
        .response(OK)
        .request(head(2000))
        .response(OK)
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 2);
    assert_eq!(run.losses(), [(LossReason::TooManyHeaders, 1)]);
}

#[test]
fn heads_beyond_the_bounds_are_a_loss() {
    let filler = format!("X-Filler: {}\r\n", "x".repeat(100)).repeat(20);
    let head = format!("GET / HTTP/1.1\r\n{filler}\r\n");
    let (first, rest) = head.split_at(1500);
    let wire = Wire::server()
        .request(GET)
        .response(OK)
        .request(first)
        .request(rest)
        .response(OK)
        .request(GET)
        .response(OK)
        .gone();
    for (options, reason) in [
        (Options { max_head_bytes: 1600, ..Options::default() }, LossReason::HeadTooLarge),
        (Options { max_buffered_bytes: 1600, ..Options::default() }, LossReason::BuffersFull),
    ] {
        let run = Run::of(&wire.records, options);
        assert_eq!(run.exchanges().len(), 2);
        assert_eq!(run.losses(), [(reason, 1)]);
    }
}

#[test]
fn odd_line_ends_do_not_disturb_framing() {
    let run = Wire::server()
        .request("\r\n\r\nGET /1 HTTP/1.1\nHost: a\n\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n c\r\n\r\n")
        .response("HTTP/1.1 200\nContent-Length: 1\n\nx")
        .response("\r\nHTTP/1.1 200 OK\r\nX: y\r\n\tz\r\nContent-Length: 0\r\n\r\n")
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    let targets: Vec<_> = run.exchanges().iter().map(|e| e.request.target.clone()).collect();
    assert_eq!(targets, ["/1", "/2"]);
}

#[test]
fn interim_responses_are_not_final() {
    let run = Wire::client()
        .request("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .response("HTTP/1.1 100 Continue\r\n\r\n")
        .request("abc")
        .response("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        .response("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(
        run.summary(),
        [(201, Outcome::Complete, 1010, 1050), (200, Outcome::Complete, 1060, 1070)]
    );
    assert_eq!(run.exchanges()[0].response_start, Some(KernelTime(1050)));
    assert_eq!(run.exchanges()[0].request_body, 3);
}

#[test]
fn an_upgraded_connection_is_opaque() {
    let run = Wire::server()
        .request("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .response("HTTP/1.1 101 Switching Protocols\r\n\r\n\x01frame")
        .request("GET /not HTTP/1.1\r\n\r\n")
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.one().end, KernelTime(1020));
    assert_eq!(run.one().response.as_ref().unwrap().status, 101);
    assert_eq!(run.verdicts(), [Verdict::Http, Verdict::Ignore]);
}

#[test]
fn a_tunnel_is_opaque_once_it_is_granted() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let run = Wire::client()
        .request(connect)
        .response("HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno")
        .request(connect)
        .response("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
        .request("\x16\x03\x01")
        .response("\x16\x03\x03")
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(
        run.summary(),
        [(407, Outcome::Complete, 1010, 1020), (200, Outcome::Complete, 1030, 1040)]
    );
    assert_eq!(run.exchanges()[0].request.target, "a:443");
    assert_eq!(run.verdicts(), [Verdict::Http, Verdict::Ignore]);
}

#[test]
fn a_broken_request_is_a_loss_and_the_next_one_is_not() {
    let run = Wire::server()
        .request(GET)
        .response(OK)
        .request("GET / HTTP/9.9\r\n\r\n")
        .response("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 2);
    assert_eq!(run.losses(), [(LossReason::BadHead, 1)]);
}

#[test]
fn a_read_reported_before_its_write_still_answers_it() {
    let mut wire = Wire::client().request(GET).response(OK);
    for path in ["/1", "/2"] {
        wire = wire.response(OK).request(format!("GET {path} HTTP/1.1\r\n\r\n"));
    }
    let run = wire.request("GET /3 HTTP/1.1\r\n\r\n").response(OK).gone().run();
    assert_eq!(run.losses(), []);
    let targets: Vec<_> = run.exchanges().iter().map(|e| e.request.target.clone()).collect();
    assert_eq!(targets, ["/a?b=c", "/1", "/2", "/3"]);
    assert_eq!(run.exchanges()[1].end.0, 1030);
    assert_eq!(run.exchanges()[3].end.0, 1080);
}
