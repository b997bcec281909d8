//! How many spans of each service were linked by which kind of evidence.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Kind, Origin};

/// Services counted apart; further ones share [`OTHERS`].
const MAX_SERVICES: usize = 256;
const OTHERS: &str = "(other services)";

/// Of spans that nothing seen caused.
const ROOT: &str = "root";
/// Of spans that one of several requests caused, it is not known which.
const UNCLEAR: &str = "unclear";

/// Spans by service and by what decided their parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally {
    services: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

impl Tally {
    /// Counts one span.
    pub fn add(&mut self, service: &str, origin: &Origin) {
        let outcome = match origin {
            Origin::Root => ROOT,
            Origin::Remote(_) => Kind::Header.name(),
            Origin::Child { kind, .. } => kind.name(),
            Origin::Unclear { .. } => UNCLEAR,
        };
        if let Some(outcomes) = self.services.get_mut(service) {
            *outcomes.entry(outcome).or_default() += 1;
            return;
        }
        let service = if self.services.len() < MAX_SERVICES { service } else { OTHERS };
        let outcomes = self.services.entry(service.to_owned()).or_default();
        *outcomes.entry(outcome).or_default() += 1;
    }

    /// Spans by service and by what decided.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.services.iter().flat_map(|(service, outcomes)| {
            outcomes.iter().map(move |(outcome, spans)| (service.as_str(), *outcome, *spans))
        })
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

/// A table, a service a line, with a column for each outcome that occurred.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes: Vec<&str> = Kind::NAMES
            .into_iter()
            .chain([ROOT, UNCLEAR])
            .filter(|outcome| self.services.values().any(|counts| counts.contains_key(outcome)))
            .collect();
        let longest = self.services.keys().map(|name| name.chars().count()).max();
        let width = longest.unwrap_or(0).max("service".len());
        write!(f, "{:width$}", "service")?;
        for outcome in &outcomes {
            write!(f, " {outcome:>9}")?;
        }
        for (service, counts) in &self.services {
            write!(f, "\n{service:width$}")?;
            for outcome in &outcomes {
                write!(f, " {:>9}", counts.get(outcome).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnId, StreamOffset};
    use crate::exchange::ExchangeId;

    fn child(kind: Kind) -> Origin {
        let parent = ExchangeId { conn: ConnId(1), offset: StreamOffset(0) };
        Origin::Child { parent, kind, candidates: 1, confidence: None }
    }

    #[test]
    fn is_a_table_of_what_occurred() {
        let mut tally = Tally::default();
        for origin in [child(Kind::Thread), child(Kind::Worker), Origin::Root] {
            tally.add("shop", &origin);
        }
        tally.add("basket-of-goods", &child(Kind::Pair));
        assert_eq!(
            tally.to_string(),
            "service              pair    thread      root\n\
             basket-of-goods         1         0         0\n\
             shop                    0         2         1"
        );
    }

    #[test]
    fn counts_services_beyond_the_bound_together() {
        let mut tally = Tally::default();
        for service in 0..=MAX_SERVICES + 1 {
            tally.add(&format!("service {service}"), &Origin::Root);
        }
        assert_eq!(tally.services.len(), MAX_SERVICES + 1);
        assert_eq!(tally.services[OTHERS][ROOT], 2);
    }
}
