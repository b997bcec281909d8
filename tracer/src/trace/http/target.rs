//! The four forms of a request target (RFC 9112 section 3.2), split into URL components.

/// Borrowed components of a request target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Present in absolute form only.
    pub(super) scheme: Option<&'a str>,
    /// Present in absolute and authority form; may hold credentials.
    pub(super) authority: Option<&'a str>,
    /// `*` in asterisk form, empty in authority form.
    pub(super) path: &'a str,
    /// Without its question mark.
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Splits `target`, which may be any text: what has no known form is taken for a path.
    pub(super) fn parse(method: &str, target: &'a str) -> Self {
        if method == "CONNECT" {
            return Self { scheme: None, authority: Some(target), path: "", query: None };
        }
        let absolute = if target.starts_with('/') { None } else { target.split_once("://") };
        let Some((scheme, rest)) = absolute else {
            let (path, query) = split_query(target);
            return Self { scheme: None, authority: None, path, query };
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (path, query) = split_query(&rest[end..]);
        let path = if path.is_empty() { "/" } else { path };
        Self { scheme: Some(scheme), authority: Some(&rest[..end]), path, query }
    }
}

/// Splits off the query; a fragment, which no client should send, is dropped.
fn split_query(text: &str) -> (&str, Option<&str>) {
    // Targets are short: a plain loop beats the substring search of `split_once`.
    let Some(end) = text.bytes().position(|byte| matches!(byte, b'?' | b'#')) else {
        return (text, None);
    };
    let (path, rest) = (&text[..end], &text[end..]);
    (
        path,
        rest.strip_prefix('?').map(|query| query.split_once('#').map_or(query, |(query, _)| query)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        #[rustfmt::skip]
        let rows = [
            ("GET", "/a/b?x=1?y", (None, None, "/a/b", Some("x=1?y"))),
            ("GET", "/", (None, None, "/", None)),
            ("GET", "/?", (None, None, "/", Some(""))),
            ("GET", "/a#f", (None, None, "/a", None)),
            ("GET", "/go?to=http://x/", (None, None, "/go", Some("to=http://x/"))),
            ("OPTIONS", "*", (None, None, "*", None)),
            ("CONNECT", "example.com:443", (None, Some("example.com:443"), "", None)),
            ("GET", "http://h:81/p?q", (Some("http"), Some("h:81"), "/p", Some("q"))),
            ("GET", "https://u:p@h", (Some("https"), Some("u:p@h"), "/", None)),
            ("GET", "http://h?q", (Some("http"), Some("h"), "/", Some("q"))),
            ("GET", "odd", (None, None, "odd", None)),
            ("GET", "", (None, None, "", None)),
        ];
        for (method, text, (scheme, authority, path, query)) in rows {
            assert_eq!(
                Target::parse(method, text),
                Target { scheme, authority, path, query },
                "{method} {text}"
            );
        }
    }
}
