//! Receivers that are away, come back, hang, or are something else: what becomes of the spans, and
//! what the operator is told.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tracer_tests::service::{Nginx, Service};
use tracer_tests::{
    Agent, AgentOptions, FaultyReceiver, Finished, Rotel, Spans, Traffic, port, wait,
};

/// A receiver that can be started, stopped and started again at the same ports.
struct Ports {
    grpc: u16,
    http: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self { grpc: port::free()?, http: port::free()? })
    }

    fn start(&self) -> Result<Rotel> {
        Rotel::start_at(self.grpc, self.http)
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }
}

/// Small batches, at once.
fn eager(options: AgentOptions) -> AgentOptions {
    options
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        .env("TRACER_LOG", "warn,tracer::export=debug")
}

/// How often each span arrived.
fn arrivals(spans: &Spans) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for span in spans.iter() {
        *arrivals.entry(span.span_id.clone()).or_default() += 1;
    }
    arrivals
}

/// Spans that the agent has acknowledged to be in its spool.
fn spooled(log: &str) -> usize {
    let lines = log.lines().filter(|line| line.contains(": spooled "));
    lines.filter_map(|line| line.rsplit_once("spans=")?.1.trim().parse::<usize>().ok()).sum()
}

fn wait_for_spooled(agent: &mut Agent, spans: usize) -> Result<()> {
    wait::until("spans in the spool", || {
        agent.check_running()?;
        Ok((spooled(&agent.log()) >= spans).then_some(()))
    })
}

fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let metadata = entry?.metadata()?;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(bytes)
}

/// Messages about the receiver.
fn messages(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("the OTLP receiver")).collect()
}

fn undelivered(finished: &Finished) -> u64 {
    let reasons = finished.report.json["undelivered"]["otlp"].as_object();
    reasons.into_iter().flat_map(|reasons| reasons.values()).filter_map(Json::as_u64).sum()
}

/// Protects: with a spool, every span arrives that was made while the receiver was away, once; the
/// operator reads one line when it goes and one when it is back.
#[test]
fn with_a_spool_every_span_arrives() -> Result<()> {
    let ports = Ports::free()?;
    let directory = TempDir::new()?;
    let mut traffic = Traffic::start()?;
    let options = eager(traffic.clients())
        .otlp_http(&ports.endpoint())
        .argument("--spool")
        .argument(directory.path().to_str().context("a strange path")?);

    let mut rotel = ports.start()?;
    let mut agent = options.start()?;
    traffic.hello(5)?;
    rotel.wait_for_spans(5)?;
    drop(rotel);
    traffic.hello(40)?;
    wait_for_spooled(&mut agent, 40)?;
    let mut rotel = ports.start()?;
    let received = rotel.wait_for_spans(40)?;
    traffic.hello(5)?;
    agent.wait_for_spans(50)?;
    rotel.wait_for_spans(45)?;
    let finished = agent.stop()?;

    assert_eq!(arrivals(&received).len(), 40, "{}", finished.log);
    let last = arrivals(&rotel.spans()?);
    assert!(last.len() == 45 && last.values().all(|times| *times == 1), "{last:?}");
    assert_eq!(finished.report.exported["otlp"], 50, "{}", finished.report.json);
    assert_eq!((undelivered(&finished), &finished.report.json["spooled"]), (0, &Json::Null));
    let [gone, back] = messages(&finished.log)[..] else { panic!("{}", finished.log) };
    assert!(gone.contains("check that the receiver runs"), "{gone}");
    assert!(back.contains("takes spans again"), "{back}");
    Ok(())
}

/// Protects: without a spool, what is delivered and what is dropped, by reason, is what was made.
#[test]
fn without_a_spool_every_span_is_counted() -> Result<()> {
    for which in ["newest", "oldest"] {
        let ports = Ports::free()?;
        let mut traffic = Traffic::start()?;
        let mut agent = eager(traffic.clients())
            .otlp_http(&ports.endpoint())
            .argument("--queue-spans=8")
            .argument(format!("--queue-drop={which}"))
            .argument("--retry-for=0s")
            .start()?;
        traffic.hello(60)?;
        agent.wait_for_spans(60)?;
        let mut rotel = ports.start()?;
        // What was under way, and what the queue had room for.
        rotel.wait_for_spans(8)?;
        let finished = agent.stop()?;
        let exported = finished.report.exported["otlp"];
        let dropped = undelivered(&finished);
        assert_eq!((finished.report.spans, exported + dropped), (60, 60));
        let full = &finished.report.json["undelivered"]["otlp"]["queue_full"];
        assert!(full.as_u64() > Some(0), "{}", finished.report.json);
        assert_eq!(rotel.spans()?.len() as u64, exported, "{}", finished.report.json);
        assert!(finished.log.contains("--spool"), "{}", finished.log);
    }
    Ok(())
}

