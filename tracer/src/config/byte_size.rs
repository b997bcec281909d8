//! Sizes in bytes as people write them.

use std::fmt;
use std::str::FromStr;

const UNITS: [(&str, u64); 4] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];

/// A number of bytes; `4M`, `4MiB` and `4194304` are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// Not a number with a known unit.
    #[error("`{0}` is not a size; write a whole number of bytes, or one with K, M or G: `16K`")]
    Malformed(String),
    /// More than 64 bits.
    #[error("`{0}` is more bytes than there are")]
    TooLarge(String),
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let malformed = || ByteSizeError::Malformed(text.to_owned());
        let too_large = || ByteSizeError::TooLarge(text.to_owned());
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim().to_ascii_uppercase();
        let short = unit.strip_suffix("IB").filter(|short| !short.is_empty());
        let unit = short.or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        number.checked_mul(*factor).map(Self).ok_or_else(too_large)
    }
}

/// In the largest unit that gives a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(&("", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_binary_in_any_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("16K", 16_384),
            ("16k", 16_384),
            ("16KiB", 16_384),
            ("16 kb", 16_384),
            ("4M", 4_194_304),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_explained() {
        for text in ["", "K", "-1", "1.5M", "4X", "4iB", "1 2K", "0x10", "٣K"] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert_eq!(error, ByteSizeError::Malformed(text.to_owned()));
        }
        for text in ["18446744073709551616", "99999999999G"] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert_eq!(error, ByteSizeError::TooLarge(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read(bytes in any::<u64>(), shift in 0..40_u32) {
            let size = ByteSize(bytes >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,8}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
