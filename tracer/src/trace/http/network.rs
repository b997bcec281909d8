//! The connection that carried an exchange: its other end, and what was spoken.

use super::{Attributes, attribute};
use crate::exchange::{Exchange, HttpVersion};

/// The protocol of requests that a web server hands on, and its only version. Of HTTP the name
/// goes without saying.
const FAST_CGI: (&str, &str) = ("fastcgi", "1.0");

pub(super) fn describe(exchange: &Exchange, attributes: &mut Attributes) {
    attributes.address(attribute::NETWORK_PEER_ADDRESS, &exchange.ends.remote);
    attributes.port(attribute::NETWORK_PEER_PORT, exchange.ends.remote.port());
    if exchange.request.gateway.is_some() {
        let (name, version) = FAST_CGI;
        attributes.fixed(attribute::NETWORK_PROTOCOL_NAME, name);
        return attributes.fixed(attribute::NETWORK_PROTOCOL_VERSION, version);
    }
    // A server answers an older client in its own version's words, but in the client's manner.
    let response = exchange.response.as_ref().map(|response| response.version);
    let version = match (exchange.request.version, response) {
        (HttpVersion::Http11, None | Some(HttpVersion::Http11)) => "1.1",
        (HttpVersion::Http10, _) | (_, Some(HttpVersion::Http10)) => "1.0",
    };
    attributes.fixed(attribute::NETWORK_PROTOCOL_VERSION, version);
}
