//! Compiles the kernel half for the BPF target and leaves the object in `OUT_DIR`, where the agent
//! includes it. Needs a Rust compiler with the library source and `bpf-linker`; `cargo xtask
//! setup` installs both.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "tracer-ebpf";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let source = manifest.parent().expect("the crate lies in the workspace").join("tracer-ebpf");
    println!("cargo::rerun-if-changed={}", source.join("src").display());
    println!("cargo::rerun-if-changed={}", source.join("Cargo.toml").display());

    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    assert!(
        architecture == "x86_64",
        "tracer reads system-call registers of x86_64 only; {architecture} is not supported yet"
    );
    let toolchain = Toolchain::find();
    let object = build(&toolchain, &source, &out.join("ebpf"), &architecture);
    std::fs::copy(&object, out.join(format!("{OBJECT}.o"))).expect("OUT_DIR is writable");
}

/// A compiler that can build `core` for the BPF target.
enum Toolchain {
    /// rustup's nightly with the `rust-src` component.
    Nightly,
    /// A distribution's compiler whose sysroot holds the library source.
    Distribution(PathBuf),
}

impl Toolchain {
    fn find() -> Self {
        if has_library_source(Command::new("rustup").args(["run", "nightly", "rustc"])) {
            return Self::Nightly;
        }
        let distribution = Path::new("/usr/bin/rustc");
        if has_library_source(&mut Command::new(distribution)) {
            return Self::Distribution(distribution.to_owned());
        }
        panic!(
            "no Rust compiler with the library source was found, which the eBPF programs need; \
             run `cargo xtask setup`, or `rustup component add rust-src --toolchain nightly`"
        );
    }
}

fn has_library_source(rustc: &mut Command) -> bool {
    let Ok(output) = rustc
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["--print", "sysroot"])
        .output()
    else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

fn build(toolchain: &Toolchain, source: &Path, target_dir: &Path, architecture: &str) -> PathBuf {
    let mut cargo = match toolchain {
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo"]);
            cargo.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
            cargo
        }
        Toolchain::Distribution(rustc) => {
            let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    // Flags meant for the host build do not apply to the BPF target.
    for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let flags = [
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    cargo.current_dir(source).args(["build", "--release", "--target", TARGET]);
    cargo.args(["-Z", "build-std=core", "--features", "programs", "--bin", OBJECT]);
    cargo.arg("--target-dir").arg(target_dir);
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run {cargo:?}: {error}"));
    assert!(
        status.success(),
        "building the eBPF programs failed; is `bpf-linker` on PATH? `cargo xtask setup` installs it"
    );
    target_dir.join(TARGET).join("release").join(OBJECT)
}
