use super::*;
use crate::export::fixtures::spans;

fn queue(spans: usize, size: usize) -> Queue {
    bounded(QueueBounds { spans, bytes: usize::MAX, overflow: Overflow::Newest }, size)
}

fn bounded(bounds: QueueBounds, size: usize) -> Queue {
    let trigger = BatchTrigger { size, linger: Duration::from_secs(5) };
    Queue::new(bounds, trigger, Arc::new(Ledger::new("test".into())))
}

fn dropped(queue: &Queue, reason: DropReason) -> u64 {
    queue.ledger.report().dropped(reason)
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
    queue.push(&Submission::share(spans(0..3)));
    queue.push(&Submission::share(spans(3..6)));
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
        queue.push(&Submission::share(spans(start..start + 1)));
    }
    assert_eq!(reader.await.unwrap(), Some(vec![1, 2]));
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted() {
    let queue = queue(5, 10);
    queue.push(&Submission::share(spans(0..3)));
    queue.push(&Submission::share(spans(3..7)));
    queue.push(&Submission::share(spans(7..8)));
    assert_eq!(dropped(&queue, DropReason::QueueFull), 3);
    assert_eq!(starts(queue.next().await), Some(vec![0, 1, 2, 3, 4]));
    queue.push(&Submission::share(spans(8..9)));
    assert_eq!(dropped(&queue, DropReason::QueueFull), 3, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn closing_drains_without_lingering_and_then_ends() {
    let queue = queue(100, 10);
    queue.push(&Submission::share(spans(0..2)));
    queue.close();
    queue.push(&Submission::share(spans(2..5)));
    let begin = Instant::now();
    assert_eq!(starts(queue.next().await), Some(vec![0, 1]));
    assert_eq!(starts(queue.next().await), None);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(dropped(&queue, DropReason::Shutdown), 3);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_can_make_room_for_the_newest() {
    let bounds = QueueBounds { spans: 5, bytes: usize::MAX, overflow: Overflow::Oldest };
    let queue = bounded(bounds, 10);
    queue.push(&Submission::share(spans(0..3)));
    queue.push(&Submission::share(spans(3..7)));
    assert_eq!(dropped(&queue, DropReason::QueueFull), 2);
    queue.push(&Submission::share(spans(7..15)));
    assert_eq!(dropped(&queue, DropReason::QueueFull), 10);
    assert_eq!(starts(queue.next().await), Some(vec![10, 11, 12, 13, 14]));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_whichever_end_gives_way() {
    let room = 3 * spans(0..1)[0].footprint();
    for (overflow, kept) in [(Overflow::Newest, 0..3), (Overflow::Oldest, 5..8)] {
        let queue = bounded(QueueBounds { spans: 100, bytes: room, overflow }, 10);
        queue.push(&Submission::share(spans(0..2)));
        queue.push(&Submission::share(spans(2..8)));
        assert_eq!(dropped(&queue, DropReason::QueueBytes), 5, "{overflow:?}");
        assert_eq!(starts(queue.next().await), Some(kept.collect()), "{overflow:?}");
        queue.push(&Submission::share(spans(8..11)));
        assert_eq!(dropped(&queue, DropReason::QueueBytes), 5, "there is room again");
        assert_eq!(starts(queue.next().await), Some(vec![8, 9, 10]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_larger_than_the_queue_is_dropped_alone() {
    let bounds = QueueBounds { spans: 100, bytes: 10, overflow: Overflow::Oldest };
    let queue = bounded(bounds, 10);
    queue.push(&Submission::share(spans(0..2)));
    assert_eq!(dropped(&queue, DropReason::QueueBytes), 2);
    queue.close();
    assert_eq!(starts(queue.next().await), None);
}

#[tokio::test(start_paused = true)]
async fn a_filling_queue_is_told_of() {
    let queue = Arc::new(queue(10, 10));
    let told = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.until_half_full().await }
    });
    queue.push(&Submission::share(spans(0..5)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!told.is_finished(), "half is not more than half");
    queue.push(&Submission::share(spans(5..6)));
    told.await.unwrap();
}
