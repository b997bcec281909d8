//! Who was addressed and who asked: `Host`, `Forwarded` (RFC 7239) and `X-Forwarded-*`.

use smol_str::SmolStr;

use crate::event::Endpoint;
use crate::exchange::Field;

/// `host[:port]`, the brackets of an IPv6 literal removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Splits any text; what is no port number stays off both parts or with the host.
    pub(super) fn parse(text: &'a str) -> Self {
        if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
            return Self { host, port };
        }
        match text.rsplit_once(':') {
            // More than one colon without brackets: a bare IPv6 address.
            Some((host, _)) if host.contains(':') => Self { host: text, port: None },
            Some((host, port)) => Self { host, port: port.parse().ok() },
            None => Self { host: text, port: None },
        }
    }
}

/// The host and port of a URL for a server that the request does not name.
pub(super) fn unnamed_authority(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(_) => "localhost".to_owned(),
    }
}

/// Request header fields, read for the origin of the request.
pub(super) struct Headers<'a>(pub(super) &'a [Field]);

impl<'a> Headers<'a> {
    /// The first value of a field that is not empty.
    pub(super) fn first(&self, name: &str) -> Option<&'a SmolStr> {
        self.0
            .iter()
            .find(|(field, value)| field == name && !value.is_empty())
            .map(|(_, value)| value)
    }

    pub(super) fn host(&self) -> Option<&'a str> {
        self.first("host").map(SmolStr::as_str)
    }

    /// The host that the client of the first proxy asked for.
    pub(super) fn forwarded_host(&self) -> Option<&'a str> {
        self.forwarded("host").or_else(|| self.first_of_list("x-forwarded-host"))
    }

    /// The scheme that the client of the first proxy used.
    pub(super) fn forwarded_scheme(&self) -> Option<&'a str> {
        self.forwarded("proto").or_else(|| self.first_of_list("x-forwarded-proto"))
    }

    /// The address of the first proxy's client, unless that proxy hides it.
    pub(super) fn forwarded_client(&self) -> Option<&'a str> {
        self.forwarded("for")
            .or_else(|| self.first_of_list("x-forwarded-for"))
            .map(|node| Authority::parse(node).host)
            .filter(|node| !node.starts_with('_') && !node.eq_ignore_ascii_case("unknown"))
    }

    /// A parameter of the first `Forwarded` element.
    fn forwarded(&self, name: &str) -> Option<&'a str> {
        forwarded_pairs(self.first("forwarded")?)
            .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| value)
    }

    fn first_of_list(&self, name: &str) -> Option<&'a str> {
        let first = self.first(name)?.split(',').next()?.trim();
        (!first.is_empty()).then_some(first)
    }
}

/// `name=value` pairs of the first element; quotes are removed, escapes inside them do not occur
/// in addresses and are left alone.
fn forwarded_pairs(field: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let mut quoted = false;
        let end = text.find(|c| {
            quoted ^= c == '"';
            !quoted && (c == ';' || c == ',')
        });
        let (pair, separator) =
            end.map_or((text, None), |at| (&text[..at], text[at..].chars().next()));
        if separator == Some(';') {
            rest = end.map(|at| &text[at + 1..]);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((name.trim(), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
        fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn authorities_split_into_host_and_port() {
        #[rustfmt::skip]
        let rows = [
            ("example.com", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("example.com:", "example.com", None),
            ("example.com:99999", "example.com", None),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
        ];
        for (text, host, port) in rows {
            assert_eq!(Authority::parse(text), Authority { host, port }, "{text}");
        }
    }

    #[test]
    fn forwarded_comes_before_its_unofficial_relatives_and_the_first_hop_counts() {
        let both = fields(&[
            ("forwarded", "For=\"[2001:db8::17]:4711\";proto=https;host=\"a;b,c:81\", for=9.9.9.9"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-host", "other"),
            ("x-forwarded-proto", "http"),
        ]);
        let headers = Headers(&both);
        assert_eq!(headers.forwarded_client(), Some("2001:db8::17"));
        assert_eq!(headers.forwarded_scheme(), Some("https"));
        assert_eq!(headers.forwarded_host(), Some("a;b,c:81"));

        let headers = Headers(&both[1..]);
        assert_eq!(headers.forwarded_client(), Some("1.1.1.1"));
        assert_eq!(headers.forwarded_scheme(), Some("http"));
        assert_eq!(headers.forwarded_host(), Some("other"));
    }

    #[test]
    fn later_elements_and_hidden_nodes_are_not_the_client() {
        for value in ["proto=http, for=9.9.9.9", "for=unknown", "for=_hidden", "for=", "\"", ""] {
            let only = fields(&[("forwarded", value)]);
            assert_eq!(Headers(&only).forwarded_client(), None, "{value}");
        }
    }
}
