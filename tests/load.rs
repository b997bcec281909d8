//! Much traffic: every request made is a span or a counted loss, and every span is right.
//!
//! Each request has a number in its path, which nginx repeats in a response header: a span whose
//! two disagree joined a request to another one's response.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tracer_tests::service::Nginx;
use tracer_tests::{
    Agent, AgentOptions, Backend, Finished, Kind, Launcher, Service, Span, Spans, Value, layout,
    on_each_backend, wait,
};

const ECHO: &str = "location /r/ { add_header X-Tag $uri; return 200 'ok'; }
                    location = /status { stub_status; }";
const TAG: &str = "x-tag";
/// Far more than a loaded machine needs.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long the agent is stopped at a time: some hundred requests.
const STALL: Duration = Duration::from_millis(100);

fn start(options: AgentOptions, file: &Path) -> Result<Agent> {
    let options = options.argument("--capture-response-header").argument(TAG);
    // This is about capture: a file whose writer gets no processor for a while shall not decide.
    let options = options.env("OTEL_BSP_MAX_QUEUE_SIZE", "262144");
    options.without_file().exporter(&format!("file:{}", file.display())).start()
}

/// Requests that nginx read, without the one that asks.
fn requests_read(nginx: &Service) -> Result<u64> {
    let body = nginx.get("/status")?.body;
    // The line after "server accepts handled requests" holds the three numbers.
    let numbers = body.lines().skip_while(|line| !line.contains("handled")).nth(1);
    let requests = numbers.and_then(|line| line.split_whitespace().nth(2));
    let requests: u64 = requests.with_context(|| body.clone())?.parse()?;
    Ok(requests - 1)
}

/// Runs `wrk` until it has its answers to `count` requests, and gives how many it made. `pause` is
/// passed to its script, `headers` to itself.
fn wrk(
    launcher: &mut Launcher,
    nginx: &Service,
    count: u64,
    connections: u32,
    pause: u32,
    headers: &[&str],
) -> Result<u64> {
    let script = layout::workspace().join("tests/programs/numbered.lua");
    let (count, connections, pause) =
        (count.to_string(), connections.to_string(), pause.to_string());
    let words = ["wrk", "-t1", "-c", &connections, "-d", "600s", "-s", &script.to_string_lossy()];
    let arguments = [&nginx.url("/"), "--", &count, &pause];
    let begin = Instant::now();
    let running = launcher.spawn(words.iter().chain(headers).chain(&arguments))?;
    wait::until_within(PATIENCE, "wrk's last response", || {
        Ok(running.output().contains("finished").then_some(()))
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    running.signal(Signal::INT)?;
    ensure!(launcher.wait(&running)? == 0, "wrk failed: {}", running.output());
    assert_eq!(running.wait_for("wrong ")?, "0", "{}", running.output());
    let made: u64 = running.wait_for("made ")?.parse()?;
    eprintln!("{made} requests in {seconds:.1} s: {:.0} a second", made as f64 / seconds);
    Ok(made)
}

/// How often each request has a span, by kind and number.
type Seen = HashMap<(Kind, u64), u32>;

/// Reads all spans, checking each for itself, and that no request has two of a kind.
fn read_checked(file: &Path) -> Result<Seen> {
    let mut seen = Seen::new();
    Spans::each_in_file(file, |span| {
        let number = number_of(&span).with_context(|| format!("{span:?}"))?;
        *seen.entry((span.kind, number)).or_default() += 1;
        Ok(())
    })?;
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(5).collect();
    ensure!(twice.is_empty(), "reported more than once: {twice:?}");
    Ok(seen)
}

/// The number in a span's request, which must be that in its response.
fn number_of(span: &Span) -> Result<u64> {
    let url = span.attributes.text("url.path").or(span.attributes.text("url.full"));
    let (_, number) = url.and_then(|url| url.split_once("/r/")).context("no number")?;
    ensure!(span.http_status() == Some(200), "not what was answered");
    ensure!(span.attributes.text("error.type").is_none(), "nothing failed");
    let Some(Value::List(tags)) = span.attribute("http.response.header.x-tag") else {
        anyhow::bail!("no tag");
    };
    ensure!(*tags == [Value::from(&*format!("/r/{number}"))], "another one's response");
    Ok(number.parse()?)
}

fn count_of(kind: Kind, seen: &Seen) -> u64 {
    seen.keys().filter(|(of, _)| *of == kind).count() as u64
}

/// Neither on the way out of the kernel nor on the way to the file.
fn assert_nothing_lost_anywhere(finished: &Finished) {
    let report = &finished.report;
    report.assert_nothing_lost();
    for counter in ["ring_full_data", "ring_full_open", "ring_full_close", "ring_full_process"] {
        assert_eq!(report.json["kernel"][counter], 0, "{}", report.json);
    }
    assert_eq!(report.json["undelivered"], serde_json::json!({}), "{}", report.json);
}

/// Protects: under load, with a ring of the usual size, every request made is a span at each end.
#[test]
fn two_hundred_thousand_requests() -> Result<()> {
    const COUNT: u64 = 200_000;
    on_each_backend(|backend| {
        let nginx = Nginx::new(ECHO)?.start()?;
        let mut launcher = Launcher::start()?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("spans.jsonl");
        let before = requests_read(&nginx)?;
        let options = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid());
        let agent = start(options, &file)?;
        let made = wrk(&mut launcher, &nginx, COUNT, 32, 1, &[])?;
        let finished = agent.stop()?;
        assert!(made >= COUNT);
        assert_eq!(requests_read(&nginx)? - before - 1, made);
        assert_nothing_lost_anywhere(&finished);
        let seen = read_checked(&file)?;
        assert_eq!(count_of(Kind::Server, &seen), made, "servers: {}", finished.report.json);
        assert_eq!(count_of(Kind::Client, &seen), made, "clients: {}", finished.report.json);
        assert_eq!(finished.report.spans, 2 * made);
        Ok(())
    })
}

/// Stops a process again and again while `work` runs: on a machine that is fast enough, or slow
/// enough, the agent would keep up even with the smallest ring.
fn stalling<T>(pid: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stalled = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                for signal in [Signal::STOP, Signal::CONT] {
                    kill_process(process, signal)?;
                    thread::sleep(STALL);
                }
            }
            Ok(())
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        stalled.join().map_err(|_| anyhow::anyhow!("the stalling thread panicked"))??;
        outcome
    })
}

