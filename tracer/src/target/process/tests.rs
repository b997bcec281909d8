use super::*;
use crate::target::testing::{FakeHost, block};
use crate::trace::Value;

const ID: ResourceId = ResourceId(1);
const CONTAINER: &str = "8c6f3f5b7a0d4e1c9b2a6d5e4f3c2b1a0f9e8d7c6b5a49382716051423324150";

fn seen<'a>(arguments: &'a str, environment: &'a str) -> ProcessSeen<'a> {
    ProcessSeen {
        pid: Pid(7),
        parent: Pid(1),
        time: KernelTime(20_000_000_000),
        started: KernelTime(12_340_000_000),
        comm: "comm",
        arguments: arguments.as_bytes(),
        environment: environment.as_bytes(),
        cgroup: 0,
        selected: false,
    }
}

fn text<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    let (_, value) = process.resource.attributes.iter().find(|(key, _)| key == name)?;
    match value {
        Value::Text(text) => Some(text),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn a_live_process_has_a_full_resource() {
    let host = FakeHost::new();
    host.process(7)
        .stat("python3", 1, 1234)
        .executable("/usr/bin/python3.11")
        .link("cwd", "/srv/shop")
        .file("status", "Name:\tpython3\nUid:\t33\t33\t33\t33\n")
        .file("cgroup", "0::/system.slice/cron.service\n");
    let arguments = block(&["python3", "app.py", "--password=hunter2"]);
    let environment = block(&["OTEL_RESOURCE_ATTRIBUTES=team=a%20b,host.name=edge,os.type=plan9"]);
    let process = host.resolver().seen(&seen(&arguments, &environment), ID);
    assert_eq!(process.name_source, ServiceNameSource::Program);
    for (name, expected) in [
        ("service.name", "app"),
        ("team", "a b"),
        ("host.name", "edge"),
        ("os.type", "plan9"),
        ("process.executable.name", "python3.11"),
        ("process.executable.path", "/usr/bin/python3.11"),
        ("process.command", "python3"),
        ("process.owner", "www-data"),
        ("process.runtime.name", "cpython"),
        ("process.creation.time", "2026-11-21T10:00:12.340Z"),
        ("host.id", "00112233445566778899aabbccddeeff"),
        ("os.description", "Debian 12, Linux 6.18.0"),
        ("telemetry.sdk.name", "tracer"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.distro.name", "tracer"),
    ] {
        assert_eq!(text(&process, name), Some(expected), "{name}");
    }
    let attributes = &process.resource.attributes;
    assert!(attributes.contains(&("process.pid".into(), Value::Int(7))));
    let mut names: Vec<_> = attributes.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), attributes.len());
    assert!(!format!("{process:?}").contains("hunter2"));
}

#[test]
fn a_process_gone_in_5_ms_is_known_by_what_the_kernel_half_saw() {
    let host = FakeHost::new();
    let arguments = block(&["curl", "-u", "user:hunter2", "http://x/"]);
    let resolver = host.resolver();
    let process = resolver.seen(&seen(&arguments, "HOME=/root\0"), ID);
    assert_eq!(process.resource.service, "curl");
    assert_eq!(process.name_source, ServiceNameSource::Executable);
    assert_eq!(text(&process, "process.command"), Some("curl"));
    assert!(!format!("{process:?}").contains("hunter2"));
    let named = resolver.seen(&seen(&arguments, &block(&["OTEL_SERVICE_NAME=probe"])), ID);
    assert_eq!(named.resource.service, "probe");
    assert_eq!(named.name_source, ServiceNameSource::OtelServiceName);
    let bare = resolver.seen(&seen("", ""), ID);
    assert_eq!((&*bare.resource.service, bare.name_source), ("comm", ServiceNameSource::Comm));
}

#[test]
fn a_successor_of_the_same_id_is_not_mixed_in() {
    let host = FakeHost::new();
    host.process(7)
        .stat("nginx", 1, 5000)
        .executable("/usr/sbin/nginx")
        .environment(&["OTEL_SERVICE_NAME=other"]);
    let process = host.resolver().seen(&seen(&block(&["curl"]), ""), ID);
    assert_eq!(process.resource.service, "curl");
    assert_eq!(process.executable, None);
}

#[test]
fn what_the_kernel_half_had_to_cut_is_read_again() {
    let host = FakeHost::new();
    host.process(7)
        .stat("node", 1, 1234)
        .executable("/usr/bin/node")
        .arguments(&["node", "--import", "x", "feed.js"])
        .environment(&["A=1", "OTEL_SERVICE_NAME=whole"]);
    let process = host.resolver().seen(&seen("node\0--impo", "A=1\0OTEL_SERVICE_NAME=wh"), ID);
    assert_eq!(process.resource.service, "whole");
    host.process(7).environment(&["A=1"]);
    let process = host.resolver().seen(&seen("node\0--impo", "A=1\0"), ID);
    assert_eq!(process.resource.service, "feed");
}

#[test]
fn unusable_attributes_are_discarded_as_a_whole() {
    let host = FakeHost::new();
    let environment = block(&["OTEL_RESOURCE_ATTRIBUTES=service.name=x,team=%zz"]);
    let resolver = host.resolver();
    let process = resolver.seen(&seen(&block(&["curl"]), &environment), ID);
    assert_eq!(process.resource.service, "curl");
    assert_eq!(text(&process, "team"), None);
    assert_eq!(resolver.discarded_attributes(), 1);
}

#[test]
fn container_and_unit_come_before_the_program() {
    let host = FakeHost::new();
    let directory = host.process(7);
    directory.stat("node", 1, 1234).executable("/usr/bin/node");
    directory.file("cgroup", "0::/system.slice/shop-api.service\n");
    let process = host.resolver().running(Pid(7), KernelTime(20_000_000_000), ID).expect("alive");
    assert_eq!(process.resource.service, "shop-api");
    assert_eq!(process.name_source, ServiceNameSource::SystemdUnit);

    directory.file("cgroup", &format!("0::/system.slice/docker-{CONTAINER}.scope\n"));
    directory.file("status", "Uid:\t33\t33\t33\t33\n").environment(&["HOSTNAME=shop"]);
    let process = host.resolver().running(Pid(7), KernelTime(20_000_000_000), ID).expect("alive");
    assert_eq!(process.resource.service, "shop");
    assert_eq!(process.name_source, ServiceNameSource::Container);
    assert_eq!(text(&process, "container.id"), Some(CONTAINER));
    assert_eq!(text(&process, "process.owner"), Some("33"), "users are the container's own");
}

#[test]
fn one_process_has_one_instance_id_however_it_was_met() {
    let host = FakeHost::new();
    let gone = host.resolver().seen(&seen(&block(&["feed"]), ""), ID);
    host.process(7).stat("feed", 1, 1234).executable("/usr/bin/feed");
    let seen = host.resolver().seen(&seen(&block(&["feed"]), ""), ID);
    let running = host.resolver().running(Pid(7), KernelTime(20_000_000_000), ID).expect("alive");
    let id = text(&running, "service.instance.id");
    assert!(id.is_some());
    assert_eq!(text(&seen, "service.instance.id"), id);
    assert_eq!(text(&gone, "service.instance.id"), id);
}

#[test]
fn this_test_can_be_resolved() {
    let own = Pid(std::process::id());
    let process = Resolver::system().running(own, KernelTime(u64::MAX), ID).expect("alive");
    assert!(!process.resource.service.is_empty());
    assert!(text(&process, "process.creation.time").is_some());
    assert!(process.executable.is_some());
}
