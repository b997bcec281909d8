use super::*;
use crate::event::{CodeAddress, StreamOffset};

const PROCESS: Pid = Pid(7);

/// A request or call of a connection of its own.
fn exchange(conn: u64) -> ExchangeId {
    ExchangeId { conn: ConnId(conn), offset: StreamOffset(0) }
}

/// A task, and the last one that waits for it.
fn task(id: u64, outermost: u64) -> Task {
    let site = CodeAddress(tracer_ebpf::TaskKey::AWAITED);
    Task { id: TaskId(id), parent: Some(TaskId(outermost)), site }
}

/// Calls of which a response tells.
type Work = Vec<(ExchangeId, Option<Kind>)>;

fn own(call: u64) -> (ExchangeId, Option<Kind>) {
    (exchange(call), Some(Kind::Task))
}

fn related(call: u64) -> (ExchangeId, Option<Kind>) {
    (exchange(call), Some(Kind::RelatedTask))
}

fn earlier(call: u64) -> (ExchangeId, Option<Kind>) {
    (exchange(call), None)
}

struct Story {
    workers: Workers,
    now: u64,
}

impl Story {
    fn new() -> Self {
        Self { workers: Workers::default(), now: 1_000 }
    }

    /// The next moment.
    fn now(&mut self) -> KernelTime {
        self.now += 1;
        KernelTime(self.now)
    }

    fn call(&mut self, call: u64, task: Option<Task>) -> Told {
        let at = self.now();
        self.workers.on_call(exchange(call), PROCESS, task, at, None)
    }

    /// The response begins.
    fn response(&mut self, request: u64, task: Option<Task>, began: KernelTime) -> Work {
        let at = self.now();
        self.workers.on_response(exchange(request), PROCESS, task, began, at)
    }

    /// The response begins, and that is all of it.
    fn answer(&mut self, request: u64, task: Option<Task>, began: KernelTime) -> Work {
        let work = self.response(request, task, began);
        self.workers.on_answered(exchange(request), PROCESS);
        work
    }

    fn trust_in_related(&self) -> Trust {
        self.workers.trust(PROCESS, Kind::RelatedTask)
    }
}

#[test]
fn the_task_that_answers_has_made_its_own_calls_and_those_it_waited_for() {
    let mut story = Story::new();
    let (one, other) = (story.now(), story.now());
    assert_eq!(story.call(101, Some(task(1, 1))), Told::Later);
    assert_eq!(story.call(201, Some(task(2, 2))), Told::Later);
    assert_eq!(
        story.call(102, Some(task(11, 1))),
        Told::Later,
        "by a task that the first waits for"
    );
    let work = story.answer(20, Some(task(2, 2)), other);
    assert_eq!(work, [own(201)]);
    let work = story.answer(10, Some(task(1, 1)), one);
    assert_eq!(work, [own(101), own(102)]);
    assert_eq!(story.workers.trust(PROCESS, Kind::Task), Trust::Given);
}

#[test]
fn what_a_task_did_before_the_request_came_is_not_for_it() {
    let mut story = Story::new();
    story.call(101, Some(task(1, 1)));
    let began = story.now();
    story.call(102, Some(task(1, 1)));
    let work = story.answer(10, Some(task(1, 1)), began);
    assert_eq!(work, [earlier(101), own(102)]);
    // Another task may have the same address by now.
    let began = story.now();
    assert_eq!(story.answer(20, Some(task(1, 1)), began), []);
}

#[test]
fn calls_made_while_the_response_is_written_are_for_it() {
    let mut story = Story::new();
    let began = story.now();
    story.response(10, Some(task(1, 1)), began);
    assert_eq!(story.call(101, Some(task(1, 1))), Told::Parent(exchange(10)));
    assert_eq!(story.call(102, Some(task(11, 1))), Told::Parent(exchange(10)));
    assert_eq!(story.call(103, Some(task(2, 2))), Told::Later);
    story.workers.on_answered(exchange(10), PROCESS);
    assert_eq!(story.call(104, Some(task(1, 1))), Told::Later, "the response is over");
}

