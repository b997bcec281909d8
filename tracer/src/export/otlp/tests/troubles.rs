//! Each trouble that a receiver can be in is one message that says what to do, however many
//! requests it concerns; and one more when it is over.

use std::time::SystemTime;

use hyper::server::conn::http2;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::log::Log;
use super::receiver::{Answer, GrpcReceiver, HttpReceiver, Pki, receive};
use super::*;

/// Exports a few batches, one span each, that all fail.
async fn fail(mut settings: OtlpSettings) -> (ExporterReport, Vec<String>) {
    settings.retry.give_up_after = Duration::from_millis(20);
    settings.concurrency = 2;
    let log = Log::start();
    let report = export_one_by_one(settings, 5).await;
    assert_eq!(report.sent, 0, "{:?}", log.lines());
    (report, log.lines())
}

/// Exports so many batches of one span.
async fn export_one_by_one(settings: OtlpSettings, batches: u64) -> ExporterReport {
    let trigger = BatchTrigger { size: 1, linger: Duration::ZERO };
    let queue =
        Arc::new(Queue::new(room(1_000), trigger, Arc::new(Ledger::new("otlp".to_owned()))));
    queue.push(&Submission::share(spans(0..batches)));
    queue.close();
    let (_closing, seen) = watch::channel(None);
    OtlpExporter::new(settings).unwrap().run(Arc::clone(&queue), seen).await;
    queue.ledger().report()
}

#[track_caller]
fn assert_one_message(lines: &[String], advice: &str) {
    assert!(matches!(lines, [line] if line.contains(advice)), "no `{advice}`: {lines:#?}");
}

/// Answers every connection with the same bytes and closes it.
async fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // At least one read, so that closing does not reset what was answered.
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer).await;
        }
    });
    endpoint
}

fn unused() -> (tokio::net::TcpSocket, String) {
    // A port that is bound but not listened on refuses connections and cannot be taken.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    (socket, endpoint)
}

#[tokio::test]
async fn nobody_listens() {
    let (_socket, endpoint) = unused();
    for make in [settings, grpc] {
        let (report, lines) = fail(make(&endpoint, &[])).await;
        assert_one_message(&lines, "nobody listens there; check that the receiver runs");
        assert_eq!(report.dropped(DropReason::GaveUp), 5);
    }
}

#[tokio::test]
async fn a_name_that_is_not_known() {
    // Too long for a label, so that no name server is asked.
    let endpoint = format!("http://{}:4318", "a".repeat(64));
    for make in [settings, grpc] {
        let (_, lines) = fail(make(&endpoint, &[])).await;
        assert_one_message(&lines, "cannot be looked up");
    }
}

