//! How often and how long to measure, and which rounds count.

use anyhow::Result;

use super::cpu::Stolen;
use crate::shell::note;

/// Share of processor time lost to other machines on the host, from which on a round is measured
/// again: it would say more about them than about us.
const STOLEN: f64 = 0.01;
/// Rounds measured at most, as a multiple of those asked for. The least disturbed ones count.
const ATTEMPTS: u32 = 3;

/// How long to measure.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Effort {
    /// Rounds of each variant; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Length of a round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// The rounds that count.
pub(crate) struct Rounds<T> {
    pub(crate) rounds: Vec<T>,
    /// Share of processor time that the host took, in the most disturbed of them.
    pub(crate) stolen: f64,
}

impl Effort {
    /// Measures rounds, each of all variants in turn, until enough of them were calm.
    pub(crate) fn measure<T>(self, mut round: impl FnMut(u32) -> Result<T>) -> Result<Rounds<T>> {
        let mut rounds: Vec<(f64, T)> = Vec::new();
        let mut calm = 0;
        for number in 1..=self.rounds * ATTEMPTS {
            let before = Stolen::so_far()?;
            let measured = round(number)?;
            let stolen = Stolen::so_far()?.share_since(before);
            if stolen <= STOLEN {
                calm += 1;
            } else {
                note(format!("round {number}: the host took {:.1} %", stolen * 100.0));
            }
            rounds.push((stolen, measured));
            if calm == self.rounds {
                break;
            }
        }
        rounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        rounds.truncate(self.rounds as usize);
        let stolen = rounds.last().map_or(0.0, |(stolen, _)| *stolen);
        Ok(Rounds { rounds: rounds.into_iter().map(|(_, round)| round).collect(), stolen })
    }

    /// A sentence for the report.
    pub(crate) fn condition(self) -> String {
        format!(
            "{} rounds of {} s a variant, variants taking turns; medians, ratios by round. Rounds in \
             which the machine's host took more than {:.0} % of the time are repeated, up to {} of \
             them in all.",
            self.rounds,
            self.seconds,
            STOLEN * 100.0,
            self.rounds * ATTEMPTS
        )
    }
}
