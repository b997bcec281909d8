//! `tracer doctor`: what it says, and whether that is true.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value as Json;
use tracer_tests::{AgentOptions, Backend, Launcher, layout};

/// Tracepoints that both backends use.
const SHARED: [&str; 5] = [
    "inet_sock_set_state",
    "tcp_destroy_sock",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
];
/// Tracepoints of the socket backend alone.
const SOCKET: [&str; 3] = ["sock_send_length", "sock_recv_length", "tcp_rcv_space_adjust"];
/// Tracepoints of the system-call backend alone.
const SYSCALL: [&str; 1] = ["sys_exit"];

/// Runs the doctor under another program, which changes what it may do.
fn doctor(under: &[String], arguments: &[&str]) -> Result<Output> {
    let agent = layout::agent()?;
    let mut words = under.iter().map(AsRef::as_ref).chain([agent.as_os_str()]);
    let mut command = Command::new(words.next().context("no program")?);
    command.args(words).arg("doctor").args(arguments);
    command.output().context("cannot run the doctor")
}

fn json(under: &[String]) -> Result<(Output, Json)> {
    let output = doctor(under, &["--json"])?;
    let report =
        serde_json::from_slice(&output.stdout).with_context(|| format!("not JSON: {output:?}"))?;
    Ok((output, report))
}

/// `setpriv` that leaves root only these capabilities.
fn with_capabilities(kept: &[&str]) -> Vec<String> {
    let set = kept.iter().fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
    let bounding = format!("--bounding-set={set}");
    ["setpriv", &format!("--inh-caps={set}"), &bounding].map(str::to_owned).to_vec()
}

fn missing(report: &Json) -> BTreeSet<&str> {
    let missing = report["missing_capabilities"].as_array();
    missing.into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect()
}

#[test]
fn as_root_it_is_ready_and_lists_every_probe() -> Result<()> {
    let (output, report) = json(&[])?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report["backend"], "socket", "{report}");
    assert_eq!(report["btf"], true);
    assert_eq!(report["propagation"]["works"], true, "{report}");
    assert_eq!(missing(&report), BTreeSet::new());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    assert_eq!(report["kernel"], release.trim());
    let probes = report["probes"].as_array().context("no probes")?;
    let of = |backends: Json| -> BTreeSet<&str> {
        let of_them = probes.iter().filter(|probe| probe["backends"] == backends);
        of_them.filter_map(|probe| probe["tracepoint"].as_str()).collect()
    };
    assert_eq!(of(serde_json::json!(["socket", "syscall"])), BTreeSet::from(SHARED));
    assert_eq!(of(serde_json::json!(["socket"])), BTreeSet::from(SOCKET));
    assert_eq!(of(serde_json::json!(["syscall"])), BTreeSet::from(SYSCALL));
    for probe in probes {
        assert_eq!(probe["refused"], Json::Null, "{probe}");
    }
    // What it says of mounts is what the kernel says.
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let cgroup2 = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroup2 = cgroup2.filter(|fields| fields[2] == "cgroup2").map(|fields| fields[1]).next();
    assert_eq!(report["cgroup2"].as_str(), cgroup2);
    Ok(())
}

#[test]
fn its_text_says_the_same() -> Result<()> {
    let output = doctor(&[], &[])?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    for tracepoint in SHARED.iter().chain(&SOCKET).chain(&SYSCALL) {
        let line = text.lines().find(|line| line.contains(tracepoint));
        let line = line.with_context(|| format!("no {tracepoint} in\n{text}"))?;
        assert!(line.ends_with("ok"), "{line}");
    }
    assert!(text.contains("backend       socket\n"), "{text}");
    assert!(text.contains("propagation   --propagate proxy works"), "{text}");
    assert!(text.ends_with("`tracer run` will work here.\n"), "{text}");
    Ok(())
}

#[test]
fn its_verdict_is_the_truth() -> Result<()> {
    let (_, report) = json(&[])?;
    let launcher = Launcher::start()?;
    let finished = AgentOptions::new(Backend::Auto).pid(launcher.pid()).start()?.stop()?;
    assert_eq!(finished.report.json["backend"], report["backend"]);
    Ok(())
}

#[test]
fn without_any_privilege_it_names_what_is_missing() -> Result<()> {
    // The build directory may be closed to other users; the binary is what is tested.
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("tracer");
    std::fs::copy(layout::agent()?, &copy)?;
    open_to_all(directory.path())?;
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        command.arg(&copy).args(arguments).output()
    };
    let output = as_nobody(&["doctor", "--json"])?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Json = serde_json::from_slice(&output.stdout)?;
    let all = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];
    assert_eq!(missing(&report), BTreeSet::from(all));
    assert_eq!(report["backend"], Json::Null);
    let text = String::from_utf8(as_nobody(&["doctor"])?.stdout)?;
    let last = text.lines().last().unwrap_or_default();
    assert!(all.iter().all(|name| last.contains(name)), "{text}");

    // And `run` fails where the doctor says it would, saying what to do.
    let output = as_nobody(&["run", "--port", "9"])?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("tracer doctor") || error.contains("CAP_BPF"), "{error}");
    Ok(())
}

fn open_to_all(directory: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?)
}

#[test]
fn one_missing_capability_is_named_alone() -> Result<()> {
    let all = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];
    for (index, dropped) in all.iter().enumerate() {
        let kept: Vec<&str> = all.iter().filter(|name| *name != dropped).copied().collect();
        let under = with_capabilities(&kept);
        let (output, report) = json(&under)?;
        let expected = format!("CAP_{}", dropped.to_uppercase());
        assert_eq!(missing(&report), BTreeSet::from([&*expected]), "{report}");
        // Without the first two nothing can be attached; the others only make names poorer.
        let ready = index >= 2;
        assert_eq!(output.status.success(), ready, "without {dropped}: {report}");
        assert_eq!(report["backend"].is_null(), !ready, "without {dropped}: {report}");
    }
    Ok(())
}

#[test]
fn the_four_capabilities_are_enough_to_run() -> Result<()> {
    let under = with_capabilities(&["bpf", "perfmon", "sys_ptrace", "dac_read_search"]);
    let (output, report) = json(&under)?;
    assert!(output.status.success(), "{report}");
    assert_eq!(missing(&report), BTreeSet::new());
    assert_eq!(report["backend"], "socket");
    // To redirect connections takes one more.
    let refused = report["propagation"]["refused"].as_str().unwrap_or_default();
    assert!(refused.contains("CAP_NET_ADMIN"), "{report}");
    let under =
        with_capabilities(&["bpf", "perfmon", "sys_ptrace", "dac_read_search", "net_admin"]);
    let (_, report) = json(&under)?;
    assert_eq!(report["propagation"]["works"], true, "{report}");
    Ok(())
}

#[test]
fn propagation_is_refused_where_the_doctor_says_so() -> Result<()> {
    let under = with_capabilities(&["bpf", "perfmon", "sys_ptrace", "dac_read_search"]);
    let agent = layout::agent()?;
    let mut words = under.iter().map(AsRef::as_ref).chain([agent.as_os_str()]);
    let mut command = Command::new(words.next().context("no program")?);
    command.args(words).args(["run", "--pid", &std::process::id().to_string()]);
    let output = command.args(["--propagate", "proxy"]).output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("cannot keep its promises here"), "{error}");
    assert!(error.contains("CAP_NET_ADMIN"), "{error}");
    Ok(())
}
