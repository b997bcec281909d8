//! A bound on how many different values one label of one service has.
//!
//! A backend keeps an index entry or a time series for each. What comes beyond the bound is
//! reported as one value, so that it can be seen that there was more.

use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::SmolStr;

/// Services whose values are counted; those of further ones are all beyond the bound.
const MAX_SERVICES: usize = 1_000;
/// Different values of one label, unless said otherwise.
pub const DEFAULT_LIMIT: usize = 200;

/// The values seen so far.
#[derive(Debug)]
pub struct Cardinality {
    limit: usize,
    services: FxHashMap<Box<str>, FxHashMap<&'static str, FxHashSet<SmolStr>>>,
    overflowed: u64,
}

impl Cardinality {
    /// So many values of each label of each service.
    pub fn new(limit: usize) -> Self {
        Self { limit, services: FxHashMap::default(), overflowed: 0 }
    }

    /// Whether a value is one of those that may be reported.
    pub fn admits(&mut self, service: &str, label: &'static str, value: &str) -> bool {
        let admitted = self.admit(service, label, value).unwrap_or(false);
        self.overflowed += u64::from(!admitted);
        admitted
    }

    /// Takes over the values of another one, which may be more than the limit.
    pub fn go_on_from(&mut self, before: Self) {
        *self = Self { limit: self.limit, ..before };
    }

    /// How often a value was beyond the bound.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn admit(&mut self, service: &str, label: &'static str, value: &str) -> Option<bool> {
        if !self.services.contains_key(service) {
            if self.services.len() >= MAX_SERVICES {
                return None;
            }
            self.services.insert(service.into(), FxHashMap::default());
        }
        let values = self.services.get_mut(service)?.entry(label).or_default();
        Some(values.contains(value) || (values.len() < self.limit && values.insert(value.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_of_each_service_has_so_many_values() {
        let mut cardinality = Cardinality::new(2);
        let mut admits = |service, label, value| cardinality.admits(service, label, value);
        assert!(admits("a", "route", "1") && admits("a", "route", "2"));
        assert!(!admits("a", "route", "3"));
        assert!(admits("a", "route", "1"), "known ones stay");
        assert!(admits("a", "name", "3") && admits("b", "route", "3"));
        assert_eq!(cardinality.overflowed(), 1);
    }

    #[test]
    fn services_are_bounded() {
        let mut cardinality = Cardinality::new(1);
        for service in 0..MAX_SERVICES {
            assert!(cardinality.admits(&service.to_string(), "route", "/"));
        }
        assert!(!cardinality.admits("one more", "route", "/"));
        assert!(cardinality.admits("0", "route", "/"));
    }
}
