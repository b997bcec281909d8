//! An event loop, one thread, which reads for everybody; what its tasks write tells whose calls
//! they make.

use super::*;
use crate::event::{CodeAddress, TaskId};

const LOOP: By = By { pid: 1, tid: 1, waits: 0, task: None, callback: None };

/// A task, and the last one that waits for it.
fn task(id: u64, outermost: u64) -> By {
    let site = CodeAddress(tracer_ebpf::TaskKey::AWAITED);
    By { task: Some(Task { id: TaskId(id), parent: Some(TaskId(outermost)), site }), ..LOOP }
}

#[test]
fn calls_of_a_task_are_for_the_request_that_it_answers() {
    let mut story = Story::new();
    let one = story.request(1, LOOP);
    let other = story.request(2, LOOP);
    let call_of_one = story.call(3, task(10, 10));
    let call_of_other = story.call(4, task(21, 20));
    story.end(call_of_other, LOOP, Role::Client, "call of other");
    story.end(call_of_one, LOOP, Role::Client, "call of one");
    story.end(other, task(20, 20), Role::Server, "other");
    story.end(one, task(10, 10), Role::Server, "one");
    let spans = story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
    assert_eq!(kind(&spans["call of one"]), Some(Kind::Task));
}

#[test]
fn a_call_of_a_task_that_answers_nothing_is_not_for_the_only_open_request() {
    let mut story = Story::new();
    let request = story.request(1, LOOP);
    let call = story.call(2, task(99, 99));
    story.end(call, LOOP, Role::Client, "call");
    story.end(request, task(10, 10), Role::Server, "request");
    let spans = story.finish();
    assert_eq!(spans["call"].place.parent, None);
}

/// As in aiohttp's server, where a connection's task waits for the one that handles a request.
#[test]
fn calls_of_related_tasks_are_linked_once_that_is_known_to_be_right() {
    let mut story = Story::new();
    for number in 0..64 {
        let request = story.request(100, LOOP);
        let call = story.call(1_000 + number, task(3, 1));
        story.end(call, LOOP, Role::Client, "call");
        story.end(request, task(2, 1), Role::Server, "request");
    }
    let one = story.request(1, LOOP);
    let other = story.request(2, LOOP);
    let call_of_one = story.call(3, task(12, 10));
    let call_of_other = story.call(4, task(22, 20));
    story.end(other, task(21, 20), Role::Server, "other");
    story.end(one, task(11, 10), Role::Server, "one");
    story.end(call_of_other, LOOP, Role::Client, "call of other");
    story.end(call_of_one, LOOP, Role::Client, "call of one");
    let spans = story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
    assert_eq!(kind(&spans["call of one"]), Some(Kind::RelatedTask));
}

/// Where responses are not written by tasks, as on uvloop, what tasks call is judged by other
/// evidence.
#[test]
fn tasks_that_never_answer_do_not_stand_in_the_way() {
    let mut story = Story::new();
    let first = story.request(1, LOOP);
    let call = story.call(2, task(10, 10));
    story.end(call, LOOP, Role::Client, "first call");
    story.end(first, LOOP, Role::Server, "first");
    let request = story.request(1, LOOP);
    let call = story.call(2, task(10, 10));
    story.end(call, LOOP, Role::Client, "call");
    story.end(request, LOOP, Role::Server, "request");
    let spans = story.finish();
    assert!(is_child(&spans, "call", "request"));
    assert_eq!(kind(&spans["call"]), Some(Kind::Sole));
}
