//! `FastCGI` with parts unseen: every exchange is reported right or counted, never made up.

use proptest::prelude::*;

use super::fastcgi::{answered_in, asked_in};
use super::wire::{Record, Run, Wire};
use crate::conn::{Options, Verdict};
use crate::exchange::{Exchange, Role};

/// One exchange: request and response, each in parts that are written by one call each.
#[derive(Clone, Debug)]
struct Shape {
    request: Vec<Vec<u8>>,
    response: Vec<Vec<u8>>,
}

/// Splits a message, but never inside its first record's header.
fn parts(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    const FIRST: usize = 16;
    let mut at: Vec<usize> =
        cuts.iter().map(|cut| FIRST + cut.index(bytes.len() - FIRST + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

fn shape() -> impl Strategy<Value = Shape> {
    let cuts = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let sizes = (0usize..300, 0usize..300, 8usize..200);
    (1u16..3, sizes, 200u16..600, cuts(), cuts()).prop_map(
        |(id, (sent, answered, record), status, cut, cut_response)| {
            let request = asked_in(id, "POST", &format!("/{sent}"), &vec![b'x'; sent], record);
            let output = format!("Status: {status}\r\n\r\n{}", "a: b\n\n".repeat(answered / 6));
            let response = answered_in(id, output.as_bytes(), record);
            Shape { request: parts(&request, &cut), response: parts(&response, &cut_response) }
        },
    )
}

fn wire(role: Role, shapes: &[Shape], budget: usize) -> Wire {
    let mut wire = Wire::new(role);
    for shape in shapes {
        for part in &shape.request {
            wire = wire.request_cut(part, budget);
        }
        for part in &shape.response {
            wire = wire.response_cut(part, budget);
        }
    }
    wire.gone().with_ends()
}

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

/// As far as it does not depend on unseen parts of the bodies.
fn essence(exchange: &Exchange) -> Exchange {
    Exchange { request_body: 0, response_body: 0, ..exchange.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Reported plus lost is made, and what is reported is what a lossless run reports.
    #[test]
    fn every_exchange_is_reported_right_or_counted(
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        shapes in prop::collection::vec(shape(), 1..7),
        kept in any::<(u64, u64)>().prop_map(|(a, b)| a | b),
    ) {
        let wire = wire(role, &shapes, usize::MAX);
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
            // Not even one beginning was seen: this may be anything.
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
        role in prop::sample::select(vec![Role::Server, Role::Client]),
        shapes in prop::collection::vec(shape(), 1..7),
        budget in 32usize..300,
    ) {
        let whole = wire(role, &shapes, usize::MAX).run();
        let records = wire(role, &shapes, budget).records;
        let cut = Run::of(&records, Options::default());
        let accounted = cut.exchanges().len() + cut.lost() as usize;
        prop_assert_eq!(accounted, shapes.len(), "{}", story(&records, &cut));
        let expected: Vec<_> = whole.exchanges().into_iter().map(essence).collect();
        for exchange in cut.exchanges() {
            prop_assert!(expected.contains(&essence(exchange)), "{exchange:#?}");
        }
    }
}
