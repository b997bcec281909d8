//! PHP-FPM: pages in processes of their own, reached by `FastCGI`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Nginx, Service, apache};
use crate::port;
use crate::process::Process;

const PROGRAMS: &str = "/usr/sbin";

/// Where PHP-FPM listens for its web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastCgi {
    /// On a loopback port.
    Tcp,
    /// On a Unix socket, as Debian's package is set up.
    Unix,
}

/// What becomes of a connection to PHP-FPM after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is closed, as nginx does unless told otherwise.
    Close,
    /// It is kept for the next one.
    Keep,
}

/// A pool of PHP processes and the nginx in front of it.
pub struct PhpFpm {
    /// What clients talk to.
    pub nginx: Service,
    pool: Process,
    listen: String,
    // Holds the page; removed last.
    _directory: TempDir,
}

impl PhpFpm {
    /// Serves one page for every path, by so many processes.
    pub fn start(
        page: &Path,
        processes: u32,
        by: FastCgi,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_with(page, processes, by, Reuse::Close, environment)
    }

    /// As [`PhpFpm::start`], and says what becomes of connections.
    pub fn start_with(
        page: &Path,
        processes: u32,
        by: FastCgi,
        reuse: Reuse,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tracer-php-").tempdir()?;
        let page = apache::publish(page, directory.path())?;
        let socket = directory.path().join("fpm.sock");
        let listen = match by {
            FastCgi::Tcp => format!("127.0.0.1:{}", port::free()?),
            FastCgi::Unix => socket.display().to_string(),
        };
        let configuration = directory.path().join("fpm.conf");
        fs::write(
            &configuration,
            format!(
                "[global]
error_log = /dev/stderr
log_level = warning
daemonize = no
[www]
listen = {listen}
listen.mode = 0666
user = nobody
pm = static
pm.max_children = {processes}
clear_env = no
catch_workers_output = yes
"
            ),
        )?;
        let mut command = Command::new(program()?);
        command.args(["--nodaemonize", "--fpm-config"]).arg(&configuration);
        command.envs(environment.iter().copied());
        let mut pool = Process::start("php-fpm", &command, &directory.path().join("log"))?;
        pool.wait_until("php-fpm to listen", |_| {
            let ready = match (by, listen.parse()) {
                (FastCgi::Tcp, Ok(address)) => port::is_open(address),
                _ => socket.exists(),
            };
            Ok(ready.then_some(()))
        })?;
        let upstream = match by {
            FastCgi::Tcp => listen.clone(),
            FastCgi::Unix => format!("unix:{listen}"),
        };
        let (keep, keepalive) = match reuse {
            Reuse::Close => ("off", ""),
            Reuse::Keep => ("on", "keepalive 64;"),
        };
        let nginx = Nginx::new(&format!(
            "client_max_body_size 10m;
        large_client_header_buffers 4 32k;
        location / {{
            fastcgi_pass php;
            fastcgi_keep_conn {keep};
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME {page};
        }}",
            page = page.display()
        ))?
        .http(&format!("upstream php {{ server {upstream}; {keepalive} }}"));
        Ok(Self { nginx: nginx.start()?, pool, listen, _directory: directory })
    }

    /// Where the pool listens: an address and port, or a path.
    pub fn listens_at(&self) -> &str {
        &self.listen
    }

    /// Process id of the pool's master.
    pub fn pool_pid(&self) -> u32 {
        self.pool.pid()
    }

    /// What the pool printed so far.
    pub fn pool_log(&self) -> String {
        self.pool.log()
    }
}

/// Debian's program has the version in its name.
fn program() -> Result<PathBuf> {
    let programs = fs::read_dir(PROGRAMS)?.flatten().map(|entry| entry.path());
    programs
        .filter(|path| path.to_string_lossy().contains("/php-fpm"))
        .max()
        .context("no php-fpm; run `cargo xtask setup`")
}
