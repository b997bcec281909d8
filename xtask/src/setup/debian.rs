//! System packages, by apt. The only part of set-up that needs root.
//!
//! Packages of servers would start them at once and at every boot; both are prevented for those
//! installed here. What is installed already is left as it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Part;
use crate::privilege::as_root;
use crate::shell::{self, command, note, output, run, step, succeeds};

/// Asked by package scripts before they start a service; 101 forbids.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_CONTENT: &str =
    "#!/bin/sh\n# Placed by `cargo xtask setup` while it installs.\nexit 101\n";
/// Packages below, by patterns of `dpkg-query`, that bring a service along: of the same name, or of
/// this one.
const SERVICES: [(&str, Option<&str>); 9] = [
    ("nginx", None),
    ("haproxy", None),
    ("apache2", None),
    ("php[0-9]*-fpm", None),
    ("prometheus", None),
    ("redis-server", None),
    ("postgresql", None),
    ("mariadb-server", Some("mariadb")),
    ("openssh-server", Some("ssh")),
];

const OLDEST_JAVA: u32 = 17;
const OLDEST_NODE: u32 = 18;

/// How to tell that something is there already.
enum Present {
    /// A program is found.
    Program(&'static str),
    /// `program --version` names at least this major version.
    Version(&'static str, u32),
    /// A command succeeds.
    Succeeds(&'static [&'static str]),
    /// The package itself is installed.
    Package,
}

struct Need {
    parts: &'static [Part],
    /// Packages that provide it, most wanted first.
    packages: &'static [&'static str],
    present: Present,
}

use Part::{Build, Demo, Links, Proxies, Test, Vm};

const NEEDS: [Need; 31] = [
    Need { parts: &[Build], packages: &["gcc"], present: Present::Program("cc") },
    Need { parts: &[Demo, Test, Vm], packages: &["nginx"], present: Present::Program("nginx") },
    Need {
        parts: &[Demo, Test],
        packages: &["python3-venv"],
        present: Present::Succeeds(&["python3", "-c", "import ensurepip, venv"]),
    },
    Need {
        parts: &[Demo, Test],
        packages: &["nodejs"],
        present: Present::Version("node", OLDEST_NODE),
    },
    Need { parts: &[Test], packages: &["npm"], present: Present::Program("npm") },
    Need { parts: &[Test], packages: &["nftables"], present: Present::Program("nft") },
    Need { parts: &[Demo, Test], packages: &["util-linux"], present: Present::Program("setpriv") },
    Need { parts: &[Test, Vm], packages: &["curl"], present: Present::Program("curl") },
    Need { parts: &[Test], packages: &["wrk"], present: Present::Program("wrk") },
    Need { parts: &[Test], packages: &["nghttp2-client"], present: Present::Program("h2load") },
    Need { parts: &[Test], packages: &["apache2-utils"], present: Present::Program("ab") },
    Need { parts: &[Test], packages: &["prometheus"], present: Present::Program("promtool") },
    Need { parts: &[Test], packages: &["haproxy"], present: Present::Program("haproxy") },
    Need { parts: &[Test], packages: &["iproute2"], present: Present::Program("ip") },
    Need { parts: &[Test], packages: &["redis-server"], present: Present::Program("redis-server") },
    Need { parts: &[Test], packages: &["postgresql"], present: Present::Package },
    Need { parts: &[Test], packages: &["mariadb-server"], present: Present::Program("mariadbd") },
    Need { parts: &[Test], packages: &["mariadb-client"], present: Present::Program("mariadb") },
    Need { parts: &[Test], packages: &["openssh-server"], present: Present::Program("sshd") },
    Need { parts: &[Test], packages: &["openssh-client"], present: Present::Program("scp") },
    Need {
        parts: &[Test],
        packages: &["openjdk-17-jdk-headless", "openjdk-21-jdk-headless", "default-jdk-headless"],
        present: Present::Version("javac", OLDEST_JAVA),
    },
    Need { parts: &[Links], packages: &["apache2-bin"], present: Present::Program("apache2") },
    Need { parts: &[Links], packages: &["libapache2-mod-php"], present: Present::Package },
    Need { parts: &[Links], packages: &["php-fpm"], present: Present::Package },
    Need { parts: &[Links], packages: &["php-curl"], present: Present::Package },
    Need { parts: &[Links], packages: &["puma"], present: Present::Program("puma") },
    Need { parts: &[Proxies], packages: &["iperf3"], present: Present::Program("iperf3") },
    Need {
        parts: &[Vm],
        packages: &["qemu-system-x86"],
        present: Present::Program("qemu-system-x86_64"),
    },
    Need { parts: &[Vm], packages: &["busybox-static"], present: Present::Package },
    Need { parts: &[Vm], packages: &["cpio"], present: Present::Program("cpio") },
    Need { parts: &[Vm], packages: &["dpkg"], present: Present::Program("dpkg-deb") },
];

impl Need {
    fn is_met(&self) -> bool {
        match self.present {
            Present::Program(program) => shell::find(program).is_some(),
            Present::Version(program, oldest) => {
                major_version(program).is_some_and(|version| version >= oldest)
            }
            Present::Succeeds(words) => succeeds(&mut command(words[0], &words[1..])),
            Present::Package => self.packages.iter().any(|package| is_installed(package)),
        }
    }
}

