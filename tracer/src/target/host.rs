//! The machine itself, read once at start.

use std::collections::HashMap;

use super::HostFs;

/// What resources say about the host and the operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `host.name`
    pub name: Option<String>,
    /// `host.id`, from `/etc/machine-id`.
    pub id: Option<String>,
    /// Changes at every boot: keeps instance ids of two boots apart.
    pub boot_id: Option<String>,
    /// `host.arch`, in the conventions' spelling.
    pub arch: &'static str,
    /// `os.name`
    pub os_name: Option<String>,
    /// `os.version`
    pub os_version: Option<String>,
    /// `os.description`: distribution and kernel release.
    pub os_description: Option<String>,
    /// Names of users by their id.
    pub(super) users: HashMap<u32, String>,
}

impl Host {
    /// Reads the host's own files; what is missing stays unknown.
    pub fn read(fs: &HostFs) -> Self {
        let line = |path: &str| {
            fs.read(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let release = fs.read("/etc/os-release").or_else(|| fs.read("/usr/lib/os-release"));
        let release = release.as_deref().unwrap_or_default();
        let distribution = os_release(release, "PRETTY_NAME");
        let kernel = line("/proc/sys/kernel/osrelease").map(|release| format!("Linux {release}"));
        let description: Vec<_> = distribution.into_iter().chain(kernel).collect();
        Self {
            name: line("/proc/sys/kernel/hostname"),
            id: line("/etc/machine-id").or_else(|| line("/var/lib/dbus/machine-id")),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            arch: architecture(std::env::consts::ARCH),
            os_name: os_release(release, "NAME").or_else(|| os_release(release, "ID")),
            os_version: os_release(release, "VERSION_ID"),
            os_description: (!description.is_empty()).then(|| description.join(", ")),
            users: users(&fs.read("/etc/passwd").unwrap_or_default()),
        }
    }
}

/// Rust's architecture names in the spelling of `host.arch`.
fn architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

fn users(passwd: &str) -> HashMap<u32, String> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        Some((id.parse().ok()?, name.to_owned()))
    };
    passwd.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    #[test]
    fn reads_what_the_host_says_of_itself() {
        let host = Host::read(&FakeHost::new().fs());
        assert_eq!(host.name.as_deref(), Some("web-1"));
        assert_eq!(host.id.as_deref(), Some("00112233445566778899aabbccddeeff"));
        assert_eq!(host.os_name.as_deref(), Some("debian"));
        assert_eq!(host.os_version.as_deref(), Some("12"));
        assert_eq!(host.os_description.as_deref(), Some("Debian 12, Linux 6.18.0"));
        assert_eq!(host.users.get(&33).map(String::as_str), Some("www-data"));
    }

    #[test]
    fn an_empty_host_is_merely_unknown() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let host = Host::read(&HostFs::new(root.path()));
        assert_eq!((host.name, host.id, host.os_description), (None, None, None));
    }

    #[test]
    fn architectures_are_spelled_as_the_conventions_do() {
        assert_eq!(architecture("x86_64"), "amd64");
        assert_eq!(architecture("aarch64"), "arm64");
        assert_eq!(architecture("s390x"), "s390x");
    }
}
