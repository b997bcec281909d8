//! The exporter against real receivers on loopback, over HTTP/1.1 and gRPC.

mod log;
mod receiver;
mod routes;
mod spooling;
mod troubles;

use std::collections::HashMap;

use flate2::read::GzDecoder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::export::fixtures::{room, spans};
use crate::export::ledger::ExporterReport;
use crate::export::queue::{BatchTrigger, Submission};
use crate::export::settings::{Options, Settings};
use receiver::{Answer, GrpcReceiver, HttpReceiver, Service, receive};

const QUICK: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(1),
    multiplier: 1.5,
    max: Duration::from_millis(2),
    give_up_after: Duration::from_mins(10),
};

fn settings(endpoint: &str, variables: &[(&str, &str)]) -> OtlpSettings {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let options = Options { otlp_endpoints: vec![endpoint.to_owned()], ..Options::default() };
    let mut resolved =
        Settings::resolve(&options, |name| variables.get(name).map(|&it| it.to_owned())).unwrap();
    OtlpSettings { retry: QUICK, ..resolved.0.otlp.remove(0) }
}

fn grpc(endpoint: &str, variables: &[(&str, &str)]) -> OtlpSettings {
    let mut variables = variables.to_vec();
    variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    settings(endpoint, &variables)
}

fn queue(count: u64) -> Arc<Queue> {
    let trigger = BatchTrigger { size: 1_000, linger: Duration::from_mins(10) };
    let ledger = Arc::new(Ledger::new("otlp".to_owned()));
    let queue = Arc::new(Queue::new(room(1_000), trigger, ledger));
    queue.push(&Submission::share(spans(0..count)));
    queue.close();
    queue
}

/// Exports `count` spans and returns once they are settled.
async fn export(settings: OtlpSettings, count: u64) -> ExporterReport {
    let queue = queue(count);
    let (_closing, seen) = watch::channel(None);
    OtlpExporter::new(settings).unwrap().run(Arc::clone(&queue), seen).await;
    queue.ledger().report()
}

fn partial(rejected_spans: i64) -> ExportTraceServiceResponse {
    let error_message = "too old".to_owned();
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
    ExportTraceServiceResponse { partial_success }
}

fn count(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

#[tokio::test]
async fn http_requests_are_as_otlp_wants_them() {
    let receiver = HttpReceiver::start(vec![]).await;
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s%20k,content-type=evil")];
    let report = export(settings(&receiver.endpoint, &variables), 3).await;
    assert_eq!((report.sent, report.submitted), (3, 3));

    let requests = receiver.requests();
    let [(head, body)] = &requests[..] else { panic!("{} requests", requests.len()) };
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    assert_eq!(head.headers["x-key"], "s k");
    assert_eq!(head.headers.get("content-encoding"), None);
    let agent = head.headers["user-agent"].to_str().unwrap();
    assert!(agent.contains(" OTel-OTLP-Exporter-Rust/"), "{agent}");
    assert_eq!(count(&ExportTraceServiceRequest::decode(body.clone()).unwrap()), 3);
}

#[tokio::test]
async fn http_bodies_can_be_compressed() {
    for encoding in ["gzip", "zstd"] {
        let receiver = HttpReceiver::start(vec![]).await;
        let variables = [("OTEL_EXPORTER_OTLP_COMPRESSION", encoding)];
        assert_eq!(export(settings(&receiver.endpoint, &variables), 50).await.sent, 50);
        let (head, body) = &receiver.requests()[0];
        assert_eq!(head.headers["content-encoding"], encoding);
        let plain = decompress(encoding, body);
        assert!(body.len() < plain.len());
        assert_eq!(count(&ExportTraceServiceRequest::decode(&plain[..]).unwrap()), 50);
    }
}

fn decompress(encoding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match encoding {
        "gzip" => std::io::Read::read_to_end(&mut GzDecoder::new(body), &mut plain),
        "zstd" => zstd::stream::copy_decode(body, &mut plain).map(|()| plain.len()),
        other => panic!("{other}"),
    };
    read.unwrap();
    plain
}

#[tokio::test]
async fn json_is_another_form_of_the_same() {
    let answer = Answer::status(200)
        .header("content-type", "application/json; charset=utf-8")
        .body(br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"old"}}"#.to_vec());
    let receiver = HttpReceiver::start(vec![answer]).await;
    let json =
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    let report = export(settings(&receiver.endpoint, &json), 3).await;
    assert_eq!((report.sent, report.dropped(DropReason::Rejected)), (2, 1));
    let (head, body) = &receiver.requests()[0];
    assert_eq!(head.uri.path(), "/v1/traces");
    assert_eq!(head.headers["content-type"], "application/json");
    let plain = decompress("gzip", body);
    let request: ExportTraceServiceRequest = serde_json::from_slice(&plain).unwrap();
    assert_eq!(count(&request), 3);
    let text = String::from_utf8(plain).unwrap();
    assert!(text.contains(r#""spanId":"0000000000000001""#), "ids are hexadecimal: {text}");
}

/// Every status there is: OTLP names those that are retried.
#[tokio::test]
async fn http_statuses_are_retried_as_otlp_has_it() {
    const RETRIED: [u16; 4] = [429, 502, 503, 504];
    for status in (300..600).filter(|status| !(308..400).contains(status)) {
        let answer = Answer::status(status).header("location", "http://localhost/");
        http_row(answer, RETRIED.contains(&status)).await;
    }
    http_row(Answer::HangUp, true).await;
    for value in ["0", "Thu, 01 Jan 1970 00:00:01 GMT", "nonsense"] {
        http_row(Answer::status(503).header("retry-after", value), true).await;
        http_row(Answer::status(500).header("retry-after", value), false).await;
    }
}

/// The same answer twice: an export that is retried arrives with the third attempt.
async fn http_row(answer: Answer, retried: bool) {
    let receiver = HttpReceiver::start(vec![answer.clone(), answer.clone()]).await;
    let report = export(settings(&receiver.endpoint, &[]), 3).await;
    let expected = if retried { (3, 3, 0) } else { (1, 0, 3) };
    let refused = report.dropped(DropReason::Refused);
    assert_eq!((receiver.requests().len(), report.sent, refused), expected, "{answer:?}");
}

/// The receiver's own delay outlasts the time for retries: there is no earlier attempt.
#[tokio::test]
async fn the_receivers_delay_is_kept() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_hours(2));
    let date: &'static str = Box::leak(date.into_boxed_str());
    for value in ["3600", date] {
        let answer = Answer::status(503).header("retry-after", value);
        let receiver = HttpReceiver::start(vec![answer]).await;
        let report = export(settings(&receiver.endpoint, &[]), 3).await;
        let gave_up = report.dropped(DropReason::GaveUp);
        assert_eq!((receiver.requests().len(), report.sent, gave_up), (1, 0, 3), "{value}");
    }
    let later = ErrorDetails::with_retry_info(Some(Duration::from_hours(1)));
    let status = Status::with_error_details(Code::Unavailable, "", later);
    let receiver = GrpcReceiver::start(vec![Err(status)]).await;
    let report = export(grpc(&receiver.endpoint, &[]), 3).await;
    assert_eq!((receiver.requests().len(), report.dropped(DropReason::GaveUp)), (1, 3));
}

