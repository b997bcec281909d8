//! Puts the spans of one trace in the order of a waterfall: each below its parent, by start time.

use std::collections::{HashMap, HashSet};

use crate::trace::Span;
use crate::trace::context::SpanId;

/// Levels of guides kept of a deep trace; the innermost ones.
const MAX_GUIDES: usize = 32;

/// One line of the waterfall.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) span: &'a Span,
    /// For each level below the root, at most [`MAX_GUIDES`]: whether the ancestor there (in the end, the span itself)
    /// is its parent's last child.
    pub(super) last_at: Vec<bool>,
    /// It names a parent that is not among the spans.
    pub(super) orphan: bool,
}

/// Every span exactly once, parents first. Spans that are each other's ancestors, which only a
/// broken sender makes, stand as orphans.
pub(super) fn rows<'a>(spans: &[&'a Span]) -> Vec<Row<'a>> {
    let mut ordered = spans.to_vec();
    ordered.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let known: HashSet<SpanId> = ordered.iter().map(|span| span.id).collect();
    let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (index, span) in ordered.iter().enumerate() {
        match span.parent.filter(|parent| known.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }

    let rows = Vec::with_capacity(spans.len());
    let mut walk = Walk { ordered, children, seen: HashSet::new(), rows };
    for root in roots {
        walk.descend(root);
    }
    // What no root leads to is part of a cycle: its first span stands for one.
    for index in 0..walk.ordered.len() {
        walk.descend(index);
    }
    walk.rows
}

struct Walk<'a> {
    ordered: Vec<&'a Span>,
    children: HashMap<SpanId, Vec<usize>>,
    seen: HashSet<usize>,
    rows: Vec<Row<'a>>,
}

impl Walk<'_> {
    /// Without recursion, since a trace may be deeper than the stack.
    fn descend(&mut self, root: usize) {
        let mut pending: Vec<(usize, Vec<bool>)> = vec![(root, Vec::new())];
        while let Some((index, last_at)) = pending.pop() {
            if !self.seen.insert(index) {
                continue;
            }
            let span = self.ordered[index];
            // Taken out, so that two spans of one id do not both own the children.
            let below = self.children.remove(&span.id).unwrap_or_default();
            for (nth, child) in below.iter().enumerate().rev() {
                let outermost = (last_at.len() + 1).saturating_sub(MAX_GUIDES);
                let mut last_at = last_at[outermost..].to_vec();
                last_at.push(nth + 1 == below.len());
                pending.push((*child, last_at));
            }
            let orphan = last_at.is_empty() && span.parent.is_some();
            self.rows.push(Row { span, last_at, orphan });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;

    /// `(id and start, parent)` to `(id, depth, orphan)`.
    fn outline(spans: &[(u8, Option<u8>)]) -> Vec<(u8, usize, bool)> {
        let spans: Vec<Span> = spans
            .iter()
            .map(|&(id, parent)| Span {
                id: SpanId([id; 8]),
                parent: parent.map(|parent| SpanId([parent; 8])),
                ..span(u64::from(id))
            })
            .collect();
        rows(&spans.iter().collect::<Vec<_>>())
            .iter()
            .map(|row| (row.span.id.0[0], row.last_at.len(), row.orphan))
            .collect()
    }

    #[test]
    fn children_follow_their_parent_by_start_time() {
        assert_eq!(
            outline(&[(5, Some(2)), (4, Some(1)), (2, Some(1)), (1, None), (3, Some(2))]),
            [(1, 0, false), (2, 1, false), (3, 2, false), (5, 2, false), (4, 1, false)]
        );
    }

    #[test]
    fn orphans_and_cycles_and_repeated_ids_stand_exactly_once() {
        assert_eq!(outline(&[(1, Some(9)), (2, Some(1))]), [(1, 0, true), (2, 1, false)]);
        assert_eq!(outline(&[(1, Some(2)), (2, Some(1))]), [(1, 0, true), (2, 1, false)]);
        assert_eq!(outline(&[(1, Some(1))]), [(1, 0, true)]);
        assert_eq!(
            outline(&[(1, Some(3)), (2, Some(3)), (3, Some(2))]),
            [(1, 0, true), (2, 0, true), (3, 1, false)]
        );
        assert_eq!(
            outline(&[(1, None), (1, None), (2, Some(1))]),
            [(1, 0, false), (2, 1, false), (1, 0, false)]
        );
    }

    #[test]
    fn deep_chains_are_walked_without_recursion_and_keep_few_guides() {
        let chain: Vec<Span> = (0..20_000_u64)
            .map(|depth| Span {
                parent: depth.checked_sub(1).map(|parent| span(parent).id),
                ..span(depth)
            })
            .collect();
        let rows = rows(&chain.iter().collect::<Vec<_>>());
        assert_eq!(rows.len(), chain.len());
        assert_eq!(rows.last().unwrap().last_at.len(), MAX_GUIDES);
    }
}
