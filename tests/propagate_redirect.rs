//! `--propagate proxy`: which connections go through the agent, and what both ends are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use tracer_tests::service::{self, Nginx};
use tracer_tests::wire::{self, end, play, send, shutdown, until};
use tracer_tests::{
    Agent, AgentOptions, Backend, Cgroup, Expected, Finished, Launcher, Mirror, Namespace, Rotel,
    layout, on_each_backend, wait,
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What a process is told of its own connection.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    peer: String,
    originals: Vec<Json>,
    redirected: bool,
    /// Its address as the server sees it.
    seen: String,
}

fn dial(launcher: &mut Launcher, way: &str, host: &str, port: u16) -> Result<Told> {
    let words = layout::python("dial.py", &["once", way, host, &port.to_string()])?;
    let output = launcher.run(words)?.success().with_context(|| format!("{way} {host}"))?;
    let told: Json = serde_json::from_str(&output.stdout)?;
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    Ok(Told {
        peer: text("peer"),
        originals: vec![told["original4"].clone(), told["original6"].clone()],
        redirected: told["redirected"].as_bool().context("no verdict")?,
        seen: text("seen"),
    })
}

fn start(launcher: &Launcher, backend: Backend) -> Result<Agent> {
    AgentOptions::new(backend).pid(launcher.pid()).propagate().start()
}

fn count(finished: &Finished, name: &str) -> u64 {
    finished.report.json["propagation"][name].as_u64().unwrap_or_default()
}

/// Connections that went straight for this reason.
fn straight(finished: &Finished, reason: &str) -> u64 {
    finished.report.json["propagation"]["straight"][reason].as_u64().unwrap_or_default()
}

/// Protects: however a process connects, it is told what it would be told without us.
#[test]
fn the_process_sees_the_peer_it_asked_for() -> Result<()> {
    let v4 = Mirror::start(SocketAddr::new(V4, 0))?;
    let v6 = Mirror::start(SocketAddr::new(V6, 0))?;
    let calls: Vec<(&str, &str, u16)> = [
        ("127.0.0.1", v4.port()),
        ("::ffff:127.0.0.1", v4.port()),
        ("0.0.0.0", v4.port()),
        ("::1", v6.port()),
        ("::", v6.port()),
    ]
    .into_iter()
    .flat_map(|(host, port)| {
        ["plain", "nonblocking", "fastopen", "fastopen-connect"].map(|way| (way, host, port))
    })
    .chain([("reused", "127.0.0.1", v4.port()), ("reused", "::1", v6.port())])
    .collect();
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let dial_all = |launcher: &mut Launcher| -> Result<Vec<Told>> {
            calls.iter().map(|(way, host, port)| dial(launcher, way, host, *port)).collect()
        };
        let without = dial_all(&mut launcher)?;
        let agent = start(&launcher, backend)?;
        let with = dial_all(&mut launcher)?;
        let finished = agent.stop()?;
        for ((call, without), with) in calls.iter().zip(&without).zip(&with) {
            assert!(!without.redirected && with.redirected, "{call:?}: {without:?}, {with:?}");
            assert_eq!(&Told { redirected: false, ..with.clone() }, without, "{call:?}");
        }
        // The first connections of the reused sockets went through, too.
        assert_eq!(count(&finished, "accepted"), calls.len() as u64 + 2, "{:?}", finished.report);
        Ok(())
    })
}

