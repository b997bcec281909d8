//! Which connections are redirected, by destination: what a user wrote, checked, and the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::capture::{AddressRange, Range, RedirectScope};

/// TCP ports there are.
const PORTS: usize = 65_536;
/// Ranges the kernel half has room for.
const MAX_RANGES: usize = tracer_ebpf::redirect::RANGES as usize;

/// Addresses that are redirected unless the user names others: those that the registries of
/// special-purpose addresses (RFC 6890) keep from being reached globally. Who is beyond them has
/// no use for this site's trace context, and often is not to know of it.
const DEFAULT_INSIDE: [&str; 10] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fc00::/7",
    "2001:db8::/32",
];
/// The host itself.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// Of a link-local IPv6 address the kernel half cannot tell which link is meant; the others are no
/// addresses of TCP.
const NEVER: [&str; 4] = ["fe80::/10", "ff00::/8", "224.0.0.0/4", "255.255.255.255/32"];

/// Ports that carry no HTTP/1 or unencrypted HTTP/2: for these the agent could only be one more
/// hop.
const DEFAULT_OUTSIDE: [u16; 36] = [
    // Shells, mail, names, directories, time.
    22, 23, 25, 53, 88, 110, 123, 143, 389, 465, 587, 636, 993, 995,
    // HTTP and other things over TLS.
    443, 853, 6443, 8443, 5671, 8883, // Databases, caches, queues and their like.
    1433, 1521, 1883, 2181, 3306, 4222, 5432, 5672, 6379, 6380, 9042, 9092, 9300, 11211, 26379,
    27017,
];

/// Why a scope was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not a port or range of ports.
    #[error("`{0}` is not a port or a range of ports; give 8080 or 8000-8099")]
    Ports(String),
    /// Not an address or network.
    #[error("`{0}` is not an IP address or network; give 10.1.2.3, 10.1.0.0/16 or fd00::/8")]
    Network(String),
    /// Bits set beyond the prefix.
    #[error("`{given}` has bits set beyond its prefix; did you mean {meant}?")]
    HostBits {
        /// What was written.
        given: String,
        /// Without those bits.
        meant: Network,
    },
    /// In and out at once.
    #[error("{0} is both in --propagate-to and in --propagate-except; leave one of them out")]
    Contradiction(Network),
    /// Cannot be redirected.
    #[error(
        "--propagate-to {0}: connections there cannot be redirected, for link-local and multicast \
         addresses do not say all of where they lead"
    )]
    Never(Network),
    /// More than fit.
    #[error("{0} networks are given; {MAX_RANGES} is the limit, loopback and the like included")]
    ManyRanges(usize),
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// An address with the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// IPv4 in its mapped form.
    prefix: Ipv6Addr,
    bits: u8,
}

/// What a user wants redirected; the default is what a cautious one would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only these ports; if empty, all but those known to carry something else.
    pub ports: Vec<PortRange>,
    /// Not these.
    pub except_ports: Vec<PortRange>,
    /// Only these networks; if empty, those that are not reachable globally.
    pub networks: Vec<Network>,
    /// Not these. Of two networks that hold an address, the smaller one decides.
    pub except_networks: Vec<Network>,
    /// Connections to the host itself, too.
    pub loopback: bool,
}

impl Scope {
    /// In the form that the kernel half takes.
    pub fn resolve(&self) -> Result<RedirectScope, ScopeError> {
        Ok(RedirectScope { ports: self.ports(), ranges: self.ranges()? })
    }

    fn ports(&self) -> Vec<bool> {
        let mut ports = vec![self.ports.is_empty(); PORTS];
        let mut set = |range: &PortRange, inside| {
            ports[usize::from(range.first)..=usize::from(range.last)].fill(inside);
        };
        if self.ports.is_empty() {
            DEFAULT_OUTSIDE.map(PortRange::from).iter().for_each(|range| set(range, false));
        }
        self.ports.iter().for_each(|range| set(range, true));
        self.except_ports.iter().for_each(|range| set(range, false));
        set(&PortRange::from(0), false);
        ports
    }

    fn ranges(&self) -> Result<Vec<AddressRange>, ScopeError> {
        let mut ranges = BTreeMap::new();
        let inside = if self.networks.is_empty() {
            built_in(&DEFAULT_INSIDE)
        } else {
            self.networks.clone()
        };
        ranges.extend(inside.into_iter().map(|network| (network, Range::Inside)));
        let loopback = if self.loopback { Range::Inside } else { Range::Loopback };
        ranges.extend(built_in(&LOOPBACK).into_iter().map(|network| (network, loopback)));
        for network in &self.except_networks {
            if self.networks.contains(network) {
                return Err(ScopeError::Contradiction(*network));
            }
            ranges.insert(*network, Range::Outside);
        }
        for never in built_in(&NEVER) {
            if let Some(given) = self.networks.iter().find(|given| given.is_within(&never)) {
                return Err(ScopeError::Never(*given));
            }
            ranges.insert(never, Range::Outside);
        }
        if ranges.len() > MAX_RANGES {
            return Err(ScopeError::ManyRanges(ranges.len()));
        }
        let range = |(network, kind): (Network, Range)| AddressRange {
            prefix: network.prefix,
            bits: network.bits,
            kind,
        };
        Ok(ranges.into_iter().map(range).collect())
    }
}

/// Networks that stand in this file.
fn built_in(written: &[&str]) -> Vec<Network> {
    // That none of them is refused is tested below.
    written.iter().filter_map(|network| network.parse().ok()).collect()
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let port = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port != 0);
        let range = match text.split_once('-') {
            None => port(text).map(Self::from),
            Some((first, last)) => port(first)
                .zip(port(last))
                .filter(|(first, last)| first <= last)
                .map(|(first, last)| Self { first, last }),
        };
        range.ok_or_else(|| ScopeError::Ports(text.to_owned()))
    }
}

