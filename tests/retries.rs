//! Every answer that OTLP knows, over gRPC and HTTP: what is tried again arrives, once; what is not,
//! is counted with its reason.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value as Json, json};
use tracer_tests::{AgentOptions, Attempt, FaultyReceiver, Finished, Traffic, wait};

/// Backoff begins at 5 s, and some rows wait for a time limit of 10 s; few of them at once.
const PATIENCE: Duration = Duration::from_secs(90);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Taken with the first attempt, whatever the answer looks like.
    Taken,
    /// Taken once the receiver has given all its answers.
    Repeated,
    /// Taken without its one span, which is counted as `rejected`.
    Rejected,
    /// Counted as `refused`, after one attempt.
    Refused,
    /// Counted as `gave_up`: the receiver asked for more patience than there is.
    GaveUp,
}
use Fate::{GaveUp, Refused, Rejected, Repeated, Taken};

/// Answers to a request and its repetitions, and what becomes of it.
#[derive(Debug)]
struct Row {
    answers: Vec<Json>,
    fate: Fate,
}

impl Row {
    fn new(answer: Json, fate: Fate) -> Self {
        Self { answers: vec![answer], fate }
    }

    /// For answers that name no long delay.
    fn twice(answer: &Json, fate: Fate) -> Self {
        Self { answers: vec![answer.clone(), answer.clone()], fate }
    }

    fn attempts(&self) -> usize {
        if self.fate == Repeated { self.answers.len() + 1 } else { 1 }
    }
}

/// Rows of OTLP over gRPC. Those without a delay of the receiver's own come first, as they take
/// longest.
fn grpc() -> Vec<Row> {
    const AGAIN: [u8; 6] = [1, 4, 10, 11, 14, 15];
    const RESOURCE_EXHAUSTED: u8 = 8;
    let fate = |again| if again { Repeated } else { Refused };
    let mut rows = vec![Row::new(json!({"code": 14, "delay": 1_000}), Repeated)];
    for code in AGAIN {
        rows.push(Row::new(json!({"code": code}), Repeated));
    }
    for code in (1..=16).filter(|code| !AGAIN.contains(code)) {
        rows.push(Row::new(json!({"code": code}), Refused));
    }
    for code in 1..=16 {
        let again = AGAIN.contains(&code) || code == RESOURCE_EXHAUSTED;
        rows.push(Row::twice(&json!({"code": code, "retry_info": 0.01}), fate(again)));
    }
    rows.extend([
        Row::new(json!({"code": 14, "retry_info": 3_600}), GaveUp),
        Row::new(json!({"code": 8, "retry_info": 3_600}), GaveUp),
        Row::new(json!({"delay": 0.3}), Taken),
        Row::new(json!({"body": "\u{ff}\u{ff}\u{ff}"}), Taken),
        Row::new(json!({"rejected": 0, "message": "an old field"}), Taken),
        Row::new(json!({"rejected": 1, "message": "too old"}), Rejected),
        Row::new(json!({"rejected": 9}), Rejected),
    ]);
    rows
}

/// Rows of OTLP over HTTP.
fn http() -> Vec<Row> {
    const AGAIN: [u16; 4] = [429, 502, 503, 504];
    let after =
        |status: u16, value: &str| json!({"status": status, "headers": {"Retry-After": value}});
    let mut rows = vec![
        Row::new(json!({"status": 503, "delay": 1_000}), Repeated),
        Row::new(json!({"reset": "silent"}), Repeated),
        Row::new(json!({"reset": "status"}), Repeated),
        Row::new(json!({"status": 503, "reset": "body"}), Repeated),
        Row::new(after(503, "soon"), Repeated),
    ];
    for status in AGAIN {
        rows.push(Row::new(json!({"status": status}), Repeated));
    }
    for status in (400..600).filter(|status| !AGAIN.contains(status)) {
        rows.push(Row::new(json!({"status": status}), Refused));
    }
    for status in AGAIN {
        rows.push(Row::twice(&after(status, "0"), Repeated));
        rows.push(Row::twice(&json!({"status": status, "date": -60}), Repeated));
        rows.push(Row::new(after(status, "3600"), GaveUp));
        rows.push(Row::new(json!({"status": status, "date": 7_200}), GaveUp));
    }
    let elsewhere = json!({"status": 307, "headers": {"Location": "http://127.0.0.1:1/"}});
    let strange = "\u{ff}\u{ff}\u{ff}";
    rows.extend([
        Row::new(elsewhere, Refused),
        Row::twice(&after(400, "0"), Refused),
        Row::twice(&after(500, "0"), Refused),
        Row::new(json!({"status": 202}), Taken),
        Row::new(json!({"delay": 0.3}), Taken),
        Row::new(json!({"reset": "body"}), Taken),
        Row::new(json!({"body": strange}), Taken),
        Row::new(json!({"status": 400, "body": strange}), Refused),
        Row::new(json!({"rejected": 0, "message": "an old field"}), Taken),
        Row::new(json!({"rejected": 1, "message": "too old"}), Rejected),
        Row::new(json!({"rejected": 9}), Rejected),
    ]);
    rows
}

fn script(rows: &[Row]) -> Json {
    rows.iter().map(|row| Json::from(row.answers.clone())).collect()
}