/// Protects: nothing that the spool took is lost when the agent is killed; the next run delivers
/// it, with at most one batch twice.
#[test]
fn a_killed_agent_loses_nothing_that_was_spooled() -> Result<()> {
    let ports = Ports::free()?;
    let directory = TempDir::new()?;
    let mut traffic = Traffic::start()?;
    let options = eager(traffic.clients())
        .otlp_http(&ports.endpoint())
        .argument("--spool")
        .argument(directory.path().to_str().context("a strange path")?);

    let mut agent = options.start()?;
    traffic.hello(40)?;
    wait_for_spooled(&mut agent, 40)?;
    agent.wait_for_spans(40)?;
    let made = agent.kill()?;
    assert_eq!(made.len(), 40);

    // This one is killed while it delivers.
    let mut rotel = ports.start()?;
    let agent = options.start()?;
    rotel.wait_for_spans(4)?;
    agent.kill()?;

    let mut agent = options.start()?;
    traffic.hello(3)?;
    agent.wait_for_spans(3)?;
    wait::until("an empty spool", || {
        agent.check_running()?;
        let mut receivers = fs::read_dir(directory.path())?;
        let receiver = receivers.next().context("no directory for the receiver")??;
        // But for the cursor.
        Ok((bytes_in(&receiver.path())? < 64).then_some(()))
    })?;
    let finished = agent.stop()?;
    let arrived = arrivals(&rotel.spans()?);
    for span in made.iter() {
        assert!(arrived.contains_key(&span.span_id), "lost: {}", finished.log);
    }
    assert_eq!(arrived.len(), 43);
    let twice: usize = arrived.values().map(|times| times - 1).sum();
    assert!(twice <= 4, "{twice} spans arrived twice");
    Ok(())
}

/// Protects: an end that finds the receiver hanging takes no longer than it may, and says what is
/// left where.
#[test]
fn what_a_hanging_receiver_did_not_take_is_stated_at_the_end() -> Result<()> {
    let deaf = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", deaf.local_addr()?);
    let directory = TempDir::new()?;
    let mut traffic = Traffic::start()?;
    let options = traffic.clients().otlp_http(&endpoint);
    let with_spool = options
        .clone()
        .argument("--spool")
        .argument(directory.path().to_str().context("a strange path")?);
    for (options, spool) in [(options, false), (with_spool, true)] {
        let mut agent = options.start()?;
        traffic.hello(20)?;
        agent.wait_for_spans(20)?;
        let finished = agent.stop()?;
        let left = &finished.report.json["spooled"]["otlp"];
        if spool {
            assert_eq!((left.as_u64(), undelivered(&finished)), (Some(20), 0));
            assert!(finished.log.contains("20 left in the spool"), "{}", finished.log);
        } else {
            assert_eq!((left, undelivered(&finished)), (&Json::Null, 20));
            assert!(finished.log.contains("20 dropped (shutdown)"), "{}", finished.log);
        }
    }
    Ok(())
}

/// Protects: a protocol on the wrong port of a receiver we did not write is one message that says
/// what to write instead.
#[test]
fn the_wrong_protocol_is_explained() -> Result<()> {
    let rotel = Rotel::start()?;
    let mut traffic = Traffic::start()?;
    let rows = [
        (traffic.clients().otlp_http(&rotel.grpc_endpoint()), "--otlp-protocol grpc"),
        (traffic.clients().otlp_grpc(&rotel.http_endpoint()), "--otlp-protocol http/protobuf"),
    ];
    for (options, advice) in rows {
        let mut agent = eager(options).start()?;
        traffic.hello(20)?;
        agent.wait_for_spans(20)?;
        wait::until("a message", || {
            agent.check_running()?;
            Ok((!messages(&agent.log()).is_empty()).then_some(()))
        })?;
        let finished = agent.stop()?;
        let [message] = messages(&finished.log)[..] else { panic!("{}", finished.log) };
        assert!(message.contains(advice), "{message}");
        assert_eq!(undelivered(&finished), 20);
    }
    Ok(())
}

/// A TLS server at this port whose certificate was valid in 2020, and who issued it.
fn expired(port: u16, directory: &Path) -> Result<(Service, String)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let trusted = directory.join("authority.pem");
    fs::write(&trusted, authority.self_signed(&authority_key)?.pem())?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
    server.not_before = date_time_ymd(2020, 1, 1);
    server.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    fs::write(directory.join("server.pem"), server.signed_by(&key, &issuer)?.pem())?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    let directory = directory.display();
    let nginx = Nginx::new("")?.http(&format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/server.pem; \
         ssl_certificate_key {directory}/key.pem; }}"
    ));
    Ok((nginx.start()?, trusted.to_string_lossy().into_owned()))
}

