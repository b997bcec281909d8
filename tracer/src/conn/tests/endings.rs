//! Exchanges that do not end well, and connections that end.

use super::wire::{CONN, Record, Run, Wire};
use crate::conn::{Connections, LossReason, Observation, Options, Verdict};
use crate::event::{CloseKind, ConnId, Event, KernelTime};
use crate::exchange::Outcome::{ClosedByPeer, ClosedLocally, Complete, Reset, TimedOut};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PART: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";

#[test]
fn no_response_at_all() {
    use CloseKind::{Gone, ReceiveEnd, SendEnd};
    for (wire, kind, errno, outcome) in [
        (Wire::client(), Gone, 104, Reset),
        (Wire::client(), Gone, 110, TimedOut),
        (Wire::client(), ReceiveEnd, 0, ClosedByPeer),
        (Wire::client(), Gone, 0, ClosedLocally),
        (Wire::server(), Gone, 104, Reset),
        (Wire::server(), SendEnd, 0, ClosedLocally),
    ] {
        let wire = wire.request(GET).closed(kind, errno);
        let run = if kind == Gone { wire.run() } else { wire.gone().run() };
        let exchange = run.one();
        assert_eq!(exchange.outcome, outcome, "{kind:?} {errno}");
        assert_eq!((exchange.response.as_ref(), exchange.response_start), (None, None));
        assert_eq!(exchange.end.0 - exchange.start.0, 10);
    }
}

#[test]
fn a_client_that_went_away_first_closed_the_exchange() {
    let wire = Wire::server().request(GET).closed(CloseKind::ReceiveEnd, 0);
    assert_eq!(wire.run().exchanges().len(), 0);
    let run = wire.closed(CloseKind::SendEnd, 0).gone().run();
    assert_eq!(run.one().outcome, ClosedByPeer);
}

#[test]
fn half_a_response() {
    for (wire, kind, errno, outcome) in [
        (Wire::client(), CloseKind::Gone, 104, Reset),
        (Wire::client(), CloseKind::ReceiveEnd, 0, ClosedByPeer),
        (Wire::server(), CloseKind::SendEnd, 0, ClosedLocally),
        (Wire::server(), CloseKind::Gone, 104, Reset),
    ] {
        let run = wire.request(GET).response(PART).closed(kind, errno).run();
        assert_eq!(run.one().outcome, outcome);
        assert_eq!(run.one().response.as_ref().unwrap().status, 200);
        assert_eq!(run.one().end.0, 1030);
    }
}

#[test]
fn a_reset_body_until_close_is_not_complete() {
    let run = Wire::client()
        .request(GET)
        .response("HTTP/1.0 200 OK\r\n\r\nabc")
        .closed(CloseKind::Gone, 104)
        .run();
    assert_eq!(run.one().outcome, Reset);
}

#[test]
fn a_client_that_shuts_its_sending_side_is_still_answered() {
    let server = Wire::server().request(GET).closed(CloseKind::ReceiveEnd, 0).response(OK).gone();
    assert_eq!(server.run().one().outcome, Complete);
    let client = Wire::client().request(GET).closed(CloseKind::SendEnd, 0).response(OK).gone();
    assert_eq!(client.run().one().outcome, Complete);
}

#[test]
fn a_request_cut_off_is_no_exchange() {
    let run = Wire::server().request(&GET[..20]).closed(CloseKind::ReceiveEnd, 0).gone().run();
    assert_eq!((run.exchanges().len(), run.lost()), (0, 0));
    assert_eq!(run.connections.buffered_bytes(), 0);
}

#[test]
fn all_pipelined_requests_fail_with_their_connection() {
    let run = Wire::client()
        .request(format!("{GET}{GET}{GET}"))
        .response(format!("{OK}{PART}"))
        .closed(CloseKind::ReceiveEnd, 0)
        .run();
    let outcomes: Vec<_> = run.exchanges().iter().map(|e| e.outcome).collect();
    assert_eq!(outcomes, [Complete, ClosedByPeer, ClosedByPeer]);
}

