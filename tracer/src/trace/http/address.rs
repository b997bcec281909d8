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
        let colon = |text: &str| text.bytes().position(|byte| byte == b':');
        match colon(text) {
            // More than one colon without brackets: a bare IPv6 address.
            Some(at) if colon(&text[at + 1..]).is_none() => {
                Self { host: &text[..at], port: text[at + 1..].parse().ok() }
            }
            _ => Self { host: text, port: None },
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

/// The request header fields that tell the origin of a request: of each the first value that is
/// not empty.
#[derive(Default)]
pub(super) struct Headers<'a> {
    host: Option<&'a SmolStr>,
    user_agent: Option<&'a SmolStr>,
    forwarded: Option<&'a SmolStr>,
    x_forwarded_for: Option<&'a SmolStr>,
    x_forwarded_host: Option<&'a SmolStr>,
    x_forwarded_proto: Option<&'a SmolStr>,
}

impl<'a> Headers<'a> {
    /// Finds them in one pass, as most requests have few of them and none is asked for but once.
    pub(super) fn read(fields: &'a [Field]) -> Self {
        let mut headers = Self::default();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let first = match name.as_str() {
                "host" => &mut headers.host,
                "user-agent" => &mut headers.user_agent,
                "forwarded" => &mut headers.forwarded,
                "x-forwarded-for" => &mut headers.x_forwarded_for,
                "x-forwarded-host" => &mut headers.x_forwarded_host,
                "x-forwarded-proto" => &mut headers.x_forwarded_proto,
                _ => continue,
            };
            first.get_or_insert(value);
        }
        headers
    }

    pub(super) fn host(&self) -> Option<&'a str> {
        self.host.map(SmolStr::as_str)
    }

    pub(super) fn user_agent(&self) -> Option<&'a SmolStr> {
        self.user_agent
    }

    /// The host that the client of the first proxy asked for.
    pub(super) fn forwarded_host(&self) -> Option<&'a str> {
        self.forwarded("host").or_else(|| first_of_list(self.x_forwarded_host))
    }

    /// The scheme that the client of the first proxy used.
    pub(super) fn forwarded_scheme(&self) -> Option<&'a str> {
        self.forwarded("proto").or_else(|| first_of_list(self.x_forwarded_proto))
    }

    /// The address of the first proxy's client, unless that proxy hides it.
    pub(super) fn forwarded_client(&self) -> Option<&'a str> {
        self.forwarded("for")
            .or_else(|| first_of_list(self.x_forwarded_for))
            .map(|node| Authority::parse(node).host)
            .filter(|node| !node.starts_with('_') && !node.eq_ignore_ascii_case("unknown"))
    }

    /// A parameter of the first `Forwarded` element.
    fn forwarded(&self, name: &str) -> Option<&'a str> {
        forwarded_pairs(self.forwarded?)
            .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| value)
    }
}

fn first_of_list(list: Option<&SmolStr>) -> Option<&str> {
    let first = list?.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
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
        let headers = Headers::read(&both);
        assert_eq!(headers.forwarded_client(), Some("2001:db8::17"));
        assert_eq!(headers.forwarded_scheme(), Some("https"));
        assert_eq!(headers.forwarded_host(), Some("a;b,c:81"));

        let headers = Headers::read(&both[1..]);
        assert_eq!(headers.forwarded_client(), Some("1.1.1.1"));
        assert_eq!(headers.forwarded_scheme(), Some("http"));
        assert_eq!(headers.forwarded_host(), Some("other"));
    }

    #[test]
    fn later_elements_and_hidden_nodes_are_not_the_client() {
        for value in ["proto=http, for=9.9.9.9", "for=unknown", "for=_hidden", "for=", "\"", ""] {
            let only = fields(&[("forwarded", value)]);
            assert_eq!(Headers::read(&only).forwarded_client(), None, "{value}");
        }
    }
}
