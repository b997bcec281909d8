//! Consistent probability sampling: one random number a trace, one threshold a decision.
//!
//! Everybody who sees a trace compares the same number with a threshold, so whoever keeps few
//! traces keeps a subset of what others keep. From the threshold that a kept span carries follows
//! how many spans it stands for.

use std::fmt;

use crate::trace::context::TraceId;

/// Bits that randomness and thresholds have.
const BITS: u32 = 56;
/// Hexadecimal digits of so many bits.
const DIGITS: usize = BITS as usize / 4;
/// Digits of a threshold that was made from a probability, those before the first that is not `f`
/// not counted. More make `tracestate` longer and no decision better.
const PRECISION: usize = 5;

/// The random number of a trace, out of 2^56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Randomness(u64);

impl Randomness {
    /// That of a trace whose state names none: the low bits of its id.
    pub fn of(trace: TraceId) -> Self {
        let id = u128::from_be_bytes(trace.0);
        Self(id as u64 & ((1 << BITS) - 1))
    }

    /// From exactly 14 lower-case hexadecimal digits, as `rv` has them.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        if text.len() == DIGITS { lower_hex(text).map(Self) } else { None }
    }
}

/// How many of all random numbers are rejected; the trace is kept if its own is not below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Threshold {
    /// Rejects nothing.
    pub const ALWAYS: Self = Self(0);
    /// Rejects everything. It has no text form, as no span that is kept can carry it.
    pub const NEVER: Self = Self(1 << BITS);

    /// The threshold that keeps this part of all traces, from 0 to 1.
    pub fn from_probability(probability: f64) -> Self {
        let whole = Self::NEVER.0;
        // Not a number keeps nothing.
        let kept = (probability.clamp(0.0, 1.0) * whole as f64).round() as u64;
        if kept == 0 {
            return Self::NEVER;
        }
        let exact = whole - kept;
        let leading = (exact << (u64::BITS - BITS)).leading_ones() as usize / 4;
        let dropped = DIGITS.saturating_sub(leading + PRECISION) as u32 * 4;
        let half = (1_u64 << dropped) >> 1;
        Self((exact + half) >> dropped << dropped)
    }

    /// Whether a trace with this randomness is kept.
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }

    /// How likely a trace is kept.
    pub fn probability(self) -> f64 {
        (Self::NEVER.0 - self.0) as f64 / Self::NEVER.0 as f64
    }

    /// How many spans one that was kept stands for; infinite for [`Self::NEVER`].
    pub fn adjusted_count(self) -> f64 {
        1.0 / self.probability()
    }

    /// From 1 to 14 lower-case hexadecimal digits, as `th` has them.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        if !(1..=DIGITS).contains(&text.len()) {
            return None;
        }
        lower_hex(text).map(|number| Self(number << (4 * (DIGITS - text.len()))))
    }
}

/// Hexadecimal digits without trailing zeros.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let zeros = self.0.trailing_zeros() / 4;
        let digits = DIGITS.saturating_sub(zeros as usize);
        write!(f, "{:0digits$x}", self.0 >> (4 * zeros))
    }
}

/// Digits and lower-case letters only, without a sign.
fn lower_hex(text: &str) -> Option<u64> {
    let valid = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if valid { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_probabilities_have_their_known_text() {
        for (probability, text) in [
            (1.0, "0"),
            (0.5, "8"),
            (0.25, "c"),
            (0.75, "4"),
            (0.1, "e6666"),
            (0.01, "fd70a4"),
            (0.001, "ffbe76d"),
        ] {
            let threshold = Threshold::from_probability(probability);
            assert_eq!(threshold.to_string(), text, "{probability}");
            assert_eq!(Threshold::from_hex(text), Some(threshold));
        }
    }

    #[test]
    fn what_keeps_nothing_is_never() {
        for probability in [0.0, -1.0, 1e-18, f64::NAN] {
            assert_eq!(Threshold::from_probability(probability), Threshold::NEVER, "{probability}");
        }
        let greatest = Randomness::from_hex("ffffffffffffff").unwrap();
        assert!(!Threshold::NEVER.keeps(greatest));
        assert!(Threshold::from_probability(1.0 / (1_u64 << 56) as f64).keeps(greatest));
    }

    #[test]
    fn only_lower_case_digits_of_the_right_length_are_read() {
        for text in ["", "C", "g", "+8", "-8", " 8", "000000000000000"] {
            assert_eq!(Threshold::from_hex(text), None, "{text}");
        }
        for text in ["", "8", "ffffffffffffF0", "+fffffffffffff", "fffffffffffffff"] {
            assert_eq!(Randomness::from_hex(text), None, "{text}");
        }
        assert_eq!(Threshold::from_hex("80"), Threshold::from_hex("8"));
    }

    #[test]
    fn randomness_is_the_low_56_bits_of_the_id() {
        let mut id = [0xff; 16];
        id[9..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(Randomness::of(TraceId(id)), Randomness(0x01_0203_0405_0607));
    }

    proptest! {
        #[test]
        fn the_probability_comes_out_as_it_went_in(probability in 1e-6..=1.0) {
            let threshold = Threshold::from_probability(probability);
            prop_assert!((threshold.probability() / probability - 1.0).abs() < 1e-4);
            prop_assert_eq!(Threshold::from_hex(&threshold.to_string()), Some(threshold));
        }

        #[test]
        fn who_keeps_fewer_keeps_a_subset(a in 0.0..=1.0, b in 0.0..=1.0, number in 0_u64..1 << 56) {
            let (few, many) = if a < b { (a, b) } else { (b, a) };
            let kept = |part| Threshold::from_probability(part).keeps(Randomness(number));
            prop_assert!(!kept(few) || kept(many));
        }
    }
}
