//! Where an exchange stands in a trace, for those below it. Must not know who that is.

use std::sync::Arc;

use crate::trace::context::{IdSource, SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Where a member stands, and what that means for those below it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// It is this span.
    Span(Arc<SpanContext>),
    /// It is a span of somebody else's that is not known, below this one.
    Below(Arc<Above>),
    /// It is a span of somebody else's, in a trace that is not known.
    Elsewhere,
}

/// The nearest known span above one that is not, or at least its trace.
#[derive(Clone, Debug)]
pub(super) struct Above {
    pub(super) trace: TraceId,
    span: Option<SpanId>,
    flags: TraceFlags,
    state: TraceState,
}

impl Place {
    /// What a member would have been, had it become a span of ours.
    pub(super) fn instead_of(span: &SpanContext, trace: Option<TraceId>) -> Self {
        let trace = trace.or(span.parent.map(|_| span.trace));
        let Some(trace) = trace else { return Self::Elsewhere };
        let same = trace == span.trace;
        Self::Below(Arc::new(Above {
            trace,
            span: span.parent.filter(|_| same),
            flags: span.flags,
            state: if same { span.state.clone() } else { TraceState::default() },
        }))
    }

    /// Somewhere in this trace.
    pub(super) fn within(trace: TraceId) -> Self {
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
        Self::Below(Arc::new(Above { trace, span: None, flags, state }))
    }

    pub(super) fn child(&self, ids: &mut IdSource) -> SpanContext {
        match self {
            Self::Span(parent) => ids.child_of(parent),
            Self::Below(above) => SpanContext {
                trace: above.trace,
                span: ids.span_id(),
                parent: above.span,
                parent_is_remote: above.span.is_some(),
                flags: above.flags,
                state: above.state.clone(),
            },
            Self::Elsewhere => ids.root(),
        }
    }
}
