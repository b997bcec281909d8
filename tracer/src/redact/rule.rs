//! What is done to attributes, by name.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use regex::Regex;

/// An attribute's names and what is done to its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which attributes.
    pub attributes: AttributePattern,
    /// What is done.
    pub action: Action,
}

/// What is done to a value.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing, whatever later rules say.
    Keep,
    /// The attribute is left out.
    Delete,
    /// It is replaced by a keyed digest, so that equal values remain equal.
    Hash,
    /// It is replaced by `REDACTED`.
    Mask,
    /// What matches of it is replaced by `REDACTED`; later rules apply, too.
    MaskMatches(Regex),
}

/// A glob on attribute names.
#[derive(Clone, Debug)]
pub struct AttributePattern(GlobMatcher);

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// No `=`.
    #[error("`{0}` is no rule; write ATTRIBUTE=ACTION, like `user_agent.original=delete`")]
    NoAction(String),
    /// The part before it.
    #[error("`{0}` is not a pattern of attribute names; write it like `http.request.header.*`")]
    Attributes(String),
    /// The part after it.
    #[error("`{0}` is no action; use delete, hash, mask, mask:REGULAR-EXPRESSION or keep")]
    Action(String),
    /// Its regular expression.
    #[error("{0}")]
    Expression(#[from] regex::Error),
}

impl AttributePattern {
    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// Whether it is this name and no other.
    pub fn is_exactly(&self, name: &str) -> bool {
        self.0.glob().glob() == name
    }
}

impl FromStr for AttributePattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let glob = Glob::new(text).ok().filter(|_| !text.is_empty());
        let glob = glob.ok_or_else(|| RuleError::Attributes(text.to_owned()))?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (attributes, action) =
            text.split_once('=').ok_or_else(|| RuleError::NoAction(text.to_owned()))?;
        Ok(Self { attributes: attributes.trim().parse()?, action: action.parse()? })
    }
}

impl FromStr for Action {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            "hash" => Ok(Self::Hash),
            "mask" => Ok(Self::Mask),
            _ => match text.strip_prefix("mask:") {
                Some(expression) => Ok(Self::MaskMatches(Regex::new(expression)?)),
                None => Err(RuleError::Action(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.attributes, self.action)
    }
}

impl fmt::Display for AttributePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Delete => f.write_str("delete"),
            Self::Hash => f.write_str("hash"),
            Self::Mask => f.write_str("mask"),
            Self::MaskMatches(expression) => write!(f, "mask:{expression}"),
        }
    }
}

impl PartialEq for AttributePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for text in [
            "user_agent.original=delete",
            "http.request.header.*=hash",
            "url.path=mask",
            "*=mask:[0-9]{4}=x",
            "a=keep",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_rules_say_what_to_write() {
        for (text, error) in [
            ("", "is no rule"),
            ("a", "is no rule"),
            ("=mask", "is not a pattern"),
            ("a[=mask", "is not a pattern"),
            ("a=", "is no action"),
            ("a=Mask", "is no action"),
            ("a=mask:[", "regex parse error"),
        ] {
            let message = text.parse::<Rule>().unwrap_err().to_string();
            assert!(message.contains(error), "{text}: {message}");
        }
    }
}
