//! Events that never arrive: every exchange is reported right or counted.

use proptest::prelude::*;

use super::wire::{Record, Run, Wire};
use crate::conn::{LossReason, Options, Verdict};
use crate::event::{CloseKind, StreamOffset};
use crate::exchange::{Exchange, Role};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn vanished_exchanges_are_counted_by_turns() {
    let run = Wire::server()
        .request(GET)
        .response(OK)
        .request_unseen(GET)
        .response_unseen(OK)
        .request_unseen(GET)
        .response_unseen(OK)
        .request(GET)
        .response(OK)
        .request_unseen(GET)
        .response_unseen(OK)
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 2);
    assert_eq!(run.losses(), [(LossReason::Unseen, 2), (LossReason::Unseen, 1)]);
    let counters = run.connections.counters();
    assert_eq!((counters.gaps, counters.overlaps), (2, 0));
}

#[test]
fn a_connection_nothing_was_seen_of_is_counted_by_its_turns() {
    let run = Wire::server()
        .request_unseen(GET)
        .response_unseen(OK)
        .request_unseen(GET)
        .response_unseen(OK)
        .gone()
        .run();
    assert_eq!(run.losses(), [(LossReason::Unseen, 2)]);
}

#[test]
fn an_unseen_response_is_never_replaced_by_the_next_one() {
    let run = Wire::client()
        .request("GET /1 HTTP/1.1\r\n\r\n")
        .response_unseen("HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n")
        .request("GET /2 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n")
        .gone()
        .run();
    assert_eq!(run.losses(), [(LossReason::ResponseUnseen, 1)]);
    assert_eq!(run.exchanges()[0].request.target, "/2");
    assert_eq!(run.exchanges()[0].response.as_ref().unwrap().status, 202);
}

#[test]
fn an_unseen_response_at_the_end_is_no_failure() {
    let run = Wire::server().request(GET).response_unseen(OK).gone().run();
    assert_eq!(run.exchanges().len(), 0);
    assert_eq!(run.losses(), [(LossReason::ResponseUnseen, 1)]);
}

#[test]
fn an_unseen_end_of_a_response_is_no_failure() {
    let wire = Wire::server()
        .request(GET)
        .response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        .response_unseen("1234567")
        .closed(CloseKind::SendEnd, 0)
        .with_ends();
    let run = wire.gone().run();
    assert_eq!(run.exchanges().len(), 0);
    assert_eq!(run.losses(), [(LossReason::ResponseUnseen, 1)]);
}

#[test]
fn an_end_inside_unseen_bytes_is_a_loss() {
    let run = Wire::server()
        .request(GET)
        .response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        .response_unseen("1234567")
        .request(GET)
        .response(OK)
        .gone()
        .run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.exchanges()[0].start.0, 1040);
    assert_eq!(run.losses(), [(LossReason::ResponseUnseen, 1)]);
}

#[test]
fn a_stream_that_goes_backwards_loses_the_exchange() {
    let mut wire = Wire::server().request(GET).response(OK).request(GET).response(OK);
    let Some(Record::Data { data, .. }) = wire.records.last_mut() else { unreachable!() };
    data.offset = StreamOffset(data.offset.0.wrapping_sub(5));
    let run = wire.request(GET).response(OK).gone().run();
    assert_eq!(run.exchanges().len(), 2);
    assert_eq!(run.losses(), [(LossReason::Desync, 1)]);
    assert_eq!(run.connections.counters().overlaps, 1);
}

#[test]
fn pipelined_responses_are_not_mixed_up_after_a_gap() {
    let answer = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    let run = Wire::server()
        .request(GET)
        .response(OK)
        .request("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        .response_unseen(answer(201))
        .response(answer(202))
        .request("GET /3 HTTP/1.1\r\n\r\n")
        .response(answer(203))
        .gone()
        .run();
    let statuses: Vec<_> =
        run.exchanges().iter().map(|e| e.response.as_ref().unwrap().status).collect();
    assert_eq!(statuses, [200, 203]);
    assert_eq!(run.lost(), 2);
}

/// One exchange: request and response, each in parts that are written by one call each.
#[derive(Clone)]
struct Shape {
    request: Vec<Vec<u8>>,
    response: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in self.request.iter().chain(&self.response) {
            writeln!(f, "{}", part.escape_ascii())?;
        }
        Ok(())
    }
}