/// Protects: where connection tracking is at work, `SO_ORIGINAL_DST` names the destination; in
/// another network namespace as well, which gets a listener of its own.
#[test]
fn original_destination_in_another_namespace_with_connection_tracking() -> Result<()> {
    let namespace = Namespace::new()?;
    let address = namespace.join()?;
    namespace.track_connections()?;
    // On this side of the pair of devices: another host to those inside.
    let outside = Mirror::start(SocketAddr::new(first_of_subnet(address)?, 0))?;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start_in(&namespace)?;
        let host = outside.address().ip().to_string();
        let mapped = format!("::ffff:{host}");
        let dial_all = |launcher: &mut Launcher| -> Result<Vec<Told>> {
            [&host, &mapped]
                .into_iter()
                .map(|host| dial(launcher, "plain", host, outside.port()))
                .collect()
        };
        let without = dial_all(&mut launcher)?;
        // Not loopback, and within the default scope.
        let agent = AgentOptions::new(backend).pid(launcher.pid());
        let agent = agent.argument("--propagate").argument("proxy").start()?;
        let with = dial_all(&mut launcher)?;
        let finished = agent.stop()?;
        for (without, with) in without.iter().zip(&with) {
            assert!(with.redirected && !without.redirected, "{with:?}");
            assert_eq!(with.originals[0], format!("{host} {}", outside.port()), "{with:?}");
            // The connection that the agent makes comes from inside, too.
            assert_eq!(with.seen, address.to_string());
            assert_eq!(&Told { redirected: false, ..with.clone() }, without);
        }
        assert_eq!(count(&finished, "accepted"), 2);
        assert_eq!(finished.report.json["propagation"]["namespaces"]["opened"], 1);
        Ok(())
    })
}

/// The address of this end of [`Namespace::join`].
fn first_of_subnet(far: IpAddr) -> Result<IpAddr> {
    match far {
        IpAddr::V4(far) => Ok(Ipv4Addr::from_bits(far.to_bits() - 1).into()),
        IpAddr::V6(_) => anyhow::bail!("an IPv4 subnet"),
    }
}

/// Protects: a namespace whose first target comes later gets its listener then, and loses it with
/// the last one, so that the namespace can go.
#[test]
fn namespaces_come_and_go() -> Result<()> {
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = agent.env("TRACER_LOG", "tracer::proxy=info").start()?;
    let namespace = Namespace::new()?;
    let address = namespace.join()?;
    let mirror = Mirror::start(SocketAddr::new(first_of_subnet(address)?, 0))?;
    let (host, port) = (mirror.address().ip().to_string(), mirror.port().to_string());
    let mut words = namespace.words();
    words.extend(layout::python("dial.py", &["loop", "1", &host, &port])?);
    // It begins without a listener, connects straight, and is found by that.
    let looping = launcher.spawn(words)?;
    looping.wait_for("looping")?;
    wait::until("a listener in the namespace", || {
        Ok(agent.log().contains("listening in network namespace").then_some(()))
    })?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    looping.signal(Signal::TERM)?;
    let counts: Json = serde_json::from_str(&looping.wait_for("looped ")?)?;
    assert_eq!(counts["connect"], serde_json::json!({}), "{counts}");
    assert_eq!(counts["exchange"], serde_json::json!({}), "{counts}");
    assert!(counts["redirected"].as_u64() > Some(0), "{counts}");
    launcher.wait(&looping)?;
    wait::until("the namespace's listener to be closed", || {
        Ok(agent.log().contains("left network namespace").then_some(()))
    })?;
    let finished = agent.stop()?;
    let namespaces = &finished.report.json["propagation"]["namespaces"];
    assert_eq!((&namespaces["opened"], &namespaces["closed"]), (&1.into(), &1.into()));
    assert!(straight(&finished, "no_listener_in_namespace") > 0, "{:?}", finished.report);
    Ok(())
}

