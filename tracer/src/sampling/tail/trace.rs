//! A trace as policies see it: the spans of it that this node made, or those of one service.

use crate::sampling::service::ServicePattern;
use crate::trace::{Span, Status};

/// Spans of one trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans<'a> {
    all: &'a [Span],
    /// Only those of this service, and of those around it.
    only: Option<(&'a ServicePattern, &'a Spans<'a>)>,
}

impl<'a> Spans<'a> {
    pub(super) fn new(all: &'a [Span]) -> Self {
        Self { all, only: None }
    }

    /// Those of a service.
    pub(super) fn of<'b>(&'b self, service: &'b ServicePattern) -> Spans<'b> {
        Spans { all: self.all, only: Some((service, self)) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Span> + '_ {
        self.all.iter().filter(|span| self.contains(span))
    }

    fn contains(&self, span: &Span) -> bool {
        self.only.is_none_or(|(service, around)| {
            service.matches(&span.resource.service) && around.contains(span)
        })
    }

    pub(super) fn failed(&self) -> bool {
        self.iter().any(|span| span.status == Status::Error)
    }

    /// From the start of the first to the end of the last.
    pub(super) fn nanos(&self) -> u64 {
        let start = self.iter().map(|span| span.start).min();
        let end = self.iter().map(|span| span.end).max();
        end.unwrap_or(0).saturating_sub(start.unwrap_or(0))
    }
}
