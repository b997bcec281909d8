//! A proxy that reads several requests at once and goes through them in order.

use super::threads::Trust;
use super::*;
use crate::link::orders;

/// One thread, which never waits between two reads that are for several.
struct Proxy {
    story: Story,
    conn: u64,
    waits: u32,
}

impl Proxy {
    fn new() -> Self {
        Self { story: Story::new(), conn: 0, waits: 0 }
    }

    fn by(&self) -> By {
        by(1, 1, self.waits)
    }

    fn request(&mut self) -> ExchangeId {
        self.conn += 1;
        self.story.request(self.conn, self.by())
    }

    fn call(&mut self) -> ExchangeId {
        self.conn += 1;
        self.story.call(self.conn, self.by())
    }

    fn dial(&mut self) -> u64 {
        self.conn += 1;
        self.story.linker.on_connecting(&Connecting {
            conn: ConnId(self.conn),
            time: KernelTime(self.story.now),
            pid: Pid(1),
            tid: Tid(1),
            waits: self.waits,
            task: None,
            callback: None,
        });
        self.conn
    }

    fn answered(&mut self, call: ExchangeId, name: &'static str) {
        self.story.end(call, self.by(), Role::Client, name);
    }

    fn answer(&mut self, request: ExchangeId, name: &'static str) {
        self.story.end(request, self.by(), Role::Server, name);
    }

    /// Reads so many requests and calls for each; the responses come one by one, and are written on
    /// in the order that `order` makes of them.
    fn batch(&mut self, count: usize, order: impl Fn(&mut Vec<ExchangeId>)) {
        self.waits += 1;
        let mut requests: Vec<_> = (0..count).map(|_| self.request()).collect();
        let calls: Vec<_> = (0..count).map(|_| self.call()).collect();
        order(&mut requests);
        for (call, request) in calls.into_iter().zip(requests) {
            self.waits += 1;
            self.answered(call, "warm-up call");
            self.answer(request, "warm-up");
        }
    }

    /// Its order was seen often enough.
    fn trusted() -> Self {
        let mut it = Self::new();
        for _ in 0..64 {
            it.batch(3, |_| {});
        }
        it
    }
}

/// No span is lost, only what order would have told.
#[test]
fn more_threads_than_are_remembered_are_counted() {
    let mut story = Story::new();
    let threads = orders::MAX_THREADS as u32 + 1;
    for thread in 1..=threads {
        let request = story.request(u64::from(thread), by(1, thread, 1));
        story.end(request, by(1, thread, 1), Role::Server, "request");
    }
    assert_eq!(story.linker.counters().forgotten_threads, orders::MAX_THREADS as u64);
    story.linker.finish(&mut story.ids, &mut story.placed);
    assert_eq!(story.placed.len(), threads as usize);
}

#[test]
fn requests_that_are_read_together_are_gone_through_in_order() {
    let mut it = Proxy::trusted();
    it.waits += 1;
    let (one, other) = (it.request(), it.request());
    let (call_of_one, call_of_other) = (it.call(), it.call());
    // Their responses come one by one, the other way round.
    it.waits += 1;
    it.answered(call_of_other, "call of other");
    it.answer(other, "other");
    it.waits += 1;
    it.answered(call_of_one, "call of one");
    it.answer(one, "one");
    let spans = it.story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
    assert_eq!(kind(&spans["call of one"]), Some(Kind::Order));
}

/// Under little load it reads one at a time, while others are open.
#[test]
fn requests_that_are_open_together_show_its_order_as_well() {
    let mut it = Proxy::new();
    let mut before: Option<(ExchangeId, ExchangeId)> = None;
    for _ in 0..64 {
        it.waits += 1;
        let request = it.request();
        let call = it.call();
        if let Some((call, request)) = before.replace((call, request)) {
            it.waits += 1;
            it.answered(call, "warm-up call");
            it.answer(request, "warm-up");
        }
    }
    assert_eq!(it.story.linker.orders.trust(Pid(1)), Trust::Given);
}

