//! The services that are measured: how each is started, able to work on so many requests at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use tracer_tests::layout::{self, links_source};
use tracer_tests::service::{self, FastCgi, Gunicorn, Java, Mpm, Nginx, PhpFpm, Service};

use super::driver::Entry;

/// Each worker is a Python interpreter of its own.
const MOST_GUNICORN_WORKERS: u32 = 32;
/// Threads or processes beside those that serve the expected connections.
const SPARE: u32 = 2;

/// What carries a request from its arrival to its calls, which decides what evidence there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// One thread or process does all of a request's work.
    Thread,
    /// A request's calls at once are made by other threads of the program's own.
    Handover,
    /// A loop turns between requests.
    Loop,
    /// Light tasks move between threads.
    Task,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::Thread, Self::Handover, Self::Loop, Self::Task];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Thread => "A thread or process for each request",
            Self::Handover => "A thread for each request, which hands calls to other threads",
            Self::Loop => "Event loops",
            Self::Task => "Tasks that move between threads",
        }
    }
}

/// What a service is started for.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) leaf: SocketAddr,
    pub(crate) at_once: u32,
}

/// The processes of a service.
pub(crate) enum Stack {
    One(Service),
    /// The calls are made behind the web server.
    Php(PhpFpm),
}

/// A service to measure.
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) entry: Entry,
    start: fn(Setting) -> Result<Stack>,
}

impl Stack {
    /// Where requests go.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::One(service) => service.address(),
            Self::Php(php) => php.nginx.address(),
        }
    }

    /// How many services a request passes through.
    pub(crate) fn services(&self) -> u32 {
        match self {
            Self::One(_) => 1,
            Self::Php(_) => 2,
        }
    }

    /// What the agent is to trace, with all descendants.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match self {
            Self::One(service) => vec![service.pid()],
            Self::Php(php) => vec![php.nginx.pid(), php.pool_pid()],
        }
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        match self {
            Self::One(service) => service.log(),
            Self::Php(php) => php.nginx.log() + &php.pool_log(),
        }
    }
}

impl Runtime {
    pub(crate) fn start(&self, setting: Setting) -> Result<Stack> {
        (self.start)(setting)
    }

    const fn new(name: &'static str, family: Family, start: fn(Setting) -> Result<Stack>) -> Self {
        Self { name, family, entry: Entry::Application, start }
    }

    const fn proxy(
        name: &'static str,
        family: Family,
        start: fn(Setting) -> Result<Stack>,
    ) -> Self {
        Self { name, family, entry: Entry::Proxy, start }
    }
}

use Family::{Handover, Loop, Task, Thread};

/// All services, in the order of the report.
pub(crate) const ALL: [Runtime; 28] = [
    Runtime::new("gunicorn-sync", Thread, |it| {
        wsgi(it).workers(it.at_once.min(MOST_GUNICORN_WORKERS)).start().map(Stack::One)
    }),
    Runtime::new("gunicorn-gthread", Thread, |it| {
        wsgi(it).threads(it.at_once + SPARE).start().map(Stack::One)
    }),
    Runtime::new("puma", Thread, |it| puma(it, &[])),
    Runtime::new("java-pool", Thread, |it| java(it, "pool")),
    Runtime::new("apache-php", Thread, |it| {
        service::apache_php(&page(), it.at_once, &[("LEAF", &it.leaf())]).map(Stack::One)
    }),
    Runtime::new("php-fpm", Thread, |it| php(it, FastCgi::Tcp)),
    Runtime::new("php-fpm-unix", Thread, |it| php(it, FastCgi::Unix)),
    Runtime::proxy("apache-prefork-proxy", Thread, |it| apache_proxy(it, Mpm::Prefork)),
    Runtime::proxy("apache-worker-proxy", Thread, |it| apache_proxy(it, Mpm::Worker)),
    Runtime::proxy("apache-event-proxy", Thread, |it| apache_proxy(it, Mpm::Event)),
    Runtime::new("gunicorn-executor", Handover, |it| {
        wsgi(it).threads(it.at_once + SPARE).env("FAN_OUT", "1").start().map(Stack::One)
    }),
    Runtime::new("puma-threads", Handover, |it| puma(it, &[("FAN_OUT", "1")])),
    Runtime::new("java-executor", Handover, |it| java(it, "executor")),
    Runtime::new("java-client", Handover, |it| java(it, "client")),
    Runtime::proxy("nginx", Loop, nginx),
    Runtime::proxy("haproxy", Loop, |it| service::haproxy(it.leaf, 2).map(Stack::One)),
    Runtime::new("node-http", Loop, |it| node(it, "http")),
    Runtime::new("node-undici", Loop, |it| node(it, "undici")),
    Runtime::new("node-fetch", Loop, |it| node(it, "fetch")),
    Runtime::new("asyncio-aiohttp", Loop, |it| aiohttp(it, "asyncio")),
    Runtime::new("asyncio-httpx", Loop, |it| asgi(it, "asyncio", "httpx")),
    Runtime::new("asyncio-to-thread", Loop, |it| asgi(it, "asyncio", "to_thread")),
    Runtime::new("uvloop-aiohttp", Loop, |it| aiohttp(it, "uvloop")),
    Runtime::new("uvloop-httpx", Loop, |it| asgi(it, "uvloop", "httpx")),
    Runtime::new("uvloop-to-thread", Loop, |it| asgi(it, "uvloop", "to_thread")),
    Runtime::new("java-virtual", Task, |it| java(it, "virtual")),
    Runtime::new("go", Task, |it| {
        let source = links_source("links_app.go");
        service::go(&source, &[("LEAF", &it.leaf())]).map(Stack::One)
    }),
    Runtime::new("tokio", Task, |it| {
        service::program(&tokio_program(), &[("LEAF", &it.leaf())]).map(Stack::One)
    }),
];

