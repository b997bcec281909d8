//! What the web server in front tells of a request that it handed on.

use std::fmt::Write as _;

use super::default_port;
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

/// The authority of the URL that the web server was asked for, as far as it has a name itself.
pub(super) fn authority(gateway: &Gateway) -> Option<String> {
    let mut authority = gateway.server.as_ref()?.to_string();
    if authority.contains(':') {
        authority = format!("[{authority}]");
    }
    let usual = default_port(gateway.scheme.as_deref().unwrap_or(super::DEFAULT_SCHEME));
    if let Some(port) = gateway.port.filter(|port| Some(*port) != usual) {
        // Writing to a `String` does not fail.
        let _ = write!(authority, ":{port}");
    }
    Some(authority)
}