/// Protects: programs as people use them get through, and their spans name the server they asked
/// for, not the agent.
#[test]
fn spans_of_redirected_calls_name_the_destination() -> Result<()> {
    let callee = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
    let url = callee.url("/hello");
    on_each_backend(|backend| {
        let services = [
            ("nginx", Nginx::proxy(&format!("http://{}", callee.address()))?.start()?, "/hello"),
            ("node", service::node(&layout::service_source("node_server.cjs"))?, ""),
            ("go", service::go(&layout::service_source("go_server.go"), &[])?, ""),
            ("python", service::Gunicorn::default().start()?, ""),
        ];
        for (name, service, path) in services {
            let mut launcher = Launcher::start()?;
            let agent = AgentOptions::new(backend).pid(service.pid()).propagate().start()?;
            let path = if path.is_empty() { format!("/call?url={url}") } else { path.to_owned() };
            launcher.curl([service.url(&path)]).context(name)?;
            let finished = agent.stop_after(2).context(name)?;
            let clients = finished.spans.clients();
            let span = clients.only().context(name)?;
            assert_eq!(span.attribute("network.peer.port"), Some(&i64::from(callee.port()).into()));
            assert_eq!(span.attributes.text("network.peer.address"), Some("127.0.0.1"), "{name}");
            assert_eq!(count(&finished, "accepted"), 1, "{name}: {:?}", finished.report);
            finished.report.assert_nothing_lost();
        }
        let mut launcher = Launcher::start()?;
        let agent = start(&launcher, backend)?;
        launcher.curl([&url])?;
        let finished = agent.stop_after(1)?;
        Expected::client("GET", &url).status(200).check(finished.spans.only()?);
        assert_eq!(count(&finished, "accepted"), 1);
        Ok(())
    })
}

/// Protects: each accepted connection is known by the name that the capture's events have for it.
#[test]
fn accepted_connections_are_those_of_the_events() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(launcher.pid()).propagate();
        let agent = agent.env("TRACER_LOG", "tracer::proxy=debug,tracer::agent=debug").start()?;
        for _ in 0..5 {
            dial(&mut launcher, "plain", "127.0.0.1", mirror.port())?;
        }
        let log = agent.stop()?.log;
        let named = |message: &str| -> Vec<String> {
            let lines = log.lines().filter(|line| line.contains(message));
            lines
                .filter_map(|line| {
                    line.split("ConnId(").nth(1)?.split(')').next().map(str::to_owned)
                })
                .collect()
        };
        let (accepted, connecting) = (named("accepted"), named("connecting"));
        assert_eq!(accepted.len(), 5, "{log}");
        assert_eq!(accepted, connecting, "{log}");
        Ok(())
    })
}

/// Protects: protocols in which the server speaks first, ends and half-ends pass as they are.
#[test]
fn the_server_may_speak_first_and_ends_pass_through() -> Result<()> {
    let mut launcher = Launcher::start()?;
    let agent = start(&launcher, Backend::Auto)?;
    let greeting = [send("220 ready\r\n"), until("bye"), send("221 bye\r\n")];
    play(&mut launcher, &greeting, &[until("ready"), send("bye"), until("221 bye\r\n"), end()])?;
    let half = [end(), send("after the end"), shutdown()];
    play(&mut launcher, &half, &[send("all"), shutdown(), until("after the end"), end()])?;
    let reset = [until("x"), wire::reset()];
    play(&mut launcher, &reset, &[send("x"), wire::broken()])?;
    let finished = agent.stop()?;
    assert_eq!(count(&finished, "accepted"), 3);
    assert_eq!(count(&finished, "cut"), 0);
    Ok(())
}