/// The example of the tests' package, as [`TOKIO_EXAMPLE`] is built for development.
pub(crate) const TOKIO_EXAMPLE: &str = "links_tokio";

fn tokio_program() -> PathBuf {
    layout::target().join("debug/examples").join(TOKIO_EXAMPLE)
}

fn page() -> PathBuf {
    links_source("index.php")
}

impl Setting {
    fn leaf(self) -> String {
        format!("http://{}", self.leaf)
    }
}

fn wsgi(setting: Setting) -> Gunicorn {
    Gunicorn::default().source(&links_source("wsgi_app.py")).env("LEAF", &setting.leaf())
}

fn asgi(setting: Setting, event_loop: &str, client: &str) -> Result<Stack> {
    let environment = [("LEAF", &*setting.leaf()), ("CLIENT", client)];
    let source = links_source("asgi_app.py");
    service::uvicorn_with(&source, &["--loop", event_loop], &environment).map(Stack::One)
}

fn aiohttp(setting: Setting, event_loop: &str) -> Result<Stack> {
    let environment = [("LEAF", &*setting.leaf()), ("LOOP", event_loop)];
    service::python(&links_source("aiohttp_app.py"), &environment).map(Stack::One)
}

fn node(setting: Setting, client: &str) -> Result<Stack> {
    let environment = [("LEAF", &*setting.leaf()), ("CLIENT", client)];
    service::node_with(&links_source("app.cjs"), &environment).map(Stack::One)
}

fn puma(setting: Setting, environment: &[(&str, &str)]) -> Result<Stack> {
    let leaf = setting.leaf();
    let environment = [environment, &[("LEAF", &*leaf)]].concat();
    let application = links_source("links_app.ru");
    service::puma(&application, setting.at_once + SPARE, &environment).map(Stack::One)
}

fn java(setting: Setting, kind: &str) -> Result<Stack> {
    let threads = setting.at_once + SPARE;
    Java {
        source: &links_source("LinksApp.java"),
        runtime: &layout::newest_java()?,
        // Without the first, its answers wait for a delayed acknowledgement.
        options: &["-Dsun.net.httpserver.nodelay=true", "-Dhttp.maxConnections=256"],
        arguments: &[kind, &threads.to_string()],
        environment: &[("LEAF", &setting.leaf())],
    }
    .start()
    .map(Stack::One)
}

fn php(setting: Setting, by: FastCgi) -> Result<Stack> {
    let processes = setting.at_once + SPARE;
    PhpFpm::start(&page(), processes, by, &[("LEAF", &setting.leaf())]).map(Stack::Php)
}

fn apache_proxy(setting: Setting, mpm: Mpm) -> Result<Stack> {
    service::apache_proxy(mpm, setting.leaf, setting.at_once).map(Stack::One)
}

fn nginx(setting: Setting) -> Result<Stack> {
    let upstream = format!("upstream leaf {{ server {}; keepalive 64; }}", setting.leaf);
    let location = "location / {
            proxy_pass http://leaf;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
        }";
    Nginx::new(location)?.http(&upstream).workers(2).start().map(Stack::One)
}
