//! Message bodies (RFC 9112 section 6): where they end, and nothing else about them.

use super::chunked::{self, Chunked};
use super::section::Facts;
use crate::proxy::OpaqueReason;

/// A body being read.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunked),
}

pub(super) use chunked::Progress;

impl Body {
    /// What frames a message with these fields.
    pub(super) fn framed(facts: Facts, is_http10: bool) -> Result<Framed, OpaqueReason> {
        match (facts.coded, facts.length) {
            (true, Some(_)) => Err(OpaqueReason::LengthAndCoding),
            (true, None) if facts.chunked && !is_http10 => {
                Ok(Framed::Body(Self::Chunked(Chunked::new())))
            }
            (true, None) => Err(OpaqueReason::TransferEncoding),
            (false, None) => Ok(Framed::Unframed),
            (false, Some(0)) => Ok(Framed::Empty),
            (false, Some(length)) => Ok(Framed::Body(Self::Length(length))),
        }
    }

    /// How many of the next bytes belong to it, whatever they are, and leave it unfinished.
    pub(super) fn unread(&self) -> u64 {
        match self {
            Self::Length(left) => left.saturating_sub(1),
            Self::Chunked(_) => 0,
        }
    }

    /// So many of them passed.
    pub(super) fn skip(&mut self, bytes: u64) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(bytes).max(1);
        }
    }

    /// Reads on.
    pub(super) fn feed(&mut self, input: &[u8]) -> Progress {
        match self {
            Self::Chunked(chunked) => chunked.feed(input),
            Self::Length(left) if *left > input.len() as u64 => {
                *left -= input.len() as u64;
                Progress::More
            }
            Self::Length(left) => Progress::End(*left as usize),
        }
    }
}

/// How a message says where its body ends.
#[derive(Clone, Debug)]
pub(super) enum Framed {
    /// It does not.
    Unframed,
    /// There is none.
    Empty,
    Body(Body),
}
