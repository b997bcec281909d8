//! Services by name.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobMatcher};

/// A glob on the names of services.
#[derive(Clone, Debug)]
pub struct ServicePattern(GlobMatcher);

/// Why a text is no pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a pattern of service names; write it like `payments` or 'pay*'")]
pub struct ServicePatternError(String);

impl ServicePattern {
    /// Whether a name matches.
    pub fn matches(&self, service: &str) -> bool {
        self.0.is_match(service)
    }
}

impl FromStr for ServicePattern {
    type Err = ServicePatternError;

    fn from_str(text: &str) -> Result<Self, ServicePatternError> {
        let glob = Glob::new(text).ok().filter(|_| !text.is_empty());
        let glob = glob.ok_or_else(|| ServicePatternError(text.to_owned()))?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

impl PartialEq for ServicePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}
