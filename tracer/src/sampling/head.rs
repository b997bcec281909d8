//! Head sampling: whether a trace is recorded, decided when the place of its first span is made.
//!
//! The samplers of `OTEL_TRACES_SAMPLER` with consistent probabilities. A decision stands in the
//! context's flags and state, and so goes to local children, onto the wire and into what is
//! exported without being made again.

use std::str::FromStr;

use super::ot;
use super::service::ServicePattern;
use super::threshold::Threshold;
use crate::trace::context::{SpanContext, TraceFlags};

/// What decides whether a span is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    choice: Choice,
    /// Where there is a parent, its decision holds.
    follows_parent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    On,
    Off,
    Ratio(Threshold),
}

/// Why a text is no sampler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// Not a name and not a part.
    #[error(
        "`{0}` is not a sampler; write a part of all traces like 10% or 0.1, `on`, `off`, or one of \
         always_on, always_off, traceidratio:0.1, parentbased_always_on, parentbased_always_off, \
         parentbased_traceidratio:0.1"
    )]
    Unknown(String),
    /// A part that is none.
    #[error("`{0}` is not a part of all traces; write it from 0 to 1 or from 0% to 100%")]
    NotAPart(String),
    /// A sampler that takes no argument.
    #[error("`{0}` takes no argument; only traceidratio and parentbased_traceidratio do")]
    Argument(String),
}

impl Sampler {
    /// Every span. The specification's `always_on`.
    pub const ON: Self = Self { choice: Choice::On, follows_parent: false };
    /// No span. The specification's `always_off`.
    pub const OFF: Self = Self { choice: Choice::Off, follows_parent: false };

    /// Spans of this part of all traces, whatever their parents' samplers decided. The
    /// specification's `traceidratio`.
    pub fn ratio(probability: f64) -> Self {
        let choice = Choice::Ratio(Threshold::from_probability(probability));
        Self { choice, follows_parent: false }
    }

    /// The same for spans without a parent; others follow theirs, remote ones too.
    #[must_use]
    pub fn parent_based(self) -> Self {
        Self { follows_parent: true, ..self }
    }

    /// The sampler of the variables `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; in front,
    /// what is wrong with them. As the specification has it, what cannot be used is ignored.
    pub fn from_environment(name: Option<&str>, argument: Option<&str>) -> (Vec<String>, Self) {
        let given = |value: Option<&str>| {
            value.map(str::trim).filter(|value| !value.is_empty()).map(str::to_ascii_lowercase)
        };
        let mut warnings = Vec::new();
        let name = given(name);
        let takes_part = |name: &str| matches!(name, "traceidratio" | "parentbased_traceidratio");
        let mut part = 1.0;
        if let Some(argument) = given(argument) {
            // As the specification has it, what there is no use for is not looked at.
            if name.as_deref().is_some_and(takes_part) {
                match argument.parse().ok().filter(|part| (0.0..=1.0).contains(part)) {
                    Some(valid) => part = valid,
                    None => warnings.push(format!(
                        "OTEL_TRACES_SAMPLER_ARG: `{argument}` is ignored, and every trace sampled: \
                         write a number from 0 to 1, like 0.1"
                    )),
                }
            }
        }
        let sampler = name.as_deref().map_or(Some(Self::default()), |name| Self::named(name, part));
        if sampler.is_none() {
            warnings.push(format!(
                "OTEL_TRACES_SAMPLER: `{}` is not known here and ignored; use always_on, always_off, \
                 traceidratio, parentbased_always_on, parentbased_always_off or \
                 parentbased_traceidratio",
                name.unwrap_or_default()
            ));
        }
        (warnings, sampler.unwrap_or_default())
    }

    fn named(name: &str, part: f64) -> Option<Self> {
        let (choice, follows_parent) = match name.strip_prefix("parentbased_") {
            Some(choice) => (choice, true),
            None => (name, false),
        };
        let sampler = match choice {
            "always_on" => Self::ON,
            "always_off" => Self::OFF,
            "traceidratio" => Self::ratio(part),
            _ => return None,
        };
        Some(Self { follows_parent, ..sampler })
    }

