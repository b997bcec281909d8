//! The initramfs: busybox, nginx, curl and the agent, with the libraries they need.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tracer_tests::layout;

use crate::shell::{find, output, run};

const INIT: &str = include_str!("init.sh");
const NGINX: &str = include_str!("nginx.conf");

/// Builds the image and gives its path.
pub(crate) fn build(home: &Path) -> Result<PathBuf> {
    let root = home.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in ["bin", "dev", "etc", "proc", "run", "srv", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let programs = [
        (find("busybox").context("busybox-static is not installed")?, "busybox"),
        (find("nginx").context("nginx is not installed")?, "nginx"),
        (find("curl").context("curl is not installed")?, "curl"),
        (layout::agent()?, "tracer"),
    ];
    for (program, name) in &programs {
        let inside = root.join("bin").join(name);
        fs::copy(program, &inside)?;
        for library in libraries(program) {
            let inside = root.join(library.strip_prefix("/")?);
            fs::create_dir_all(inside.parent().context("a library lies in a directory")?)?;
            fs::copy(&library, inside)?;
        }
    }
    symlink("busybox", root.join("bin/sh"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("etc/nginx.conf"), NGINX)?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::write(root.join("srv/hello"), "hello\n")?;

    let image = home.join("initramfs.gz");
    let script = "find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > \"$1\"";
    run(Command::new("sh").args(["-ec", script, "pack"]).arg(&image).current_dir(&root))?;
    Ok(image)
}

/// Shared libraries of a program, its loader included; none for a static one.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env_remove("LD_LIBRARY_PATH");
    // ldd fails on static programs.
    let listing = output(&mut ldd).unwrap_or_default();
    let paths = listing.lines().filter_map(|line| {
        let path = line.split("=> ").last()?.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    paths.collect()
}
