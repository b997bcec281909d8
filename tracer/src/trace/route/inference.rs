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
//! A response 404 names no route.

/// Bytes of a segment that may still be a word.
const MAX_WORD: usize = 24;
/// Digits in a word.
const MAX_DIGITS: usize = 2;
/// A hexadecimal run of this many letters is a digest, not a word.
const MIN_DIGEST: usize = 16;
/// Segments kept of a path.
const MAX_SEGMENTS: usize = 8;
/// The inferred route of a request; `None` where there is none to infer.
pub(super) fn infer(path: &str, status: Option<u16>) -> Option<String> {
    (status != Some(404) && path.starts_with('/')).then(|| generalise(path))
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
        assert_eq!(infer("/wp-admin", Some(404)), None);
        assert_eq!(infer("*", Some(200)), None);
        assert_eq!(infer("/a", None).as_deref(), Some("/a"));
    }
}
