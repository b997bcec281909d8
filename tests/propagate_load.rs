//! `--propagate proxy` under load, while something goes wrong: with the agent, with its descriptors,
//! at either end. New connections never fail; what connections under way saw is printed, and that
//! nobody took half of a message for a whole one is checked.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tracer_tests::service::Nginx;
use tracer_tests::wire::{self, hang, say, send, until};
use tracer_tests::{
    Agent, AgentOptions, Backend, Background, Cgroup, Launcher, Mirror, Namespace, Service, layout,
    wait,
};

/// Connections of wrk.
const CONNECTIONS: u64 = 64;
/// A connection for each request, or one for many.
const NEW: &str = "close";
const KEPT: &str = "keep-alive";
/// Milliseconds between their requests: as many requests as are served, or some thousand a second.
const NONE: &str = "0";
const MODERATE: &str = "20";
/// Threads that connect over and over beside them, and tell connects from what follows.
const THREADS: u64 = 4;
/// Lets all of it go on for a while.
const WHILE: Duration = Duration::from_millis(500);
/// Bytes of a slow transfer, and how many of them go in a second.
const LARGE: usize = 32 << 20;
const PACE: &str = "8M";
/// Any number of connections that the limit of open files allows, so that it counts.
const FEW_FILES: u32 = 1_024;

/// A launcher whose programs are traced, and services that are not.
struct Bench {
    launcher: Launcher,
    nginx: Service,
    mirror: Mirror,
    directory: TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let uploads = "location /uploads/ { dav_methods PUT; create_full_put_path on; }\n\
                       client_max_body_size 1g;";
        Ok(Self {
            launcher: Launcher::start()?,
            nginx: Nginx::new(uploads)?
                .file("hello", b"hello\n")?
                .file("large", &large())?
                .start()?,
            mirror: Mirror::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
            directory: tempfile::tempdir()?,
        })
    }

    fn options(&self) -> AgentOptions {
        let options = AgentOptions::new(Backend::Auto).pid(self.launcher.pid()).propagate();
        // Spans are no business of these tests.
        options.without_file().exporter("none").argument("--propagate-drain").argument("20s")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Requests from 64 connections at once, with a pause before each; of a `close` connection it
    /// is the only one.
    fn load(&mut self, connection: &str, pause: &str) -> Result<Load> {
        let script = layout::workspace().join("tests/programs/failures.lua");
        let (connections, url) = (format!("-c{CONNECTIONS}"), self.nginx.url("/hello"));
        let script = script.to_string_lossy();
        let words = ["wrk", "-t1", &connections, "-d600s", "--timeout", "60s", "-s", &script];
        let connection = format!("Connection: {connection}");
        let request = ["-H", &connection, &url, "--", pause];
        let wrk = self.launcher.spawn(words.iter().chain(&request))?;
        let (threads, port) = (THREADS.to_string(), self.mirror.port().to_string());
        let words = layout::python("dial.py", &["loop", &threads, "127.0.0.1", &port])?;
        let dialing = self.launcher.spawn(words)?;
        dialing.wait_for("looping")?;
        Ok(Load { wrk, dialing })
    }

    /// A large upload and a large download that take their time.
    fn transfers(&mut self) -> Result<Transfers> {
        let (source, sink) = (self.path("source"), self.path("sink"));
        fs::write(&source, large())?;
        // What an earlier one left proves nothing.
        fs::write(&sink, "")?;
        let upload = self.nginx.url("/uploads/large");
        let upload = ["-T", &source.to_string_lossy(), &upload].map(str::to_owned);
        let download = self.nginx.url("/large");
        let download = ["-o", &sink.to_string_lossy(), &download].map(str::to_owned);
        let mut curl = |arguments: [String; 3]| {
            let words = ["curl", "-sS", "-f", "--max-time", "60", "--limit-rate", PACE];
            self.launcher.spawn(words.map(str::to_owned).into_iter().chain(arguments))
        };
        Ok(Transfers { upload: curl(upload)?, download: curl(download)? })
    }

    /// Exit codes of both.
    fn ended(&mut self, transfers: &Transfers) -> Result<[i32; 2]> {
        Ok([self.launcher.wait(&transfers.upload)?, self.launcher.wait(&transfers.download)?])
    }

    /// Whether what arrived is what was sent.
    fn arrived(&self) -> Result<bool> {
        let uploaded = self.nginx.directory().join("root/uploads/large");
        Ok(fs::read(uploaded)? == large() && fs::read(self.path("sink"))? == large())
    }

    fn finish(&mut self, load: &Load) -> Result<Failures> {
        load.wrk.signal(Signal::INT)?;
        let wrk: Json = serde_json::from_str(&load.wrk.wait_for("failures ")?)?;
        self.launcher.wait(&load.wrk)?;
        load.dialing.signal(Signal::TERM)?;
        let dialing: Json = serde_json::from_str(&load.dialing.wait_for("looped ")?)?;
        self.launcher.wait(&load.dialing)?;
        Ok(Failures { wrk, dialing })
    }
}