#[test]
fn silence_expires_open_exchanges_and_keeps_the_connection() {
    let wire = Wire::server().request(GET).response(OK).request(GET);
    let late = Wire::server().request(GET).response(OK).request(GET).response(OK);
    let options = Options { max_exchange_silence: 5_000_000_000, ..Options::default() };
    let mut run = Run::of(&wire.records, options);
    run.connections.on_tick(KernelTime(4_000_000_000), &mut run.out);
    assert_eq!(run.lost(), 0);
    run.connections.on_tick(KernelTime(6_000_000_000), &mut run.out);
    assert_eq!(run.losses(), [(LossReason::Expired, 1)]);
    let answer = late.records.last().unwrap();
    run.connections.on_event(&answer.event(), &mut run.out);
    let next = late.request(GET).response(OK).gone();
    for record in &next.records[5..] {
        run.connections.on_event(&record.event(), &mut run.out);
    }
    assert_eq!((run.exchanges().len(), run.lost()), (2, 1));
}

#[test]
fn what_is_open_at_the_end_is_counted() {
    let mut run = Wire::client().request(format!("{GET}{GET}")).response(PART).run();
    run.connections.finish(&mut run.out);
    assert_eq!(run.losses(), [(LossReason::Unfinished, 1), (LossReason::Unfinished, 1)]);
    assert!(run.connections.is_empty());
}

#[test]
fn a_full_table_gives_up_the_connection_idle_longest() {
    let of = |records: &[Record], conn: u64| -> Vec<Record> {
        records
            .iter()
            .cloned()
            .map(|mut record| {
                match &mut record {
                    Record::Opened(opened) => opened.conn = ConnId(conn),
                    Record::Data { data, .. } => data.conn = ConnId(conn),
                    Record::Closed(closed) => closed.conn = ConnId(conn),
                }
                record
            })
            .collect()
    };
    let whole = Wire::server().request(GET).response(OK).gone();
    let (request, rest) = whole.records.split_at(2);
    let mut connections = Connections::new(Options { max_connections: 2, ..Options::default() });
    let mut out = Vec::new();
    for record in [1, 2, 3].map(|conn| of(request, conn)).concat() {
        connections.on_event(&record.event(), &mut out);
    }
    for record in [1, 2, 3].map(|conn| of(rest, conn)).concat() {
        connections.on_event(&record.event(), &mut out);
    }
    let lost: Vec<_> = out
        .iter()
        .filter(|o| matches!(o, Observation::Lost { .. } | Observation::Finished(_)))
        .map(|o| match o {
            Observation::Lost { conn, reason, .. } => (conn.0, Some(*reason)),
            Observation::Finished(exchange) => (exchange.id.conn.0, None),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(lost, [(1, Some(LossReason::TableFull)), (2, None), (3, None)]);
    let ignored = Observation::Verdict { conn: ConnId(1), verdict: Verdict::Ignore };
    assert!(out.contains(&ignored));
    assert_eq!(connections.counters().evicted, 1);
    assert_eq!(connections.counters().unknown_connection, 2);
    assert!(connections.is_empty());
}

#[test]
fn events_of_unknown_connections_are_counted() {
    let mut connections = Connections::new(Options::default());
    let mut out = Vec::new();
    for record in &Wire::server().request(GET).response(OK).gone().records[1..] {
        connections.on_event(&record.event(), &mut out);
    }
    connections
        .on_event(&Event::ProcessGone { pid: crate::event::Pid(1), time: KernelTime(1) }, &mut out);
    assert_eq!(out, []);
    assert_eq!(connections.counters().unknown_connection, 3);
}

#[test]
fn exact_counts_on_one_connection_and_on_many() {
    let mut wire = Wire::client();
    for _ in 0..1000 {
        wire = wire.request(GET).response(OK);
    }
    let run = wire.gone().run();
    assert_eq!((run.exchanges().len(), run.lost()), (1000, 0));

    let one = Wire::client().request(GET).response(OK).gone();
    let mut connections = Connections::new(Options::default());
    let mut out = Vec::new();
    for _ in 0..1000 {
        for record in &one.records {
            connections.on_event(&record.event(), &mut out);
        }
    }
    let finished = out.iter().filter(|o| matches!(o, Observation::Finished(_))).count();
    assert_eq!(finished, 1000);
    assert!(connections.is_empty() && connections.table.get(CONN).is_none());
}
