//! `cargo xtask demo`: one trace through a stack of services that nobody instrumented.
//!
//! nginx → Flask under gunicorn → Node → Go. The services hand a `traceparent` on when they get
//! one, as many do, so the demo's one request shows as one trace.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use tracer_tests::service::{self, Gunicorn, Nginx, Service};
use tracer_tests::{AgentOptions, Backend, http, layout, port};

use crate::privilege;
use crate::setup::{self, Part};
use crate::shell::{build_agent, note, step};

/// Server and client spans of nginx, gunicorn and Node, and the server span of Go.
const SPANS: usize = 7;
const REQUEST: &str = "/checkout/teapot";
const ROUTES: [&str; 3] = ["/checkout/{item}", "/prices/{item}", "/stock/{item}"];
const WARM_UP: usize = 5;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Port of the front door [default: a free one]
    #[arg(long)]
    port: Option<u16>,
    /// Set-up and build are done; only run
    #[arg(long, hide = true)]
    prepared: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.prepared {
        setup::ensure(&[Part::Build, Part::Demo])?;
        build_agent()?;
        // Compiled before root comes into play, so that no file of root's is left behind.
        service::go_program(&source("stock/stock.go"))?;
    }
    if privilege::rerun_as_root("loading eBPF programs into the kernel", &["--prepared"])? {
        return Ok(());
    }
    step("Starting nginx, gunicorn/Flask, Node and Go on loopback");
    let stack = Stack::start(arguments.port)?;
    for (name, service) in stack.services() {
        note(format!("{name:<9} pid {:<7} {}", service.pid(), service.url("")));
    }
    // Imports, just-in-time compilers and connection pools shall not be what the trace shows.
    for _ in 0..WARM_UP {
        stack.request(&[])?;
    }

    step("Starting the agent on these processes and no others");
    let mut options = AgentOptions::new(Backend::Auto).exporter("console").show_stdout();
    for (_, service) in stack.services() {
        options = options.pid(service.pid());
    }
    for route in ROUTES {
        options = options.argument("--route").argument(route);
    }
    let mut agent = options.start()?;

    let trace = random_hex(32)?;
    step(format!("GET {REQUEST} from nginx, as part of trace {trace}"));
    let traceparent = format!("00-{trace}-{}-01", random_hex(16)?);
    let body = stack.request(&[("traceparent", &traceparent)])?;
    note(format!("it answered {}", body.trim()));
    let spans = agent.wait_for_spans(SPANS)?.of_trace(&trace);
    // Lets the console exporter, which waits for a trace to be complete, print it.
    let finished = agent.stop()?;
    ensure!(
        spans.len() == SPANS,
        "expected {SPANS} spans of trace {trace}, got:\n{}",
        finished.spans
    );

    step(format!(
        "{} spans, {} lost; everything is stopped again",
        spans.len(),
        finished.report.lost()
    ));
    Ok(())
}

/// The services, front door first.
struct Stack {
    front: Service,
    shop: Service,
    prices: Service,
    stock: Service,
}

impl Stack {
    fn start(port: Option<u16>) -> Result<Self> {
        if let Some(port) = port {
            ensure!(
                !port::is_open(port::loopback(port)),
                "port {port} is in use; choose another with --port, or leave it out"
            );
        }
        let stock = service::go(&source("stock/stock.go"), &[])?;
        let prices =
            service::node_with(&source("prices/prices.mjs"), &[("STOCK_URL", &stock.url(""))])?;
        let shop = Gunicorn::default()
            .source(&source("shop/shop.py"))
            .env("PRICES_URL", &prices.url(""))
            .start()?;
        let mut nginx = Nginx::proxy(&shop.url(""))?;
        if let Some(port) = port {
            nginx = nginx.port(port);
        }
        Ok(Self { front: nginx.start()?, shop, prices, stock })
    }

    fn services(&self) -> [(&'static str, &Service); 4] {
        [
            ("nginx", &self.front),
            ("gunicorn", &self.shop),
            ("node", &self.prices),
            ("go", &self.stock),
        ]
    }

    /// Sends the demo's request through the front door.
    fn request(&self, headers: &[(&str, &str)]) -> Result<String> {
        let response = http::get(self.front.address(), REQUEST, headers)?;
        ensure!(response.status == 200, "the stack answered {response:?}\n{}", self.shop.log());
        Ok(response.body)
    }
}

fn source(name: &str) -> PathBuf {
    layout::workspace().join("demo").join(name)
}

/// Random hexadecimal digits, at most 32.
fn random_hex(digits: usize) -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    // The last digits: the first ones hold the UUID's constant version digit.
    let hex: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    Ok(hex[hex.len() - digits..].to_owned())
}