struct Load {
    wrk: Background,
    dialing: Background,
}

struct Transfers {
    upload: Background,
    download: Background,
}

/// What the load saw.
struct Failures {
    wrk: Json,
    dialing: Json,
}

impl Failures {
    fn connects(&self) -> (&Json, &Json) {
        (&self.wrk["connect"], &self.dialing["connect"])
    }

    /// Exchanges that broke, of wrk and of those who dial.
    fn exchanges(&self) -> (u64, u64) {
        let wrk = ["read", "write", "status", "timeout"].map(|kind| self.wrk[kind].as_u64());
        let dialed = self.dialing["exchange"].as_object().into_iter().flat_map(|it| it.values());
        (wrk.into_iter().flatten().sum(), dialed.filter_map(Json::as_u64).sum())
    }
}

/// Bytes that tell their place.
fn large() -> Vec<u8> {
    (0..LARGE / 8)
        .flat_map(|word| (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn propagation(agent: Agent) -> Result<Json> {
    Ok(agent.stop()?.report.json["propagation"].clone())
}

/// Protects: each `kill -9` breaks at most the exchanges under way, one a connection; no connect
/// fails, and who connects afterwards is served. Transfers that break are seen to have.
#[test]
fn killed_under_load() -> Result<()> {
    const KILLS: u64 = 3;
    let mut bench = Bench::new()?;
    let mut agent = bench.options().start()?;
    let load = bench.load(NEW, NONE)?;
    let transfers = bench.transfers()?;
    for _ in 0..KILLS {
        sleep(WHILE);
        agent.kill()?;
        sleep(WHILE);
        agent = bench.options().start()?;
    }
    let codes = bench.ended(&transfers)?;
    let propagation = propagation(agent)?;
    let failures = bench.finish(&load)?;
    eprintln!("killed {KILLS} times: wrk {}, dialing {}", failures.wrk, failures.dialing);
    eprintln!("upload and download ended with {codes:?}");
    assert_eq!(failures.connects(), (&json!(0), &json!({})));
    let (wrk, dialing) = failures.exchanges();
    assert!(wrk <= KILLS * CONNECTIONS && dialing <= KILLS * THREADS, "{wrk}, {dialing}");
    assert!(codes.iter().all(|code| *code != 0), "{codes:?} of transfers that were cut");
    assert!(propagation["accepted"].as_u64() > Some(0), "{propagation}");
    Ok(())
}

/// Protects: told to end and started again under load, the agent fails nobody, slow transfers
/// included.
#[test]
fn ended_under_load() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut agent = bench.options().start()?;
    let load = bench.load(NEW, NONE)?;
    for _ in 0..2 {
        let transfers = bench.transfers()?;
        sleep(WHILE);
        agent.signal(Signal::TERM)?;
        // The next one begins while the last one drains, as in a rolling update.
        let next = bench.options().start()?;
        let report = std::mem::replace(&mut agent, next).ended()?.report.json;
        assert_eq!(report["propagation"]["cut"], 0, "{report}");
        assert_eq!(bench.ended(&transfers)?, [0, 0]);
        assert!(bench.arrived()?, "the transfers came through, and are not what was sent");
    }
    propagation(agent)?;
    let failures = bench.finish(&load)?;
    eprintln!("ended twice: wrk {}, dialing {}", failures.wrk, failures.dialing);
    assert_eq!(failures.connects(), (&json!(0), &json!({})));
    assert_eq!(failures.exchanges(), (0, 0));
    Ok(())
}

/// Protects: told to end, the agent closes kept connections between two requests. Whoever sends the
/// next one at that very moment sees it fail, as with any server that closes kept connections; at
/// most one a connection does, and no connect.
#[test]
fn ended_under_load_of_kept_connections() -> Result<()> {
    let mut bench = Bench::new()?;
    for _ in 0..2 {
        let agent = bench.options().start()?;
        let load = bench.load(KEPT, NONE)?;
        sleep(WHILE);
        let propagation = propagation(agent)?;
        sleep(WHILE);
        let failures = bench.finish(&load)?;
        eprintln!("ended: wrk {}, dialing {}", failures.wrk, failures.dialing);
        assert_eq!(propagation["cut"], 0, "{propagation}");
        assert!(propagation["accepted"].as_u64() >= Some(CONNECTIONS), "{propagation}");
        assert_eq!(failures.connects(), (&json!(0), &json!({})));
        let (wrk, dialing) = failures.exchanges();
        assert!(wrk <= CONNECTIONS && dialing == 0, "{wrk}, {dialing}");
    }
    Ok(())
}

/// Opens so many connections once the file `go` is there.
fn crowd(bench: &mut Bench, port: &str, count: u32, directory: &Path) -> Result<Background> {
    let (count, directory) = (count.to_string(), directory.to_string_lossy());
    let words = layout::python("crowd.py", &["hold", "127.0.0.1", port, &count, &directory])?;
    let crowd = bench.launcher.spawn(words)?;
    crowd.wait_for("ready")?;
    Ok(crowd)
}

/// Has the crowd connect, ask, and ask again; gives how many were redirected. Nobody may fail.
fn all_answered(
    bench: &mut Bench,
    crowd: &Background,
    directory: &Path,
    count: u32,
) -> Result<u64> {
    let held: Json = serde_json::from_str(&crowd.wait_for("held ")?)?;
    fs::write(directory.join("end"), "")?;
    let answered: Json = serde_json::from_str(&crowd.wait_for("answered ")?)?;
    bench.launcher.wait(crowd)?;
    for counts in [&held, &answered] {
        assert_eq!(counts["answered"], count, "{held} {answered}");
        assert_eq!((&counts["connect"], &counts["exchange"]), (&json!({}), &json!({})));
    }
    assert_eq!(held["redirected"], answered["redirected"]);
    held["redirected"].as_u64().context("no count")
}

/// A server for many connections, which nobody traces, and its port.
fn server(outside: &mut Launcher, program: &str) -> Result<String> {
    outside.spawn(layout::python(program, &["serve"])?)?.wait_for("listening ")
}

/// Protects: with few descriptors and many connections, further ones go straight, and each of those
/// that do not is served, also if they come while the agent gets no processor.
#[test]
fn the_table_of_descriptors_is_full() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut outside = Launcher::start()?;
    let port = server(&mut outside, "crowd.py")?;
    let group = Cgroup::new(&format!("tracer-full-{}", std::process::id()))?;
    let agent = bench.options().open_files(FEW_FILES).start()?;
    group.add(agent.pid())?;
    let load = bench.load(NEW, MODERATE)?;
    let mut redirected = Vec::new();
    for round in 0..4 {
        let directory = bench.path(&format!("crowd-{round}"));
        fs::create_dir(&directory)?;
        let crowd = crowd(&mut bench, &port, 1_500, &directory)?;
        group.freeze(round % 2 == 1)?;
        fs::write(directory.join("go"), "")?;
        sleep(WHILE);
        group.freeze(false)?;
        redirected.push(all_answered(&mut bench, &crowd, &directory, 1_500)?);
    }
    let failures = bench.finish(&load)?;
    let propagation = propagation(agent)?;
    eprintln!("of 1500 each: {redirected:?} redirected; {propagation}");
    assert_eq!((failures.connects(), failures.exchanges()), ((&json!(0), &json!({})), (0, 0)));
    assert_eq!((&propagation["starved"], &propagation["cut"]), (&json!(0), &json!(0)));
    assert!(redirected[0] > 0 && propagation["most_open"].as_u64() > Some(100), "{propagation}");
    assert!(propagation["straight"]["accept_queue_filling"].as_u64() > Some(0), "{propagation}");
    Ok(())
}

/// Protects: ten thousand connections at rest, end to end, of which as many go through the agent
/// as its descriptors allow.
#[test]
fn ten_thousand_idle_tunnels() -> Result<()> {
    const MANY: u32 = 10_000;
    let mut bench = Bench::new()?;
    let mut outside = Launcher::start()?;
    let port = server(&mut outside, "crowd.py")?;
    let agent = bench.options().start()?;
    let load = bench.load(NEW, MODERATE)?;
    let directory = bench.directory.path().to_owned();
    let crowd = crowd(&mut bench, &port, MANY, &directory)?;
    fs::write(directory.join("go"), "")?;
    let redirected = all_answered(&mut bench, &crowd, &directory, MANY)?;
    let failures = bench.finish(&load)?;
    let propagation = propagation(agent)?;
    eprintln!("of {MANY} idle connections, {redirected} were tunnels: {propagation}");
    assert_eq!((failures.connects(), failures.exchanges()), ((&json!(0), &json!({})), (0, 0)));
    assert!(redirected > u64::from(MANY) / 2, "{propagation}");
    assert!(propagation["most_open"].as_u64() >= Some(redirected), "{propagation}");
    assert_eq!(propagation["cut"], 0, "{propagation}");
    Ok(())
}

/// Protects: what breaks at one end breaks in the same way at the other, and a server that says
/// nothing keeps its clients waiting and nobody else; all as without the agent.
#[test]
fn ends_that_break_off_or_say_nothing() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut outside = Launcher::start()?;
    let seen = |bench: &mut Bench, outside: &mut Launcher, how: &str| -> Result<Json> {
        let port = server(outside, "breaking.py")?;
        let words = ["call", "127.0.0.1", &port, how, "256", "64"];
        let output = bench.launcher.run(layout::python("breaking.py", &words)?)?.success()?;
        let line = output.stdout.lines().find_map(|line| line.strip_prefix("seen "));
        Ok(serde_json::from_str(line.context(how.to_owned())?)?)
    };
    let agent = bench.options().start()?;
    let load = bench.load(NEW, MODERATE)?;
    for (how, expected) in [
        ("whole", json!({"whole": 256})),
        ("reset", json!({"ECONNRESET": 256})),
        ("short", json!({"short": 256})),
        ("mute", json!({"TimeoutError": 256})),
        ("upload-whole", json!({"200": 256, "server: upload-whole: whole": 256})),
        ("upload-short", json!({"left": 256, "server: upload-short: short": 256})),
        ("upload-reset", json!({"left": 256, "server: upload-reset: ECONNRESET": 256})),
    ] {
        agent.signal(Signal::USR1)?;
        sleep(WHILE);
        assert_eq!(seen(&mut bench, &mut outside, how)?, expected, "{how}, straight");
        agent.signal(Signal::USR2)?;
        sleep(WHILE);
        assert_eq!(seen(&mut bench, &mut outside, how)?, expected, "{how}, through the agent");
    }
    let failures = bench.finish(&load)?;
    let propagation = propagation(agent)?;
    eprintln!("bystanders: wrk {}, dialing {}; {propagation}", failures.wrk, failures.dialing);
    assert_eq!((failures.connects(), failures.exchanges()), ((&json!(0), &json!({})), (0, 0)));
    assert!(propagation["accepted"].as_u64() > Some(7 * 256), "{propagation}");
    assert_eq!(propagation["cut"], 0, "{propagation}");
    Ok(())
}

