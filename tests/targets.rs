//! Which processes are traced: every selector, what it leaves out, and what `tracer targets` says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::service::{Gunicorn, Nginx};
use tracer_tests::{
    AgentOptions, Cgroup, Launcher, Rotel, Service, Spans, layout, on_each_backend, port,
};

/// An nginx that answers everything, to be started.
fn greeter() -> Result<Nginx> {
    Nginx::new("location / { return 200 'hi'; }")
}

fn start_greeter() -> Result<Service> {
    greeter()?.start()
}

/// Requests from here, which nothing selects.
fn ask(service: &Service, count: usize) -> Result<()> {
    (0..count).try_for_each(|number| {
        let response = service.get(&format!("/{number}"))?;
        ensure!(response.status < 500, "{response:?}");
        Ok(())
    })
}

fn only_servers(spans: &Spans, service: &str, count: usize) {
    assert_eq!(spans.servers().of_service(service).len(), count, "{spans}");
    assert_eq!(spans.len(), count, "{spans}");
}

/// Protects: who serves the port when the agent starts is traced, nobody else.
#[test]
fn a_port_that_is_served_already() -> Result<()> {
    let (selected, other) = (start_greeter()?, start_greeter()?);
    on_each_backend(|backend| {
        let agent = AgentOptions::new(backend).port(selected.port()).start()?;
        ask(&other, 3)?;
        ask(&selected, 3)?;
        only_servers(&agent.stop_after(3)?.spans, "nginx", 3);
        Ok(())
    })
}

/// Protects: who serves the port only after the agent started is traced, nobody else.
#[test]
fn a_port_that_is_served_later() -> Result<()> {
    on_each_backend(|backend| {
        let number = port::free()?;
        let agent = AgentOptions::new(backend).port(number).start()?;
        let other = start_greeter()?;
        let nginx = greeter()?.port(number).start()?;
        ask(&other, 3)?;
        ask(&nginx, 3)?;
        only_servers(&agent.stop_after(3)?.spans, "nginx", 3);
        Ok(())
    })
}

/// Protects: workers that a master forked: the port is the master's, the requests are theirs.
#[test]
fn a_port_served_by_forked_workers() -> Result<()> {
    on_each_backend(|backend| {
        let early = Gunicorn::default().workers(3).start()?;
        let number = port::free()?;
        let agent = AgentOptions::new(backend).port(early.port()).port(number).start()?;
        let late = greeter()?.port(number).workers(3).start()?;
        for _ in 0..6 {
            early.get("/hello")?;
        }
        ask(&late, 6)?;
        let finished = agent.stop_after(12)?;
        let servers = finished.spans.servers();
        assert_eq!(servers.of_service("nginx").len(), 6, "{servers}");
        assert_eq!(servers.len(), 12, "{servers}");
        assert_eq!(servers.of_pid(early.pid()).len(), 0, "gunicorn's master serves nothing");
        assert_eq!(servers.of_pid(late.pid()).len(), 0, "nginx's master serves nothing");
        Ok(())
    })
}

/// Protects: a selected server's own calls are traced, those of its clients are not.
#[test]
fn a_port_selects_what_its_process_calls() -> Result<()> {
    let behind = start_greeter()?;
    let front = Nginx::proxy(&behind.url(""))?.start()?;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).port(front.port()).start()?;
        launcher.run(["curl", "-sS", &front.url("/[1-3]")])?.success()?;
        let finished = agent.stop_after(6)?;
        let spans = &finished.spans;
        assert_eq!((spans.servers().len(), spans.clients().len()), (3, 3), "{spans}");
        assert_eq!(spans.of_service("nginx").len(), 6, "{spans}");
        Ok(())
    })
}

/// Protects: a process is selected with its children and theirs, and without its siblings.
#[test]
fn a_process_with_all_its_descendants() -> Result<()> {
    let nginx = start_greeter()?;
    on_each_backend(|backend| {
        let mut selected = Launcher::start()?;
        let mut other = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(selected.pid()).start()?;
        let url = nginx.url("/");
        other.run(["curl", "-sS", &url])?.success()?;
        // A grandchild's child, by two shells.
        let nested = format!("sh -c 'curl -sS {url}; true'; true");
        selected.run(["sh", "-c", &nested])?.success()?;
        other.run(["curl", "-sS", &url])?.success()?;
        selected.run(["curl", "-sS", &url])?.success()?;
        let finished = agent.stop_after(2)?;
        assert_eq!(finished.spans.clients().of_service("curl").len(), 2);
        Ok(())
    })
}

