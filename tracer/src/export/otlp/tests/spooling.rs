//! Requests that wait in a spool for their receiver.

use std::path::Path;

use bytes::Bytes;

use super::receiver::{Answer, HttpReceiver};
use super::*;
use crate::export::fixtures::span;
use crate::export::settings::SpoolSettings;

struct Run {
    queue: Arc<Queue>,
    closing: watch::Sender<Option<Instant>>,
    running: tokio::task::JoinHandle<()>,
}

impl Run {
    fn start(settings: OtlpSettings, spool: &Path, room_for: usize) -> Self {
        Self::with_spool_of(1 << 20, settings, spool, room_for)
    }

    fn with_spool_of(bytes: u64, settings: OtlpSettings, spool: &Path, room_for: usize) -> Self {
        let trigger = BatchTrigger { size: 10, linger: Duration::ZERO };
        let ledger = Arc::new(Ledger::new("otlp".to_owned()));
        let queue = Arc::new(Queue::new(room(room_for), trigger, Arc::clone(&ledger)));
        let place = SpoolSettings { directory: spool.to_owned(), max_bytes: bytes };
        let spooling = Spooling::open(&place, &settings, ledger).unwrap();
        let exporter = OtlpExporter::new(settings).unwrap().with_spool(spooling);
        let (closing, seen) = watch::channel(None);
        let running = tokio::spawn(exporter.run(Arc::clone(&queue), seen));
        Self { queue, closing, running }
    }

    fn submit(&self, starts: std::ops::Range<u64>) {
        self.queue.push(&Submission::share(spans(starts)));
    }

    fn report(&self) -> ExporterReport {
        self.queue.ledger().report()
    }

    async fn until(&self, done: impl Fn(&ExporterReport) -> bool) {
        let wait = async {
            while !done(&self.report()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(1), wait).await;
        assert!(waited.is_ok(), "{}", self.report());
    }

    /// The spool's files are free again once this returns.
    async fn stop(self) -> ExporterReport {
        self.queue.close();
        self.closing.send_replace(Some(Instant::now() + Duration::from_millis(50)));
        self.running.await.unwrap();
        self.queue.ledger().final_report()
    }
}

fn starts(receiver: &HttpReceiver) -> Vec<u64> {
    let bodies = receiver.requests().into_iter().map(|(_, body)| body);
    let mut starts: Vec<u64> = bodies
        .map(|body| ExportTraceServiceRequest::decode(body).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.start_time_unix_nano)
        .collect();
    starts.sort_unstable();
    starts
}

fn nobody() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    (socket, endpoint)
}

#[tokio::test]
async fn what_a_receiver_misses_arrives_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = HttpReceiver::start(vec![Answer::status(503); 20]).await;
    let run = Run::start(settings(&receiver.endpoint, &[]), directory.path(), 1_000);
    for start in 0..20 {
        run.submit(10 * start..10 * start + 10);
    }
    run.until(|report| report.sent == 200).await;
    let report = run.stop().await;
    assert_eq!((report.spooled, report.drops().count()), (0, 0), "{report}");
    let mut arrived = starts(&receiver);
    arrived.dedup();
    assert_eq!(arrived, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_one_run_leaves_the_next_one_delivers() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, endpoint) = nobody();
    let run = Run::start(settings(&endpoint, &[]), directory.path(), 1_000);
    run.submit(0..100);
    run.until(|report| report.spooled == 100).await;
    let report = run.stop().await;
    assert_eq!((report.submitted, report.spooled, report.drops().count()), (100, 100, 0));

    // Somebody serves at the same address now.
    let receiver = HttpReceiver::on(socket.listen(16).unwrap(), vec![]);
    let run = Run::start(settings(&endpoint, &[]), directory.path(), 1_000);
    assert_eq!((run.report().recovered, run.report().spooled), (100, 100));
    run.submit(100..110);
    run.until(|report| report.sent == 110).await;
    let report = run.stop().await;
    assert_eq!((report.recovered, report.spooled, report.drops().count()), (100, 0, 0));
    assert_eq!(starts(&receiver), (0..110).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    for make in [settings, grpc] {
        let run = Run::start(make(&endpoint, &[]), directory.path(), 1_000);
        let before = run.report().recovered;
        run.submit(0..100);
        run.until(|report| report.pending == 100).await;
        let report = run.stop().await;
        assert_eq!((report.spooled, report.drops().count()), (before + 100, 0), "{report}");
    }
}