/// Protects: a client that is gone, of a server that neither answers nor ends, does not keep its
/// place in the agent: the kernel knows that it is gone, and the agent asks it.
#[test]
fn clients_that_are_gone_leave_nothing_behind() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.in_it(|| {
        for name in ["tcp_fin_timeout", "tcp_keepalive_time", "tcp_keepalive_intvl"] {
            fs::write(format!("/proc/sys/net/ipv4/{name}"), "1")?;
        }
        Ok(())
    })?;
    let mut launcher = Launcher::start_in(&namespace)?;
    let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = options.inside(&namespace).start()?;
    let server = wire::serve(&mut launcher, &[until("you?"), say("heard"), hang()])?;
    let before = sockets(agent.pid())?;
    wire::call(&mut launcher, server.port, &[send("are you?")])?;
    server.process.wait_for("hanging")?;
    wait::until("the agent to let go of the connection", || {
        Ok((sockets(agent.pid())? == before).then_some(()))
    })?;
    server.process.signal(Signal::KILL)?;
    launcher.wait(&server.process)?;
    assert_eq!(propagation(agent)?["accepted"], 1);
    Ok(())
}

fn sockets(pid: u32) -> Result<usize> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|it| it.to_string_lossy().starts_with("socket:"))
    };
    Ok(descriptors.filter(is_socket).count())
}
