//! `--propagate proxy` when the agent is killed, stopped, ended, restarted: no new connection may
//! fail, whatever happens to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tracer_tests::{Agent, AgentOptions, Backend, Background, Launcher, Mirror, layout, wait};

/// Threads that connect over and over.
const THREADS: u64 = 16;
/// Times that the agent is killed.
const KILLS: u64 = 5;
/// Lets them connect for a while, through an agent or straight.
const WHILE: Duration = Duration::from_millis(500);

fn mirror() -> Result<Mirror> {
    Mirror::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn options(launcher: &Launcher) -> AgentOptions {
    let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    options.argument("--propagate-drain").argument("5s")
}

fn looping(launcher: &mut Launcher, mirror: &Mirror) -> Result<Background> {
    let port = mirror.port().to_string();
    let words = layout::python("dial.py", &["loop", &THREADS.to_string(), "127.0.0.1", &port])?;
    let looping = launcher.spawn(words)?;
    looping.wait_for("looping")?;
    Ok(looping)
}

/// Ends the loop and gives its counts.
fn counts(launcher: &mut Launcher, looping: &Background) -> Result<Json> {
    looping.signal(Signal::TERM)?;
    let counts = serde_json::from_str(&looping.wait_for("looped ")?)?;
    launcher.wait(looping)?;
    Ok(counts)
}

fn is_redirected(launcher: &mut Launcher, mirror: &Mirror) -> Result<bool> {
    let port = mirror.port().to_string();
    let words = layout::python("dial.py", &["once", "plain", "127.0.0.1", &port])?;
    let told: Json = serde_json::from_str(&launcher.run(words)?.success()?.stdout)?;
    told["redirected"].as_bool().context("no verdict")
}

fn held(launcher: &mut Launcher, mirror: &Mirror, gate: &str) -> Result<Background> {
    let port = mirror.port().to_string();
    let words = layout::python("dial.py", &["hold", "127.0.0.1", &port, gate])?;
    let holding = launcher.spawn(words)?;
    holding.wait_for("held")?;
    Ok(holding)
}

fn propagation(agent: Agent) -> Result<Json> {
    Ok(agent.stop()?.report.json["propagation"].clone())
}

/// Protects: the agent is killed again and again, and restarted, under load: no connect fails.
/// Of what was open, each kill breaks at most one connection a thread.
#[test]
fn killed_and_restarted_under_load_no_connect_fails() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let looping = looping(&mut launcher, &mirror)?;
    for _ in 0..KILLS {
        let agent = options(&launcher).start()?;
        sleep(WHILE);
        agent.kill()?;
        sleep(WHILE);
    }
    assert!(!is_redirected(&mut launcher, &mirror)?, "nothing of the agent is left");
    let counts = counts(&mut launcher, &looping)?;
    eprintln!("killed {KILLS} times: {counts}");
    assert_eq!(counts["connect"], json!({}), "{counts}");
    let broken = counts["exchange"].as_object().context("no counts")?.values();
    assert!(broken.filter_map(Json::as_u64).sum::<u64>() <= KILLS * THREADS, "{counts}");
    assert!(counts["redirected"].as_u64() > Some(100), "{counts}");
    Ok(())
}

/// Protects: told to end, and restarted, under load, the agent fails nobody, neither connects nor
/// exchanges.
#[test]
fn ended_and_restarted_under_load_nothing_fails() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let looping = looping(&mut launcher, &mirror)?;
    for _ in 0..3 {
        let agent = options(&launcher).start()?;
        sleep(WHILE);
        let propagation = propagation(agent)?;
        assert!(propagation["accepted"].as_u64() > Some(0), "{propagation}");
        assert_eq!(propagation["redirected"], propagation["accepted"], "{propagation}");
        assert_eq!(propagation["cut"], 0, "{propagation}");
    }
    let counts = counts(&mut launcher, &looping)?;
    assert_eq!((&counts["connect"], &counts["exchange"]), (&json!({}), &json!({})), "{counts}");
    Ok(())
}

/// Protects: two agents overlap under load, as in a rolling update.
#[test]
fn replaced_under_load_nothing_fails() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let looping = looping(&mut launcher, &mirror)?;
    let mut agent = options(&launcher).start()?;
    for _ in 0..3 {
        let next = options(&launcher).start()?;
        sleep(WHILE);
        propagation(std::mem::replace(&mut agent, next))?;
    }
    sleep(WHILE);
    wait::until("a redirected connection", || {
        Ok(is_redirected(&mut launcher, &mirror)?.then_some(()))
    })?;
    propagation(agent)?;
    let counts = counts(&mut launcher, &looping)?;
    assert_eq!((&counts["connect"], &counts["exchange"]), (&json!({}), &json!({})), "{counts}");
    Ok(())
}

/// Protects: a stopped agent gets no new connections, at once; when it goes on, it does again.
#[test]
fn stopped_agents_get_no_new_connections() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let agent = options(&launcher).start()?;
    for _ in 0..3 {
        wait::until("a redirected connection", || {
            Ok(is_redirected(&mut launcher, &mirror)?.then_some(()))
        })?;
        agent.signal(Signal::STOP)?;
        assert!(!is_redirected(&mut launcher, &mirror)?);
        agent.signal(Signal::CONT)?;
    }
    let propagation = propagation(agent)?;
    assert!(propagation["straight"]["agent_not_accepting"].as_u64() >= Some(3), "{propagation}");
    Ok(())
}

/// Protects: an operator can switch propagation off and on while the agent runs.
#[test]
fn switched_off_and_on_by_signals() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let agent = options(&launcher).start()?;
    let directory = tempfile::tempdir()?;
    let gate = directory.path().join("gate");
    let holding = held(&mut launcher, &mirror, &gate.to_string_lossy())?;
    agent.signal(Signal::USR1)?;
    wait::until("a straight connection", || {
        Ok((!is_redirected(&mut launcher, &mirror)?).then_some(()))
    })?;
    // And so it stays, while what is open goes on.
    sleep(WHILE);
    assert!(!is_redirected(&mut launcher, &mirror)?);
    std::fs::write(&gate, "")?;
    assert_eq!(launcher.wait(&holding)?, 0, "{}", holding.output());
    agent.signal(Signal::USR2)?;
    wait::until("a redirected connection", || {
        Ok(is_redirected(&mut launcher, &mirror)?.then_some(()))
    })?;
    propagation(agent)?;
    Ok(())
}

/// Protects: told to end, the agent lets open connections finish, and cuts only those that do not
/// in the time they have.
#[test]
fn open_connections_drain() -> Result<()> {
    let mirror = mirror()?;
    let mut launcher = Launcher::start()?;
    let directory = tempfile::tempdir()?;
    let agent = options(&launcher).start()?;
    let gate = directory.path().join("gate");
    let holding = held(&mut launcher, &mirror, &gate.to_string_lossy())?;
    agent.signal(Signal::TERM)?;
    wait::until("a straight connection", || {
        Ok((!is_redirected(&mut launcher, &mirror)?).then_some(()))
    })?;
    std::fs::write(&gate, "")?;
    assert_eq!(launcher.wait(&holding)?, 0, "{}", holding.output());
    assert_eq!(agent.ended()?.report.json["propagation"]["cut"], 0);

    let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = options.argument("--propagate-drain").argument("100ms").start()?;
    let never = directory.path().join("never");
    let holding = held(&mut launcher, &mirror, &never.to_string_lossy())?;
    assert_eq!(propagation(agent)?["cut"], 1);
    holding.signal(Signal::KILL)?;
    launcher.wait(&holding)?;
    Ok(())
}
