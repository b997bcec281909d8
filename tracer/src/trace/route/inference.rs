//! Routes guessed from paths, for services whose routes nobody wrote down. Off by default.
//!
//! A segment stays if it reads like a word that a programmer chose, otherwise it becomes `{id}`:
//!
//! - it stays when it consists of letters, `.`, `_` and `-`, with at most [`MAX_DIGITS`] digits
//!   after its first character (`v2`, `oauth2`, `index.html`), and has at most [`MAX_WORD`] bytes;
//! - numbers, UUIDs, hexadecimal digests, long and mixed tokens, anything percent-encoded become
//!   `{id}`;
//! - what follows the first [`MAX_SEGMENTS`] segments becomes `*`.
//!
//! A response 404 names no route. Each service has at most [`MAX_ROUTES`] distinct ones, later
//! ones stay unset, so that a wrong guess cannot flood a backend with span names.

use std::collections::{HashMap, HashSet};

/// Bytes of a segment that may still be a word.
const MAX_WORD: usize = 24;
/// Digits in a word.
const MAX_DIGITS: usize = 2;
/// A hexadecimal run of this many letters is a digest, not a word.
const MIN_DIGEST: usize = 16;
/// Segments kept of a path.
const MAX_SEGMENTS: usize = 8;
/// Distinct inferred routes of one service.
pub const MAX_ROUTES: usize = 200;
/// Services that routes are inferred for.
pub const MAX_SERVICES: usize = 1_000;

/// Remembers the routes inferred so far, to bound their number.
#[derive(Debug, Default)]
pub struct RouteInference {
    routes: HashMap<Box<str>, HashSet<Box<str>>>,
    overflowed: u64,
}

impl RouteInference {
    /// The inferred route of a request; `None` after a 404 or beyond the bounds.
    pub fn route(&mut self, service: &str, path: &str, status: Option<u16>) -> Option<String> {
        if status == Some(404) || !path.starts_with('/') {
            return None;
        }
        let route = generalise(path);
        if !self.admit(service, &route) {
            self.overflowed += 1;
            return None;
        }
        Some(route)
    }

    /// How often no route was given because a bound was reached.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn admit(&mut self, service: &str, route: &str) -> bool {
        if !self.routes.contains_key(service) {
            if self.routes.len() >= MAX_SERVICES {
                return false;
            }
            self.routes.insert(service.into(), HashSet::new());
        }
        let Some(known) = self.routes.get_mut(service) else { return false };
        known.contains(route) || (known.len() < MAX_ROUTES && known.insert(route.into()))
    }
}

fn generalise(path: &str) -> String {
    let mut route = String::with_capacity(path.len());
    for (index, segment) in path.split('/').skip(1).enumerate() {
        route.push('/');
        if index == MAX_SEGMENTS {
            route.push('*');
            break;
        }
        route.push_str(if is_word(segment) { segment } else { "{id}" });
    }
    route
}

fn is_word(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let of_words = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let digest = bytes.len() >= MIN_DIGEST && bytes.iter().all(u8::is_ascii_hexdigit);
    bytes.len() <= MAX_WORD
        && bytes.iter().all(of_words)
        && digits <= MAX_DIGITS
        && !bytes.first().is_some_and(u8::is_ascii_digit)
        && !digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_and_identifiers_go() {
        #[rustfmt::skip]
        let rows = [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/", "/users/"),
            ("/api/v2/users/42/posts", "/api/v2/users/{id}/posts"),
            ("/oauth2/index.html", "/oauth2/index.html"),
            ("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{id}"),
            ("/c/9f86d081884c7d65", "/c/{id}"),
            ("/c/deadbeefdeadbeef", "/c/{id}"),
            ("/f/report%20final", "/f/{id}"),
            ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/{id}"),
            ("/m/someone@example.com", "/m/{id}"),
            ("/b/a1b2c3", "/b/{id}"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/*"),
        ];
        for (path, route) in rows {
            assert_eq!(generalise(path), route, "{path}");
        }
    }

    #[test]
    fn misses_and_odd_targets_name_no_route() {
        let mut inference = RouteInference::default();
        assert_eq!(inference.route("s", "/wp-admin", Some(404)), None);
        assert_eq!(inference.route("s", "*", Some(200)), None);
        assert_eq!(inference.route("s", "/a", None).as_deref(), Some("/a"));
        assert_eq!(inference.overflowed(), 0);
    }

    #[test]
    fn distinct_routes_are_bounded_per_service() {
        let mut inference = RouteInference::default();
        let word = |n: usize| {
            format!("/{}{}", char::from(b'a' + (n / 26) as u8), char::from(b'a' + (n % 26) as u8))
        };
        for n in 0..MAX_ROUTES {
            assert!(inference.route("s", &word(n), None).is_some());
        }
        assert_eq!(inference.route("s", &word(MAX_ROUTES), None), None);
        assert_eq!(inference.overflowed(), 1);
        assert!(inference.route("s", &word(0), None).is_some(), "known ones go on");
        assert!(inference.route("t", &word(MAX_ROUTES), None).is_some(), "others are free");
    }

    #[test]
    fn services_are_bounded() {
        let mut inference = RouteInference::default();
        for n in 0..MAX_SERVICES {
            assert!(inference.route(&n.to_string(), "/a", None).is_some());
        }
        assert_eq!(inference.route("one more", "/a", None), None);
        assert_eq!(inference.overflowed(), 1);
    }
}