#[tokio::test]
async fn http_partial_success_is_counted_and_not_retried() {
    let answer = Answer::status(200)
        .header("content-type", "application/x-protobuf")
        .body(partial(2).encode_to_vec());
    let receiver = HttpReceiver::start(vec![answer]).await;
    let report = export(settings(&receiver.endpoint, &[]), 3).await;
    assert_eq!(
        (report.sent, report.dropped(DropReason::Rejected), receiver.requests().len()),
        (1, 2, 1)
    );
}

#[tokio::test]
async fn an_answer_too_strange_to_read_is_still_a_success() {
    let answer = Answer::status(200)
        .header("content-type", "application/x-protobuf")
        .body(b"\xff\xff\xff".to_vec());
    let receiver = HttpReceiver::start(vec![answer]).await;
    assert_eq!(export(settings(&receiver.endpoint, &[]), 3).await.sent, 3);
}

#[tokio::test]
async fn retries_end() {
    // A port that is bound but not listened on refuses connections and cannot be taken.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = socket.local_addr().unwrap();
    for make in [settings, grpc] {
        let mut settings = make(&format!("http://{unused}"), &[]);
        settings.retry.give_up_after = Duration::from_millis(10);
        let report = export(settings, 3).await;
        assert_eq!((report.sent, report.dropped(DropReason::GaveUp)), (0, 3));
    }
}

#[tokio::test]
async fn a_silent_receiver_runs_into_the_time_limit() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for make in [settings, grpc] {
        let endpoint = format!("http://{}", deaf.local_addr().unwrap());
        let mut settings = make(&endpoint, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "20")]);
        settings.retry.give_up_after = Duration::ZERO;
        let report = export(settings, 3).await;
        assert_eq!((report.sent, report.dropped(DropReason::GaveUp)), (0, 3));
    }
}

