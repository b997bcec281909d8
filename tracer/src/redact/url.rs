//! Keeping secrets out of URLs: query values by name, path segments by pattern, and credentials
//! before the host.

use std::borrow::Cow;

use super::REDACTED;
use crate::trace::RoutePattern;
use crate::trace::semconv::SENSITIVE_QUERY_KEYS;

/// Further query parameters whose values are secrets, in any case.
pub const COMMON_SECRETS: [&str; 18] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth_token",
    "authorization",
    "client_secret",
    "credentials",
    "id_token",
    "jwt",
    "passwd",
    "password",
    "private_key",
    "pwd",
    "refresh_token",
    "secret",
    "session_token",
    "token",
];

/// What of URLs is not shown.
#[derive(Clone, Debug)]
pub struct UrlRedaction {
    /// Instead of the built-in lists.
    keys: Option<Vec<String>>,
    paths: Vec<RoutePattern>,
}

impl UrlRedaction {
    /// Hides values of these query parameters, by default those of the built-in lists, and what
    /// stands at the wildcards of these path patterns.
    pub fn new(keys: Option<Vec<String>>, paths: Vec<RoutePattern>) -> Self {
        Self { keys, paths }
    }

    /// A query string without `?`, with the values of sensitive parameters replaced.
    pub fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !query.split('&').any(|pair| self.hides(pair)) {
            return Cow::Borrowed(query);
        }
        let mut redacted = String::with_capacity(query.len());
        for (index, pair) in query.split('&').enumerate() {
            if index > 0 {
                redacted.push('&');
            }
            match pair.split_once('=') {
                Some((key, _)) if self.hides(pair) => {
                    redacted.push_str(key);
                    redacted.push('=');
                    redacted.push_str(REDACTED);
                }
                _ => redacted.push_str(pair),
            }
        }
        Cow::Owned(redacted)
    }

    /// A path, with what the first matching pattern has wildcards for replaced.
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let pattern = self.paths.iter().find(|pattern| pattern.matches(path));
        pattern.map_or(Cow::Borrowed(path), |pattern| Cow::Owned(pattern.mask(path, REDACTED)))
    }

    fn hides(&self, pair: &str) -> bool {
        let Some((key, value)) = pair.split_once('=') else { return false };
        if value.is_empty() {
            return false;
        }
        let key = decoded(key);
        match &self.keys {
            Some(keys) => keys.iter().any(|hidden| *hidden == key),
            None => {
                SENSITIVE_QUERY_KEYS.contains(&&*key)
                    || COMMON_SECRETS.iter().any(|hidden| hidden.eq_ignore_ascii_case(&key))
            }
        }
    }
}

impl Default for UrlRedaction {
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

/// A key as whoever reads the query takes it: percent-encoding is no way around redaction.
fn decoded(key: &str) -> Cow<'_, str> {
    if !key.contains('%') {
        return Cow::Borrowed(key);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(key.len()), key.as_bytes());
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        if *first == b'%'
            && let (Some(high), Some(low)) = (digit(0), digit(1))
        {
            bytes.push((high << 4 | low) as u8);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Splits `user:password@host` into what may be shown of the credentials, and the host.
pub fn split_credentials(authority: &str) -> (&'static str, &str) {
    // Whole words at a time, as hardly any has them.
    let Some(at) = authority.rfind('@') else { return ("", authority) };
    let shown = if authority[..at].contains(':') { "REDACTED:REDACTED@" } else { "REDACTED@" };
    (shown, &authority[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensitive_values_are_replaced() {
        let redaction = UrlRedaction::default();
        let rows = [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("sig=abc", "sig=REDACTED"),
            ("a=1&X-Amz-Signature=x%2F=y&b", "a=1&X-Amz-Signature=REDACTED&b"),
            (
                "X-Goog-Signature=1&AWSAccessKeyId=2",
                "X-Goog-Signature=REDACTED&AWSAccessKeyId=REDACTED",
            ),
            ("Signature=1&Signature=2", "Signature=REDACTED&Signature=REDACTED"),
            ("SIG=abc&signature=1&xsig=2", "SIG=abc&signature=1&xsig=2"),
            ("sig&sig=", "sig&sig="),
            ("Token=1&PASSWORD=2&tokens=3", "Token=REDACTED&PASSWORD=REDACTED&tokens=3"),
            ("s%69g=1&tok%65n=2&a%zz=3&%7=4", "s%69g=REDACTED&tok%65n=REDACTED&a%zz=3&%7=4"),
        ];
        for (query, expected) in rows {
            assert_eq!(redaction.query(query), expected);
        }
        for key in SENSITIVE_QUERY_KEYS.into_iter().chain(COMMON_SECRETS) {
            assert_eq!(redaction.query(&format!("{key}=s")), format!("{key}=REDACTED"));
        }
    }

    #[test]
    fn a_list_of_ones_own_replaces_the_built_in_ones() {
        let redaction = UrlRedaction::new(Some(vec!["page".to_owned()]), Vec::new());
        assert_eq!(redaction.query("page=1&sig=2&token=3"), "page=REDACTED&sig=2&token=3");
    }

    #[test]
    fn wildcards_of_paths_are_replaced() {
        let patterns = ["/reset/{token}", "/users/{id}/mail/{rest...}", "/files/*"];
        let patterns = patterns.map(|pattern| pattern.parse().unwrap()).to_vec();
        let redaction = UrlRedaction::new(None, patterns);
        for (path, expected) in [
            ("/reset/abc", "/reset/REDACTED"),
            ("/reset/abc/d", "/reset/abc/d"),
            ("/users/7/mail/a/b", "/users/REDACTED/mail/REDACTED"),
            ("/files/a/b", "/files/REDACTED"),
            ("/other", "/other"),
            ("*", "*"),
        ] {
            assert_eq!(redaction.path(path), expected);
        }
    }

    #[test]
    fn credentials_never_survive() {
        assert_eq!(split_credentials("host:80"), ("", "host:80"));
        assert_eq!(split_credentials("u:p@host"), ("REDACTED:REDACTED@", "host"));
        assert_eq!(split_credentials("u@host"), ("REDACTED@", "host"));
        assert_eq!(split_credentials("u:p@q@host"), ("REDACTED:REDACTED@", "host"));
    }
}