/// One span a request, at once, to each of these endpoints by its protocol.
fn one_by_one(options: AgentOptions, destinations: &[(String, &str)]) -> AgentOptions {
    let options = options
        .exporter("otlp")
        .env("OTEL_BSP_SCHEDULE_DELAY", "10")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1");
    destinations.iter().fold(options, |options, (endpoint, protocol)| {
        let words = ["--otlp-endpoint", endpoint, "--otlp-protocol", protocol];
        words.into_iter().fold(options, AgentOptions::argument)
    })
}

/// Spans a destination did not take, by reason.
fn undelivered(finished: &Finished, destination: &str) -> BTreeMap<String, u64> {
    let reasons = finished.report.json["undelivered"][destination].as_object();
    let counts = reasons.into_iter().flatten();
    counts.filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect()
}

/// What each span's attempts came to: how often it was taken.
fn taken(attempts: &[Attempt], encoding: &str) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.encoding == encoding) {
        for span in &attempt.taken {
            *taken.entry(span.clone()).or_default() += 1;
        }
    }
    taken
}

/// Protects: each row of the table of OTLP means what it says, in each encoding: so many attempts,
/// taken once or not at all, and counted for what it was.
#[test]
fn every_answer_means_what_otlp_says() -> Result<()> {
    let tables = [("grpc", grpc()), ("protobuf", http()), ("json", http())];
    let scripts = tables.iter().map(|(encoding, rows)| ((*encoding).to_owned(), script(rows)));
    let mut receiver = FaultyReceiver::start(&scripts.collect::<serde_json::Map<_, _>>().into())?;
    let destinations = [
        (receiver.grpc_endpoint(), "grpc"),
        (receiver.http_endpoint(), "http/protobuf"),
        (receiver.http_endpoint() + "/json", "http/json"),
    ];
    let mut traffic = Traffic::start()?;
    let mut agent = one_by_one(traffic.clients(), &destinations).start()?;
    let spans = tables.iter().map(|(_, rows)| rows.len()).max().unwrap_or_default();
    let url = traffic.nginx.url("/hello");
    traffic.launcher.curl(vec![url; spans])?;
    agent.wait_for_spans(spans)?;

    let expected: usize = tables.iter().flat_map(|(_, rows)| rows).map(Row::attempts).sum();
    let extra: usize = tables.iter().map(|(_, rows)| spans - rows.len()).sum();
    let waited = wait::until_within(PATIENCE, "all attempts", || {
        agent.check_running()?;
        Ok((receiver.attempts()?.len() >= expected + extra).then_some(()))
    });
    let finished = agent.stop()?;

    let attempts = receiver.attempts()?;
    for ((encoding, rows), (endpoint, _)) in tables.iter().zip(destinations) {
        for (index, row) in rows.iter().enumerate() {
            let of_row = attempts
                .iter()
                .filter(|attempt| attempt.encoding == *encoding && attempt.row == Some(index));
            let numbers: Vec<usize> = of_row.clone().map(|attempt| attempt.number).collect();
            let taken: usize = of_row.map(|attempt| attempt.taken.len()).sum();
            let arrives = matches!(row.fate, Taken | Repeated);
            let expected = ((1..=row.attempts()).collect(), usize::from(arrives));
            assert_eq!((numbers, taken), expected, "{encoding}: {row:?}");
        }
        let count =
            |fates: &[Fate]| rows.iter().filter(|row| fates.contains(&row.fate)).count() as u64;
        let arrived = taken(&attempts, encoding);
        assert!(arrived.values().all(|times| *times == 1), "{encoding}: {arrived:?}");
        let name = format!("otlp {endpoint}");
        assert_eq!(finished.report.exported[&name], arrived.len() as u64, "{encoding}");
        let dropped = [("gave_up", GaveUp), ("refused", Refused), ("rejected", Rejected)]
            .map(|(reason, fate)| (reason.to_owned(), count(&[fate])));
        assert_eq!(undelivered(&finished, &name), BTreeMap::from(dropped), "{encoding}");
        let total = arrived.len() as u64 + count(&[GaveUp, Refused, Rejected]);
        assert_eq!(total, spans as u64, "{encoding}");
    }
    waited
}

/// Protects: a gRPC connection that is reset in the middle of answers, with several requests on it,
/// is made anew, and everything arrives.
#[test]
fn a_grpc_connection_that_is_reset_is_made_anew() -> Result<()> {
    const SPANS: usize = 12;
    let resets = json!([[{"reset": "status"}], [], [{"reset": "silent"}]]);
    let mut receiver = FaultyReceiver::start(&json!({"grpc": resets}))?;
    let mut traffic = Traffic::start()?;
    let destination = [(receiver.grpc_endpoint(), "grpc")];
    let mut agent = one_by_one(traffic.clients(), &destination).start()?;
    traffic.hello(SPANS)?;
    agent.wait_for_spans(SPANS)?;
    wait::until_within(PATIENCE, "all spans", || {
        agent.check_running()?;
        Ok((taken(&receiver.attempts()?, "grpc").len() >= SPANS).then_some(()))
    })?;
    let finished = agent.stop()?;
    ensure!(undelivered(&finished, "otlp").is_empty(), "{}", finished.report.json);
    assert_eq!(finished.report.exported["otlp"], SPANS as u64);
    // One or two resets may pass before anybody needs to know of them.
    let told = finished.log.lines().filter(|line| line.contains("the OTLP receiver takes"));
    let told: Vec<&str> = told.collect();
    match told[..] {
        [] => {}
        [gone, back] => {
            assert!(gone.contains("it closed the connection before it had answered"), "{gone}");
            assert!(back.contains("takes spans again"), "{back}");
        }
        _ => panic!("{}", finished.log),
    }
    Ok(())
}
