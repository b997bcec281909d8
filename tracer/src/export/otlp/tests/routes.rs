//! Ways to a receiver: connections that are kept, proxies, Unix sockets, names that move.

use std::process::Command;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::log::Log;
use super::receiver::{Answer, GrpcReceiver, HttpReceiver, Pki, receive};
use super::*;

/// An HTTP proxy that remembers the heads of what it was asked, and connects everybody to
/// `receiver`.
struct ForwardProxy {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    async fn start(receiver: &str) -> Self {
        let receiver = receiver.rsplit('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let heads = Arc::clone(&heads);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(pass(stream, receiver.clone(), Arc::clone(&heads)));
                }
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn pass(mut client: TcpStream, receiver: String, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let mut server = TcpStream::connect(receiver).await.unwrap();
    if head.starts_with(b"CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        server.write_all(&head).await.unwrap();
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    // Either end may go away at any time.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn plain_http_goes_through_a_proxy_as_whole_requests() {
    let receiver = HttpReceiver::start(vec![]).await;
    let proxy = ForwardProxy::start(&receiver.endpoint).await;
    let variables = [("HTTP_PROXY", format!("http://user:pass@{}", proxy.address))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    // No such host: only the proxy can know the way.
    let report = export(settings("http://receiver.invalid:4318", &variables), 3).await;
    assert_eq!(report.sent, 3, "{report}");
    let head = &proxy.heads()[0];
    assert!(head.starts_with("POST http://receiver.invalid:4318/v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
}

#[tokio::test]
async fn grpc_and_tls_go_through_a_proxy_as_tunnels() {
    let receiver = GrpcReceiver::start(vec![]).await;
    let proxy = ForwardProxy::start(&receiver.endpoint).await;
    let address = format!("http://user:pass@{}", proxy.address);
    let report = export(grpc("http://receiver.invalid", &[("http_proxy", &address)]), 3).await;
    assert_eq!(report.sent, 3, "{report}");
    let head = &proxy.heads()[0];
    assert!(head.starts_with("CONNECT receiver.invalid:80 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");

    let pki = Pki::new();
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &pki.authority_pem),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &pki.client_pem),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &pki.client_key_pem),
    ]
    .map(|(variable, pem)| {
        let path = directory.path().join(variable);
        std::fs::write(&path, pem).unwrap();
        (variable, path.to_str().unwrap().to_owned())
    });
    let receiver = GrpcReceiver::prepare(vec![]).await;
    let proxy = ForwardProxy::start(&receiver.endpoint).await;
    tokio::spawn(receive(receiver.listener, Some(pki.acceptor), receiver.service));
    let address = format!("http://{}", proxy.address);
    let mut variables: Vec<_> = files.iter().map(|(name, path)| (*name, path.as_str())).collect();
    variables.push(("HTTPS_PROXY", &address));
    assert_eq!(export(grpc("https://receiver.invalid:4317", &variables), 3).await.sent, 3);
    assert!(proxy.heads()[0].starts_with("CONNECT receiver.invalid:4317 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_as_the_trouble() {
    let refusing = HttpReceiver::start(vec![Answer::status(403); 10]).await;
    let log = Log::start();
    let mut settings = grpc("http://receiver.invalid", &[("http_proxy", &refusing.endpoint)]);
    settings.retry.give_up_after = Duration::ZERO;
    assert_eq!(export(settings, 3).await.sent, 0);
    let lines = log.lines();
    assert!(matches!(&lines[..], [line] if line.contains("check HTTP_PROXY")), "{lines:#?}");
}

#[tokio::test]
async fn a_receiver_can_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("otlp.sock");
    let endpoint = format!("unix://{}", path.display());
    let listener = UnixListener::bind(&path).unwrap();
    let service = Service::default();
    tokio::spawn({
        let service = service.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(TraceServiceServer::new(service.clone()));
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    });
    assert_eq!(export(grpc(&endpoint, &[]), 3).await.sent, 3);
    assert_eq!(service.requests().len(), 1);

    let mut nobody = settings(&format!("unix://{}.x", path.display()), &[]);
    nobody.retry.give_up_after = Duration::ZERO;
    let log = Log::start();
    assert_eq!(export(nobody, 3).await.sent, 0);
    assert!(log.lines()[0].contains("nobody listens there"), "{:?}", log.lines());
}

#[tokio::test]
async fn connections_are_kept_and_can_be_renewed() {
    let receiver = HttpReceiver::start(vec![]).await;
    let proxy = ForwardProxy::start(&receiver.endpoint).await;
    let endpoint = format!("http://{}", proxy.address);
    let exporter = OtlpExporter::new(settings(&endpoint, &[])).unwrap();
    let (_closing, seen) = watch::channel(None);
    let ledger = Ledger::new("otlp".to_owned());
    for round in 1..=2 {
        for _ in 0..3 {
            let batch = queue(1).next().await.unwrap();
            exporter.deliver(&batch, &ledger, seen.clone(), true).await;
        }
        assert_eq!(proxy.heads().len(), round, "one connection each round");
        exporter.transport.reconnect();
    }
    assert_eq!((ledger.report().sent, receiver.requests().len()), (6, 6));
}

const HOSTS: &str = "TRACER_TEST_HOSTS";
const NAME: &str = "receiver.test";

/// The child of the next test: a receiver moves to another address, and its name with it.
#[tokio::test]
async fn a_name_that_moves_child() {
    if std::env::var_os(HOSTS).is_none() {
        return;
    }
    let point_to = |address: &str| std::fs::write("/etc/hosts", format!("{address} {NAME}\n"));
    let first = HttpReceiver::start(vec![]).await;
    let port = first.endpoint.rsplit(':').next().unwrap();
    let second = TcpListener::bind(format!("127.0.0.2:{port}")).await.unwrap();
    let second = HttpReceiver::on(second, vec![]);

    let exporter = OtlpExporter::new(settings(&format!("http://{NAME}:{port}"), &[])).unwrap();
    let (_closing, seen) = watch::channel(None);
    let ledger = Ledger::new("otlp".to_owned());
    for address in ["127.0.0.1", "127.0.0.2"] {
        point_to(address).unwrap();
        let batch = queue(1).next().await.unwrap();
        exporter.deliver(&batch, &ledger, seen.clone(), true).await;
        // As after a while, or after silence.
        exporter.transport.reconnect();
    }
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    println!("followed");
}

#[test]
fn names_are_looked_up_for_new_connections() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a list of hosts of its own needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let script = r#"mount --bind "$1" /etc/hosts && exec "$2" --exact --nocapture "$3""#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&hosts)
        .arg(std::env::current_exe().unwrap())
        .arg("export::otlp::tests::routes::a_name_that_moves_child")
        .env(HOSTS, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("followed"), "{output:?}");
}
