//! The bounded queue before one destination. Spans are shared between queues, never copied.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::{DropReason, Ledger};
use crate::trace::Span;

/// Spans that were submitted together, shared by all destinations.
#[derive(Debug)]
pub(super) struct Submission {
    spans: Vec<Span>,
    /// Bytes of each span.
    sizes: Vec<usize>,
    bytes: usize,
}

impl Submission {
    /// Measures the spans once for all queues.
    pub(super) fn share(spans: Vec<Span>) -> Arc<Self> {
        let sizes: Vec<_> = spans.iter().map(Span::footprint).collect();
        let bytes = sizes.iter().sum();
        Arc::new(Self { spans, sizes, bytes })
    }
}

/// A part of spans submitted together. Their memory is free once all of them are gone.
#[derive(Clone, Debug)]
struct Chunk {
    from: Arc<Submission>,
    range: Range<usize>,
}

impl Chunk {
    fn spans(&self) -> &[Span] {
        &self.from.spans[self.range.clone()]
    }

    fn bytes(&self) -> usize {
        self.from.sizes[self.range.clone()].iter().sum()
    }
}

/// Spans to be delivered together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch(Vec<Chunk>);

impl Batch {
    /// Number of spans.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|chunk| chunk.range.len()).sum()
    }

    /// The spans in the order they were submitted.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Span> {
        self.0.iter().flat_map(Chunk::spans)
    }

    /// The spans as handles that outlive the batch.
    pub(super) fn shared(&self) -> impl Iterator<Item = SharedSpan> {
        self.0.iter().flat_map(|chunk| {
            chunk.range.clone().map(|index| SharedSpan { from: Arc::clone(&chunk.from), index })
        })
    }
}

/// One span, kept alive together with those it was submitted with.
#[derive(Clone, Debug)]
pub(super) struct SharedSpan {
    from: Arc<Submission>,
    index: usize,
}

impl Deref for SharedSpan {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.from.spans[self.index]
    }
}

impl std::borrow::Borrow<Span> for SharedSpan {
    fn borrow(&self) -> &Span {
        self
    }
}

/// When a destination wants its next batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchTrigger {
    /// Spans of a full batch; never exceeded.
    pub(super) size: usize,
    /// How long the first span may wait for the batch to fill.
    pub(super) linger: Duration,
}

/// How much may wait, and what happens to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Spans that may wait.
    pub spans: usize,
    /// Bytes that waiting spans may take.
    pub bytes: usize,
    /// Which spans are dropped.
    pub overflow: Overflow,
}

/// Which spans are dropped when there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Those that come: what led to the trouble is kept.
    #[default]
    Newest,
    /// Those that wait longest: what is going on now is kept.
    Oldest,
}

