//! Where bodies end, seen whole or with gaps.

use super::wire::Wire;
use crate::conn::LossReason;
use crate::event::CloseKind;
use crate::exchange::Outcome::Complete;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_body_of_known_length_ends_with_its_last_byte() {
    let run = Wire::server()
        .request("POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
        .request("def")
        .response("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        .response("def")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1040), (200, Complete, 1050, 1060)]);
    assert_eq!((run.exchanges()[0].request_body, run.exchanges()[0].response_body), (6, 6));
}

#[test]
fn chunked_bodies_end_with_their_trailers() {
    let run = Wire::client()
        .request("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        .request("0\r\nDigest: z\r\n\r\n")
        .response(format!("{CHUNKED}4\r\nWiki\r\n"))
        .response("0\r\nExpires: 0\r\n")
        .response("\r\n")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1050), (200, Complete, 1060, 1070)]);
    assert_eq!((run.exchanges()[0].request_body, run.exchanges()[0].response_body), (3, 4));
}

#[test]
fn responses_without_body_end_with_their_head() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
        let run = Wire::server()
            .request(format!("{method} / HTTP/1.1\r\n\r\n"))
            .response(format!("HTTP/1.1 {status} X\r\nContent-Length: 500\r\n\r\n"))
            .request(GET)
            .response(OK)
            .gone()
            .run();
        assert_eq!(run.losses(), [], "{method} {status}");
        assert_eq!(run.summary(), [(status, Complete, 1010, 1020), (200, Complete, 1030, 1040)]);
        assert_eq!(run.exchanges()[0].response_body, 0);
    }
}

#[test]
fn http_1_0_with_and_without_keep_alive() {
    let run = Wire::server()
        .request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .response("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx")
        .request("GET / HTTP/1.0\r\n\r\n")
        .response("HTTP/1.0 200 OK\r\n\r\nabc")
        .response("def")
        .closed(CloseKind::SendEnd, 0)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1020), (200, Complete, 1030, 1050)]);
    assert_eq!(run.exchanges()[1].response_body, 6);
}

#[test]
fn a_body_until_close_ends_at_its_last_byte() {
    for (wire, kind) in [
        (Wire::server(), CloseKind::SendEnd),
        (Wire::server(), CloseKind::Gone),
        (Wire::client(), CloseKind::ReceiveEnd),
        (Wire::client(), CloseKind::Gone),
    ] {
        let run = wire
            .request(GET)
            .response_cut("HTTP/1.1 200 OK\r\n\r\nabcdef", 20)
            .response("ghi")
            .closed(kind, 0)
            .run();
        assert_eq!(run.one().outcome, Complete);
        assert_eq!((run.one().end.0, run.one().response_body), (1030, 9));
    }
}

#[test]
fn the_other_direction_does_not_end_a_body_until_close() {
    let run = Wire::client()
        .request(GET)
        .closed(CloseKind::SendEnd, 0)
        .response("HTTP/1.1 200 OK\r\n\r\nabc")
        .response("def")
        .closed(CloseKind::ReceiveEnd, 0)
        .gone()
        .run();
    assert_eq!(run.one().outcome, Complete);
    assert_eq!((run.one().end.0, run.one().response_body), (1040, 6));
}

#[test]
fn an_answer_before_the_whole_request_ends_the_exchange() {
    let run = Wire::server()
        .request("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n123")
        .response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .request("45678")
        .request(format!("90{GET}"))
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(413, Complete, 1010, 1020), (200, Complete, 1040, 1050)]);
}

#[test]
fn lengths_reach_over_what_was_not_copied() {
    let long = "x".repeat(5000);
    let run = Wire::server()
        .request_cut(format!("POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{long}"), 100)
        .response_cut(format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{long}"), 64)
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1020), (200, Complete, 1030, 1040)]);
    assert_eq!(run.exchanges()[0].request_body, 5000);
    assert_eq!(run.exchanges()[0].response_body, 5000);
}

#[test]
fn a_chunk_reaches_over_what_was_not_copied() {
    let long = "x".repeat(5000);
    let run = Wire::server()
        .request(GET)
        .response_cut(format!("{CHUNKED}1388\r\n{long}"), 100)
        .response("\r\n0\r\nA: trailer\r\n\r\n")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1030), (200, Complete, 1040, 1050)]);
    assert_eq!(run.exchanges()[0].response_body, 5000);
}

#[test]
fn a_blind_chunked_body_ends_where_its_last_bytes_say() {
    let chunks = format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(3);
    let run = Wire::server()
        .request(GET)
        .response_cut(format!("{CHUNKED}{chunks}"), 100)
        .response_cut(format!("{chunks}0\r\n\r\n"), 0)
        .gone()
        .run();
    assert_eq!(run.one().outcome, Complete);
    assert_eq!(run.one().end.0, 1030);
}

#[test]
fn a_blind_chunked_body_without_visible_end_ends_with_the_next_message() {
    let chunks = format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(3);
    let run = Wire::server()
        .request(GET)
        .response_cut(format!("{CHUNKED}{chunks}"), 100)
        .response_cut(format!("{chunks}0\r\nTrailer: x\r\n\r\n"), 0)
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1030), (200, Complete, 1040, 1050)]);
}

#[test]
fn contradicting_lengths_are_not_believed() {
    let run = Wire::client()
        .request(GET)
        .response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nabc")
        .response("def")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.summary(), [(200, Complete, 1010, 1030), (200, Complete, 1040, 1050)]);
}

#[test]
fn a_gap_inside_a_head_loses_that_exchange_only() {
    let run = Wire::server()
        .request(GET)
        .response(OK)
        .request_cut(GET, 10)
        .response(OK)
        .request(GET)
        .response_cut(OK, 10)
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 2);
    assert_eq!(run.losses(), [(LossReason::HeadGap, 1), (LossReason::HeadGap, 1)]);
}
