//! Keeping secrets out of URLs: query values by name, and credentials before the host.

use std::borrow::Cow;

use super::semconv::SENSITIVE_QUERY_KEYS;

const REDACTED: &str = "REDACTED";

/// Which query parameters lose their values.
#[derive(Clone, Debug)]
pub struct Redaction {
    keys: Vec<Cow<'static, str>>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { keys: SENSITIVE_QUERY_KEYS.iter().map(|&key| Cow::Borrowed(key)).collect() }
    }
}

impl Redaction {
    /// Redacts exactly these parameters instead of the built-in list.
    pub fn of(keys: impl IntoIterator<Item = String>) -> Self {
        Self { keys: keys.into_iter().map(Cow::Owned).collect() }
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

    fn hides(&self, pair: &str) -> bool {
        pair.split_once('=').is_some_and(|(key, value)| {
            !value.is_empty() && self.keys.iter().any(|sensitive| sensitive == key)
        })
    }
}

/// Splits `user:password@host` into what may be shown of the credentials, and the host.
pub(super) fn split_credentials(authority: &str) -> (&'static str, &str) {
    let Some(at) = authority.bytes().rposition(|byte| byte == b'@') else {
        return ("", authority);
    };
    let shown = if authority[..at].contains(':') { "REDACTED:REDACTED@" } else { "REDACTED@" };
    (shown, &authority[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensitive_values_are_replaced() {
        let redaction = Redaction::default();
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
        ];
        for (query, expected) in rows {
            assert_eq!(redaction.query(query), expected);
        }
        for key in SENSITIVE_QUERY_KEYS {
            assert_eq!(redaction.query(&format!("{key}=s")), format!("{key}=REDACTED"));
        }
    }

    #[test]
    fn a_list_of_ones_own_replaces_the_built_in_one() {
        let redaction = Redaction::of(["token".to_owned()]);
        assert_eq!(redaction.query("token=1&sig=2"), "token=REDACTED&sig=2");
    }

    #[test]
    fn credentials_never_survive() {
        assert_eq!(split_credentials("host:80"), ("", "host:80"));
        assert_eq!(split_credentials("u:p@host"), ("REDACTED:REDACTED@", "host"));
        assert_eq!(split_credentials("u@host"), ("REDACTED@", "host"));
        assert_eq!(split_credentials("u:p@q@host"), ("REDACTED:REDACTED@", "host"));
    }
}