/// A queue bounded by spans and by bytes.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    /// Told when the queue becomes half full.
    filling: Notify,
    bounds: QueueBounds,
    trigger: BatchTrigger,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    spans: usize,
    bytes: usize,
    /// When the queue was last empty or cut; set exactly while there are spans.
    waiting_since: Option<Instant>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(bounds: QueueBounds, trigger: BatchTrigger, ledger: Arc<Ledger>) -> Self {
        let bounds = QueueBounds { spans: bounds.spans.max(1), ..bounds };
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            filling: Notify::new(),
            bounds,
            trigger: BatchTrigger { size: trigger.size.clamp(1, bounds.spans), ..trigger },
            ledger,
        }
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Queues spans; counts those that there is no room for as dropped. Never waits.
    pub(super) fn push(&self, submission: &Arc<Submission>) {
        self.ledger.submitted(submission.spans.len());
        let mut state = self.lock();
        if state.closed {
            return self.ledger.dropped(DropReason::Shutdown, submission.spans.len());
        }
        let room = match self.bounds.overflow {
            Overflow::Newest => self.room(&state, submission),
            Overflow::Oldest => submission.spans.len(),
        };
        if room == 0 {
            return;
        }
        let chunk = Chunk { from: Arc::clone(submission), range: 0..room };
        state.spans += room;
        state.bytes +=
            if room == submission.spans.len() { submission.bytes } else { chunk.bytes() };
        state.chunks.push_back(chunk);
        while let Some(bound) = self.exceeded(state.spans, state.bytes) {
            state.drop_oldest();
            self.ledger.dropped(bound, 1);
        }
        if state.spans == 0 {
            state.waiting_since = None;
            return;
        }
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(Instant::now());
        }
        // In between, the reader has nothing to do that it does not know of.
        if first || state.spans >= self.trigger.size {
            self.changed.notify_one();
        }
        if self.half_full(&state) {
            self.filling.notify_one();
        }
    }

    /// How many of the spans fit; the others are counted.
    fn room(&self, state: &State, submission: &Submission) -> usize {
        let all = submission.spans.len();
        if self.exceeded(state.spans + all, state.bytes + submission.bytes).is_none() {
            return all;
        }
        let mut bytes = state.bytes;
        for (index, size) in submission.sizes.iter().enumerate() {
            bytes += size;
            if let Some(bound) = self.exceeded(state.spans + index + 1, bytes) {
                self.ledger.dropped(bound, all - index);
                return index;
            }
        }
        all
    }

    fn exceeded(&self, spans: usize, bytes: usize) -> Option<DropReason> {
        if spans > self.bounds.spans {
            Some(DropReason::QueueFull)
        } else if bytes > self.bounds.bytes {
            Some(DropReason::QueueBytes)
        } else {
            None
        }
    }

    fn half_full(&self, state: &State) -> bool {
        state.spans > self.bounds.spans / 2 || state.bytes > self.bounds.bytes / 2
    }

    /// Spans that wait, and the bytes they take.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.spans, state.bytes)
    }

    /// Spans that may wait.
    pub(super) fn capacity(&self) -> usize {
        self.bounds.spans
    }

    /// Whether more than half of what may wait does.
    pub(super) fn is_half_full(&self) -> bool {
        self.half_full(&self.lock())
    }

    /// Returns once the queue is more than half full.
    pub(super) async fn until_half_full(&self) {
        while !self.is_half_full() {
            self.filling.notified().await;
        }
    }

    /// No more spans are taken; what is queued may be fetched at once.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next batch, which is never empty; `None` once the queue is closed and drained.
    ///
    /// For one reader at a time. Cancel-safe: a dropped future has taken nothing.
    pub(super) async fn next(&self) -> Option<Batch> {
        loop {
            let changed = self.changed.notified();
            let wake_at = {
                let mut state = self.lock();
                let due = state.waiting_since.map(|since| since + self.trigger.linger);
                let full = state.spans >= self.trigger.size;
                match due {
                    Some(due) if full || state.closed || Instant::now() >= due => {
                        return Some(state.take(self.trigger.size));
                    }
                    None if state.closed => return None,
                    due => due,
                }
            };
            match wake_at {
                Some(due) => {
                    // Either way: look again.
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock, and counts stay right if it did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        self.spans -= 1;
        self.bytes -= chunk.from.sizes[chunk.range.start];
        chunk.range.start += 1;
        if chunk.range.is_empty() {
            self.chunks.pop_front();
        }
    }

    fn take(&mut self, limit: usize) -> Batch {
        let mut batch = Batch::default();
        let mut room = limit;
        while room > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let taken = chunk.range.len().min(room);
            let middle = chunk.range.start + taken;
            let part = Chunk { from: Arc::clone(&chunk.from), range: chunk.range.start..middle };
            self.bytes -= part.bytes();
            chunk.range.start = middle;
            if chunk.range.is_empty() {
                self.chunks.pop_front();
            }
            batch.0.push(part);
            room -= taken;
        }
        self.spans -= limit - room;
        self.waiting_since = (self.spans > 0).then(Instant::now);
        batch
    }
}

#[cfg(test)]
mod tests;