/// Protects: a receiver that hangs, resets connections within answers, has an expired certificate or
/// speaks something else is one message that says what to do, however many spans it concerns.
#[test]
fn each_trouble_is_one_message() -> Result<()> {
    const SPANS: usize = 30;
    let resets = vec![vec![json!({"reset": "status"}); 20]; SPANS];
    let receiver = FaultyReceiver::start(&json!({"grpc": resets, "protobuf": resets}))?;
    let other = FaultyReceiver::start(&json!({}))?;
    let hang = || TcpListener::bind("127.0.0.1:0");
    let hanging = [hang()?, hang()?];
    let [deaf, deaf_to_grpc] = &hanging;
    let directory = TempDir::new()?;
    let tls = port::free()?;
    let (_expired, trusted) = expired(tls, directory.path())?;
    let rows = [
        (format!("http://{}", deaf.local_addr()?), "http/protobuf", "--otlp-timeout"),
        (format!("http://{}", deaf_to_grpc.local_addr()?), "grpc", "--otlp-timeout"),
        (receiver.http_endpoint(), "http/protobuf", "closed the connection before it had answered"),
        (receiver.grpc_endpoint(), "grpc", "closed the connection before it had answered"),
        (format!("https://localhost:{tls}"), "http/protobuf", "renew it, and check the clocks"),
        (other.http_endpoint(), "grpc", "--otlp-protocol http/protobuf"),
        (other.grpc_endpoint(), "http/protobuf", "use --otlp-protocol grpc"),
    ];
    let mut traffic = Traffic::start()?;
    let options = eager(traffic.clients())
        .exporter("otlp")
        .argument("--otlp-timeout=5s")
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", &trusted);
    let mut agent = rows
        .iter()
        .flat_map(|(endpoint, protocol, _)| {
            ["--otlp-endpoint", endpoint, "--otlp-protocol", protocol]
        })
        .fold(options, AgentOptions::argument)
        .start()?;
    traffic.hello(SPANS)?;
    agent.wait_for_spans(SPANS)?;
    let about = |log: &str, endpoint: &str| -> Vec<String> {
        let endpoint = format!("endpoint={endpoint}/");
        let lines = messages(log).into_iter().filter(|line| line.contains(&endpoint));
        lines.map(str::to_owned).collect()
    };
    wait::until("a message about each receiver", || {
        agent.check_running()?;
        let log = agent.log();
        let told = rows.iter().all(|(endpoint, ..)| !about(&log, endpoint).is_empty());
        Ok(told.then_some(()))
    })?;
    let finished = agent.stop()?;
    for (endpoint, protocol, advice) in &rows {
        let told = about(&finished.log, endpoint);
        let [message] = &told[..] else { panic!("{endpoint} by {protocol}: {}", finished.log) };
        assert!(message.contains(advice), "{endpoint} by {protocol}: {message}");
        let json = &finished.report.json;
        let reasons = json["undelivered"][format!("otlp {endpoint}")].as_object();
        let dropped: u64 = reasons.into_iter().flatten().filter_map(|(_, it)| it.as_u64()).sum();
        assert_eq!(dropped, SPANS as u64, "{endpoint} by {protocol}: {json}");
    }
    Ok(())
}

/// Protects: a receiver that answers, but too slowly, costs what the queue has no room for, which is
/// counted, and is one message.
#[test]
fn a_slow_receiver_is_one_message() -> Result<()> {
    const SPANS: usize = 80;
    // The first requests, as many as are under way at once.
    let slow = vec![vec![json!({"delay": 3})]; 4];
    let mut receiver = FaultyReceiver::start(&json!({"protobuf": slow}))?;
    let mut traffic = Traffic::start()?;
    let mut agent = eager(traffic.clients())
        .otlp_http(&receiver.http_endpoint())
        .argument("--queue-spans=8")
        .start()?;
    traffic.hello(SPANS)?;
    agent.wait_for_spans(SPANS)?;
    wait::until("the word that it is over", || {
        agent.check_running()?;
        Ok(agent.log().contains("no more spans are dropped").then_some(()))
    })?;
    let finished = agent.stop()?;
    let attempts = receiver.attempts()?;
    let taken: usize = attempts.iter().map(|attempt| attempt.taken.len()).sum();
    assert_eq!(finished.report.exported["otlp"], taken as u64, "{}", finished.report.json);
    assert_eq!(taken as u64 + undelivered(&finished), SPANS as u64, "{}", finished.report.json);
    let full = &finished.report.json["undelivered"]["otlp"]["queue_full"];
    assert_eq!(full.as_u64(), Some(undelivered(&finished)), "{}", finished.report.json);
    let [message] = messages(&finished.log)[..] else { panic!("{}", finished.log) };
    assert!(message.contains("spans come faster") && message.contains("--spool"), "{message}");
    Ok(())
}

/// Protects: several receivers each get everything, whatever the others do.
#[test]
fn several_receivers_do_not_hold_up_each_other() -> Result<()> {
    let mut rotel = Rotel::start()?;
    let nobody = format!("http://127.0.0.1:{}", port::free()?);
    let mut traffic = Traffic::start()?;
    let mut agent = traffic
        .clients()
        .exporter("otlp")
        .argument("--otlp-endpoint")
        .argument(nobody.clone())
        .argument("--otlp-endpoint")
        .argument(rotel.http_endpoint())
        .start()?;
    traffic.hello(20)?;
    agent.wait_for_spans(20)?;
    rotel.wait_for_spans(20)?;
    let finished = agent.stop()?;
    let json = &finished.report.json;
    let exported = |endpoint: &str| finished.report.exported.get(&format!("otlp {endpoint}"));
    ensure!(exported(&rotel.http_endpoint()) == Some(&20), "{json}");
    ensure!(exported(&nobody) == Some(&0), "{json}");
    Ok(())
}
