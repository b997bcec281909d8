//! Trace context: identifiers, what a request carried, and what we create ourselves.
//!
//! [`extract`] reads W3C Trace Context (Level 2) first and B3 second; [`IdSource`] makes new
//! identifiers. Must not know spans, attributes or which process a request belongs to.

mod b3;
mod id_source;
pub mod inject;
mod w3c;

use std::fmt;

pub use id_source::IdSource;
use smol_str::SmolStr;

use crate::exchange::Field;

/// Sixteen bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Eight bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// The flags byte of a `traceparent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(pub u8);

impl TraceFlags {
    /// The caller may have recorded this trace.
    pub const SAMPLED: Self = Self(0x01);
    /// The low 56 bits of the trace id are random.
    pub const RANDOM: Self = Self(0x02);
}

impl TraceFlags {
    /// The flags this agent understands, all others cleared as W3C asks on output.
    #[must_use]
    pub fn known(self) -> Self {
        Self(self.0 & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags with those of `other` cleared.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for TraceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A validated `tracestate` header value; empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceState(pub SmolStr);

/// The context that a request carried: its sender's span is the remote parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteContext {
    /// The trace the sender belongs to.
    pub trace: TraceId,
    /// The sender's span.
    pub span: SpanId,
    /// Flags as received, unknown bits cleared.
    pub flags: TraceFlags,
    /// W3C trace state; always empty for B3.
    pub state: TraceState,
}

/// The place of one span in one trace, fixed before the span itself is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span's own id.
    pub span: SpanId,
    /// Its parent; `None` for a root.
    pub parent: Option<SpanId>,
    /// The parent came over the wire in a trace context header.
    pub parent_is_remote: bool,
    /// W3C flags.
    pub flags: TraceFlags,
    /// W3C trace state.
    pub state: TraceState,
}

/// Reads the trace context out of request header fields with lower-case names.
///
/// A valid `traceparent` wins, then the single `b3` header, then the `x-b3-*` headers. An invalid
/// one counts as absent, as if the sender had not been instrumented.
pub fn extract(headers: &[Field]) -> Option<RemoteContext> {
    // Most requests have none of them.
    let may_carry = |(name, _): &Field| matches!(name.as_bytes().first(), Some(b't' | b'b' | b'x'));
    if !headers.iter().any(may_carry) {
        return None;
    }
    w3c::extract(headers).or_else(|| b3::extract(headers))
}

/// The same of `traceparent` and `tracestate` alone.
pub fn extract_w3c(headers: &[Field]) -> Option<RemoteContext> {
    w3c::extract(headers)
}

/// All values of the header field `name`, in order, without optional whitespace around them.
fn values<'a>(headers: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(field, _)| field == name)
        .map(|(_, value)| value.trim_matches(OPTIONAL_WHITESPACE))
}

/// The value of a field that may stand only once; `None` if it is absent or repeated.
fn only_value<'a>(headers: &'a [Field], name: &'a str) -> Option<&'a str> {
    let mut values = values(headers, name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// RFC 9110 section 5.6.3.
const OPTIONAL_WHITESPACE: [char; 2] = [' ', '\t'];

/// Exactly `N` bytes out of `2 * N` lower-case hexadecimal digits.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl TraceId {
    /// From 32 lower-case hexadecimal digits, not all zero.
    pub fn from_hex(text: &str) -> Option<Self> {
        lower_hex(text).filter(|bytes| *bytes != [0; 16]).map(Self)
    }
}

impl SpanId {
    /// From 16 lower-case hexadecimal digits, not all zero.
    pub fn from_hex(text: &str) -> Option<Self> {
        lower_hex(text).filter(|bytes| *bytes != [0; 8]).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