/// Protects: one side alone, saturated, with a ring far too small: spans and counted losses are
/// together exactly the requests made, and none is mixed up.
fn overflow(backend: Backend, traced: Kind, headers: &[&str]) -> Result<()> {
    const COUNT: u64 = 100_000;
    let nginx = Nginx::new(ECHO)?.start()?;
    let mut launcher = Launcher::start()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("spans.jsonl");
    let (pid, other) = match traced {
        Kind::Server => (nginx.pid(), Kind::Client),
        Kind::Client => (launcher.pid(), Kind::Server),
    };
    let options = AgentOptions::new(backend).pid(pid).argument("--ring-size").argument("64K");
    let agent = start(options, &file)?;
    let made = stalling(agent.pid(), || wrk(&mut launcher, &nginx, COUNT, 16, 0, headers))?;
    let finished = agent.stop()?;
    let seen = read_checked(&file)?;
    let report = &finished.report;
    assert_eq!(count_of(other, &seen), 0, "{}", report.json);
    let spans = count_of(traced, &seen);
    assert!(report.lost() > 0, "the ring was not too small: {}", report.json);
    assert_eq!(spans + report.lost(), made, "{}", report.json);
    assert_eq!(report.json["undelivered"], serde_json::json!({}), "{}", report.json);
    Ok(())
}

#[test]
fn servers_with_a_ring_too_small() -> Result<()> {
    on_each_backend(|backend| overflow(backend, Kind::Server, &[]))
}

#[test]
fn clients_with_a_ring_too_small() -> Result<()> {
    on_each_backend(|backend| overflow(backend, Kind::Client, &[]))
}

/// Protects: the sum also holds where beginnings and ends of connections get lost.
#[test]
fn short_connections_with_a_ring_too_small() -> Result<()> {
    on_each_backend(|backend| {
        for traced in [Kind::Server, Kind::Client] {
            overflow(backend, traced, &["-H", "Connection: close"])?;
        }
        Ok(())
    })
}
