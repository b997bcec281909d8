//! Kernel packages, fetched with apt's own tools but apart from the system's apt: its sources,
//! lists and packages stay as they are. The mirror is the one the system itself uses.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::setup;
use crate::shell::{note, output, run};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that depends on a release's current cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// A Debian mirror, for systems whose own sources are not Debian's.
const MIRROR_VARIABLE: &str = "TRACER_DEBIAN_MIRROR";

/// A kernel of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 11
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// Debian's development release
    #[value(name = "newest")]
    Newest,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        })
    }
}

impl Kernel {
    fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Newest => "sid",
        }
    }

    /// What the kernel's release string starts with.
    pub(crate) fn release_prefix(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10.",
            Self::V6_1 => "6.1.",
            Self::V6_12 => "6.12.",
            Self::Newest => "",
        }
    }

    /// Backends that must work on it; the socket tracepoints came with 6.3.
    pub(crate) fn backends(self) -> &'static [&'static str] {
        match self {
            Self::V5_10 | Self::V6_1 => &["syscall"],
            Self::V6_12 | Self::Newest => &["socket", "syscall"],
        }
    }

    /// Whether connections can be redirected; the programs need what came with 5.19.
    pub(crate) fn propagates(self) -> bool {
        self != Self::V5_10
    }

    /// The bootable kernel, downloaded unless it was before.
    pub(crate) fn fetch(self, home: &Path, refresh: bool) -> Result<PathBuf> {
        let directory = home.join(self.to_string());
        if refresh && directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let tree = directory.join("tree");
        if let Some(binary) = kernel_in(&tree) {
            return Ok(binary);
        }
        let apt = PrivateApt::new(&directory, self.suite())?;
        run(apt.command("apt-get").args(["update", "-qq"]))?;
        let depends = output(apt.command("apt-cache").args(["depends", META_PACKAGE]))?;
        let release = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
            .find(|name| name.ends_with("-cloud-amd64"))
            .with_context(|| format!("{META_PACKAGE} depends on no kernel: {depends}"))?;
        // Newer releases keep the kernel itself in a package of its own.
        let binary = format!("linux-binary-{release}");
        let image = format!("linux-image-{release}");
        let split = output(apt.command("apt-cache").args(["show", &binary])).is_ok();
        let package = if split { binary } else { image };
        note(format!("fetching {package}"));
        let packages = directory.join("packages");
        fs::create_dir_all(&packages)?;
        run(apt.command("apt-get").args(["download", "-qq", &package]).current_dir(&packages))?;
        let mut files = packages.read_dir()?.flatten().map(|entry| entry.path());
        let file = files
            .find(|file| file.file_name().is_some_and(|name| has_prefix(name, &package)))
            .with_context(|| format!("apt-get downloaded no {package}"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(file).arg(&tree))?;
        kernel_in(&tree).with_context(|| format!("no kernel in {}", tree.display()))
    }
}

/// The kernel lies in `/boot`, or in newer packages beside its modules.
fn kernel_in(tree: &Path) -> Option<PathBuf> {
    let modules = ["lib/modules", "usr/lib/modules"].into_iter().flat_map(|place| {
        let releases = tree.join(place).read_dir().into_iter().flatten().flatten();
        releases.map(|entry| entry.path()).collect::<Vec<_>>()
    });
    let places = [tree.join("boot")].into_iter().chain(modules);
    let mut files = places.flat_map(|place| place.read_dir().into_iter().flatten().flatten());
    files.find(|file| has_prefix(&file.file_name(), "vmlinuz")).map(|file| file.path())
}

fn has_prefix(name: &OsStr, prefix: &str) -> bool {
    name.to_string_lossy().starts_with(prefix)
}

/// apt with its own sources, lists and state; the system's transport settings still apply.
struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install the package debian-archive-keyring"
        );
        let apt = directory.join("apt");
        for place in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(place))?;
        }
        fs::write(apt.join("status"), "")?;
        let mirror = mirror()?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(apt.join("sources.list"), source)?;
        let path = |name: &str| apt.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures::=amd64".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // Releases that are archived are not signed anew.
            "Acquire::Check-Valid-Until=false".to_owned(),
        ];
        Ok(Self { options: options.to_vec() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
}

/// Where this machine gets Debian packages from.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let find = || -> Result<Option<String>> {
        let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
        let targets = output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
        let debian = targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
        Ok(debian.map(str::to_owned))
    };
    if let Some(mirror) = find()? {
        return Ok(mirror);
    }
    // The origin is only known once the lists were fetched.
    setup::refresh_package_lists()?;
    find()?.with_context(|| {
        format!("none of this system's apt sources is Debian's: name a mirror in {MIRROR_VARIABLE}")
    })
}
