//! Conditions on what attributes say.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::policy::as_text;
use crate::trace::{Span, Value};

/// A condition on an attribute of a span or, if the span has none of that name, of its resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeTest {
    /// The attribute's name.
    pub name: String,
    /// What holds of its value.
    #[serde(default)]
    pub test: Test,
}

/// A condition on a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// There is one.
    #[default]
    Exists,
    /// Its text is this.
    Is(String),
    /// Its text is another.
    IsNot(String),
    /// A part of its text matches.
    Matches(#[serde(with = "as_text")] Pattern),
    /// It is a number greater than this.
    MoreThan(f64),
    /// It is a number not less than this.
    AtLeast(f64),
    /// It is a number less than this.
    LessThan(f64),
    /// It is a number not greater than this.
    AtMost(f64),
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl std::str::FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        Regex::new(text).map(Self)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl AttributeTest {
    /// Whether a span meets the condition.
    pub(super) fn matches(&self, span: &Span) -> bool {
        let own = span.attributes.iter().find(|(name, _)| *name == self.name);
        let value = own.map(|(_, value)| value).or_else(|| {
            let shared = span.resource.attributes.iter().find(|(name, _)| *name == self.name);
            shared.map(|(_, value)| value)
        });
        value.is_some_and(|value| self.test.holds(value))
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        let number = || match value {
            Value::Int(number) => Some(*number as f64),
            Value::Double(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            Value::Bool(_) | Value::TextList(_) => None,
        };
        match self {
            Self::Exists => true,
            Self::Is(text) => any_text(value, |it| it == text),
            Self::IsNot(text) => !any_text(value, |it| it == text),
            Self::Matches(Pattern(regex)) => any_text(value, |it| regex.is_match(it)),
            Self::MoreThan(bound) => number().is_some_and(|number| number > *bound),
            Self::AtLeast(bound) => number().is_some_and(|number| number >= *bound),
            Self::LessThan(bound) => number().is_some_and(|number| number < *bound),
            Self::AtMost(bound) => number().is_some_and(|number| number <= *bound),
        }
    }
}

/// Whether the text of a value, or one of several, is as wanted.
fn any_text(value: &Value, mut wanted: impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::Text(text) => wanted(text),
        Value::Int(number) => wanted(&number.to_string()),
        Value::Double(number) => wanted(&number.to_string()),
        Value::Bool(truth) => wanted(if *truth { "true" } else { "false" }),
        Value::TextList(list) => list.iter().any(|text| wanted(text)),
    }
}

impl fmt::Display for AttributeTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {}", self.name)?;
        match &self.test {
            Test::Exists => Ok(()),
            Test::Is(text) => write!(f, "={}", quoted(text)),
            Test::IsNot(text) => write!(f, "!={}", quoted(text)),
            Test::Matches(pattern) => write!(f, "~{}", quoted(&pattern.to_string())),
            Test::MoreThan(number) => write!(f, ">{number}"),
            Test::AtLeast(number) => write!(f, ">={number}"),
            Test::LessThan(number) => write!(f, "<{number}"),
            Test::AtMost(number) => write!(f, "<={number}"),
        }
    }
}

/// In whichever quotes the text does not have.
fn quoted(text: &str) -> String {
    if text.contains('"') { format!("'{text}'") } else { format!("\"{text}\"") }
}