/// Splits a message, but never inside its first line.
fn parts(message: String, cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let bytes = message.into_bytes();
    let line = bytes.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    let mut at: Vec<usize> =
        cuts.iter().map(|cut| line + cut.index(bytes.len() - line + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

fn body(size: usize, chunked: bool) -> String {
    let payload = "abcdefghij".repeat(size / 10 + 1)[..size].to_owned();
    if !chunked {
        return format!("Content-Length: {size}\r\n\r\n{payload}");
    }
    let chunks: Vec<_> = payload
        .as_bytes()
        .chunks(60)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.concat())
}

fn shape() -> impl Strategy<Value = Shape> {
    let cuts = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let sizes = (0usize..300, 0usize..300);
    (0usize..4, sizes, any::<(bool, bool)>(), 200u16..600, cuts(), cuts()).prop_map(
        |(method, (sent, answered), (chunked_request, chunked), status, cut, cut_response)| {
            let request = match method {
                0 => "GET /get HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                1 => "HEAD /head HTTP/1.1\r\n\r\n".to_owned(),
                _ => format!("POST /{sent} HTTP/1.1\r\n{}", body(sent, chunked_request)),
            };
            let mut response = format!("HTTP/1.1 {status} X\r\n{}", body(answered, chunked));
            if method == 1 || status == 204 || status == 304 {
                response = format!("HTTP/1.1 {status} X\r\nContent-Length: 77\r\n\r\n");
            }
            Shape { request: parts(request, &cut), response: parts(response, &cut_response) }
        },
    )
}

fn record(role: Role, shapes: &[Shape], budget: usize, with_ends: bool) -> Wire {
    let mut wire = Wire::new(role);
    for shape in shapes {
        for part in &shape.request {
            wire = wire.request_cut(part, budget);
        }
        for part in &shape.response {
            wire = wire.response_cut(part, budget);
        }
    }
    let wire = wire.gone();
    if with_ends { wire.with_ends() } else { wire }
}

/// What was seen and what was made of it, for failures.
fn story(records: &[Record], run: &Run) -> String {
    let seen = records.iter().map(|record| match record {
        Record::Data { data, head, .. } => {
            format!("{:?} turn {} {}", data.direction, data.turn, head.escape_ascii())
        }
        other => format!("{other:?}"),
    });
    let made = run.out.iter().map(|observation| format!("{observation:?}"));
    seen.chain(made).collect::<Vec<_>>().join("\n")
}

/// As far as it does not depend on unseen parts of the request.
fn essence(exchange: &Exchange) -> Exchange {
    Exchange { request_body: 0, response_body: 0, ..exchange.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Reported plus lost is made, and what is reported is what a lossless run reports.
    #[test]
    fn every_exchange_is_reported_right_or_counted(
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        shapes in prop::collection::vec(shape(), 1..7),
        kept in any::<(u64, u64)>().prop_map(|(a, b)| a | b),
    ) {
        let wire = record(role, &shapes, usize::MAX, true);
        let whole = wire.run();
        prop_assert_eq!(whole.losses(), []);
        prop_assert_eq!(whole.exchanges().len(), shapes.len());

        let last = wire.records.len() - 1;
        let records: Vec<_> = wire.records.iter().enumerate()
            .filter(|(at, _)| *at == 0 || *at == last || kept >> (at % 64) & 1 == 1)
            .map(|(_, record)| record.clone())
            .collect();
        let partial = Run::of(&records, Options::default());
        let accounted = partial.exchanges().len() + partial.lost() as usize;
        if partial.verdicts().contains(&Verdict::Http) {
            prop_assert_eq!(accounted, shapes.len(), "{}", story(&records, &partial));
        } else {
            // Not even one first line was seen: this may be anything.
            prop_assert!(accounted <= shapes.len());
        }
        let expected: Vec<_> = whole.exchanges().into_iter().map(essence).collect();
        for exchange in partial.exchanges() {
            let sizes = (exchange.request_body, exchange.response_body);
            prop_assert!(expected.contains(&essence(exchange)), "{}", story(&records, &partial));
            let original = whole.exchanges().into_iter().find(|e| e.id == exchange.id).unwrap();
            prop_assert!(sizes.0 == 0 || sizes.0 == original.request_body);
            prop_assert!(sizes.1 == 0 || sizes.1 == original.response_body);
        }
    }

    /// A small copy budget costs exchanges whose heads it cuts, never truth.
    #[test]
    fn a_small_budget_never_makes_a_wrong_exchange(
        shapes in prop::collection::vec(shape(), 1..7),
        budget in 26usize..200,
    ) {
        let whole = record(Role::Server, &shapes, usize::MAX, true).run();
        let cut = record(Role::Server, &shapes, budget, true).run();
        prop_assert_eq!(cut.exchanges().len() + cut.lost() as usize, shapes.len());
        let expected: Vec<_> = whole.exchanges().into_iter().map(essence).collect();
        for exchange in cut.exchanges() {
            prop_assert!(expected.contains(&essence(exchange)), "{exchange:#?}");
        }
    }

    /// With the close lost too, trailing losses cannot be known, but nothing is counted twice.
    #[test]
    fn without_the_close_nothing_is_counted_twice(
        shapes in prop::collection::vec(shape(), 1..7),
        kept in any::<u64>(),
    ) {
        let wire = record(Role::Client, &shapes, usize::MAX, false);
        let records: Vec<_> = wire.records[..wire.records.len() - 1].iter().enumerate()
            .filter(|(at, _)| *at == 0 || kept >> (at % 64) & 1 == 1)
            .map(|(_, record)| record.clone())
            .collect();
        let mut run = Run::of(&records, Options::default());
        run.connections.finish(&mut run.out);
        prop_assert!(
            run.exchanges().len() + run.lost() as usize <= shapes.len(),
            "{}", story(&records, &run)
        );
    }
}
