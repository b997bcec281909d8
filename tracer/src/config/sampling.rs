//! Options on which traces are exported.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::ByteSize;
use crate::sampling::tail::{self, Policy};
use crate::sampling::{Sampler, SamplerError, Samplers, ServicePattern, ServicePatternError};

/// Which traces are exported.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Traces to record of those that begin here, `10%`; or of those that begin at a service,
    /// `SERVICE=10%`; may be repeated, the first that matches counts. `SERVICE=off` records nothing
    /// of it. Also names of `OTEL_TRACES_SAMPLER`, which counts without this; docs/sampling.md
    #[arg(long, env = "TRACER_SAMPLE", value_delimiter = ',', value_name = "RULE")]
    pub sample: Vec<SampleRule>,
    /// Of the traces recorded, export only those that this policy keeps once they are over, like
    /// 'error or latency>1s or probability 1%'
    #[arg(long, env = "TRACER_TAIL", value_name = "POLICY")]
    pub tail: Option<Policy>,
    /// Time for which nothing of a trace is open or comes before it is taken to be over
    #[arg(long, env = "TRACER_TAIL_WAIT", default_value_t = WAIT.into(), value_name = "TIME")]
    pub tail_wait: humantime::Duration,
    /// Time after which a trace is decided on though something of it is open
    #[arg(
        long,
        env = "TRACER_TAIL_LONGEST_WAIT",
        default_value_t = LONGEST_WAIT.into(),
        value_name = "TIME"
    )]
    pub tail_longest_wait: humantime::Duration,
    /// Memory for spans that wait for the policy; when full, the oldest traces are decided on early
    #[arg(long, env = "TRACER_TAIL_BYTES", default_value_t = BYTES, value_name = "SIZE")]
    pub tail_bytes: ByteSize,
    /// Traces that wait for the policy; beyond, the oldest are decided on early
    #[arg(long, env = "TRACER_TAIL_TRACES", default_value_t = TRACES, value_name = "COUNT")]
    pub tail_traces: usize,
    /// Spans of one trace that wait; beyond, it is decided on early
    #[arg(
        long,
        env = "TRACER_TAIL_TRACE_SPANS",
        default_value_t = TRACE_SPANS,
        value_name = "COUNT"
    )]
    pub tail_trace_spans: usize,
    /// Decisions of the policy that are remembered, for spans that come later
    #[arg(long, env = "TRACER_TAIL_DECISIONS", default_value_t = DECISIONS, value_name = "COUNT")]
    pub tail_decisions: usize,
}

const WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(2);
const BYTES: ByteSize = ByteSize(64 << 20);
const TRACES: usize = 50_000;
const TRACE_SPANS: usize = 10_000;
const DECISIONS: usize = 100_000;

/// A sampler, and for which services.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRule {
    /// `None` for all.
    pub service: Option<ServicePattern>,
    /// The sampler.
    pub sampler: Sampler,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleRuleError {
    /// What stands before the last `=`.
    #[error(transparent)]
    Service(#[from] ServicePatternError),
    /// What stands after it.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

impl FromStr for SampleRule {
    type Err = SampleRuleError;

    fn from_str(text: &str) -> Result<Self, SampleRuleError> {
        let (service, sampler) = match text.rsplit_once('=') {
            Some((service, sampler)) => (Some(service.trim()), sampler),
            None => (None, text),
        };
        Ok(Self { service: service.map(str::parse).transpose()?, sampler: sampler.parse()? })
    }
}

impl SamplingOptions {
    /// The samplers, and warnings about the environment.
    pub fn samplers(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> (Vec<String>, Samplers) {
        let of_all = self.sample.iter().position(|rule| rule.service.is_none());
        let (warnings, otherwise) = match of_all {
            Some(at) => (Vec::new(), self.sample[at].sampler),
            None => Sampler::from_environment(
                environment("OTEL_TRACES_SAMPLER").as_deref(),
                environment("OTEL_TRACES_SAMPLER_ARG").as_deref(),
            ),
        };
        // What is for all ends the list: nothing after it counts.
        let rules = self.sample[..of_all.unwrap_or(self.sample.len())].iter();
        let rules = rules.filter_map(|rule| Some((rule.service.clone()?, rule.sampler)));
        (warnings, Samplers { rules: rules.collect(), otherwise })
    }

    /// What tail sampling takes; `None` if it is off.
    pub fn tail(&self) -> Option<tail::Options> {
        Some(tail::Options {
            policy: self.tail.clone()?,
            wait: self.tail_wait.into(),
            longest_wait: self.tail_longest_wait.into(),
            traces: self.tail_traces,
            trace_spans: self.tail_trace_spans,
            bytes: usize::try_from(self.tail_bytes.0).unwrap_or(usize::MAX),
            decisions: self.tail_decisions,
        })
    }
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            sample: Vec::new(),
            tail: None,
            tail_wait: WAIT.into(),
            tail_longest_wait: LONGEST_WAIT.into(),
            tail_bytes: BYTES,
            tail_traces: TRACES,
            tail_trace_spans: TRACE_SPANS,
            tail_decisions: DECISIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samplers(rules: &[&str], sampler: Option<&str>) -> (usize, Samplers) {
        let sample = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let options = SamplingOptions { sample, ..SamplingOptions::default() };
        let environment = |name: &str| {
            let value = if name == "OTEL_TRACES_SAMPLER" { sampler } else { None };
            value.map(str::to_owned)
        };
        let (warnings, samplers) = options.samplers(environment);
        (warnings.len(), samplers)
    }

    #[test]
    fn rules_come_before_the_environment() {
        let tenth = Sampler::ratio(0.1).parent_based();
        let (warnings, samplers) = samplers(&["a=off", "b*=10%"], Some("always_on"));
        assert_eq!(warnings, 0);
        let of = |service| samplers.of(service);
        assert_eq!((of("a"), of("bc"), of("d")), (Sampler::OFF, tenth, Sampler::ON));
    }

    #[test]
    fn a_rule_for_all_replaces_the_environment_and_what_comes_after_it() {
        assert_eq!(samplers(&["a=off"], Some("nonsense")).0, 1);
        let (warnings, samplers) = samplers(&["a=off", "10%", "b=off"], Some("nonsense"));
        assert_eq!(warnings, 0, "what does not count is not looked at");
        let tenth = Sampler::ratio(0.1).parent_based();
        assert_eq!((samplers.of("a"), samplers.of("b")), (Sampler::OFF, tenth));
    }

    #[test]
    fn bad_rules_are_refused() {
        for text in ["a=", "=on", "a=sometimes", "a[=on", "a=200%"] {
            assert!(text.parse::<SampleRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_bounds_of_the_options_are_those_of_the_sampler() {
        let policy: Policy = "error".parse().unwrap();
        let options = SamplingOptions { tail: Some(policy.clone()), ..SamplingOptions::default() };
        assert_eq!(options.tail(), Some(tail::Options::new(policy)));
        assert_eq!(SamplingOptions::default().tail(), None);
    }
}
