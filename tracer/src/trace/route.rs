//! Routes: the low-cardinality stand-in for a path, from the user's patterns or by inference.
//!
//! A path itself is never a route. Must not know spans or requests beyond a path and a status.

mod inference;
mod pattern;

use std::borrow::Cow;

pub use inference::{MAX_ROUTES, MAX_SERVICES, RouteInference};
pub use pattern::{RouteError, RoutePattern};

/// All patterns of the user, most specific first, and inference if it was turned on.
#[derive(Debug, Default)]
pub struct RouteTable {
    patterns: Vec<RoutePattern>,
    inference: Option<RouteInference>,
}

impl RouteTable {
    /// A table of `patterns`; paths that match none get an inferred route if `infer` is set.
    pub fn new(mut patterns: Vec<RoutePattern>, infer: bool) -> Self {
        patterns.sort_by(RoutePattern::by_specificity);
        patterns.dedup();
        Self { patterns, inference: infer.then(RouteInference::default) }
    }

    /// The route of a request to `service`; `None` if no honest one is known.
    ///
    /// `path` has no query. `status` is that of the response, if there was one.
    pub fn route(
        &mut self,
        service: &str,
        path: &str,
        status: Option<u16>,
    ) -> Option<Cow<'_, str>> {
        if let Some(pattern) = self.patterns.iter().find(|pattern| pattern.matches(path)) {
            return Some(Cow::Borrowed(pattern.as_str()));
        }
        self.inference.as_mut()?.route(service, path, status).map(Cow::Owned)
    }

    /// How often inference gave no route because its bounds were reached.
    pub fn overflowed(&self) -> u64 {
        self.inference.as_ref().map_or(0, RouteInference::overflowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str], infer: bool) -> RouteTable {
        RouteTable::new(patterns.iter().map(|text| text.parse().unwrap()).collect(), infer)
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        let mut table =
            table(&["/*", "/users/{id}", "/users/*", "/users/me", "/users/{id}/{rest...}"], false);
        for (path, route) in [
            ("/users/me", "/users/me"),
            ("/users/7", "/users/{id}"),
            ("/users/7/a/b", "/users/{id}/{rest...}"),
            ("/users/", "/users/*"),
            ("/", "/*"),
        ] {
            assert_eq!(table.route("s", path, None).as_deref(), Some(route), "{path}");
        }
    }

    #[test]
    fn without_a_match_there_is_no_route_unless_it_may_be_inferred() {
        assert_eq!(table(&["/a"], false).route("s", "/users/7", Some(200)), None);
        let mut inferring = table(&["/a/{name}"], true);
        assert_eq!(inferring.route("s", "/a/7", Some(200)).as_deref(), Some("/a/{name}"));
        assert_eq!(inferring.route("s", "/b/7", Some(200)).as_deref(), Some("/b/{id}"));
    }
}