#[tokio::test]
async fn closing_cuts_waiting_short_with_one_last_attempt() {
    let receiver =
        HttpReceiver::start(vec![Answer::status(503).header("retry-after", "500")]).await;
    let queue = queue(3);
    let (closing, seen) = watch::channel(None);
    let exporter = OtlpExporter::new(settings(&receiver.endpoint, &[])).unwrap();
    let running = tokio::spawn(exporter.run(Arc::clone(&queue), seen));
    tokio::time::timeout(Duration::from_mins(1), async {
        while receiver.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    closing.send_replace(Some(Instant::now()));
    running.await.unwrap();
    assert_eq!((receiver.requests().len(), queue.ledger().report().sent), (2, 3));
}

#[tokio::test]
async fn large_batches_are_split() {
    let receiver = HttpReceiver::start(vec![]).await;
    let limited = OtlpSettings { max_request_bytes: 1_000, ..settings(&receiver.endpoint, &[]) };
    assert_eq!(export(limited, 100).await.sent, 100);
    let requests = receiver.requests();
    assert!(requests.len() > 2);
    assert!(requests.iter().all(|(_, body)| body.len() <= 1_000));

    let tiny = OtlpSettings { max_request_bytes: 10, ..settings(&receiver.endpoint, &[]) };
    let report = export(tiny, 3).await;
    assert_eq!((report.dropped(DropReason::TooLarge), report.sent), (3, 0));
    assert_eq!(receiver.requests().len(), requests.len(), "nothing empty was sent");
}

#[tokio::test]
async fn grpc_requests_arrive_with_metadata_and_compression() {
    let gzip = [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret"),
    ];
    let zstd = [("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"), gzip[1]];
    for (variables, encoding) in
        [(&gzip[1..], None), (&gzip[..], Some("gzip")), (&zstd[..], Some("zstd"))]
    {
        let receiver = GrpcReceiver::start(vec![]).await;
        assert_eq!(export(grpc(&receiver.endpoint, variables), 50).await.sent, 50);
        let requests = receiver.requests();
        let [(metadata, request)] = &requests[..] else { panic!("{} requests", requests.len()) };
        assert_eq!(count(request), 50);
        let get = |name| metadata.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("x-key"), Some("secret"));
        assert_eq!(get("grpc-encoding"), encoding);
        assert!(get("user-agent").unwrap().contains(" OTel-OTLP-Exporter-Rust/"));
    }
}

/// Every code there is, without and with the receiver's own delay.
#[tokio::test]
async fn grpc_codes_are_retried_as_otlp_has_it() {
    const RETRIED: [Code; 6] = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    let soon = || ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
    for code in (1..=16).map(Code::from_i32) {
        let retried = RETRIED.contains(&code);
        grpc_row(&Status::new(code, "why"), retried).await;
        let exhausted = code == Code::ResourceExhausted;
        grpc_row(&Status::with_error_details(code, "why", soon()), retried || exhausted).await;
    }
}

async fn grpc_row(status: &Status, retried: bool) {
    let receiver = GrpcReceiver::start(vec![Err(status.clone()), Err(status.clone())]).await;
    let report = export(grpc(&receiver.endpoint, &[]), 3).await;
    let expected = if retried { (3, 3, 0) } else { (1, 0, 3) };
    let refused = report.dropped(DropReason::Refused);
    assert_eq!((receiver.requests().len(), report.sent, refused), expected, "{status:?}");
}

#[tokio::test]
async fn grpc_partial_success_is_counted() {
    let receiver = GrpcReceiver::start(vec![Ok(partial(1))]).await;
    let report = export(grpc(&receiver.endpoint, &[]), 3).await;
    assert_eq!((report.sent, report.dropped(DropReason::Rejected)), (2, 1));
}

#[tokio::test]
async fn grpc_survives_a_receiver_that_hangs_up() {
    // The first connection is closed before anything is answered, the next one serves.
    let receiver = GrpcReceiver::prepare(vec![]).await;
    let listener = receiver.listener;
    let hang_up_then_serve = tokio::spawn({
        let service = receiver.service.clone();
        async move {
            drop(listener.accept().await.unwrap());
            receive(listener, None, service).await;
        }
    });
    let report = export(grpc(&receiver.endpoint, &[]), 3).await;
    assert_eq!((report.sent, report.drops().count()), (3, 0));
    hang_up_then_serve.abort();
}

/// A receiver inside TLS, with a certificate of its own authority.
#[tokio::test]
async fn tls_trusts_the_configured_authority_and_shows_our_certificate() {
    let pki = receiver::Pki::new();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let trusted = write("ca.pem", &pki.authority_pem);
    let certificate = write("client.pem", &pki.client_pem);
    let key = write("client-key.pem", &pki.client_key_pem);
    let empty = write("empty.pem", "");

    let receiver = GrpcReceiver::prepare(vec![]).await;
    let endpoint = receiver.endpoint.replace("http://127.0.0.1", "https://localhost");
    let serving = tokio::spawn(receive(receiver.listener, Some(pki.acceptor), receiver.service));
    let trust = ("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.as_str());
    let identity = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ];
    let with = |variables: &[(&str, &str)]| {
        let mut settings = grpc(&endpoint, variables);
        settings.retry.give_up_after = Duration::ZERO;
        settings
    };

    let both = [trust, identity[0], identity[1]];
    assert_eq!(export(with(&both), 3).await.sent, 3);
    assert_eq!(
        export(with(&[trust]), 3).await.dropped(DropReason::GaveUp),
        3,
        "no certificate of ours"
    );
    let other = write("other.pem", &receiver::Pki::new().authority_pem);
    let distrust = [("OTEL_EXPORTER_OTLP_CERTIFICATE", other.as_str()), identity[0], identity[1]];
    assert_eq!(
        export(with(&distrust), 3).await.dropped(DropReason::GaveUp),
        3,
        "another authority"
    );
    serving.abort();

    let none = [("OTEL_EXPORTER_OTLP_CERTIFICATE", empty.as_str())];
    let error = OtlpExporter::new(with(&none)).unwrap_err();
    assert!(error.to_string().contains("empty.pem"), "{error}");
}
