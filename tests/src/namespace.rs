//! A network namespace of a test's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A fresh network namespace with its loopback device up; removed with this guard. Processes
/// still inside keep it alive, so drop them first.
pub struct Namespace {
    name: String,
    number: u32,
}

impl Namespace {
    /// Creates one; needs root.
    pub fn new() -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracer-{}-{number}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, number };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Joins it to the namespace of this process by a pair of virtual devices, and gives its
    /// address there.
    pub fn join(&self) -> Result<IpAddr> {
        let process = std::process::id();
        let (near, far) =
            (format!("tr{process}n{}", self.number), format!("tr{process}f{}", self.number));
        // Of the block that is set aside for tests of networks.
        let [_, _, high, low] = process.to_be_bytes();
        let block = (self.number % 64) as u8 * 4;
        let address = |host| Ipv4Addr::new(198, 18 + high % 2, low, block + host);
        let subnet = |host| format!("{}/30", address(host));
        let name = self.name.as_str();
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name])?;
        ip(&["address", "add", &subnet(1), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", name, "address", "add", &subnet(2), "dev", &far])?;
        ip(&["-n", name, "link", "set", &far, "up"])?;
        Ok(address(2).into())
    }

    /// Joins two of them by a pair of virtual devices; gives the address of the other one.
    pub fn connect(&self, other: &Self) -> Result<IpAddr> {
        let (near, far) = (format!("to{}", other.number), format!("to{}", self.number));
        // Nobody else is on this network: pairs of addresses need only differ within a test.
        let address = |host| format!("198.51.100.{}", other.number % 60 * 4 + host);
        let (name, others) = (self.name.as_str(), other.name.as_str());
        ip(&["-n", name, "link", "add", &near, "type", "veth", "peer", &far, "netns", others])?;
        for (name, device, host) in [(name, &near, 1), (others, &far, 2)] {
            ip(&["-n", name, "address", "add", &format!("{}/30", address(host)), "dev", device])?;
            ip(&["-n", name, "link", "set", device, "up"])?;
        }
        Ok(address(2).parse()?)
    }

    /// Makes what listens on loopback inside reachable at all addresses, as container runtimes do.
    pub fn publish(&self) -> Result<()> {
        self.in_it(|| {
            let localnet = "/proc/sys/net/ipv4/conf/all/route_localnet";
            std::fs::write(localnet, "1").with_context(|| format!("cannot write {localnet}"))
        })?;
        self.nft(
            "table ip published {\n chain in {\n type nat hook prerouting priority -100;\n \
             ip daddr != 127.0.0.0/8 dnat to 127.0.0.1\n }\n}\n",
        )
    }

    /// Does something with this thread inside; processes that it starts are inside, too. They end
    /// with the thread that started them, so that has to be this one.
    pub fn in_it<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<T> {
        let enter =
            |file: &File| move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        let outside = File::open("/proc/thread-self/ns/net")?;
        enter(&File::open(format!("/run/netns/{}", self.name))?)?;
        let result = action();
        enter(&outside)?;
        result
    }

    /// Has the kernel track connections inside, as for a firewall.
    pub fn track_connections(&self) -> Result<()> {
        self.nft(
            "table inet tracking {\n chain out {\n type filter hook output priority 0;\n \
             ct state new accept\n }\n}\n",
        )
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.command("nft");
        let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().context("a pipe was asked for")?.write_all(rules.as_bytes())?;
        ensure!(nft.wait()?.success(), "nft refused its rules");
        Ok(())
    }

    /// The words before a command line that make it run inside.
    pub fn words(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), self.option(), "--".to_owned()]
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.option()).arg("--").arg(program);
        command
    }

    /// The option by which `nsenter` enters it.
    fn option(&self) -> String {
        format!("--net=/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the name is unique, so nobody stumbles over it.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run `ip`")?;
    ensure!(
        output.status.success(),
        "`ip {}` failed (network namespaces need root): {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
