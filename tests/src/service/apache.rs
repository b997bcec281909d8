//! Apache's HTTP server: PHP pages in its processes, or as a proxy.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Service;

const MODULES: &str = "/usr/lib/apache2/modules";
/// Processes and threads beside those that serve the expected connections.
const SPARE: u32 = 4;
/// Threads of a process of the threaded kinds.
const THREADS: u32 = 32;

/// How Apache serves many connections: its multi-processing module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpm {
    /// A process for each connection.
    Prefork,
    /// A thread for each connection.
    Worker,
    /// A thread for each request; connections wait at a poller.
    Event,
}

impl fmt::Display for Mpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefork => "prefork",
            Self::Worker => "worker",
            Self::Event => "event",
        })
    }
}

/// Serves one PHP page for all paths under `/plan/`, each connection in a process of its own.
pub fn apache_php(page: &Path, connections: u32, environment: &[(&str, &str)]) -> Result<Service> {
    let module = php_module()?;
    start(Mpm::Prefork, connections, environment, |directory| {
        let page = publish(page, directory)?;
        Ok(format!(
            "LoadModule alias_module {MODULES}/mod_alias.so
LoadModule php_module {}
AliasMatch ^/plan/ {page}
<FilesMatch \\.php$>
    SetHandler application/x-httpd-php
</FilesMatch>",
            module.display(),
            page = page.display()
        ))
    })
}

/// Passes everything to an upstream.
pub fn apache_proxy(mpm: Mpm, upstream: SocketAddr, connections: u32) -> Result<Service> {
    start(mpm, connections, &[], |_| {
        Ok(format!(
            "LoadModule proxy_module {MODULES}/mod_proxy.so
LoadModule proxy_http_module {MODULES}/mod_proxy_http.so
ProxyPass / http://{upstream}/"
        ))
    })
}

fn start(
    mpm: Mpm,
    connections: u32,
    environment: &[(&str, &str)],
    directives: impl FnOnce(&Path) -> Result<String>,
) -> Result<Service> {
    Service::start("apache", |port, directory| {
        let configuration = directory.join("apache.conf");
        let directives = directives(directory)?;
        let processes = processes(mpm, connections);
        fs::write(
            &configuration,
            format!(
                "ServerName localhost
ServerRoot {directory}
DocumentRoot {directory}
PidFile {directory}/pid
DefaultRuntimeDir {directory}
ErrorLog /dev/stderr
LogLevel warn
User #65534
Group #65534
Listen 127.0.0.1:{port}
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule mpm_{mpm}_module {MODULES}/mod_mpm_{mpm}.so
{processes}
{directives}
",
                directory = directory.display()
            ),
        )?;
        let mut command = Command::new("apache2");
        command.args(["-D", "FOREGROUND", "-d"]).arg(directory).arg("-f").arg(configuration);
        command.envs(environment.iter().copied());
        Ok(command)
    })
}

/// All of them from the beginning, so that none is started or ended meanwhile.
fn processes(mpm: Mpm, connections: u32) -> String {
    match mpm {
        Mpm::Prefork => {
            let all = connections + SPARE;
            format!(
                "StartServers {all}\nMinSpareServers 1\nMaxSpareServers {all}\n\
                 ServerLimit {all}\nMaxRequestWorkers {all}"
            )
        }
        Mpm::Worker | Mpm::Event => {
            let all = connections.div_ceil(THREADS) + 1;
            let threads = all * THREADS;
            format!(
                "ThreadsPerChild {THREADS}\nStartServers {all}\nMinSpareThreads 1\n\
                 MaxSpareThreads {threads}\nServerLimit {all}\nMaxRequestWorkers {threads}"
            )
        }
    }
}

/// Copies a page to where workers that are not root can read it.
pub(super) fn publish(page: &Path, directory: &Path) -> Result<PathBuf> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let copy = directory.join("index.php");
    fs::copy(page, &copy).with_context(|| format!("cannot copy {}", page.display()))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
    Ok(copy)
}

fn php_module() -> Result<PathBuf> {
    let modules = fs::read_dir(MODULES).context("no Apache modules; run `cargo xtask setup`")?;
    let names = modules.flatten().map(|entry| entry.path());
    names
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libphp") && name.ends_with(".so")
        })
        .max()
        .context("Apache has no PHP module; run `cargo xtask setup`")
}