/// Protects: a glob selects executables by name or by path, and no others.
#[test]
fn an_executable_by_glob() -> Result<()> {
    let nginx = start_greeter()?;
    let python = layout::python_program("python3")?;
    on_each_backend(|backend| {
        // A copy under a name of its own, so that no other process of the host matches.
        let directory = tempfile::tempdir()?;
        let copy = directory.path().join("special-curl");
        let curl = which("curl").context("no curl in `PATH`")?;
        fs::copy(curl, &copy)?;
        let copy = copy.to_string_lossy().into_owned();
        for glob in ["special-c*".to_owned(), format!("{}/*curl", directory.path().display())] {
            let mut launcher = Launcher::start()?;
            let agent = AgentOptions::new(backend).exe(&glob).start()?;
            launcher.run(["curl", "-sS", &nginx.url("/plain")])?.success()?;
            launcher.run([&copy, "-sS", &nginx.url("/special")])?.success()?;
            let script = format!("import urllib.request as u; u.urlopen('{}')", nginx.url("/py"));
            launcher.run([&*python.to_string_lossy(), "-c", &script])?.success()?;
            let finished = agent.stop_after(1)?;
            let span = finished.spans.only()?;
            assert_eq!(span.service(), "special-curl");
            assert_eq!(span.attributes.text("url.full"), Some(&*nginx.url("/special")));
        }
        Ok(())
    })
}

fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Protects: a control group is selected by either way to name it, with the groups below it.
#[test]
fn a_control_group_and_those_below() -> Result<()> {
    let nginx = start_greeter()?;
    on_each_backend(|backend| {
        let name = format!("tracer-test-{}-{backend}", std::process::id());
        let group = Cgroup::new(&name)?;
        let below = Cgroup::new(&format!("{name}/below"))?;
        let absolute = group.directory().to_string_lossy().into_owned();
        for path in [name.clone(), absolute] {
            let mut inside = Launcher::start()?;
            let mut deeper = Launcher::start()?;
            let mut outside = Launcher::start()?;
            group.add(inside.pid())?;
            below.add(deeper.pid())?;
            let options = AgentOptions::new(backend).argument("--cgroup").argument(&path);
            let agent = options.start()?;
            outside.run(["curl", "-sS", &nginx.url("/outside")])?.success()?;
            inside.run(["curl", "-sS", &nginx.url("/inside")])?.success()?;
            deeper.run(["curl", "-sS", &nginx.url("/deeper")])?.success()?;
            let finished = agent.stop_after(2)?;
            for path in ["/inside", "/deeper"] {
                let spans = finished.spans.with("url.full", &*nginx.url(path));
                assert_eq!(spans.len(), 1, "{path}: {}", finished.spans);
            }
        }
        drop(below);
        Ok(())
    })
}

/// Protects: by default everything is traced except the agent, whose exports would cause more of them.
#[test]
fn everything_but_the_agent() -> Result<()> {
    let nginx = start_greeter()?;
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let mut launcher = Launcher::start()?;
        let options = AgentOptions::new(backend).otlp_http(&rotel.http_endpoint());
        let mut agent = options.start()?;
        let marker = nginx.url("/everything/[1-5]");
        launcher.run(["curl", "-sS", &marker])?.success()?;
        // Exports of these spans have happened when they arrive; what those cause is seen by then
        // or with the second batch.
        rotel.wait_for_spans(10)?;
        launcher.run(["curl", "-sS", &nginx.url("/everything/6")])?.success()?;
        rotel.wait_for_spans(12)?;
        agent.wait_for_spans(12)?;
        let pid = agent.pid();
        let receiver = rotel.pid();
        let finished = agent.stop()?;
        let spans = &finished.spans;
        let own = spans.filter(|span| {
            let text = |name| span.attributes.text(name).unwrap_or_default();
            format!("{}{}", text("url.path"), text("url.full")).contains("/everything/")
        });
        assert_eq!((own.servers().len(), own.clients().len()), (6, 6), "{spans}");
        assert_eq!(spans.of_pid(pid).len(), 0, "the agent's own:\n{spans}");
        // The receiver's side of the exports is somebody else's process, and is not excluded: but
        // each of them must be an export, not an echo of one that grows.
        let received = spans.of_pid(receiver);
        assert!(received.len() <= 12, "{received}");
        Ok(())
    })
}

