//! Counts since the export before, for receivers that want those.

use std::collections::HashMap;

use super::family::{Family, Labels, Number, Point};

/// What was exported before.
#[derive(Debug, Default)]
pub(super) struct Deltas(HashMap<(&'static str, Option<String>, Labels), Number>);

impl Deltas {
    /// Takes away what the export before has told. Gauges stay as they are.
    pub(super) fn take(&mut self, families: &mut [Family]) {
        for family in families {
            for Point { service, labels, number } in &mut family.points {
                if matches!(number, Number::Gauge(_)) {
                    continue;
                }
                let key = (family.name, service.clone(), labels.clone());
                let before = self.0.insert(key, number.clone());
                match (number, before) {
                    (Number::Counter(now), Some(Number::Counter(before))) => {
                        *now = now.saturating_sub(before);
                    }
                    (Number::Seconds(now), Some(Number::Seconds(before))) => *now -= before,
                    (Number::Histogram(now), Some(Number::Histogram(before))) => {
                        for (now, before) in now.counts.iter_mut().zip(before.counts) {
                            *now = now.saturating_sub(before);
                        }
                        now.sum -= before.sum;
                        for (now, before) in now.exemplars.iter_mut().zip(before.exemplars) {
                            *now = now.filter(|exemplar| Some(*exemplar) != before);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Unit;

    #[test]
    fn an_export_tells_what_is_new() {
        let families = |count, gauge| {
            [
                Family::new("a", Unit::Bytes, "").with(Number::Counter(count)),
                Family::new("b", Unit::Bytes, "").with(Number::Gauge(gauge)),
            ]
        };
        let mut deltas = Deltas::default();
        for (count, gauge, expected) in [(5, 1.0, 5), (7, 2.0, 2), (7, 1.0, 0)] {
            let mut now = families(count, gauge);
            deltas.take(&mut now);
            assert_eq!(now, families(expected, gauge));
        }
    }
}
