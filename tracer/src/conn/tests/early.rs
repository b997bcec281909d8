//! Responses that a client's reading thread reports before its writing thread reports the request.

use proptest::prelude::*;

use super::wire::{Run, Wire};
use crate::conn::LossReason;
use crate::exchange::Exchange;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn ask(target: usize) -> String {
    format!("GET /{target} HTTP/1.1\r\n\r\n")
}

fn answer(status: usize) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}

/// A client that made one exchange and read the next response before its request.
fn one_and_early() -> Wire {
    Wire::client().request(GET).response(OK).response(OK)
}

/// Target and status of the exchange that was asked for by [`ask`] and answered by [`answer`].
fn pair(at: usize) -> (String, usize) {
    (format!("/{at}"), 200 + at)
}

fn made(run: &Run) -> Vec<(String, usize)> {
    let status = |exchange: &Exchange| exchange.response.as_ref().map_or(0, |it| it.status.into());
    let exchanges = run.exchanges().into_iter();
    exchanges.map(|exchange| (exchange.request.target.to_string(), status(exchange))).collect()
}

#[test]
fn a_response_nobody_asked_for_is_no_exchange() {
    let timeout = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let run = Wire::client().request(GET).response(OK).response(timeout).gone().with_ends().run();
    assert_eq!((run.exchanges().len(), run.lost()), (1, 0));
}

#[test]
fn a_response_whose_request_was_unseen_is_counted_beside_the_next_broken_request() {
    let run = Wire::client()
        .request(GET)
        .response(OK)
        .request_unseen(GET)
        .response(OK)
        .request_unseen("POST / HTTP/1.1\r\n")
        .request("Con")
        .request("tent-Length: 0\r\n\r\n")
        .response(OK)
        .gone()
        .with_ends()
        .run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.losses(), [(LossReason::RequestUnseen, 1), (LossReason::BadHead, 1)]);
}

#[test]
fn a_response_whose_request_is_only_known_by_its_turn_is_counted() {
    let run = Wire::client().request(GET).response(OK).request_unseen(GET).response(OK);
    assert_eq!(run.gone().run().losses(), [(LossReason::RequestUnseen, 1)]);
}

#[test]
fn an_early_response_and_its_broken_request_are_one_loss() {
    let run = one_and_early().request("GET / HTTP/9.9\r\n\r\n").gone().with_ends().run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.losses(), [(LossReason::BadHead, 1)]);
}

#[test]
fn an_early_response_and_the_rest_of_its_request_are_one_loss() {
    let run = one_and_early()
        .request_unseen("POST / HTTP/1.1\r\n")
        .request("Content-Length: 0\r\n\r\n")
        .gone()
        .with_ends()
        .run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.losses(), [(LossReason::HeadGap, 1)]);
}

#[test]
fn an_early_response_whose_request_is_unseen_is_one_loss() {
    let run = one_and_early().request_unseen(GET).gone().with_ends().run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.losses(), [(LossReason::Unseen, 1)]);
}

#[test]
fn an_early_response_is_not_given_to_the_request_after_its_own() {
    let run =
        one_and_early().request_unseen(ask(1)).request(ask(2)).response(answer(202)).gone().run();
    assert_eq!(run.exchanges().len(), 1);
    assert_eq!(run.losses(), [(LossReason::RequestUnseen, 1), (LossReason::HeadGap, 1)]);
}

#[test]
fn an_early_response_to_head_is_one_loss_and_shifts_nothing() {
    let run = Wire::client()
        .request(ask(0))
        .response(answer(200))
        .response("HTTP/1.1 201 X\r\nContent-Length: 77\r\n\r\n")
        .request("HEAD /1 HTTP/1.1\r\n\r\n")
        .request(ask(2))
        .response(answer(202))
        .request(ask(3))
        .response(answer(203))
        .gone()
        .run();
    assert_eq!(made(&run), [0, 2, 3].map(pair));
    assert_eq!(run.losses(), [(LossReason::Desync, 1)]);
}

#[test]
fn pipelined_requests_after_a_stray_response_are_not_shifted() {
    let run = Wire::client()
        .request(ask(0))
        .response(answer(200))
        .request_unseen("POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        .request("abc")
        .response(answer(201))
        .request(ask(2) + &ask(3))
        .response(answer(202) + &answer(203))
        .gone()
        .with_ends()
        .run();
    assert_eq!(made(&run), [0, 2, 3].map(pair));
    assert_eq!(run.losses(), [(LossReason::HeadGap, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whichever responses come early.
    #[test]
    fn early_responses_are_not_mixed_up(early in prop::collection::vec(any::<bool>(), 1..8)) {
        let mut wire = Wire::client().request(ask(0)).response(answer(200));
        for (at, early) in (1..).zip(&early) {
            wire = if *early {
                wire.response(answer(200 + at)).request(ask(at))
            } else {
                wire.request(ask(at)).response(answer(200 + at))
            };
        }
        let run = wire.gone().with_ends().run();
        prop_assert_eq!(run.losses(), []);
        let expected: Vec<_> = (0..=early.len()).map(pair).collect();
        prop_assert_eq!(made(&run), expected);
    }
}