impl Network {
    fn is_within(&self, other: &Self) -> bool {
        self.bits >= other.bits && masked(self.prefix, other.bits) == other.prefix
    }
}

fn masked(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Ipv6Addr::from(u128::from(address) & mask)
}

impl FromStr for Network {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refused = || ScopeError::Network(text.to_owned());
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| refused())?)),
            None => (text.trim(), None),
        };
        let (prefix, offset) = match address.parse::<IpAddr>().map_err(|_| refused())? {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96),
            IpAddr::V6(v6) => (v6, 0),
        };
        let bits = match bits {
            None => 128,
            Some(bits) if bits <= 128 - offset => bits + offset,
            Some(_) => return Err(refused()),
        };
        let network = Self { prefix: masked(prefix, bits), bits };
        if network.prefix != prefix {
            return Err(ScopeError::HostBits { given: text.to_owned(), meant: network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.to_ipv4_mapped().filter(|_| self.bits >= 96) {
            Some(v4) => write!(f, "{v4}/{}", self.bits - 96),
            None => write!(f, "{}/{}", self.prefix, self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(written: &[&str]) -> Vec<Network> {
        written.iter().map(|network| network.parse().expect("a network")).collect()
    }

    /// What the kernel half would find: the longest prefix that matches.
    fn kind(scope: &Scope, address: &str) -> Range {
        let address = match address.parse().expect("an address") {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let ranges = scope.resolve().expect("a valid scope").ranges;
        let matching = ranges.iter().filter(|range| masked(address, range.bits) == range.prefix);
        matching.max_by_key(|range| range.bits).map_or(Range::Outside, |range| range.kind)
    }

    #[test]
    fn built_in_networks_can_be_read() {
        assert_eq!(built_in(&DEFAULT_INSIDE).len(), DEFAULT_INSIDE.len());
        assert_eq!(built_in(&LOOPBACK).len(), LOOPBACK.len());
        assert_eq!(built_in(&NEVER).len(), NEVER.len());
    }

    #[test]
    fn by_default_private_addresses_are_in_scope_and_the_internet_is_not() {
        let scope = Scope::default();
        for inside in ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1"] {
            assert_eq!(kind(&scope, inside), Range::Inside, "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "2606:4700::1", "169.254.169.254", "fe80::1"] {
            assert_eq!(kind(&scope, outside), Range::Outside, "{outside}");
        }
        assert_eq!(kind(&scope, "127.0.0.1"), Range::Loopback);
        assert_eq!(kind(&scope, "::1"), Range::Loopback);
        let ports = scope.resolve().expect("the default").ports;
        for (port, inside) in [(80, true), (8080, true), (443, false), (5432, false), (0, false)] {
            assert_eq!(ports[port], inside, "{port}");
        }
    }

    #[test]
    fn the_smaller_network_decides() {
        let scope = Scope {
            networks: networks(&["0.0.0.0/0", "10.1.2.0/24"]),
            except_networks: networks(&["10.0.0.0/8", "10.1.2.3"]),
            loopback: true,
            ..Scope::default()
        };
        assert_eq!(kind(&scope, "8.8.8.8"), Range::Inside);
        assert_eq!(kind(&scope, "10.9.9.9"), Range::Outside);
        assert_eq!(kind(&scope, "10.1.2.4"), Range::Inside);
        assert_eq!(kind(&scope, "10.1.2.3"), Range::Outside);
        assert_eq!(kind(&scope, "127.0.0.1"), Range::Inside);
        assert_eq!(kind(&scope, "224.0.0.1"), Range::Outside);
        assert_eq!(kind(&scope, "2001:db8::1"), Range::Outside, "no IPv6 network was given");
    }

    #[test]
    fn ports_given_replace_the_default_and_exceptions_win() {
        let scope = Scope {
            ports: vec!["443".parse().expect("a port"), "8000-8002".parse().expect("a range")],
            except_ports: vec![8001.into()],
            ..Scope::default()
        };
        let ports = scope.resolve().expect("a valid scope").ports;
        let inside: Vec<usize> = (0..65_536).filter(|port| ports[*port]).collect();
        assert_eq!(inside, [443, 8000, 8002]);
        let scope = Scope { except_ports: vec![8080.into()], ..Scope::default() };
        let ports = scope.resolve().expect("a valid scope").ports;
        assert!(!ports[8080] && ports[80] && !ports[443]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<Network>().expect_err(text).to_string();
        assert_eq!(
            error("10.1.2.3/16"),
            "`10.1.2.3/16` has bits set beyond its prefix; did you mean 10.1.0.0/16?"
        );
        assert!(error("10.0.0.0/33").contains("is not an IP address or network"));
        assert!(error("shop.example").contains("is not an IP address or network"));
        for ports in ["0", "65536", "90-80", "http", "1-2-3"] {
            ports.parse::<PortRange>().expect_err(ports);
        }
        let contradiction = Scope {
            networks: networks(&["10.0.0.0/8"]),
            except_networks: networks(&["10.0.0.0/8"]),
            ..Scope::default()
        };
        assert!(matches!(contradiction.resolve(), Err(ScopeError::Contradiction(_))));
        let never = Scope { networks: networks(&["fe80::1"]), ..Scope::default() };
        assert!(matches!(never.resolve(), Err(ScopeError::Never(_))));
        let many = (0..2_000_u32).map(|number| format!("10.{}.{}.1", number / 250, number % 250));
        let many = Scope {
            networks: many.map(|text| text.parse().expect("an address")).collect(),
            ..Scope::default()
        };
        assert!(matches!(many.resolve(), Err(ScopeError::ManyRanges(_))));
    }
}
