//! Receivers that answer by a script and then with success, and remember what they got.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status};

/// What the HTTP receiver does with one request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Respond {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: Vec<u8>,
    },
    HangUp,
    /// 503 as long as the body contains these bytes, and success for others; for every request.
    BusyWith(Vec<u8>),
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self::Respond { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Respond { headers, .. } = &mut self {
            headers.push((name, value));
        }
        self
    }

    pub(super) fn body(mut self, bytes: Vec<u8>) -> Self {
        if let Self::Respond { body, .. } = &mut self {
            *body = bytes;
        }
        self
    }
}

type Log<T> = Arc<Mutex<Vec<T>>>;

pub(super) struct HttpReceiver {
    pub(super) endpoint: String,
    requests: Log<(Parts, Bytes)>,
}

impl HttpReceiver {
    pub(super) async fn start(script: Vec<Answer>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// Serves those who connect there.
    pub(super) fn on(listener: TcpListener, script: Vec<Answer>) -> Self {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Log::default();
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        tokio::spawn({
            let requests = Arc::clone(&requests);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            requests.lock().unwrap().push((head, body.clone()));
                            let answer = next_answer(&mut script.lock().unwrap(), &body);
                            respond(answer)
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    tokio::spawn(async move {
                        // Hanging up is part of the script.
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        });
        Self { endpoint, requests }
    }

    pub(super) fn requests(&self) -> Vec<(Parts, Bytes)> {
        self.requests.lock().unwrap().clone()
    }
}

fn next_answer(script: &mut VecDeque<Answer>, body: &[u8]) -> Answer {
    if let Some(Answer::BusyWith(bytes)) = script.front() {
        let contained = body.windows(bytes.len()).any(|window| window == bytes);
        return Answer::status(if contained { 503 } else { 200 });
    }
    script.pop_front().unwrap_or(Answer::status(200))
}

fn respond(answer: Answer) -> Result<Response<Full<Bytes>>, &'static str> {
    let Answer::Respond { status, headers, body } = answer else { return Err("hang up") };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(body.into())).unwrap())
}

type GrpcAnswer = Result<ExportTraceServiceResponse, Status>;

#[derive(Clone, Default)]
pub(super) struct Service {
    requests: Log<(MetadataMap, ExportTraceServiceRequest)>,
    script: Arc<Mutex<VecDeque<GrpcAnswer>>>,
}

impl Service {
    pub(super) fn requests(&self) -> Vec<(MetadataMap, ExportTraceServiceRequest)> {
        self.requests.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: GrpcRequest<ExportTraceServiceRequest>,
    ) -> Result<GrpcResponse<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.requests.lock().unwrap().push((metadata, message));
        let answer = self.script.lock().unwrap().pop_front();
        answer.unwrap_or(Ok(ExportTraceServiceResponse::default())).map(GrpcResponse::new)
    }
}

pub(super) struct GrpcReceiver {
    pub(super) endpoint: String,
    pub(super) service: Service,
}

/// A receiver that listens but does not accept yet.
pub(super) struct PreparedReceiver {
    pub(super) endpoint: String,
    pub(super) service: Service,
    pub(super) listener: TcpListener,
}

impl GrpcReceiver {
    pub(super) async fn prepare(script: Vec<GrpcAnswer>) -> PreparedReceiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into()));
        PreparedReceiver { endpoint, service: Service { script, ..Service::default() }, listener }
    }

    pub(super) async fn start(script: Vec<GrpcAnswer>) -> Self {
        let PreparedReceiver { endpoint, service, listener } = Self::prepare(script).await;
        tokio::spawn(receive(listener, None, service.clone()));
        Self { endpoint, service }
    }

    pub(super) fn requests(&self) -> Vec<(MetadataMap, ExportTraceServiceRequest)> {
        self.service.requests()
    }
}

/// Serves gRPC to all who connect, inside TLS if an acceptor is given.
pub(super) async fn receive(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    service: Service,
) {
    let service = TraceServiceServer::new(service)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(service.clone());
        let server = auto::Builder::new(TokioExecutor::new());
        let tls = tls.clone();
        tokio::spawn(async move {
            // Clients that refuse our certificate are part of the tests.
            let _ = match tls {
                None => server.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    server.serve_connection(TokioIo::new(stream), service).await
                }
            };
        });
    }
}

/// An authority, a receiver on `localhost` that asks for client certificates, and such a one.
pub(super) struct Pki {
    pub(super) authority_pem: String,
    pub(super) client_pem: String,
    pub(super) client_key_pem: String,
    pub(super) acceptor: tokio_rustls::TlsAcceptor,
}

impl Pki {
    pub(super) fn new() -> Self {
        let now = SystemTime::now();
        let day = Duration::from_hours(24);
        Self::valid_in(now - day..now + day)
    }

    /// The receiver's certificate is valid in that time, the others always.
    pub(super) fn valid_in(time: Range<SystemTime>) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let names = vec![name.to_owned(), "receiver.invalid".to_owned()];
            let mut params = CertificateParams::new(names).unwrap();
            if name == "localhost" {
                (params.not_before, params.not_after) = (time.start.into(), time.end.into());
            }
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = issue("localhost");
        let (client, client_key) = issue("agent");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority_certificate.der().clone()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            authority_pem: authority_certificate.pem(),
            client_pem: client.pem(),
            client_key_pem: client_key.serialize_pem(),
            acceptor: Arc::new(config).into(),
        }
    }
}
