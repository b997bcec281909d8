//! How long things took, counted in the buckets that the HTTP conventions name.

use crate::trace::context::{SpanId, TraceId};

/// Upper bounds in seconds of all buckets but the last.
pub const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Something that was counted, as an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// Seconds.
    pub value: f64,
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its trace.
    pub trace: TraceId,
    /// Its span.
    pub span: SpanId,
}

/// Counts by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Not cumulative; the last one has no upper bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Sum of all, in seconds.
    pub sum: f64,
    /// The latest example of each bucket.
    pub exemplars: [Option<Exemplar>; BOUNDS.len() + 1],
}

impl Distribution {
    /// Counts something that took so many seconds.
    pub fn record(&mut self, seconds: f64, exemplar: Option<Exemplar>) {
        // Bounds belong to the bucket below them.
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
        if exemplar.is_some() {
            self.exemplars[bucket] = exemplar;
        }
    }

    /// How much was counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_takes_the_rest() {
        let mut durations = Distribution::default();
        for seconds in [0.0, 0.005, 0.006, 10.0, 11.0] {
            durations.record(seconds, None);
        }
        assert_eq!(durations.counts[..2], [2, 1]);
        assert_eq!(durations.counts[13..], [1, 1]);
        assert_eq!((durations.count(), durations.sum), (5, 21.011));
    }
}
