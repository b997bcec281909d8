//! Options on how parents are found.

use std::time::Duration;

use clap::Args;

use crate::link::Options;
use crate::link::timing::Confidence;

/// How parents are found.
#[derive(Clone, Copy, Debug, PartialEq, Args)]
#[command(next_help_heading = "Parents")]
pub struct LinkOptions {
    /// Where only likelihood can tell which request caused a call, how sure to be, from 0 to 1,
    /// before it becomes the parent; 1 never goes by likelihood
    #[arg(
        long,
        env = "TRACER_TIMING_THRESHOLD",
        default_value_t = Options::default().threshold.probability(),
        value_parser = probability,
        value_name = "PROBABILITY"
    )]
    pub timing_threshold: f64,
    /// A request that has been open for longer, like `5m`, causes no more calls: those are roots
    #[arg(
        long,
        env = "TRACER_LONGEST_REQUEST",
        default_value_t = Options::default().longest_request.into(),
        value_name = "TIME"
    )]
    pub longest_request: humantime::Duration,
}

impl LinkOptions {
    /// What the linker takes.
    pub fn options(&self) -> Options {
        Options {
            threshold: Confidence::new(self.timing_threshold),
            longest_request: Duration::from(self.longest_request),
        }
    }
}

impl Default for LinkOptions {
    fn default() -> Self {
        let Options { threshold, longest_request } = Options::default();
        Self { timing_threshold: threshold.probability(), longest_request: longest_request.into() }
    }
}

fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a probability is a number from 0 to 1, like 0.95".to_owned())
}