    /// Whether no span is ever recorded, whatever its parent.
    pub fn is_never(self) -> bool {
        !self.follows_parent && matches!(self.choice, Choice::Off | Choice::Ratio(Threshold::NEVER))
    }

    /// Decides on a new span, whose context has its parent's flags and state.
    pub fn decide(self, span: &mut SpanContext) {
        if self.follows_parent && span.parent.is_some() {
            if span.parent_is_remote && !span.state.0.is_empty() {
                drop_contradiction(span);
            }
            return;
        }
        match self.choice {
            Choice::On => {
                span.flags = span.flags | TraceFlags::SAMPLED;
                // Of a threshold that others kept fewer with, nothing is left.
                if ot::threshold(&span.state).is_some() {
                    span.state = ot::with_threshold(&span.state, Some(Threshold::ALWAYS));
                }
            }
            Choice::Off => reject(span),
            Choice::Ratio(threshold) => {
                if threshold.keeps(ot::randomness(span.trace, &span.state)) {
                    span.flags = span.flags | TraceFlags::SAMPLED;
                    span.state = ot::with_threshold(&span.state, Some(threshold));
                } else {
                    reject(span);
                }
            }
        }
    }
}

/// Everything that nobody decided against before: `parentbased_always_on`.
impl Default for Sampler {
    fn default() -> Self {
        Self::ON.parent_based()
    }
}

/// A part of all traces, for those that begin here (`10%`, `0.1`); `on`; `off` whoever asks; or a
/// name of `OTEL_TRACES_SAMPLER`, with a colon before its argument.
impl FromStr for Sampler {
    type Err = SamplerError;

    fn from_str(text: &str) -> Result<Self, SamplerError> {
        let text = text.trim();
        match text {
            "on" => return Ok(Self::default()),
            "off" => return Ok(Self::OFF),
            _ => {}
        }
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return part(text).map(|part| Self::ratio(part).parent_based());
        }
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let sampler = |part| Self::named(name, part);
        match (sampler(1.0), argument) {
            (None, _) => Err(SamplerError::Unknown(text.to_owned())),
            (Some(Self { choice: Choice::Ratio(_), .. }), Some(argument)) => {
                part(argument).map(|part| sampler(part).unwrap_or_default())
            }
            (Some(_), Some(_)) => Err(SamplerError::Argument(name.to_owned())),
            (Some(sampler), None) => Ok(sampler),
        }
    }
}

/// A part of all, as a number from 0 to 1 or in per cent.
pub(super) fn part(text: &str) -> Result<f64, SamplerError> {
    let (digits, whole) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|number| number / whole);
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| SamplerError::NotAPart(text.to_owned()))
}

/// Samplers by service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samplers {
    /// The first rule that matches a service's name holds.
    pub rules: Vec<(ServicePattern, Sampler)>,
    /// Of services that no rule is for.
    pub otherwise: Sampler,
}

impl Samplers {
    /// Whether services differ.
    pub fn differ(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether there may be services of which nothing is ever recorded.
    pub fn leave_out(&self) -> bool {
        let rules = self.rules.iter().map(|(_, sampler)| *sampler);
        rules.chain([self.otherwise]).any(Sampler::is_never)
    }

    /// The sampler of a service.
    pub fn of(&self, service: &str) -> Sampler {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(service));
        rule.map_or(self.otherwise, |(_, sampler)| *sampler)
    }
}

fn reject(span: &mut SpanContext) {
    span.flags = span.flags.without(TraceFlags::SAMPLED);
    if !span.state.0.is_empty() {
        span.state = ot::with_threshold(&span.state, None);
    }
}

/// A threshold by which the sender would have decided otherwise than it did tells nothing.
fn drop_contradiction(span: &mut SpanContext) {
    let Some(threshold) = ot::threshold(&span.state) else { return };
    let kept = threshold.keeps(ot::randomness(span.trace, &span.state));
    if kept != span.flags.contains(TraceFlags::SAMPLED) {
        span.state = ot::with_threshold(&span.state, None);
    }
}

#[cfg(test)]
mod tests;
