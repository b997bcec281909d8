//! What the web server in front tells of a request that it handed on.

use std::fmt::Write as _;

use super::address::Authority;
use super::{DEFAULT_SCHEME, default_port};
use crate::exchange::Gateway;

pub(super) fn scheme(gateway: Option<&Gateway>) -> Option<&str> {
    gateway?.scheme.as_deref()
}

pub(super) fn client(gateway: Option<&Gateway>) -> Option<&str> {
    gateway?.client.as_deref()
}

pub(super) fn port(gateway: Option<&Gateway>) -> Option<u16> {
    gateway?.port
}

/// The authority of the URL that the web server was asked for. A `Host` that it hands on may have
/// lost its port, as nginx's `$host` has.
pub(super) fn authority(gateway: &Gateway, host: Option<&str>) -> Option<String> {
    let mut authority = match (host, &gateway.server) {
        (Some(host), _) if Authority::parse(host).port.is_some() => return Some(host.to_owned()),
        (Some(host), _) => host.to_owned(),
        (None, Some(server)) if server.contains(':') => format!("[{server}]"),
        (None, Some(server)) => server.to_string(),
        (None, None) => return None,
    };
    let usual = default_port(gateway.scheme.as_deref().unwrap_or(DEFAULT_SCHEME));
    if let Some(port) = gateway.port.filter(|port| Some(*port) != usual) {
        // Writing to a `String` does not fail.
        let _ = write!(authority, ":{port}");
    }
    Some(authority)
}