/// Protects: only what the operator put in scope is redirected, and each reason is counted.
#[test]
fn the_scope_is_kept() -> Result<()> {
    let mirrors = [Mirror::start(SocketAddr::new(V4, 0))?, Mirror::start(SocketAddr::new(V4, 0))?];
    let [first, second] = mirrors.each_ref().map(Mirror::port);
    let redirected = |arguments: &[&str], host: &str| -> Result<(bool, bool, Finished)> {
        let mut launcher = Launcher::start()?;
        let mut options = AgentOptions::new(Backend::Auto).pid(launcher.pid());
        options = options.argument("--propagate").argument("proxy");
        for argument in arguments {
            options = options.argument(*argument);
        }
        let agent = options.start()?;
        let one = dial(&mut launcher, "plain", host, first)?.redirected;
        let other = dial(&mut launcher, "plain", host, second)?.redirected;
        Ok((one, other, agent.stop()?))
    };
    let local = "--propagate-loopback";
    let (one, other, finished) = redirected(&[], "127.0.0.1")?;
    assert_eq!((one, other, straight(&finished, "loopback")), (false, false, 2));
    let only = first.to_string();
    let (one, other, finished) = redirected(&[local, "--propagate-ports", &only], "127.0.0.1")?;
    assert_eq!((one, other, straight(&finished, "port_out_of_scope")), (true, false, 1));
    let (one, other, _) = redirected(&[local, "--propagate-except-ports", &only], "127.0.0.1")?;
    assert_eq!((one, other), (false, true));
    let except = [local, "--propagate-except", "127.0.0.1"];
    let (one, other, finished) = redirected(&except, "127.0.0.1")?;
    assert_eq!((one, other, straight(&finished, "address_out_of_scope")), (false, false, 2));
    let (one, ..) = redirected(&except, "::ffff:127.0.0.1")?;
    assert!(!one, "mapped addresses are IPv4 addresses");
    let none = [local, "--propagate-exe", "no-such-program"];
    let (one, other, finished) = redirected(&none, "127.0.0.1")?;
    assert_eq!((one, other, straight(&finished, "process_out_of_scope")), (false, false, 2));
    Ok(())
}

/// Protects: with `--propagate-exe`, a process that runs when the agent starts is chosen from its
/// first connection on.
#[test]
fn chosen_executables_are_redirected() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    let mut launcher = Launcher::start()?;
    let directory = tempfile::tempdir()?;
    let gate = directory.path().join("gate").to_string_lossy().into_owned();
    let port = mirror.port().to_string();
    let waiting = layout::python("dial.py", &["gated", &gate, "127.0.0.1", &port])?;
    let waiting = launcher.spawn(waiting)?;
    waiting.wait_for("waiting")?;
    let agent = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = agent.argument("--propagate-exe").argument("python3*").start()?;
    std::fs::write(&gate, "")?;
    assert_eq!(launcher.wait(&waiting)?, 0, "{}", waiting.output());
    assert!(waiting.output().contains("\"redirected\": true"), "{}", waiting.output());
    assert_eq!(count(&agent.stop()?, "accepted"), 1);
    Ok(())
}

/// Protects: members of selected cgroups are redirected from the first connection of a process on,
/// be the redirect attached to their cgroup alone or to the root, and nobody else is.
#[test]
fn members_of_cgroups_are_redirected() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    on_each_backend(|backend| {
        let name = format!("tracer-redirect-{}-{backend}", std::process::id());
        let group = Cgroup::new(&name)?;
        let below = Cgroup::new(&format!("{name}/below"))?;
        let other = Launcher::start()?;
        for with_other in [false, true] {
            let mut inside = Launcher::start()?;
            let mut deeper = Launcher::start()?;
            let mut outside = Launcher::start()?;
            group.add(inside.pid())?;
            below.add(deeper.pid())?;
            let mut options = AgentOptions::new(backend).propagate();
            options = options.argument("--cgroup").argument(&name);
            // With a selector of another kind, it has to be attached to the root.
            if with_other {
                options = options.pid(other.pid());
            }
            let agent = options.start()?;
            for (launcher, expected) in
                [(&mut inside, true), (&mut deeper, true), (&mut outside, false)]
            {
                let told = dial(launcher, "plain", "127.0.0.1", mirror.port())?;
                assert_eq!(told.redirected, expected, "{with_other}: {told:?}");
            }
            assert_eq!(count(&agent.stop()?, "accepted"), 2);
        }
        drop(below);
        Ok(())
    })
}

