//! New trace and span ids. Random but seedable, so that a test or a replay can repeat itself.

use super::{RemoteContext, SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Makes non-zero ids, and the contexts of new spans from them.
#[derive(Debug, Clone)]
pub struct IdSource(fastrand::Rng);

impl IdSource {
    /// Ids that no other run will make.
    pub fn random() -> Self {
        Self(fastrand::Rng::new())
    }

    /// The same ids in every run with the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A new trace id; all of its bits are random, so its traces may set [`TraceFlags::RANDOM`].
    pub fn trace_id(&mut self) -> TraceId {
        loop {
            let id = self.0.u128(..);
            if id != 0 {
                return TraceId(id.to_be_bytes());
            }
        }
    }

    /// A new span id.
    pub fn span_id(&mut self) -> SpanId {
        SpanId(self.0.u64(1..).to_be_bytes())
    }

    /// The first span of a new trace.
    pub fn root(&mut self) -> SpanContext {
        SpanContext {
            trace: self.trace_id(),
            span: self.span_id(),
            parent: None,
            parent_is_remote: false,
            flags: TraceFlags::SAMPLED | TraceFlags::RANDOM,
            state: TraceState::default(),
        }
    }

    /// A span whose parent's context came with the request.
    pub fn child_of_remote(&mut self, parent: RemoteContext) -> SpanContext {
        SpanContext {
            trace: parent.trace,
            span: self.span_id(),
            parent: Some(parent.span),
            parent_is_remote: true,
            flags: parent.flags,
            state: parent.state,
        }
    }

    /// A span below another one that this agent makes.
    pub fn child_of(&mut self, parent: &SpanContext) -> SpanContext {
        SpanContext {
            trace: parent.trace,
            span: self.span_id(),
            parent: Some(parent.span),
            parent_is_remote: false,
            flags: parent.flags,
            state: parent.state.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_ids_and_another_seed_changes_them() {
        let ids = |seed| {
            let mut source = IdSource::seeded(seed);
            (source.trace_id(), source.span_id())
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
    }

    #[test]
    fn roots_are_sampled_and_random_and_children_stay_in_the_trace() {
        let mut source = IdSource::seeded(1);
        let root = source.root();
        assert_eq!(root.flags, TraceFlags(0x03));
        assert_eq!(root.parent, None);

        let child = source.child_of(&root);
        assert_eq!((child.trace, child.parent), (root.trace, Some(root.span)));
        assert!(!child.parent_is_remote);
        assert_ne!(child.span, root.span);
    }

    #[test]
    fn a_remote_parent_hands_down_its_flags_and_state() {
        let parent = RemoteContext {
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
            flags: TraceFlags(0),
            state: TraceState("a=1".into()),
        };
        let child = IdSource::seeded(1).child_of_remote(parent.clone());
        assert_eq!((child.trace, child.parent), (parent.trace, Some(parent.span)));
        assert_eq!((child.flags, child.state), (parent.flags, parent.state));
        assert!(child.parent_is_remote);
    }
}
