//! One configured route pattern, such as `/users/{id}` or `/static/*`.

use std::cmp::Ordering;
use std::str::FromStr;

/// A route as the user wrote it, and its parsed segments.
///
/// A segment is literal text, `{name}` for exactly one non-empty segment, or as the last one `*`,
/// `{name...}` or `{*name}` for all that follows. Literals are compared as they stand on the
/// wire, without percent-decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    text: String,
    segments: Vec<Segment>,
}

/// In order of decreasing specificity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    One,
    Rest,
}

/// Why a text is no route pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// It does not begin with a slash.
    #[error("route `{0}` must begin with `/`, for example `/users/{{id}}`")]
    NotAbsolute(String),
    /// It has a query or fragment.
    #[error("route `{0}` must not have `?` or `#`: routes are matched against the path alone")]
    NotAPath(String),
    /// A wildcard tail is not the last segment.
    #[error("route `{0}`: a wildcard may only be the last segment; use `{{name}}` for one segment")]
    TailNotLast(String),
    /// A segment mixes braces or stars with text.
    #[error(
        "route `{0}`: segment `{1}` must be either plain text, `{{name}}`, `{{name...}}` or `*`"
    )]
    MixedSegment(String, String),
}

impl std::fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl RoutePattern {
    /// The route as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `path` (without query) follows this pattern.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::One, Some(part)) if !part.is_empty() => {}
                (Segment::Literal(literal), Some(part)) if literal == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// A path that matches, with this instead of what stands at wildcards.
    pub fn mask(&self, path: &str, instead: &str) -> String {
        let mut masked = String::with_capacity(path.len());
        let parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for (segment, part) in self.segments.iter().zip(parts) {
            masked.push('/');
            masked.push_str(if matches!(segment, Segment::Literal(_)) { part } else { instead });
        }
        masked
    }

    /// Orders patterns so that of all that match a path, the most specific comes first: from the
    /// left, literal before `{name}` before wildcard.
    pub(super) fn by_specificity(&self, other: &Self) -> Ordering {
        let literal_first = |segments: &[Segment]| -> Vec<u8> {
            segments
                .iter()
                .map(|segment| match segment {
                    Segment::Literal(_) => 0,
                    Segment::One => 1,
                    Segment::Rest => 2,
                })
                .collect()
        };
        literal_first(&self.segments)
            .cmp(&literal_first(&other.segments))
            .then_with(|| self.segments.cmp(&other.segments))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl FromStr for RoutePattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let path =
            text.strip_prefix('/').ok_or_else(|| RouteError::NotAbsolute(text.to_owned()))?;
        if text.contains(['?', '#']) {
            return Err(RouteError::NotAPath(text.to_owned()));
        }
        let segments = path
            .split('/')
            .map(|part| {
                parse_segment(part)
                    .ok_or_else(|| RouteError::MixedSegment(text.to_owned(), part.to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let last = segments.len() - 1; // `split` yields at least one part.
        if segments[..last].contains(&Segment::Rest) {
            return Err(RouteError::TailNotLast(text.to_owned()));
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

fn parse_segment(part: &str) -> Option<Segment> {
    if part == "*" {
        return Some(Segment::Rest);
    }
    let Some(inner) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return (!part.contains(['{', '}', '*'])).then(|| Segment::Literal(part.to_owned()));
    };
    let tail = inner.strip_suffix("...").or_else(|| inner.strip_prefix('*'));
    let name = tail.unwrap_or(inner);
    if name.is_empty() || name.contains(['{', '}', '*']) {
        return None;
    }
    Some(if tail.is_some() { Segment::Rest } else { Segment::One })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths_segment_by_segment() {
        #[rustfmt::skip]
        let rows = [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "a", false),
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/7/x", false),
            ("/users/{id}/posts/{post}", "/users/7/posts/9", true),
            ("/static/*", "/static/a/b.css", true),
            ("/static/*", "/static/", true),
            ("/static/*", "/static", false),
            ("/f/{rest...}", "/f/x/y", true),
            ("/f/{*rest}", "/f/x/y", true),
            ("/a", "*", false),
        ];
        for (pattern, path, matches) in rows {
            let parsed: RoutePattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(path), matches, "{pattern} {path}");
            assert_eq!(parsed.as_str(), pattern);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<RoutePattern>().unwrap_err();
        assert_eq!(error("users"), RouteError::NotAbsolute("users".into()));
        assert_eq!(error("/a?b"), RouteError::NotAPath("/a?b".into()));
        assert_eq!(error("/*/a"), RouteError::TailNotLast("/*/a".into()));
        for part in ["{}", "{...}", "a{b}", "{a}b", "a*", "{a{b}}"] {
            let text = format!("/{part}");
            assert_eq!(error(&text), RouteError::MixedSegment(text.clone(), part.into()));
        }
    }
}
