//! However the bytes are split into calls, the exchanges are the same.

use proptest::prelude::*;

use super::wire::Wire;
use crate::event::KernelTime;
use crate::exchange::{Exchange, Role};

/// One keep-alive conversation with every kind of framing; steps alternate.
const CONVERSATION: [(&str, &str); 6] = [
    (
        "\r\nGET /1?q=r HTTP/1.1\r\nHost: a\r\ntraceparent: 00-1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n\
         a\r\n0123456789\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    ),
    ("HEAD /3 HTTP/1.0\n\n", "HTTP/1.0 304 Not Modified\nContent-Length: 100\n\n"),
    (
        "GET /4 HTTP/1.1\r\nX: a\r\n b\r\n\r\nGET /5 HTTP/1.1\r\n\r\n",
        "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "PUT /6 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\nx",
    ),
    ("OPTIONS * HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end"),
];

fn split<'a>(bytes: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| &bytes.as_bytes()[ends[0]..ends[1]]).collect()
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

fn exchanges(wire: Wire) -> Vec<Exchange> {
    let run = wire.gone().run();
    assert_eq!(run.losses(), []);
    assert_eq!(run.connections.counters().gaps, 0);
    run.exchanges().into_iter().map(timeless).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_exchanges(
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        cuts in prop::collection::vec(
            prop::collection::vec(any::<prop::sample::Index>(), 0..12), 12),
    ) {
        let (mut whole, mut parts) = (Wire::new(role), Wire::new(role));
        for (at, (request, response)) in CONVERSATION.iter().enumerate() {
            whole = whole.request(request).response(response);
            for part in split(request, &cuts[2 * at]) {
                parts = parts.request(part);
            }
            for part in split(response, &cuts[2 * at + 1]) {
                parts = parts.response(part);
            }
        }
        let whole = exchanges(whole);
        prop_assert_eq!(whole.len(), 7);
        prop_assert_eq!(exchanges(parts), whole);
    }

    /// All requests are on the way before the responses are read, in any order that keeps a
    /// response behind its request.
    #[test]
    fn any_interleaving_gives_the_same_exchanges(
        order in prop::collection::vec(any::<bool>(), 24),
    ) {
        let mut wire = Wire::client();
        let (mut asked, mut answered) = (0, 0);
        for ask in order.into_iter().chain([true; 12]).chain([false; 12]) {
            if ask && asked < 12 {
                wire = wire.request(format!("GET /{asked} HTTP/1.1\r\n\r\n"));
                asked += 1;
            } else if !ask && answered < asked {
                wire = wire.response(format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n",
                    200 + answered));
                answered += 1;
            }
        }
        let run = wire.gone().run();
        prop_assert_eq!(run.losses(), []);
        let pairs: Vec<_> = run.exchanges().iter()
            .map(|e| (e.request.target.to_string(), e.response.as_ref().unwrap().status))
            .collect();
        let expected: Vec<_> = (0..12).map(|i| (format!("/{i}"), 200 + i)).collect();
        prop_assert_eq!(pairs, expected);
    }
}

/// The next request may be read while a response is half written.
#[test]
fn a_response_may_be_interrupted_by_the_next_request() {
    for role in [Role::Server, Role::Client] {
        for cut in [20, 38] {
            let response = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA";
            let wire = Wire::new(role)
                .request("GET /a HTTP/1.1\r\n\r\n")
                .response(&response[..cut])
                .request("GET /b HTTP/1.1\r\n\r\n")
                .response(&response[cut..])
                .response(response);
            let exchanges = exchanges(wire);
            let targets: Vec<_> = exchanges.iter().map(|it| &*it.request.target).collect();
            assert_eq!(targets, ["/a", "/b"], "{role:?} cut at {cut}");
            assert!(exchanges.iter().all(|it| it.response.is_some()));
        }
    }
}
