//! `--propagate proxy` between hosts: three network namespaces with an agent each that sees nothing
//! of the others. What joins their spans is what goes over the wire.
//!
//! Every request carries a tag in its query, and so does every call that it causes: the agents do
//! not look at it, the tests do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use tracer_tests::http::calling;
use tracer_tests::service::{self, Gunicorn, Nginx};
use tracer_tests::{
    Agent, AgentOptions, Backend, Kind, Launcher, Namespace, Service, Span, Spans, assert_chains,
    layout, on_each_backend,
};

/// Requests at once, and how many of them in all.
const LOADS: [(usize, usize); 2] = [(1, 20), (32, 192)];
/// Enough to learn how the services work.
const WARM_UP: (usize, usize) = (1, 50);
/// Stands for a request's number, and needs no escaping.
const NUMBER: &str = "NUMBER";

/// A namespace that stands for a host, and how the one before it in the chain reaches it.
struct Host {
    namespace: Namespace,
    address: IpAddr,
}

/// The first one is reached by loopback.
fn hosts() -> Result<[Host; 3]> {
    let [one, two, three] = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
    let (to_two, to_three) = (one.connect(&two)?, two.connect(&three)?);
    two.publish()?;
    three.publish()?;
    Ok([(one, [127, 0, 0, 1].into()), (two, to_two), (three, to_three)]
        .map(|(namespace, address)| Host { namespace, address }))
}

impl Host {
    fn start(&self, start: impl FnOnce() -> Result<Service>) -> Result<Service> {
        self.namespace.in_it(start)
    }

    /// Where the host before this one finds a service of this one.
    fn url(&self, service: &Service, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(self.address, service.port()))
    }

    fn agent(&self, backend: Backend, pids: &[u32]) -> Result<Agent> {
        let options = AgentOptions::new(backend).inside(&self.namespace).propagate();
        // What the tests are about is that nothing goes wrong, not how fast a loaded machine is.
        let options = options.argument("--propagate-wait").argument("2s");
        pids.iter().fold(options, |options, pid| options.pid(*pid)).start()
    }
}

/// Sends requests with curl, whose path holds [`NUMBER`].
fn drive(launcher: &mut Launcher, url: &str, (at_once, count): (usize, usize)) -> Result<()> {
    let url = url.replace(NUMBER, &format!("[0-{}]", count - 1));
    let at_once = at_once.to_string();
    let options = ["-Z", "--parallel-immediate", "--parallel-max", &at_once, "-o", "/dev/null"];
    launcher.curl(options.into_iter().chain(["-f", "--no-progress-meter", &url]))?.success()?;
    Ok(())
}

/// The tag in what a span says of its URL.
fn tag_of(span: &Span) -> &str {
    let url = span.attributes.text("url.full").or_else(|| span.attributes.text("url.query"));
    let tag = url.and_then(|url| url.rsplit("tag-").next());
    tag.expect("every URL has a tag").trim_end_matches('-')
}

/// Each request is one trace: a chain of spans of these services, each the child of the one before.
fn assert_chains_of(hosts: &[Spans], count: usize, services: [&str; 3]) {
    let called = ["curl", services[0], services[1]];
    let links: Vec<_> = called
        .into_iter()
        .zip(services)
        .flat_map(|(caller, server)| [(caller, Kind::Client), (server, Kind::Server)])
        .collect();
    let mut requests: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in hosts.iter().flat_map(|spans| spans.iter()) {
        requests.entry(tag_of(span)).or_default().push(span);
    }
    assert_chains(&requests, count, &links);
}

/// Runs three services, `path` through which is what the first one is asked for.
fn check(hosts: &[Host; 3], services: &[Service; 3], names: [&str; 3], path: &str) -> Result<()> {
    on_each_backend(|backend| {
        for load in LOADS {
            let mut launcher = Launcher::start_in(&hosts[0].namespace)?;
            let url = services[0].url(path);
            let pids = |host: usize| {
                let curl = (host == 0).then_some(launcher.pid());
                curl.into_iter().chain([services[host].pid()]).collect::<Vec<_>>()
            };
            let agents: Vec<Agent> = (0..3)
                .map(|host| hosts[host].agent(backend, &pids(host)))
                .collect::<Result<_>>()?;
            drive(&mut launcher, &url.replace("tag-", "warm-tag-warm"), WARM_UP)?;
            drive(&mut launcher, &url, load)?;
            let counts = [3, 2, 1].map(|spans| spans * (load.1 + WARM_UP.1));
            let spans = agents.into_iter().zip(counts).map(|(agent, count)| {
                let spans = agent.finish(count)?;
                Ok(spans.filter(|span| !tag_of(span).starts_with("warm")))
            });
            assert_chains_of(&spans.collect::<Result<Vec<_>>>()?, load.1, names);
        }
        Ok(())
    })
}

/// Protects: threads, then an event loop, then goroutines, each on a host of its own.
#[test]
fn gunicorn_calls_node_calls_go() -> Result<()> {
    let hosts = hosts()?;
    let services = [
        hosts[0].start(|| Gunicorn::default().threads(32).start())?,
        hosts[1].start(|| service::node(&layout::service_source("node_server.cjs")))?,
        hosts[2].start(|| service::go(&layout::service_source("go_server.go"), &[]))?,
    ];
    let last = hosts[2].url(&services[2], &format!("/hello?tag-{NUMBER}-"));
    let path = calling(&hosts[1].url(&services[1], &calling(&last)));
    check(&hosts, &services, ["flask_app", "node_server", "go_server"], &path)
}

/// Protects: a proxy, then threads, then an event loop.
#[test]
fn nginx_calls_gunicorn_calls_node() -> Result<()> {
    let hosts = hosts()?;
    let last = hosts[2].start(|| service::node(&layout::service_source("node_server.cjs")))?;
    let middle = hosts[1].start(|| Gunicorn::default().threads(32).start())?;
    let upstream = hosts[1].url(&middle, "");
    let first = hosts[0]
        .start(|| Nginx::new(&format!("location / {{ proxy_pass {upstream}; }}"))?.start())?;
    let path = calling(&hosts[2].url(&last, &format!("/hello?tag-{NUMBER}-")));
    check(&hosts, &[first, middle, last], ["nginx", "flask_app", "node_server"], &path)
}

/// Protects: goroutines, then a proxy, then processes.
#[test]
fn go_calls_nginx_calls_gunicorn() -> Result<()> {
    let hosts = hosts()?;
    let last = hosts[2].start(|| Gunicorn::default().workers(2).start())?;
    let upstream = hosts[2].url(&last, "");
    let middle = hosts[1]
        .start(|| Nginx::new(&format!("location / {{ proxy_pass {upstream}; }}"))?.start())?;
    let first = hosts[0].start(|| service::go(&layout::service_source("go_server.go"), &[]))?;
    let path = calling(&hosts[1].url(&middle, &format!("/hello?tag-{NUMBER}-")));
    check(&hosts, &[first, middle, last], ["go_server", "nginx", "flask_app"], &path)
}
