//! Finding HTTP on any port and in the middle of things, and leaving the rest alone.

use super::wire::Wire;
use crate::conn::{LossReason, Verdict};
use crate::exchange::Role;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn the_role_follows_the_direction_of_the_request() {
    assert_eq!(Wire::server().request(GET).response(OK).run().one().role, Role::Server);
    assert_eq!(Wire::client().request(GET).response(OK).run().one().role, Role::Client);
}

#[test]
fn what_is_not_http_is_given_up_on() {
    for (hello, answer) in [
        ("\x16\x03\x01\x02\x00\x01", "\x16\x03\x03\x00"),
        ("get key\r\n", "VALUE key 0 1\r\nx\r\nEND\r\n"),
        ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\x04\0\0\0\0\0"),
        ("GET /\r\n", "<html>"),
        ("EHLO /me\r\n", "250 ok\r\n"),
        ("no-line-end-", "ok"),
    ] {
        let mut wire = Wire::client();
        for _ in 0..6 {
            wire = wire.request(hello).response(answer);
        }
        let run = wire.gone().run();
        assert_eq!(run.verdicts(), [Verdict::Ignore], "{hello:?}");
        assert_eq!((run.exchanges().len(), run.lost()), (0, 0), "{hello:?}");
        assert_eq!(run.connections.buffered_bytes(), 0);
    }
}

#[test]
fn an_endless_first_line_is_not_buffered_without_end() {
    let run = Wire::client().request("GET /").request("x".repeat(20_000)).run();
    assert_eq!(run.connections.buffered_bytes(), 0);
    assert_eq!(run.out, []);
}

#[test]
fn a_connection_older_than_the_agent_is_joined_at_the_next_request() {
    let run = Wire::server()
        .response("rest of a body")
        .response("GET /not HTTP/1.1\r\n\r\n")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.one().start.0, 1030);
}

#[test]
fn a_response_seen_first_is_skipped_and_counted() {
    for wire in [Wire::server(), Wire::client()] {
        let run =
            wire.response(OK).request(GET).response(OK).request(GET).response(OK).gone().run();
        assert_eq!(run.losses(), [(LossReason::RequestUnseen, 1)]);
        let starts: Vec<_> = run.exchanges().iter().map(|e| e.start.0).collect();
        assert_eq!(starts, [1020, 1040]);
    }
}

#[test]
fn joining_in_the_middle_of_a_request_waits_for_the_next() {
    let run = Wire::server()
        .request("rest of a request body")
        .response(OK)
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), [(LossReason::RequestUnseen, 1)]);
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.verdicts(), [Verdict::Http]);
}

#[test]
fn a_first_response_reported_before_its_request_mixes_nothing_up() {
    // Two threads of a client: the very first read is told before the write.
    let run = Wire::client()
        .response(OK)
        .request("GET /0 HTTP/1.1\r\n\r\n")
        .request("GET /1 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n")
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.exchanges()[0].request.target, "/1");
    assert_eq!(run.lost(), 1);
}