fn targets(arguments: &[&str]) -> Result<String> {
    let output = Command::new(layout::agent()?).arg("targets").args(arguments).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Protects: `tracer targets` lists what would be traced, what would not, and why.
#[test]
fn the_listing_says_who_and_why() -> Result<()> {
    let (selected, other) = (start_greeter()?, start_greeter()?);
    let port = selected.port().to_string();
    let json: Json = serde_json::from_str(&targets(&["--json", "--port", &port])?)?;
    let rows = json["processes"].as_array().context("no processes")?;
    let row = |pid: u32| rows.iter().find(|row| row["pid"] == pid);
    let master = row(selected.pid()).context("the selected master is not listed")?;
    assert_eq!(master["traced"], true, "{master}");
    assert_eq!(master["service_name"], "nginx");
    assert_eq!(master["ports"], serde_json::json!([selected.port()]));
    assert!(master["executable"].as_str().is_some_and(|path| path.ends_with("/nginx")));
    assert!(master["why"].as_str().is_some_and(|why| why.contains(&port)), "{master}");
    let left_out = row(other.pid()).context("the other master is not listed")?;
    assert_eq!(left_out["traced"], false, "{left_out}");
    assert_eq!(left_out["ports"], serde_json::json!([other.port()]));

    let table = targets(&["--port", &port])?;
    let line = |pid: u32| {
        let pid = pid.to_string();
        table.lines().find(|line| line.split_whitespace().next() == Some(&*pid))
    };
    let words = |pid| -> Result<Vec<&str>> {
        Ok(line(pid).with_context(|| table.clone())?.split_whitespace().collect())
    };
    assert_eq!(words(selected.pid())?[1..3], ["yes", "nginx"], "{table}");
    assert_eq!(words(other.pid())?[1..3], ["no", "nginx"], "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    Ok(())
}

/// Protects: `tracer targets` tells a stated service name from a derived one.
#[test]
fn the_listing_says_where_a_name_came_from() -> Result<()> {
    let named = Gunicorn::default().env("OTEL_SERVICE_NAME", "billing").start()?;
    let plain = Gunicorn::default().start()?;
    let pids = [named.pid().to_string(), plain.pid().to_string()];
    let json = targets(&["--json", "--pid", &pids[0], "--pid", &pids[1]])?;
    let json: Json = serde_json::from_str(&json)?;
    let rows = json["processes"].as_array().context("no processes")?;
    let row = |pid: u32| rows.iter().find(|row| row["pid"] == pid).context("not listed");
    assert_eq!(row(named.pid())?["service_name"], "billing");
    let sources = [row(named.pid())?, row(plain.pid())?].map(|row| &row["service_name_source"]);
    assert_ne!(sources[0], sources[1], "{json}");
    // Not called after its interpreter.
    let name = row(plain.pid())?["service_name"].as_str().unwrap_or_default();
    assert!(!name.starts_with("python"), "{name}");
    for pid in [named.pid(), plain.pid()] {
        assert_eq!(row(pid)?["traced"], true);
    }
    Ok(())
}

/// Protects: a mistaken selector stops the agent at once, and the message names it.
#[test]
fn a_target_that_does_not_exist_is_an_error() -> Result<()> {
    let output = Command::new(layout::agent()?).args(["run", "--pid", "999999999"]).output()?;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("999999999") && error.contains("no such process"), "{error}");
    let missing = ["run", "--cgroup", "no/such/group"];
    let output = Command::new(layout::agent()?).args(missing).output()?;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("no/such/group"), "{error}");
    Ok(())
}

/// Protects: nothing is traced that nothing selects, whichever backend looks.
#[test]
fn a_host_full_of_others_gives_nothing() -> Result<()> {
    let nginx = start_greeter()?;
    on_each_backend(|backend| {
        let mut idle = Launcher::start()?;
        let mut busy = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(idle.pid()).start()?;
        busy.run(["curl", "-sS", &nginx.url("/[1-50]")])?.success()?;
        // One of its own tells that the agent was awake.
        idle.run(["curl", "-sS", &nginx.url("/own")])?.success()?;
        let finished = agent.stop_after(1)?;
        let records = finished.report.json["kernel"]["records"].as_u64();
        assert!(records.is_some_and(|records| records < 20), "{}", finished.report.json);
        finished.report.assert_nothing_lost();
        Ok(())
    })
}
