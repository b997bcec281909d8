//! Distribution of one delay, learned on line: a histogram over the delay's logarithm.
//!
//! Logarithmic, because delays of one cause spread over orders of magnitude, and a histogram,
//! because they have several modes (cache hit or miss, a timer, a retry). Old samples fade.

/// Bins per doubling of the delay.
const BINS_PER_OCTAVE: f64 = 4.0;
/// Bins of a histogram: from 0 to 2^28 µs (268 s); longer delays share the last bin.
const BINS: usize = 112;
/// Weight at which a histogram is halved, so that the last few hundred samples decide.
const MEMORY: f32 = 1_000.0;
/// How much likelier a bin is than the next longer one, before anything is known: causes tend to
/// be recent.
const PRIOR_RATIO: f64 = 0.97;
/// Samples' worth of trust in each wider view of the histogram when a narrower one is thin.
const NARROW_TRUST: f64 = 15.0;
const MIDDLE_TRUST: f64 = 6.0;
const WIDE_TRUST: f64 = 1.0;
/// Samples' worth of belief that a delay may still become longer than any seen.
const SURVIVAL_TRUST: f64 = 1.0;

/// A learned distribution of delays.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    /// Bin of `counts[0]`.
    first: usize,
    /// Only the range of bins that was ever hit is stored.
    counts: Vec<f32>,
    total: f32,
}

impl Gaps {
    /// Adds a delay in nanoseconds, counted `weight` times.
    pub(super) fn learn(&mut self, nanos: u64, weight: f32) {
        *self.slot(bin(nanos)) += weight;
        self.total += weight;
        if self.total > MEMORY {
            self.total *= 0.5;
            self.counts.iter_mut().for_each(|count| *count *= 0.5);
        }
    }

    /// Natural logarithm of the probability density of a delay, per microsecond.
    pub(super) fn log_density(&self, nanos: u64) -> f64 {
        let bin = bin(nanos);
        let total = f64::from(self.total);
        let prior = PRIOR_RATIO.powi(bin as i32) * (1.0 - PRIOR_RATIO)
            / (1.0 - PRIOR_RATIO.powi(BINS as i32));
        let wide = blend(self.mean_around(bin, 8), total, prior, WIDE_TRUST);
        let middle = blend(self.mean_around(bin, 3), total, wide, MIDDLE_TRUST);
        let narrow = blend(self.mean_around(bin, 1), total, middle, NARROW_TRUST);
        (narrow / width_micros(bin)).ln()
    }

    /// Probability that a delay is longer.
    pub(super) fn survival(&self, nanos: u64) -> f64 {
        let bin = bin(nanos);
        let longer = bin.saturating_sub(self.first).min(self.counts.len());
        let sum: f32 = self.counts[longer..].iter().sum();
        (f64::from(sum) + SURVIVAL_TRUST) / (f64::from(self.total) + SURVIVAL_TRUST)
    }

    fn slot(&mut self, bin: usize) -> &mut f32 {
        if self.counts.is_empty() {
            self.first = bin;
        }
        if bin < self.first {
            let missing = self.first - bin;
            self.counts.splice(0..0, std::iter::repeat_n(0.0, missing));
            self.first = bin;
        }
        let index = bin - self.first;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0.0);
        }
        &mut self.counts[index]
    }

    fn mean_around(&self, bin: usize, reach: usize) -> f64 {
        let from = bin.saturating_sub(reach).max(self.first);
        let to = (bin + reach + 1).min(self.first + self.counts.len());
        let sum: f32 = if from < to {
            self.counts[from - self.first..to - self.first].iter().sum()
        } else {
            0.0
        };
        f64::from(sum) / (2 * reach + 1) as f64
    }
}

fn blend(counted: f64, total: f64, fallback: f64, trust: f64) -> f64 {
    (counted + trust * fallback) / (total + trust)
}

fn bin(nanos: u64) -> usize {
    let micros = nanos as f64 / 1_000.0;
    (((1.0 + micros).log2() * BINS_PER_OCTAVE) as usize).min(BINS - 1)
}

fn width_micros(bin: usize) -> f64 {
    let edge = |bin: usize| (bin as f64 / BINS_PER_OCTAVE).exp2();
    edge(bin + 1) - edge(bin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_seen_becomes_likely() {
        let mut gaps = Gaps::default();
        for _ in 0..100 {
            gaps.learn(200_000, 1.0);
        }
        assert!(gaps.log_density(200_000) > gaps.log_density(5_000_000) + 5.0);
        assert!(gaps.log_density(200_000) > gaps.log_density(2_000) + 3.0);
    }

    #[test]
    fn both_modes_are_remembered() {
        let mut gaps = Gaps::default();
        for _ in 0..100 {
            gaps.learn(100_000, 1.0);
            gaps.learn(50_000_000, 1.0);
        }
        assert!(gaps.log_density(50_000_000) > gaps.log_density(5_000_000) + 2.0);
    }

    #[test]
    fn old_samples_fade() {
        let mut gaps = Gaps::default();
        for _ in 0..5_000 {
            gaps.learn(100_000, 1.0);
        }
        for _ in 0..5_000 {
            gaps.learn(10_000_000, 1.0);
        }
        assert!(gaps.log_density(10_000_000) + 16_f64.ln() > gaps.log_density(100_000));
        assert!(gaps.survival(1_000_000) > 0.95);
    }

    #[test]
    fn an_unlearned_delay_is_a_proper_distribution_that_favours_the_short() {
        let gaps = Gaps::default();
        let total: f64 = (0..BINS)
            .map(|bin| {
                let edge = ((bin as f64 + 0.5) / BINS_PER_OCTAVE).exp2() - 1.0;
                gaps.log_density((edge * 1_000.0) as u64).exp() * width_micros(bin)
            })
            .sum();
        assert!((total - 1.0).abs() < 0.05, "{total}");
        assert!(gaps.log_density(10_000) > gaps.log_density(10_000_000));
    }

    proptest! {
        #[test]
        fn any_delay_is_possible(delays in prop::collection::vec(any::<u64>(), 0..50), asked: u64) {
            let mut gaps = Gaps::default();
            for delay in delays {
                gaps.learn(delay, 1.0);
            }
            prop_assert!(gaps.log_density(asked).is_finite());
            prop_assert!(gaps.survival(asked) > 0.0 && gaps.survival(asked) <= 1.0);
            prop_assert!(gaps.counts.len() <= BINS);
        }
    }
}
