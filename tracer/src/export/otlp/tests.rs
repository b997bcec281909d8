//! The exporter against real receivers on loopback, over HTTP/1.1 and gRPC.

mod receiver;

use std::collections::HashMap;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::export::fixtures::spans;
use crate::export::ledger::ExporterReport;
use crate::export::queue::BatchTrigger;
use crate::export::settings::{Options, Settings};
use receiver::{Answer, GrpcReceiver, HttpReceiver, receive};

const QUICK: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(1),
    multiplier: 1.5,
    max: Duration::from_millis(2),
    give_up_after: Duration::from_mins(10),
};

fn settings(endpoint: &str, variables: &[(&str, &str)]) -> OtlpSettings {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let options = Options { otlp_endpoint: Some(endpoint.to_owned()), ..Options::default() };
    let resolved =
        Settings::resolve(&options, |name| variables.get(name).map(|&it| it.to_owned())).unwrap();
    OtlpSettings { retry: QUICK, ..resolved.0.otlp.unwrap() }
}

fn grpc(endpoint: &str, variables: &[(&str, &str)]) -> OtlpSettings {
    let mut variables = variables.to_vec();
    variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    settings(endpoint, &variables)
}

fn queue(count: u64) -> Arc<Queue> {
    let trigger = BatchTrigger { size: 1_000, linger: Duration::from_mins(10) };
    let ledger = Arc::new(Ledger::new("otlp".to_owned()));
    let queue = Arc::new(Queue::new(1_000, trigger, ledger));
    queue.push(&Arc::new(spans(0..count)));
    queue.close();
    queue
}

/// Exports `count` spans and returns once they are settled.
async fn export(settings: OtlpSettings, count: u64) -> ExporterReport {
    let queue = queue(count);
    let (_closing, seen) = watch::channel(false);
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
    let receiver = HttpReceiver::start(vec![]).await;
    let gzip = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    assert_eq!(export(settings(&receiver.endpoint, &gzip), 50).await.sent, 50);
    let (head, body) = &receiver.requests()[0];
    assert_eq!(head.headers["content-encoding"], "gzip");
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(&body[..]), &mut plain).unwrap();
    assert!(body.len() < plain.len());
    assert_eq!(count(&ExportTraceServiceRequest::decode(&plain[..]).unwrap()), 50);
}

#[tokio::test]
async fn http_failures_are_retried_only_if_that_can_help() {
    let rows = [
        (Answer::status(429), true),
        (Answer::status(502), true),
        (Answer::status(503), true),
        (Answer::status(504), true),
        (Answer::status(503).header("retry-after", "0"), true),
        (Answer::HangUp, true),
        (Answer::status(400), false),
        (Answer::status(401), false),
        (Answer::status(413), false),
        (Answer::status(500), false),
        (Answer::status(302).header("location", "http://localhost/"), false),
    ];
    for (answer, retried) in rows {
        let receiver = HttpReceiver::start(vec![answer.clone(), answer.clone()]).await;
        let report = export(settings(&receiver.endpoint, &[]), 3).await;
        let expected = if retried { (3, 3, 0) } else { (1, 0, 3) };
        let actual = (receiver.requests().len(), report.sent, report.failed);
        assert_eq!(actual, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn http_partial_success_is_counted_and_not_retried() {
    let answer = Answer::status(200)
        .header("content-type", "application/x-protobuf")
        .body(partial(2).encode_to_vec());
    let receiver = HttpReceiver::start(vec![answer]).await;
    let report = export(settings(&receiver.endpoint, &[]), 3).await;
    assert_eq!((report.sent, report.rejected, receiver.requests().len()), (1, 2, 1));
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
        assert_eq!((report.sent, report.failed), (0, 3));
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
        assert_eq!((report.sent, report.failed), (0, 3));
    }
}

#[tokio::test]
async fn closing_cuts_waiting_short_with_one_last_attempt() {
    let receiver =
        HttpReceiver::start(vec![Answer::status(503).header("retry-after", "500")]).await;
    let queue = queue(3);
    let (closing, seen) = watch::channel(false);
    let exporter = OtlpExporter::new(settings(&receiver.endpoint, &[])).unwrap();
    let running = tokio::spawn(exporter.run(Arc::clone(&queue), seen));
    tokio::time::timeout(Duration::from_mins(1), async {
        while receiver.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    closing.send_replace(true);
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
    assert_eq!((report.too_large, report.sent), (3, 0));
    assert_eq!(receiver.requests().len(), requests.len(), "nothing empty was sent");
}

#[tokio::test]
async fn grpc_requests_arrive_with_metadata_and_compression() {
    let gzip = [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret"),
    ];
    for (variables, encoding) in [(&gzip[1..], None), (&gzip[..], Some("gzip"))] {
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

#[tokio::test]
async fn grpc_failures_are_retried_only_if_that_can_help() {
    let soon = || ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
    let rows = [
        (Status::unavailable(""), true),
        (Status::data_loss(""), true),
        (Status::with_error_details(Code::ResourceExhausted, "", soon()), true),
        (Status::resource_exhausted(""), false),
        (Status::invalid_argument(""), false),
        (Status::unauthenticated(""), false),
    ];
    for (status, retried) in rows {
        let code = status.code();
        let receiver = GrpcReceiver::start(vec![Err(status.clone()), Err(status)]).await;
        let report = export(grpc(&receiver.endpoint, &[]), 3).await;
        let expected = if retried { (3, 3, 0) } else { (1, 0, 3) };
        assert_eq!((receiver.requests().len(), report.sent, report.failed), expected, "{code:?}");
    }
}

#[tokio::test]
async fn grpc_partial_success_is_counted() {
    let receiver = GrpcReceiver::start(vec![Ok(partial(1))]).await;
    let report = export(grpc(&receiver.endpoint, &[]), 3).await;
    assert_eq!((report.sent, report.rejected), (2, 1));
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
    assert_eq!((report.sent, report.failed), (3, 0));
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
    assert_eq!(export(with(&[trust]), 3).await.failed, 3, "no certificate of ours");
    let other = write("other.pem", &receiver::Pki::new().authority_pem);
    let distrust = [("OTEL_EXPORTER_OTLP_CERTIFICATE", other.as_str()), identity[0], identity[1]];
    assert_eq!(export(with(&distrust), 3).await.failed, 3, "another authority");
    serving.abort();

    let none = [("OTEL_EXPORTER_OTLP_CERTIFICATE", empty.as_str())];
    let error = OtlpExporter::new(with(&none)).unwrap_err();
    assert!(error.to_string().contains("empty.pem"), "{error}");
}
