//! Routes: the low-cardinality stand-in for a path, from the user's patterns or by inference.
//!
//! A path itself is never a route. Must not know spans or requests beyond a path and a status.

mod inference;
mod pattern;

use std::borrow::Cow;

pub use pattern::{RouteError, RoutePattern};

use super::semconv::{OTHER, attribute};
use crate::redact::Cardinality;

/// All patterns of the user, most specific first, and the routes inferred so far if inference was
/// turned on. Each service has so many of these, later ones are [`OTHER`], so that a wrong guess
/// cannot flood a backend with span names.
#[derive(Debug)]
pub struct RouteTable {
    patterns: Vec<RoutePattern>,
    inferred: Option<Cardinality>,
}

impl RouteTable {
    /// A table of `patterns`; paths that match none get one of so many inferred routes.
    pub fn new(mut patterns: Vec<RoutePattern>, infer: Option<usize>) -> Self {
        patterns.sort_by(RoutePattern::by_specificity);
        patterns.dedup();
        Self { patterns, inferred: infer.map(Cardinality::new) }
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
        let inferred = self.inferred.as_mut()?;
        let route = inference::infer(path, status)?;
        let admitted = inferred.admits(service, attribute::HTTP_ROUTE, &route);
        Some(if admitted { Cow::Owned(route) } else { Cow::Borrowed(OTHER) })
    }

    /// Takes over which routes another table has inferred.
    pub fn go_on_from(&mut self, before: Self) {
        if let (Some(inferred), Some(before)) = (&mut self.inferred, before.inferred) {
            inferred.go_on_from(before);
        }
    }

    /// How often a request had an inferred route beyond those that its service may have.
    pub fn overflowed(&self) -> u64 {
        self.inferred.as_ref().map_or(0, Cardinality::overflowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str], infer: Option<usize>) -> RouteTable {
        RouteTable::new(patterns.iter().map(|text| text.parse().unwrap()).collect(), infer)
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        let mut table =
            table(&["/*", "/users/{id}", "/users/*", "/users/me", "/users/{id}/{rest...}"], None);
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
        assert_eq!(table(&["/a"], None).route("s", "/users/7", Some(200)), None);
        let mut inferring = table(&["/a/{name}"], Some(1));
        assert_eq!(inferring.route("s", "/a/7", Some(200)).as_deref(), Some("/a/{name}"));
        assert_eq!(inferring.route("s", "/b/7", Some(200)).as_deref(), Some("/b/{id}"));
    }

    #[test]
    fn inferred_routes_beyond_the_bound_are_one() {
        let mut table = table(&["/a/{name}"], Some(2));
        let mut route = |service, path| table.route(service, path, None).map(Cow::into_owned);
        assert_eq!(route("s", "/b").as_deref(), Some("/b"));
        assert_eq!(route("s", "/c/7").as_deref(), Some("/c/{id}"));
        assert_eq!(route("s", "/d").as_deref(), Some("_OTHER"));
        assert_eq!(route("s", "/c/8").as_deref(), Some("/c/{id}"), "known ones go on");
        assert_eq!(route("s", "/a/7").as_deref(), Some("/a/{name}"), "the user's are not counted");
        assert_eq!(route("t", "/d").as_deref(), Some("/d"), "others are free");
        assert_eq!(table.overflowed(), 1);
    }
}