/// As in aiohttp: a task for the connection waits for one that handles the request, which waits for
/// those that call.
#[test]
fn tasks_with_a_common_waiter_are_related_once_that_has_proven_to_serve_one_at_a_time() {
    let mut story = Story::new();
    for request in 0..u64::from(ENOUGH) {
        assert_eq!(story.call(1_000 + request, Some(task(3, 1))), Told::Later);
        let began = KernelTime(story.now - 1);
        let work = story.answer(request, Some(task(2, 1)), began);
        assert_eq!(work, [related(1_000 + request)]);
        let expected = if request + 1 < ENOUGH.into() { Trust::Open } else { Trust::Given };
        assert_eq!(story.trust_in_related(), expected);
    }
}

#[test]
fn requests_answered_below_one_task_at_the_same_time_are_kept_apart() {
    let mut story = Story::new();
    let (one, other) = (story.now(), story.now());
    story.call(101, Some(task(11, 1)));
    story.call(201, Some(task(12, 1)));
    story.call(202, Some(task(22, 1)));
    story.answer(10, Some(task(11, 1)), one);
    assert_eq!(story.trust_in_related(), Trust::Open);
    story.answer(20, Some(task(12, 1)), other);
    assert_eq!(story.trust_in_related(), Trust::Denied);
    // From now on everybody answers for itself.
    let (one, other) = (story.now(), story.now());
    story.call(301, Some(task(11, 1)));
    story.call(401, Some(task(12, 1)));
    let work = story.answer(30, Some(task(11, 1)), one);
    assert_eq!(work, [own(301)]);
    let work = story.answer(40, Some(task(12, 1)), other);
    assert_eq!(work, [own(401)]);
}

#[test]
fn one_connection_after_the_other_request_is_no_sharing() {
    let mut story = Story::new();
    let conn = |offset| ExchangeId { conn: ConnId(1), offset: StreamOffset(offset) };
    let began = story.now();
    for offset in 0..3 {
        // Sent before the first was answered.
        let at = story.now();
        story.workers.on_response(conn(offset), PROCESS, Some(task(2, 1)), began, at);
        story.workers.on_answered(conn(offset), PROCESS);
    }
    assert_ne!(story.trust_in_related(), Trust::Denied);
}

#[test]
fn where_no_task_answers_tasks_tell_nothing() {
    let mut story = Story::new();
    assert_eq!(story.call(101, None), Told::Nothing);
    assert_eq!(story.call(102, Some(task(1, 1))), Told::Later);
    let began = story.now();
    assert_eq!(story.answer(10, None, began), []);
    assert_eq!(story.call(103, Some(task(1, 1))), Told::Nothing);
    // It was an exception.
    let began = story.now();
    story.answer(20, Some(task(1, 1)), began);
    assert_eq!(story.call(104, Some(task(1, 1))), Told::Later);
}

#[test]
fn goroutines_are_not_judged_by_this_rule() {
    let mut story = Story::new();
    let goroutine = Task { id: TaskId(1), parent: Some(TaskId(2)), site: CodeAddress(0x40_0000) };
    assert_eq!(story.call(101, Some(goroutine)), Told::Nothing);
}

/// Protects: the bound on calls, and that nothing stays for ever.
#[test]
fn too_many_calls_are_not_waited_for_and_old_ones_are_forgotten() {
    let mut story = Story::new();
    for call in 0..MAX_MADE as u64 {
        assert_eq!(story.call(call, Some(task(call + 1, call + 1))), Told::Later);
    }
    assert_eq!(story.call(0, Some(task(1, 1))), Told::Nothing);
    story.workers.expire(|_| KernelTime(u64::MAX));
    assert_eq!(story.call(0, Some(task(1, 1))), Told::Later);
    story.workers.on_gone(PROCESS);
    assert!(!story.workers.processes.contains(PROCESS));
}

#[test]
fn a_call_is_not_caused_by_its_own_other_end() {
    let mut story = Story::new();
    let began = story.now();
    let at = story.now();
    let itself = Some(exchange(1));
    let told = story.workers.on_call(exchange(21), PROCESS, Some(task(5, 9)), at, itself);
    assert_eq!(told, Told::Later);
    assert_eq!(story.response(1, Some(task(6, 9)), began), [earlier(21)]);
    let at = story.now();
    let told = story.workers.on_call(exchange(22), PROCESS, Some(task(6, 9)), at, itself);
    assert_eq!(told, Told::Later, "its task writes the response to it");
}
