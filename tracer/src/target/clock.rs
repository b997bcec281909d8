//! The clocks in which a process's start is told, and how they relate.
//!
//! The kernel half gives the monotonic clock, `/proc/PID/stat` gives ticks of the boot clock, and
//! resources want wall-clock time. The boot clock also counts time spent suspended, so the two
//! kernel clocks drift apart on machines that sleep.

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::event::{ClockOffset, KernelTime};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// When a process was forked: clock ticks since boot, field 22 of `/proc/PID/stat`. Together with
/// the process id it names one process for the whole life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StartTicks(pub u64);

/// How the clocks stand to each other at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// From the monotonic clock to the Unix epoch.
    pub wall: ClockOffset,
    /// Nanoseconds the machine has been suspended since boot.
    pub suspended: u64,
    /// Unit of [`StartTicks`].
    pub ticks_per_second: u64,
}

impl Clocks {
    /// Reads the machine's clocks.
    pub fn read() -> Self {
        let monotonic = nanos(ClockId::Monotonic);
        Self {
            wall: ClockOffset(nanos(ClockId::Realtime).wrapping_sub(monotonic) as i64),
            suspended: nanos(ClockId::Boottime).saturating_sub(monotonic),
            ticks_per_second: clock_ticks_per_second(),
        }
    }

    /// Ticks that a process forked at `started` shows if the machine was never suspended.
    pub(super) fn ticks(self, started: KernelTime) -> StartTicks {
        StartTicks(started.0 / self.nanos_per_tick())
    }

    /// Whether the two can be the start of one process. Not exact on machines that were suspended:
    /// how long they slept before that start is not known.
    pub(super) fn agree(self, started: KernelTime, ticks: StartTicks) -> bool {
        let latest = self.ticks(KernelTime(started.0.saturating_add(self.suspended)));
        // One tick of slack on both sides: the clocks are not read at the same instant.
        (self.ticks(started).0.saturating_sub(1)..=latest.0.saturating_add(1)).contains(&ticks.0)
    }

    /// Latest monotonic time at which a process with these ticks can have been forked.
    pub(super) fn monotonic(self, ticks: StartTicks) -> KernelTime {
        let boot = ticks.0.saturating_mul(self.nanos_per_tick());
        KernelTime(boot.saturating_sub(self.suspended))
    }

    /// Wall-clock nanoseconds of these ticks.
    pub(super) fn unix_nanos(self, ticks: StartTicks) -> u64 {
        let boot = KernelTime(ticks.0.saturating_mul(self.nanos_per_tick()));
        self.wall.unix_nanos(boot).saturating_sub(self.suspended)
    }

    fn nanos_per_tick(self) -> u64 {
        (NANOS_PER_SECOND / self.ticks_per_second.max(1)).max(1)
    }
}

/// Where [`Clocks`] come from: the difference between them grows with every suspend.
#[derive(Clone, Copy, Debug)]
pub enum ClockSource {
    /// This machine, asked each time.
    System,
    /// Always the same.
    Fixed(Clocks),
}

impl ClockSource {
    pub(super) fn read(self) -> Clocks {
        match self {
            Self::System => Clocks::read(),
            Self::Fixed(clocks) => clocks,
        }
    }
}

/// RFC 3339 in UTC with milliseconds, as `process.creation.time` wants it.
pub(super) fn rfc3339(unix_nanos: u64) -> String {
    let seconds = unix_nanos / NANOS_PER_SECOND;
    let millis = unix_nanos % NANOS_PER_SECOND / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count, with years that begin in March so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * NANOS_PER_SECOND + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAKE: Clocks = Clocks {
        wall: ClockOffset(1_700_000_000_000_000_000),
        suspended: 0,
        ticks_per_second: 100,
    };

    #[test]
    fn a_start_agrees_with_its_own_ticks_only() {
        let started = KernelTime(12_345_678_901);
        assert!(AWAKE.agree(started, StartTicks(1234)));
        assert!(!AWAKE.agree(started, StartTicks(1200)));
        assert!(!AWAKE.agree(started, StartTicks(1300)));
    }

    #[test]
    fn suspended_time_widens_what_agrees() {
        let slept = Clocks { suspended: 60 * NANOS_PER_SECOND, ..AWAKE };
        let started = KernelTime(12 * NANOS_PER_SECOND);
        assert!(slept.agree(started, StartTicks(1200)));
        assert!(slept.agree(started, StartTicks(7200)));
        assert!(!slept.agree(started, StartTicks(7300)));
        assert_eq!(slept.monotonic(StartTicks(7200)), started);
    }

    #[test]
    fn dates_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999_999_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_255_200_042_000_000), "2026-11-21T10:00:00.042Z");
        assert_eq!(rfc3339(4_107_542_399_000_000_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(rfc3339(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000Z");
    }
}