#[test]
fn a_connection_is_made_for_the_next_request_and_used_later() {
    let mut it = Proxy::trusted();
    it.waits += 1;
    let (one, other) = (it.request(), it.request());
    let (first, second) = (it.dial(), it.dial());
    it.waits += 1;
    // The second connection is there before the first.
    let call_of_other = it.story.call(second, it.by());
    let call_of_one = it.story.call(first, it.by());
    it.waits += 1;
    it.answered(call_of_one, "call of one");
    it.answered(call_of_other, "call of other");
    it.answer(one, "one");
    it.answer(other, "other");
    let spans = it.story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
}

#[test]
fn a_request_that_it_answers_itself_is_not_in_the_way() {
    let mut it = Proxy::trusted();
    it.waits += 1;
    let (refused, request) = (it.request(), it.request());
    it.answer(refused, "refused");
    let call = it.call();
    it.waits += 1;
    it.answered(call, "call");
    it.answer(request, "request");
    let spans = it.story.finish();
    assert!(is_child(&spans, "call", "request"));
}

#[test]
fn where_requests_and_responses_contradict_each_other_nothing_is_believed() {
    let mut it = Proxy::trusted();
    it.waits += 1;
    let (one, other) = (it.request(), it.request());
    // One is put off and the other called for first.
    let (call_of_other, call_of_one) = (it.call(), it.call());
    it.waits += 1;
    it.answered(call_of_other, "call of other");
    it.answer(other, "other");
    it.waits += 1;
    it.answered(call_of_one, "call of one");
    it.answer(one, "one");
    let spans = it.story.finish();
    assert_ne!(kind(&spans["call of one"]), Some(Kind::Order));
    assert_ne!(kind(&spans["call of other"]), Some(Kind::Order));
}

#[test]
fn a_process_that_goes_through_them_in_another_order_is_not_believed() {
    let mut it = Proxy::new();
    for _ in 0..64 {
        it.batch(3, |requests| requests.rotate_left(1));
    }
    it.waits += 1;
    let (one, other) = (it.request(), it.request());
    let (call_of_one, call_of_other) = (it.call(), it.call());
    it.waits += 1;
    it.answered(call_of_one, "call of one");
    it.answered(call_of_other, "call of other");
    it.answer(one, "one");
    it.answer(other, "other");
    let spans = it.story.finish();
    assert_ne!(kind(&spans["call of one"]), Some(Kind::Order));
}

/// What waits for a free connection is called for after something else was read.
#[test]
fn what_is_left_when_it_waits_is_for_nobody() {
    let mut it = Proxy::trusted();
    it.waits += 1;
    let (one, other) = (it.request(), it.request());
    let call_of_one = it.call();
    it.waits += 1;
    let third = it.request();
    let call_of_third = it.call();
    let call_of_other = it.call();
    it.waits += 1;
    for (call, call_name, request, name) in [
        (call_of_one, "call of one", one, "one"),
        (call_of_third, "call of third", third, "third"),
        (call_of_other, "call of other", other, "other"),
    ] {
        it.waits += 1;
        it.answered(call, call_name);
        it.answer(request, name);
    }
    let spans = it.story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of third", "third"));
    assert_ne!(kind(&spans["call of other"]), Some(Kind::Order));
}

/// A process that goes through everything backwards looks the same as long as nothing comes alone.
#[test]
fn what_leaves_a_choice_proves_nothing() {
    let mut it = Proxy::new();
    for _ in 0..64 {
        it.waits += 1;
        let requests: Vec<_> = (0..3).map(|_| it.request()).collect();
        let calls: Vec<_> = (0..3).map(|_| it.call()).collect();
        it.waits += 1;
        for call in calls {
            it.answered(call, "warm-up call");
        }
        for request in requests.into_iter().rev() {
            it.answer(request, "warm-up");
        }
    }
    assert_eq!(it.story.linker.orders.trust(Pid(1)), Trust::Open);
}

/// Protects: the bound on what one thread has read and not gone through.
#[test]
fn requests_that_a_thread_never_goes_through_are_bounded() {
    let mut it = Proxy::new();
    for _ in 0..20_000 {
        it.request();
    }
    let call = it.call();
    it.answered(call, "call");
    assert_ne!(kind(&it.story.finish()["call"]), Some(Kind::Order));
}
