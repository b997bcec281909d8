//! What the user wants to keep, as a tree of conditions on a trace.
//!
//! Applied to a trace, a policy gives the threshold with which it keeps it: [`Threshold::ALWAYS`]
//! where a condition is met, [`Threshold::NEVER`] where none is, and what chance says in between.
//! The alternative that keeps most decides, so the threshold says how likely the trace was to be
//! kept, and counts can be told from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::attribute::AttributeTest;
use super::rate::Rate;
use super::trace::Spans;
use crate::event::KernelTime;
use crate::sampling::head::{SamplerError, part};
use crate::sampling::service::ServicePattern;
use crate::sampling::threshold::Threshold;
use crate::trace::RoutePattern;
use crate::trace::semconv::attribute;

/// Which traces are kept. Also has a text form, see [`super::parse`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// All.
    Always,
    /// Those with a span that failed.
    Error,
    /// Those that take longer, from the start of the first span to the end of the last.
    Latency(#[serde(with = "as_text")] humantime::Duration),
    /// This part of all, the same one everywhere.
    Probability(#[serde(with = "as_text")] Probability),
    /// As many in a second as this, on average.
    Rate(Rate),
    /// Those with a span that has such an attribute, or whose resource has.
    Attribute(AttributeTest),
    /// Those with a span of this route or, without a route, of a path that matches.
    Route(#[serde(with = "as_text")] RoutePattern),
    /// Those whose spans of a service are kept by a policy that sees only these.
    Service(ServicePolicy),
    /// Those that all of these keep.
    And(Vec<Policy>),
    /// Those that one of these keeps.
    Or(Vec<Policy>),
    /// Those that this does not keep. It must not be left to chance.
    Not(Box<Policy>),
}

/// A policy for the part of a trace that belongs to one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePolicy {
    /// Name of the service.
    #[serde(with = "as_text")]
    pub name: ServicePattern,
    /// Applied to its spans, if there are any.
    pub policy: Box<Policy>,
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probability(f64);

impl FromStr for Probability {
    type Err = SamplerError;

    fn from_str(text: &str) -> Result<Self, SamplerError> {
        part(text).map(Self)
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a tree of conditions cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// What is not kept by chance stands for an unknown number of traces.
    #[error(
        "`not` cannot be applied to `probability` or `rate`: what they leave out is no fair sample; \
         write the part that is to be kept instead"
    )]
    NotOverChance,
    /// An alternative or combination of nothing.
    #[error("`and` and `or` need at least one condition")]
    Empty,
}

impl Policy {
    /// Checks what the types do not; what was parsed from text is correct already.
    pub fn check(&self) -> Result<(), PolicyError> {
        match self {
            Self::Not(policy) if policy.is_chance() => Err(PolicyError::NotOverChance),
            Self::And(policies) | Self::Or(policies) if policies.is_empty() => {
                Err(PolicyError::Empty)
            }
            Self::And(policies) | Self::Or(policies) => policies.iter().try_for_each(Self::check),
            Self::Not(policy) | Self::Service(ServicePolicy { policy, .. }) => policy.check(),
            _ => Ok(()),
        }
    }

    /// Whether anything in it is left to chance.
    pub(super) fn is_chance(&self) -> bool {
        match self {
            Self::Probability(_) | Self::Rate(_) => true,
            Self::And(policies) | Self::Or(policies) => policies.iter().any(Self::is_chance),
            Self::Not(policy) | Self::Service(ServicePolicy { policy, .. }) => policy.is_chance(),
            _ => false,
        }
    }

    /// The threshold with which these spans are kept. Conditions are looked at from left to right,
    /// as far as needed: a rate sees only what those before it leave open.
    pub(super) fn threshold(&mut self, spans: &Spans<'_>, now: KernelTime) -> Threshold {
        match self {
            Self::Always => Threshold::ALWAYS,
            Self::Error => certain(spans.failed()),
            Self::Latency(longer) => certain(u128::from(spans.nanos()) > longer.as_nanos()),
            Self::Probability(Probability(part)) => Threshold::from_probability(*part),
            Self::Rate(rate) => rate.threshold(spans.iter().count(), now),
            Self::Attribute(test) => certain(spans.iter().any(|span| test.matches(span))),
            Self::Route(route) => {
                certain(spans.iter().any(|span| match span.text(attribute::HTTP_ROUTE) {
                    Some(known) => known == route.as_str(),
                    None => span.text(attribute::URL_PATH).is_some_and(|it| route.matches(it)),
                }))
            }
            Self::Service(ServicePolicy { name, policy }) => {
                let own = spans.of(name);
                if own.iter().next().is_none() {
                    return Threshold::NEVER;
                }
                policy.threshold(&own, now)
            }
            Self::And(policies) => {
                let mut highest = Threshold::ALWAYS;
                for policy in policies {
                    highest = highest.max(policy.threshold(spans, now));
                    if highest == Threshold::NEVER {
                        break;
                    }
                }
                highest
            }
            Self::Or(policies) => {
                let mut lowest = Threshold::NEVER;
                for policy in policies {
                    lowest = lowest.min(policy.threshold(spans, now));
                    if lowest == Threshold::ALWAYS {
                        break;
                    }
                }
                lowest
            }
            // Not left to chance, see `check`: one or the other.
            Self::Not(policy) => certain(policy.threshold(spans, now) != Threshold::ALWAYS),
        }
    }
}

fn certain(met: bool) -> Threshold {
    if met { Threshold::ALWAYS } else { Threshold::NEVER }
}

/// The text form, from which it is read back.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Error => f.write_str("error"),
            Self::Latency(longer) => {
                write!(f, "latency>{}", longer.to_string().replace(' ', ""))
            }
            Self::Probability(part) => write!(f, "probability {part}"),
            Self::Rate(rate) => write!(f, "rate {} {}/s", rate.limit, rate.unit),
            Self::Attribute(test) => fmt::Display::fmt(test, f),
            Self::Route(route) => write!(f, "route \"{}\"", route.as_str()),
            Self::Service(ServicePolicy { name, policy }) => {
                write!(f, "service \"{name}\" ({policy})")
            }
            Self::And(policies) => join(f, " and ", policies),
            Self::Or(policies) => join(f, " or ", policies),
            Self::Not(policy) => write!(f, "not ({policy})"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, between: &str, policies: &[Policy]) -> fmt::Result {
    for (index, policy) in policies.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        match policy {
            Policy::And(_) | Policy::Or(_) => write!(f, "({policy})")?,
            _ => write!(f, "{policy}")?,
        }
    }
    Ok(())
}

/// Values whose serialised form is their text form.
pub(super) mod as_text {
    use super::{Deserialize, Deserializer, FromStr, Serializer, de, fmt};

    pub(in super::super) fn serialize<T: fmt::Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
