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
pub(super) type SharedSpans = Arc<Vec<Span>>;

/// A part of spans submitted together.
#[derive(Clone, Debug)]
struct Chunk {
    spans: SharedSpans,
    range: Range<usize>,
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
        self.0.iter().flat_map(|chunk| &chunk.spans[chunk.range.clone()])
    }

    /// The spans as handles that outlive the batch.
    pub(super) fn shared(&self) -> impl Iterator<Item = SharedSpan> {
        self.0.iter().flat_map(|chunk| {
            chunk.range.clone().map(|index| SharedSpan { spans: Arc::clone(&chunk.spans), index })
        })
    }
}

/// One span, kept alive together with those it was submitted with.
#[derive(Clone, Debug)]
pub(super) struct SharedSpan {
    spans: SharedSpans,
    index: usize,
}

impl Deref for SharedSpan {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.spans[self.index]
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

/// A queue bounded by its number of spans.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    capacity: usize,
    trigger: BatchTrigger,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    spans: usize,
    /// When the queue was last empty or cut; set exactly while there are spans.
    waiting_since: Option<Instant>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize, trigger: BatchTrigger, ledger: Arc<Ledger>) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            capacity: capacity.max(1),
            trigger: BatchTrigger { size: trigger.size.clamp(1, capacity.max(1)), ..trigger },
            ledger,
        }
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Takes as many of `spans` as fit and counts the others as dropped. Never waits.
    pub(super) fn push(&self, spans: &SharedSpans) {
        self.ledger.submitted(spans.len());
        let mut state = self.lock();
        if state.closed {
            return self.ledger.dropped(DropReason::Shutdown, spans.len());
        }
        let accepted = spans.len().min(self.capacity - state.spans);
        self.ledger.dropped(DropReason::QueueFull, spans.len() - accepted);
        if accepted == 0 {
            return;
        }
        state.chunks.push_back(Chunk { spans: Arc::clone(spans), range: 0..accepted });
        state.spans += accepted;
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(Instant::now());
        }
        // In between, the reader has nothing to do that it does not know of.
        if first || state.spans >= self.trigger.size {
            self.changed.notify_one();
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
    fn take(&mut self, limit: usize) -> Batch {
        let mut batch = Batch::default();
        let mut room = limit;
        while room > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let taken = chunk.range.len().min(room);
            let middle = chunk.range.start + taken;
            let part = Chunk { spans: Arc::clone(&chunk.spans), range: chunk.range.start..middle };
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
mod tests {
    use super::*;
    use crate::export::fixtures::spans;

    fn queue(capacity: usize, size: usize) -> Queue {
        let trigger = BatchTrigger { size, linger: Duration::from_secs(5) };
        Queue::new(capacity, trigger, Arc::new(Ledger::new("test".into())))
    }

    fn starts(batch: Option<Batch>) -> Option<Vec<u64>> {
        batch.map(|batch| {
            assert_eq!(batch.len(), batch.iter().count());
            batch.iter().map(|span| span.start).collect()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_goes_at_once_and_the_rest_lingers() {
        let queue = queue(100, 4);
        let begin = Instant::now();
        queue.push(&Arc::new(spans(0..3)));
        queue.push(&Arc::new(spans(3..6)));
        assert_eq!(starts(queue.next().await), Some(vec![0, 1, 2, 3]));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(starts(queue.next().await), Some(vec![4, 5]));
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_wakes_when_the_batch_fills() {
        let queue = Arc::new(queue(100, 2));
        let begin = Instant::now();
        let reader = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { starts(queue.next().await) }
        });
        for start in [1, 2] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            queue.push(&Arc::new(spans(start..start + 1)));
        }
        assert_eq!(reader.await.unwrap(), Some(vec![1, 2]));
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_counted() {
        let queue = queue(5, 10);
        queue.push(&Arc::new(spans(0..3)));
        queue.push(&Arc::new(spans(3..7)));
        queue.push(&Arc::new(spans(7..8)));
        assert_eq!(queue.ledger.report().queue_full, 3);
        assert_eq!(starts(queue.next().await), Some(vec![0, 1, 2, 3, 4]));
        queue.push(&Arc::new(spans(8..9)));
        assert_eq!(queue.ledger.report().queue_full, 3, "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_drains_without_lingering_and_then_ends() {
        let queue = queue(100, 10);
        queue.push(&Arc::new(spans(0..2)));
        queue.close();
        queue.push(&Arc::new(spans(2..5)));
        let begin = Instant::now();
        assert_eq!(starts(queue.next().await), Some(vec![0, 1]));
        assert_eq!(starts(queue.next().await), None);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(queue.ledger.report().shutdown, 3);
    }
}