/// Protects: wrong scopes are refused with what is wrong about them.
#[test]
fn scopes_that_make_no_sense_are_refused() -> Result<()> {
    let refused = |arguments: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new(layout::agent()?);
        command.args(["run", "--pid", &std::process::id().to_string(), "--propagate", "proxy"]);
        let output = command.args(arguments).output()?;
        ensure!(!output.status.success(), "{arguments:?} was taken");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let error = refused(&["--propagate-to", "10.1.2.3/8"])?;
    assert!(error.contains("did you mean 10.0.0.0/8?"), "{error}");
    let error = refused(&["--propagate-ports", "http"])?;
    assert!(error.contains("is not a port or a range of ports"), "{error}");
    let both = ["--propagate-to", "10.0.0.0/8", "--propagate-except", "10.0.0.0/8"];
    let error = refused(&both)?;
    assert!(error.contains("leave one of them out"), "{error}");
    Ok(())
}

/// Protects: a socket that was made special before it connects goes straight: the agent's own
/// connection could not repeat that.
#[test]
fn special_sockets_go_straight() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    let mut launcher = Launcher::start()?;
    let agent = start(&launcher, Backend::Auto)?;
    for way in ["from-port", "from-address", "marked"] {
        assert!(!dial(&mut launcher, way, "127.0.0.1", mirror.port())?.redirected, "{way}");
    }
    assert_eq!(straight(&agent.stop()?, "bound_socket"), 3);
    Ok(())
}

/// Protects: what the agent itself connects to, its receivers and the destinations, is never
/// redirected, and two agents with the same targets do not send each other in circles.
#[test]
fn agents_do_not_redirect_agents() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    let rotel = Rotel::start()?;
    let mut launcher = Launcher::start()?;
    let exporting = || {
        let options = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
        options.otlp_http(&rotel.http_endpoint())
    };
    let first = exporting().start()?;
    // Its targets are those of the first one, and the first agent itself.
    let second = exporting().pid(first.pid()).start()?;
    for _ in 0..3 {
        let told = dial(&mut launcher, "plain", "127.0.0.1", mirror.port())?;
        assert_eq!(told.peer, format!("127.0.0.1 {}", mirror.port()));
        assert!(told.redirected);
    }
    let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
    launcher.curl([nginx.url("/hello")])?;
    let first = first.stop()?;
    let second = second.stop()?;
    let accepted = count(&first, "accepted") + count(&second, "accepted");
    assert!(accepted >= 4, "{} and {}", first.report.json, second.report.json);
    assert!(straight(&second, "agent_socket") > 0, "{}", second.report.json);
    Ok(())
}

/// Protects: beyond the number of connections that the agent serves, further ones go straight.
#[test]
fn beyond_the_limit_connections_go_straight() -> Result<()> {
    let mirror = Mirror::start(SocketAddr::new(V4, 0))?;
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(Backend::Auto).pid(launcher.pid()).propagate();
    let agent = agent.argument("--propagate-max-connections").argument("2").start()?;
    let directory = tempfile::tempdir()?;
    let gate = directory.path().join("gate").to_string_lossy().into_owned();
    let port = mirror.port().to_string();
    let mut held = Vec::new();
    for _ in 0..2 {
        let words = layout::python("dial.py", &["hold", "127.0.0.1", &port, &gate])?;
        let holding = launcher.spawn(words)?;
        holding.wait_for("held")?;
        held.push(holding);
    }
    assert!(!dial(&mut launcher, "plain", "127.0.0.1", mirror.port())?.redirected);
    std::fs::write(&gate, "")?;
    for holding in &held {
        assert_eq!(launcher.wait(holding)?, 0, "{}", holding.output());
    }
    wait::until("a redirected connection", || {
        let told = dial(&mut launcher, "plain", "127.0.0.1", mirror.port())?;
        Ok(told.redirected.then_some(()))
    })?;
    let finished = agent.stop()?;
    assert_eq!(count(&finished, "most_open"), 2);
    assert!(straight(&finished, "agent_not_accepting") >= 1);
    Ok(())
}
