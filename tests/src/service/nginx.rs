//! nginx with a configuration of the test's own.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Service;
use crate::port;

/// An nginx to be started.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use tracer_tests::service::Nginx;
///
/// let nginx = Nginx::new("location = /hello { return 200 'hello'; }")?.start()?;
/// assert_eq!(nginx.get("/hello")?.status, 200);
/// # Ok(())
/// # }
/// ```
pub struct Nginx {
    server: String,
    http: String,
    workers: u32,
    connections: u32,
    port: Option<u16>,
    tls: bool,
    directory: Arc<TempDir>,
}

impl Nginx {
    /// One worker, whose `server` block holds this beside its `listen` and `root`.
    pub fn new(server: &str) -> Result<Self> {
        let directory = Arc::new(tempfile::Builder::new().prefix("tracer-nginx-").tempdir()?);
        fs::create_dir(directory.path().join("root"))?;
        let (server, http) = (server.to_owned(), String::new());
        let connections = 1024;
        Ok(Self { server, http, workers: 1, connections, port: None, tls: false, directory })
    }

    /// Passes everything to an upstream: `http://127.0.0.1:8000`, `http://unix:/path`.
    pub fn proxy(upstream: &str) -> Result<Self> {
        Self::new(&format!("location / {{ proxy_pass {upstream}; }}"))
    }

    /// Adds directives to the `http` block: upstreams, further servers.
    #[must_use]
    pub fn http(mut self, directives: &str) -> Self {
        let _ = writeln!(self.http, "{directives}");
        self
    }

    /// Number of worker processes.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Connections that a worker serves at once.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Listens at this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Speaks TLS, with a certificate that nobody signed.
    pub fn tls(mut self) -> Result<Self> {
        let path = |name: &str| self.directory.path().join(name);
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(path("key.pem"))
            .arg("-out")
            .arg(path("certificate.pem"))
            .output()
            .context("cannot run `openssl`")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`openssl req` failed: {error}");
        self.tls = true;
        Ok(self)
    }

    /// Puts a static file under the document root.
    pub fn file(self, name: &str, content: &[u8]) -> Result<Self> {
        fs::write(self.directory.path().join("root").join(name), content)?;
        Ok(self)
    }

    /// Starts it.
    pub fn start(self) -> Result<Service> {
        let port = self.port.map_or_else(port::free, Ok)?;
        let configuration = self.directory.path().join("nginx.conf");
        fs::write(&configuration, self.configuration(port))?;
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(self.directory.path());
        command.arg("-c").arg(&configuration);
        Service::start_at("nginx", &command, port::loopback(port), self.directory)
    }

    fn configuration(&self, port: u16) -> String {
        let directory = self.directory.path().display();
        // Workers of a root nginx would otherwise become a user that cannot read the directory.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let (ssl, certificate) = if self.tls {
            let certificate = format!(
                "ssl_certificate {directory}/certificate.pem;\n        \
                 ssl_certificate_key {directory}/key.pem;"
            );
            (" ssl", certificate)
        } else {
            ("", String::new())
        };
        let Self { workers, connections, http, server, .. } = self;
        format!(
            "{user}
worker_processes {workers};
daemon off;
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type text/plain;
    {http}
    server {{
        listen 127.0.0.1:{port}{ssl};
        {certificate}
        root {directory}/root;
        {server}
    }}
}}
"
        )
    }
}
