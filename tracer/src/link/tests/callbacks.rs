//! What callbacks tell of parents, and when it is not believed.

use super::*;

const LOOP: By = By { pid: 1, tid: 1, waits: 0, task: None, callback: None };

/// An event loop on one thread, whose callbacks are known by the times of their reads.
struct Loop {
    story: Story,
    conn: u64,
    /// The running callback.
    callback: Option<KernelTime>,
}

impl Loop {
    fn new() -> Self {
        Self { story: Story::new(), conn: 0, callback: None }
    }

    /// A process that has answered so many requests, each at once, that it is trusted.
    fn trusted() -> Self {
        let mut it = Self::new();
        for _ in 0..100 {
            let request = it.request();
            let call = it.call();
            it.returned(call, "call before");
            it.respond(request, "before");
        }
        it.story.placed.clear();
        it
    }

    fn by(&self) -> By {
        By { callback: self.callback, ..LOOP }
    }

    /// A callback begins by a read, at the time that the story gives its data.
    fn reads(&mut self) -> By {
        self.callback = Some(KernelTime(self.story.now + MILLISECOND / 100));
        self.by()
    }

    fn request(&mut self) -> ExchangeId {
        self.conn += 1;
        let by = self.reads();
        self.story.request(self.conn, by)
    }

    fn call(&mut self) -> ExchangeId {
        self.conn += 1;
        let by = self.by();
        self.story.call(self.conn, by)
    }

    /// A call that no read began.
    fn call_by_timer(&mut self) -> ExchangeId {
        self.callback = None;
        self.call()
    }

    /// A connection is dialed within the running callback.
    fn dial(&mut self, conn: u64) {
        self.story.linker.on_connecting(&Connecting {
            conn: ConnId(conn),
            time: KernelTime(self.story.now),
            pid: Pid(LOOP.pid),
            tid: Tid(LOOP.tid),
            waits: 0,
            task: None,
            callback: self.callback,
        });
    }

    fn returned(&mut self, call: ExchangeId, name: &'static str) {
        let by = self.reads();
        self.story.end(call, by, Role::Client, name);
    }

    fn respond(&mut self, request: ExchangeId, name: &'static str) {
        let by = self.by();
        self.story.end(request, by, Role::Server, name);
    }
}

#[test]
fn a_call_within_the_callback_of_a_request_is_for_it() {
    let mut it = Loop::trusted();
    let _other = it.request();
    let request = it.request();
    let first = it.call();
    let _third = it.request();
    it.returned(first, "first");
    let second = it.call();
    it.returned(second, "second");
    it.respond(request, "request");
    let spans = it.story.finish();
    for call in ["first", "second"] {
        assert!(is_child(&spans, call, "request"), "{call}");
        assert_eq!(kind(&spans[call]), Some(Kind::Callback));
    }
}

#[test]
fn a_call_by_a_timer_is_for_the_request_that_is_answered_when_it_returns() {
    let mut it = Loop::trusted();
    let request = it.request();
    let _other = it.request();
    let first = it.call_by_timer();
    let lost = it.call_by_timer();
    it.returned(first, "first");
    let second = it.call();
    it.returned(lost, "lost");
    it.returned(second, "second");
    it.respond(request, "request");
    let spans = it.story.finish();
    assert!(is_child(&spans, "first", "request"), "its response led to the second");
    assert!(is_child(&spans, "second", "request"));
    assert_eq!(kind(&spans["lost"]), None);
}

#[test]
fn a_call_after_the_answer_is_for_nobody() {
    let mut it = Loop::trusted();
    let _other = it.request();
    let request = it.request();
    it.respond(request, "request");
    let call = it.call();
    it.returned(call, "call");
    let spans = it.story.finish();
    assert_eq!(spans["call"].origin, Origin::Root);
}

#[test]
fn a_process_that_answers_one_request_while_it_reads_for_another_is_not_believed() {
    let mut it = Loop::new();
    for round in 0..100 {
        let (one, other) = (it.request(), it.request());
        // Made for the one that waits, when a connection becomes free.
        let call = it.call();
        it.returned(call, if round == 99 { "call" } else { "calls before" });
        it.respond(one, "one");
        it.respond(other, "other");
    }
    let spans = it.story.finish();
    assert!(!matches!(kind(&spans["call"]), Some(Kind::Callback | Kind::Tick)));
}

/// Connections that never carry a request, such as those to databases, are not heard of again.
#[test]
fn connections_that_are_never_used_do_not_end_the_knowledge_of_others() {
    let mut it = Loop::trusted();
    let _other = it.request();
    let request = it.request();
    for conn in 0..20_000 {
        it.dial(1_000_000 + conn);
    }
    it.story.now += 300_000 * MILLISECOND;
    it.story.linker.on_tick(KernelTime(it.story.now), &mut it.story.ids, &mut it.story.placed);
    let request_now = it.request();
    it.dial(it.conn + 1);
    let running = it.callback;
    // Once it is connected, which is no callback of the request any more.
    let call = it.call_by_timer();
    it.callback = running;
    it.respond(request_now, "now");
    it.returned(call, "call");
    it.respond(request, "request");
    let spans = it.story.finish();
    assert!(is_child(&spans, "call", "now"), "{:?}", spans["call"]);
    assert_eq!(kind(&spans["call"]), Some(Kind::Callback));
}
