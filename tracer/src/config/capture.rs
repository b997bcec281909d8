//! Options on how processes are watched.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use rustix::param::page_size;

use super::{ByteSize, ByteSizeError};

/// How processes are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureOptions {
    /// Kernel probes to use; `tracer doctor` tells which ones work here
    #[arg(long, env = "TRACER_BACKEND", value_enum, default_value_t, value_name = "NAME")]
    pub backend: Backend,
    /// Bytes of the ring between kernel and agent: a power of two, 4M or so; raise it when the
    /// agent reports lost events
    #[arg(long, env = "TRACER_RING_SIZE", default_value_t, value_name = "BYTES")]
    pub ring_size: RingSize,
    /// Bytes copied of each message, at most 128K; a request or response whose head is longer
    /// cannot be understood
    #[arg(long, env = "TRACER_MESSAGE_BUDGET", default_value_t, value_name = "BYTES")]
    pub message_budget: MessageBudget,
    /// Connections that can be followed at the same time; more are counted, not traced
    #[arg(long, env = "TRACER_MAX_CONNECTIONS", default_value_t, value_name = "COUNT")]
    pub max_connections: ConnectionLimit,
}

/// Which kernel probes to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Backend {
    /// The best one that works
    #[default]
    Auto,
    /// Socket tracepoints (kernels from about 6.3)
    Socket,
    /// System-call exits (kernels from 5.10)
    Syscall,
}

/// Why a number was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not a size at all.
    #[error(transparent)]
    Size(#[from] ByteSizeError),
    /// Not a number at all.
    #[error("`{0}` is not a whole number")]
    Number(String),
    /// Out of bounds.
    #[error("{given} is out of bounds; give {least} to {most}")]
    Bounds {
        /// What was given.
        given: String,
        /// Smallest value.
        least: String,
        /// Largest value.
        most: String,
    },
    /// Not a power of two.
    #[error(
        "{given} is not a power of two, which the kernel asks of its ring buffers; use {below} or \
         {above}"
    )]
    PowerOfTwo {
        /// What was given.
        given: ByteSize,
        /// Next smaller power of two.
        below: ByteSize,
        /// Next larger power of two.
        above: ByteSize,
    },
}

/// Size of the ring buffer: a power of two, at least one page (so that it is a multiple of pages,
/// as the kernel asks), at most 1G. Never rounded silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RingSize(u32);

impl RingSize {
    const MOST: u64 = 1 << 30;

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for RingSize {
    fn default() -> Self {
        Self(4 << 20)
    }
}

impl FromStr for RingSize {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let size = text.parse()?;
        // Pages are powers of two as well: a power of two not below one is a multiple of it.
        let bytes = within(size, page_size() as u64, Self::MOST)?;
        if !bytes.is_power_of_two() {
            let above = bytes.next_power_of_two();
            let (below, above) = (ByteSize(above / 2), ByteSize(above));
            return Err(OptionError::PowerOfTwo { given: size, below, above });
        }
        Ok(Self(bytes as u32))
    }
}

impl fmt::Display for RingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0.into()).fmt(f)
    }
}

/// Bytes copied of each message: 256 to 128K.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageBudget(u32);

impl MessageBudget {
    const LEAST: u64 = 256;
    const MOST: u64 = 128 << 10;

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for MessageBudget {
    fn default() -> Self {
        Self(16 << 10)
    }
}

impl FromStr for MessageBudget {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        Ok(Self(within(text.parse()?, Self::LEAST, Self::MOST)? as u32))
    }
}

impl fmt::Display for MessageBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0.into()).fmt(f)
    }
}

/// Connections followed at the same time: 1 to 4,194,304.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionLimit(u32);

impl ConnectionLimit {
    const MOST: u32 = 1 << 22;

    /// Their number.
    pub fn count(self) -> u32 {
        self.0
    }
}

impl Default for ConnectionLimit {
    fn default() -> Self {
        Self(65_536)
    }
}

impl FromStr for ConnectionLimit {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let count: u32 = text.parse().map_err(|_| OptionError::Number(text.to_owned()))?;
        if (1..=Self::MOST).contains(&count) {
            Ok(Self(count))
        } else {
            let (given, least, most) = (text.to_owned(), "1".to_owned(), Self::MOST.to_string());
            Err(OptionError::Bounds { given, least, most })
        }
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn within(size: ByteSize, least: u64, most: u64) -> Result<u64, OptionError> {
    if (least..=most).contains(&size.0) {
        return Ok(size.0);
    }
    let [given, least, most] = [size, ByteSize(least), ByteSize(most)].map(|size| size.to_string());
    Err(OptionError::Bounds { given, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_powers_of_two_and_the_error_names_two() {
        assert_eq!("8M".parse::<RingSize>().map(RingSize::bytes), Ok(8 << 20));
        let error = "5M".parse::<RingSize>().expect_err("no power of two");
        assert!(error.to_string().ends_with("use 4M or 8M"), "{error}");
        assert!("2G".parse::<RingSize>().is_err());
        assert!("1".parse::<RingSize>().is_err(), "less than a page");
        let page = page_size().to_string().parse::<RingSize>();
        assert_eq!(page.map(RingSize::bytes), Ok(page_size() as u32));
    }

    #[test]
    fn bounds_are_named() {
        assert_eq!("128K".parse::<MessageBudget>().map(MessageBudget::bytes), Ok(128 << 10));
        let error = "129K".parse::<MessageBudget>().expect_err("too large").to_string();
        assert_eq!(error, "129K is out of bounds; give 256 to 128K");
        let error = "0".parse::<ConnectionLimit>().expect_err("none").to_string();
        assert_eq!(error, "0 is out of bounds; give 1 to 4194304");
        assert!("many".parse::<ConnectionLimit>().is_err());
    }

    #[test]
    fn defaults_can_be_written() {
        assert_eq!(RingSize::default().to_string(), "4M");
        assert_eq!("4M".parse(), Ok(RingSize::default()));
        assert_eq!("16K".parse(), Ok(MessageBudget::default()));
        assert_eq!("65536".parse(), Ok(ConnectionLimit::default()));
    }
}
