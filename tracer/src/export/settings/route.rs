//! What is connected to in order to reach a receiver: itself, a proxy, a socket of this host.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;

use super::{Environment, SettingsError};

/// The way to a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// To the endpoint's host and port; the name is looked up for every new connection.
    #[default]
    Direct,
    /// To a Unix socket.
    Unix(PathBuf),
    /// Through an HTTP proxy: by `CONNECT` if the endpoint is `https` or speaks gRPC, else by
    /// requests that name the whole URL.
    Proxy(Proxy),
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Scheme `http`, host and port.
    pub uri: Uri,
    /// For `Proxy-Authorization`; does not print.
    pub authorization: Option<HeaderValue>,
}

impl Route {
    /// By the conventional variables, of which the lower-case spelling wins. As most programs have
    /// it, what runs on this host needs no proxy.
    pub(super) fn to(
        endpoint: &Uri,
        environment: &mut Environment<'_>,
    ) -> Result<Self, SettingsError> {
        if is_local(endpoint) {
            return Ok(Self::Direct);
        }
        let read = |lower: &str, upper: &str| {
            environment.text(lower).or_else(|| environment.text(upper)).unwrap_or_default()
        };
        let matcher = Matcher::builder()
            .http(read("http_proxy", "HTTP_PROXY"))
            .https(read("https_proxy", "HTTPS_PROXY"))
            .all(read("all_proxy", "ALL_PROXY"))
            .no(read("no_proxy", "NO_PROXY"))
            .build();
        let Some(found) = matcher.intercept(endpoint) else { return Ok(Self::Direct) };
        let uri = found.uri().clone();
        if uri.scheme_str() != Some("http") {
            return Err(SettingsError::Proxy { scheme: uri.scheme_str().unwrap_or("").to_owned() });
        }
        let authorization = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Self::Proxy(Proxy { uri, authorization }))
    }
}

fn is_local(endpoint: &Uri) -> bool {
    let host = endpoint.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