#[tokio::test]
async fn what_a_slow_receiver_does_not_take_in_time_does_not_overflow() {
    let directory = tempfile::tempdir().unwrap();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let run = Run::start(settings(&endpoint, &[]), directory.path(), 100);
    for start in 0..50 {
        run.submit(10 * start..10 * start + 10);
        // Never more than what is under way and half the queue waits in memory.
        run.until(|report| report.pending <= 90).await;
    }
    let report = run.stop().await;
    assert_eq!((report.spooled, report.drops().count()), (500, 0), "{report}");
}

#[tokio::test]
async fn refusals_are_dropped_from_the_spool_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut script = vec![Answer::status(503); 2];
    script.push(Answer::status(400));
    let receiver = HttpReceiver::start(script).await;
    let mut settings = settings(&receiver.endpoint, &[]);
    settings.concurrency = 1;
    let run = Run::start(settings, directory.path(), 1_000);
    run.submit(0..10);
    run.until(|report| report.dropped(DropReason::Refused) == 10).await;
    run.submit(10..20);
    run.until(|report| report.sent == 10).await;
    assert_eq!(run.stop().await.spooled, 0);
}

#[tokio::test]
async fn a_request_that_the_receiver_never_takes_does_not_hold_up_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let poison = span(7);
    let receiver = HttpReceiver::start(vec![Answer::BusyWith(poison.id.0.to_vec())]).await;
    let mut settings = settings(&receiver.endpoint, &[]);
    settings.retry.give_up_after = Duration::from_millis(50);
    let run = Run::start(settings, directory.path(), 1_000);
    run.submit(0..10);
    let mut start = 10;
    while run.report().dropped(DropReason::GaveUp) == 0 {
        run.submit(start..start + 10);
        start += 10;
        run.until(|report| report.pending == 0).await;
        assert!(start < 1_000_000, "{}", run.report());
    }
    run.until(|report| report.spooled + report.pending == 0).await;
    let report = run.stop().await;
    assert_eq!((report.sent, report.dropped(DropReason::GaveUp)), (start - 10, 10), "{report}");
}

#[tokio::test]
async fn where_the_spool_has_no_room_spans_wait_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = HttpReceiver::start(vec![Answer::status(503); 10]).await;
    let run = Run::with_spool_of(1, settings(&receiver.endpoint, &[]), directory.path(), 1_000);
    let log = log::Log::start();
    run.submit(0..50);
    run.until(|report| report.sent == 50).await;
    let report = run.stop().await;
    assert_eq!((report.spooled, report.drops().count()), (0, 0), "{report}");
    let told = log.lines().iter().filter(|line| line.contains("is its disk full?")).count();
    assert_eq!(told, 1, "{:#?}", log.lines());
}

#[tokio::test]
async fn each_receiver_has_a_spool_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let place = SpoolSettings { directory: directory.path().to_owned(), max_bytes: 1 << 20 };
    let ledger = || Arc::new(Ledger::new("otlp".to_owned()));
    let endpoints = ["http://a:1", "http://b:1", "http://a:1/x", "unix:///s", "unix:///t"];
    let spools: Vec<_> = endpoints
        .iter()
        .map(|endpoint| Spooling::open(&place, &settings(endpoint, &[]), ledger()).unwrap())
        .collect();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), spools.len());
    Spooling::open(&place, &settings("http://a:1", &[]), ledger()).unwrap_err();
}

#[tokio::test]
async fn what_nobody_will_deliver_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let place = SpoolSettings { directory: directory.path().to_owned(), max_bytes: 1 << 20 };
    let known = [settings("http://a:1", &[]), settings("http://b:1", &[])];
    assert!(strays(&place, &known).is_empty());
    for (receiver, spans) in [("http://a:1", 1), ("http://gone:1", 1), ("http://empty:1", 0)] {
        let ledger = Arc::new(Ledger::new("otlp".to_owned()));
        let spool = Spooling::open(&place, &settings(receiver, &[]), ledger).unwrap();
        if spans > 0 {
            let body = Bytes::from_static(b"request");
            assert!(spool.put(&Request { body, spans }).await);
        }
    }
    let strays = strays(&place, &known);
    assert!(matches!(&strays[..], [one] if one.to_str().unwrap().contains("gone-1")), "{strays:?}");
}