#[tokio::test]
async fn a_black_hole() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    for make in [settings, grpc] {
        let (_, lines) = fail(make(&endpoint, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "20")])).await;
        assert_one_message(&lines, "does not answer in time");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_complete() {
    for answer in [&b""[..], b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\ncontent-"] {
        let (report, lines) = fail(settings(&raw(answer).await, &[])).await;
        assert_one_message(&lines, "closed the connection before it had answered");
        assert_eq!(report.dropped(DropReason::GaveUp), 5);
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_after_its_status_is_no_duplicate() {
    let endpoint = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await;
    assert_eq!(export_one_by_one(settings(&endpoint, &[]), 5).await.sent, 5);
}

#[tokio::test]
async fn http_to_a_grpc_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = http2::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(TraceServiceServer::new(Service::default()));
            // Clients that speak something else are what this is about.
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    let (_, lines) = fail(settings(&endpoint, &[])).await;
    assert_one_message(&lines, "use --otlp-protocol grpc");
}

#[tokio::test]
async fn grpc_to_an_http_port() {
    // One that answers in HTTP/1, one that does not even do that, and one that speaks HTTP/2 as
    // well but not gRPC.
    let endpoint = raw(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let (_, lines) = fail(grpc(&endpoint, &[])).await;
    assert_one_message(&lines, "use --otlp-protocol http/protobuf");
    let (_, lines) = fail(grpc(&raw(b"").await, &[])).await;
    assert_one_message(&lines, "check that it speaks gRPC at this port");

    let answers = vec![Answer::status(404); 100];
    let receiver = HttpReceiver::start(answers).await;
    let (report, lines) = fail(grpc(&receiver.endpoint, &[])).await;
    assert_one_message(&lines, "use --otlp-protocol http/protobuf");
    assert_eq!(report.dropped(DropReason::Refused), 5);
}

#[tokio::test]
async fn certificates_and_tls() {
    let directory = tempfile::tempdir().unwrap();
    let year = Duration::from_hours(365 * 24);
    let now = SystemTime::now();
    let expired = (now - 3 * year)..(now - year);
    let valid = (now - year)..(now + year);
    for (index, (validity, trusted, advice)) in [
        (expired, true, "has expired"),
        (valid.clone(), false, "is not trusted"),
        (valid, true, "wants a client certificate"),
    ]
    .into_iter()
    .enumerate()
    {
        let pki = Pki::valid_in(validity);
        let authority = if trusted { pki.authority_pem } else { Pki::new().authority_pem };
        let path = directory.path().join(format!("{index}.pem"));
        std::fs::write(&path, authority).unwrap();
        let receiver = GrpcReceiver::prepare(vec![]).await;
        let endpoint = receiver.endpoint.replace("http://127.0.0.1", "https://localhost");
        let serving =
            tokio::spawn(receive(receiver.listener, Some(pki.acceptor), receiver.service));
        let trust = [("OTEL_EXPORTER_OTLP_CERTIFICATE", path.to_str().unwrap())];
        let (_, lines) = fail(grpc(&endpoint, &trust)).await;
        assert_one_message(&lines, advice);
        serving.abort();
    }

    let plain = HttpReceiver::start(vec![]).await;
    let (_, lines) = fail(settings(&plain.endpoint.replace("http:", "https:"), &[])).await;
    assert_one_message(&lines, "write the endpoint with http://");
}

#[tokio::test]
async fn refusals_say_what_to_change() {
    for (status, advice) in [
        (401, "check --otlp-headers"),
        (403, "check --otlp-headers"),
        (404, "check the endpoint's port and path"),
        (413, "--otlp-max-request"),
        (400, "look into its log"),
        (503, "no capacity now"),
    ] {
        let receiver = HttpReceiver::start(vec![Answer::status(status); 1_000]).await;
        let (_, lines) = fail(settings(&receiver.endpoint, &[])).await;
        assert_one_message(&lines, advice);
    }
}

#[tokio::test]
async fn the_return_of_a_receiver_is_one_message() {
    let receiver = HttpReceiver::start(vec![Answer::status(503); 7]).await;
    let log = Log::start();
    let report = export_one_by_one(settings(&receiver.endpoint, &[]), 20).await;
    assert_eq!(report.sent, 20);
    let lines = log.lines();
    let [gone, back] = &lines[..] else { panic!("{lines:#?}") };
    assert!(gone.contains("takes no spans") && back.contains("takes spans again"), "{lines:#?}");
}

#[tokio::test]
async fn a_slow_receiver_is_one_message() {
    let receiver = HttpReceiver::start(vec![]).await;
    let trigger = BatchTrigger { size: 2, linger: Duration::ZERO };
    let ledger = Arc::new(Ledger::new("otlp".to_owned()));
    let queue = Arc::new(Queue::new(room(4), trigger, ledger));
    for start in 0..10 {
        queue.push(&Submission::share(spans(start..start + 3)));
    }
    queue.close();
    let log = Log::start();
    let (_closing, seen) = watch::channel(None);
    let exporter = OtlpExporter::new(settings(&receiver.endpoint, &[])).unwrap();
    exporter.run(Arc::clone(&queue), seen).await;
    let lines = log.lines();
    let [begin, end] = &lines[..] else { panic!("{lines:#?}") };
    assert!(begin.contains("spans come faster than the OTLP receiver takes them"), "{begin}");
    assert!(end.contains("no more spans are dropped") && end.contains("dropped=26"), "{end}");
}

#[tokio::test]
async fn what_is_too_large_makes_later_requests_smaller() {
    let receiver = HttpReceiver::start(vec![Answer::status(413)]).await;
    let large = queue(1_000);
    let (_closing, seen) = watch::channel(None);
    let mut settings = settings(&receiver.endpoint, &[]);
    settings.max_request_bytes = 40_000;
    OtlpExporter::new(settings.clone()).unwrap().run(Arc::clone(&large), seen).await;
    let report = large.ledger().report();
    assert!(report.dropped(DropReason::Refused) > 0 && report.sent > 0, "{report}");

    // One that knows of the limit sends everything, in smaller requests.
    let exporter = OtlpExporter::new(settings).unwrap();
    exporter.lower_limit(40_000);
    let batch = queue(1_000).next().await.unwrap();
    let ledger = Ledger::new("otlp".to_owned());
    let (_closing, seen) = watch::channel(None);
    exporter.deliver(&batch, &ledger, seen, true).await;
    assert_eq!(ledger.report().sent, 1_000);
    let sizes: Vec<_> = receiver.requests().iter().map(|(_, body)| body.len()).collect();
    let last = &sizes[sizes.len() - 4..];
    assert!(last.iter().all(|size| *size <= 20_000), "{sizes:?}");
}