/// Installs the packages that these parts miss.
pub(crate) fn ensure(parts: &[Part]) -> Result<()> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.parts.iter().any(|part| parts.contains(part)) && !need.is_met())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    update_lists()?;
    let mut packages = Vec::new();
    for need in &missing {
        let available = need.packages.iter().find(|package| candidate(package).is_some());
        packages.push(*available.with_context(|| {
            format!("apt knows no package {}; install it by hand", need.packages.join(" or "))
        })?);
    }
    install_listed("servers, clients and tools to test with", &packages)?;
    for need in missing {
        if !need.is_met() {
            bail!("{} is installed but too old or unusable here", need.packages[0]);
        }
    }
    Ok(())
}

/// Installs packages by name.
pub(crate) fn install(what_for: &str, packages: &[&str]) -> Result<()> {
    if packages.iter().all(|package| is_installed(package)) {
        return Ok(());
    }
    update_lists()?;
    install_listed(what_for, packages)
}

/// Major and minor version that apt would install.
pub(crate) fn candidate_version(package: &str) -> Result<Option<(u32, u32)>> {
    if shell::find("apt-cache").is_none() {
        return Ok(None);
    }
    update_lists()?;
    Ok(candidate(package).and_then(|version| {
        // An epoch may stand before a colon.
        let upstream = version.rsplit(':').next()?.to_owned();
        let mut numbers = upstream.split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }))
}

/// Refreshes the package lists, once in a process.
pub(crate) fn update_lists() -> Result<()> {
    static DONE: std::sync::Once = std::sync::Once::new();
    if shell::find("apt-get").is_none() {
        bail!(
            "this set-up installs with apt, which is not here; install these yourself: {}",
            NEEDS.iter().map(|need| need.packages[0]).collect::<Vec<_>>().join(" ")
        );
    }
    let mut result = Ok(());
    DONE.call_once(|| {
        step("Refreshing apt's package lists (needs root)");
        result = as_root("refreshing apt's package lists", "apt-get").map(|mut apt| {
            // A failing third-party source need not matter; a missing package will be named.
            if let Err(error) = run(apt.args(["update", "-q"])) {
                note(format!("{error:#}; going on with the lists at hand"));
            }
        });
    });
    result
}

fn install_listed(what_for: &str, packages: &[&str]) -> Result<()> {
    step(format!("Installing Debian packages (needs root): {}", packages.join(" ")));
    let before = installed_services();
    {
        let _policy = ServicePolicy::forbid_starts()?;
        let mut apt = as_root(&format!("installing {what_for}"), "env")?;
        run(apt
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q"])
            .arg("--no-install-recommends")
            .args(packages))?;
    }
    let mut fresh = installed_services();
    fresh.retain(|service| !before.contains(service));
    keep_off(&fresh)
}

/// Disables services that came with the packages just installed.
fn keep_off(fresh: &[String]) -> Result<()> {
    for service in fresh {
        if Path::new("/run/systemd/system").exists() {
            let mut systemctl = as_root("disabling a service", "systemctl")?;
            run(systemctl.args(["disable", "--now", "--quiet", service]))?;
        }
        note(format!(
            "the {service} service was not started and stays off; only its program is used"
        ));
    }
    Ok(())
}

/// While it lives, packages do not start services. A policy that is there already is respected.
struct ServicePolicy {
    ours: bool,
}

impl ServicePolicy {
    fn forbid_starts() -> Result<Self> {
        let present = fs::read_to_string(POLICY).ok();
        // One of ours is left behind when set-up was killed.
        if present.as_deref().is_some_and(|content| content != POLICY_CONTENT) {
            return Ok(Self { ours: false });
        }
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), POLICY_CONTENT)?;
        let mut install = as_root("keeping packages from starting services", "install")?;
        run(install.args(["-m", "755"]).arg(file.path()).arg(POLICY))?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicePolicy {
    fn drop(&mut self) {
        if self.ours {
            let removed = as_root("removing a file placed by set-up", "rm")
                .and_then(|mut rm| run(rm.args(["-f", POLICY])));
            if let Err(error) = removed {
                note(format!("please remove {POLICY}: {error:#}"));
            }
        }
    }
}

fn candidate(package: &str) -> Option<String> {
    let policy =
        output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).ok()?;
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (line != "(none)").then(|| line.to_owned())
}

fn installed_services() -> Vec<String> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f=${db:Status-Status} ${Package}\\n"])
        .args(SERVICES.map(|(package, _)| package));
    // It fails when one pattern has no match, having listed the matches of the others.
    let listed = query.stderr(Stdio::null()).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let lines = String::from_utf8_lossy(&listed);
    let service = |package| {
        let named = SERVICES.into_iter().find(|(pattern, _)| *pattern == package);
        named.and_then(|(_, service)| service).unwrap_or(package)
    };
    let packages = lines.lines().filter_map(|line| line.strip_prefix("installed "));
    packages.map(|package| service(package).to_owned()).collect()
}

fn is_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn major_version(program: &str) -> Option<u32> {
    let text = output(Command::new(program).arg("--version")).ok()?;
    let digits = |character: char| character.is_ascii_digit();
    let begin = text.find(digits)?;
    text[begin..].split(|character: char| !digits(character)).next()?.parse().ok()
}
