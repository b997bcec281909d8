//! Programs whose tasks are known: a server's task reads requests and writes responses, and calls
//! are made by it or by tasks it started.

use super::*;
use crate::event::{CodeAddress, TaskId};

const PID: u32 = 1;
/// The task that accepts connections, which started all servers.
const ACCEPTOR: u64 = 1;

/// A task on any thread: threads must not matter.
fn task(id: u64, parent: u64, site: u64) -> By {
    let task = Task { id: TaskId(id), parent: Some(TaskId(parent)), site: CodeAddress(site) };
    By { task: Some(task), ..by(PID, 500 + (id % 3) as u32, id as u32) }
}

fn server(id: u64) -> By {
    task(id, ACCEPTOR, 0xacce)
}

/// A task that is known to run, but not which.
fn unknown() -> By {
    by(PID, 500, 0)
}

impl Story {
    fn exchange(&mut self, conn: u64, server: By) {
        let request = self.request(conn, server);
        self.end(request, server, Role::Server, "other");
    }

    /// Requests answered by the task that read them, until that is what the process is known for.
    fn servers_are_loyal(&mut self) {
        for number in 0..64 {
            self.exchange(10_000 + number, server(10_000 + number));
        }
    }

    /// Tasks started at a site that call and are done before the request is answered, until that
    /// is what the site is known for.
    fn tasks_of_site_are_joined(&mut self, site: u64) {
        for number in 0..64 {
            let (conn, server) = (20_000 + number, server(20_000 + number));
            let child = task(30_000 + number, 20_000 + number, site);
            let request = self.request(conn, server);
            let call = self.call(40_000 + number, child);
            self.end(call, child, Role::Client, "other call");
            self.end(request, server, Role::Server, "other");
        }
    }

    /// Two requests are open, read by tasks 100 and 101; gives the second.
    fn two_requests(&mut self) -> (ExchangeId, ExchangeId) {
        (self.request(1, server(100)), self.request(2, server(101)))
    }

    fn end_two(&mut self, (first, second): (ExchangeId, ExchangeId)) {
        self.end(first, server(100), Role::Server, "first");
        self.end(second, server(101), Role::Server, "second");
    }

    /// A call while two requests are open, by tasks 100 and 101.
    fn call_among_two(mut self, caller: By) -> BTreeMap<&'static str, Placed<&'static str>> {
        let two = self.two_requests();
        let call = self.call(5, caller);
        self.end(call, caller, Role::Client, "call");
        self.end_two(two);
        self.finish()
    }
}

fn assert_coroutine(spans: &BTreeMap<&str, Placed<&'static str>>, child: &str, parent: &str) {
    assert!(is_child(spans, child, parent), "{:?}", spans[child]);
    assert_eq!(kind(&spans[child]), Some(Kind::Coroutine), "{:?}", spans[child]);
}

fn assert_root(spans: &BTreeMap<&str, Placed<&'static str>>, call: &str) {
    assert_eq!(spans[call].origin, Origin::Root);
}

#[test]
fn a_call_of_the_task_that_serves_a_request_is_its_child() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let spans = story.call_among_two(server(101));
    assert_coroutine(&spans, "call", "second");
}

#[test]
fn of_a_process_seen_for_the_first_time_the_response_confirms_who_served() {
    let spans = Story::new().call_among_two(server(100));
    assert_coroutine(&spans, "call", "first");

    let mut story = Story::new();
    let two = story.two_requests();
    let call = story.call(5, server(100));
    story.end(call, server(100), Role::Client, "call");
    // Somebody else answers.
    story.end(two.0, server(102), Role::Server, "first");
    story.end(two.1, server(103), Role::Server, "second");
    let spans = story.finish();
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));
}

#[test]
fn calls_of_tasks_that_the_server_started_are_its_children() {
    let mut story = Story::new();
    story.servers_are_loyal();
    story.tasks_of_site_are_joined(7);
    let spans = story.call_among_two(task(200, 101, 7));
    assert_coroutine(&spans, "call", "second");
}

#[test]
fn calls_of_tasks_of_tasks_are_too_if_those_between_were_seen() {
    for seen in [true, false] {
        let mut story = Story::new();
        story.servers_are_loyal();
        story.tasks_of_site_are_joined(7);
        let two = story.two_requests();
        if seen {
            let child = task(200, 101, 7);
            let call = story.call(4, child);
            story.end(call, child, Role::Client, "call of the child");
        }
        let grandchild = task(201, 200, 7);
        let call = story.call(5, grandchild);
        story.end(call, grandchild, Role::Client, "call");
        story.end_two(two);
        let spans = story.finish();
        if seen {
            assert_coroutine(&spans, "call", "second");
        } else {
            assert_root(&spans, "call");
        }
    }
}

#[test]
fn a_task_that_serves_the_next_request_calls_for_that() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let other = story.request(9, server(109));
    let first = story.request(1, server(100));
    story.end(first, server(100), Role::Server, "first");
    let second = story.request(1, server(100));
    let call = story.call(5, server(100));
    story.end(call, server(100), Role::Client, "call");
    story.end(second, server(100), Role::Server, "second");
    story.end(other, server(109), Role::Server, "other");
    assert_coroutine(&story.finish(), "call", "second");
}

#[test]
fn requests_read_ahead_are_served_in_turn() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let other = story.request(9, server(109));
    let (first, second) = (story.request(1, server(100)), story.request(1, server(100)));
    let call = story.call(5, server(100));
    story.end(call, server(100), Role::Client, "call");
    story.end(first, server(100), Role::Server, "first");
    let later = story.call(5, server(100));
    story.end(later, server(100), Role::Client, "later");
    story.end(second, server(100), Role::Server, "second");
    story.end(other, server(109), Role::Server, "other");
    let spans = story.finish();
    assert_coroutine(&spans, "call", "first");
    assert_coroutine(&spans, "later", "second");
}

#[test]
fn a_task_started_to_watch_the_connection_reads_for_the_one_that_serves_it() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let other = story.request(9, server(109));
    story.exchange(1, server(100));
    let second = story.request(1, task(300, 100, 0xbac));
    let call = story.call(5, server(100));
    story.end(call, server(100), Role::Client, "call");
    story.end(second, server(100), Role::Server, "second");
    story.end(other, server(109), Role::Server, "other");
    assert_coroutine(&story.finish(), "call", "second");
}

#[test]
fn a_call_of_a_task_that_serves_nothing_is_a_root_even_if_one_request_is_open() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let request = story.request(1, server(100));
    let timer = task(50, ACCEPTOR, 3);
    let call = story.call(5, timer);
    story.end(call, timer, Role::Client, "call");
    // Its own request is over, and another one is open.
    story.exchange(2, server(101));
    let late = story.call(6, server(101));
    story.end(late, server(101), Role::Client, "late");
    story.end(request, server(100), Role::Server, "request");
    let spans = story.finish();
    assert_root(&spans, "call");
    assert_root(&spans, "late");
}

#[test]
fn tasks_that_outlive_their_request_are_not_taken_for_the_next_ones() {
    let mut story = Story::new();
    story.servers_are_loyal();
    // Answered before what it started is over.
    for number in 0..64 {
        let (conn, server) = (20_000 + number, server(20_000 + number));
        let child = task(30_000 + number, 20_000 + number, 7);
        let request = story.request(conn, server);
        let call = story.call(40_000 + number, child);
        story.end(request, server, Role::Server, "other");
        story.end(call, child, Role::Client, "other call");
    }
    let spans = story.call_among_two(task(200, 101, 7));
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));
}

#[test]
fn tasks_found_calling_after_their_request_have_outlived_it() {
    let mut story = Story::new();
    story.servers_are_loyal();
    story.tasks_of_site_are_joined(7);
    let request = story.request(9, server(109));
    for number in 0..8 {
        story.exchange(1, server(100));
        let child = task(300 + number, 100, 7);
        let call = story.call(5, child);
        story.end(call, child, Role::Client, "call");
    }
    story.end(request, server(109), Role::Server, "request");
    let spans = story.call_among_two(task(400, 101, 7));
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));
}

#[test]
fn one_site_of_the_program_does_not_discredit_another() {
    let mut story = Story::new();
    story.servers_are_loyal();
    story.tasks_of_site_are_joined(7);
    for number in 0..64 {
        story.exchange(1, server(100));
        let child = task(300 + number, 100, 8);
        let call = story.call(5, child);
        story.end(call, child, Role::Client, "notice");
    }
    let spans = story.call_among_two(task(400, 101, 7));
    assert_coroutine(&spans, "call", "second");
}

#[test]
fn who_waits_for_the_response_made_the_call() {
    for sites in [false, true] {
        let mut story = Story::new();
        story.servers_are_loyal();
        story.tasks_of_site_are_joined(7);
        let two = story.two_requests();
        let call = story.call(5, unknown());
        let caller = if sites { task(200, 101, 7) } else { server(101) };
        story.end(call, caller, Role::Client, "call");
        story.end_two(two);
        assert_coroutine(&story.finish(), "call", "second");
    }
}

#[test]
fn what_a_first_request_starts_is_its_child_if_it_waits_for_it() {
    let story = Story::new();
    let spans = story.call_among_two(task(200, 101, 7));
    assert_coroutine(&spans, "call", "second");
}

#[test]
fn what_a_first_request_leaves_behind_is_not_the_next_ones() {
    let mut story = Story::new();
    story.exchange(1, server(100));
    let second = story.request(1, server(100));
    let left = task(200, 100, 7);
    let call = story.call(5, left);
    story.end(second, server(100), Role::Server, "second");
    story.end(call, left, Role::Client, "call");
    let spans = story.finish();
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));
}

#[test]
fn an_unknown_task_proves_nothing() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let spans = story.call_among_two(unknown());
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));

    // A request is open whose task is not known: the call may be for that one.
    let mut story = Story::new();
    story.servers_are_loyal();
    let request = story.request(1, unknown());
    let call = story.call(5, By { tid: 99, ..task(50, ACCEPTOR, 3) });
    story.end(call, unknown(), Role::Client, "call");
    story.end(request, unknown(), Role::Server, "request");
    let spans = story.finish();
    assert!(is_child(&spans, "call", "request"));
    assert_eq!(kind(&spans["call"]), Some(Kind::Sole));
}

#[test]
fn where_requests_are_read_by_one_task_for_others_tasks_prove_nothing() {
    let mut story = Story::new();
    let poller = server(2);
    for number in 0..64 {
        let worker = task(100 + number % 4, 2, 9);
        let (first, second) = (story.request(1, poller), story.request(2, poller));
        story.end(first, worker, Role::Server, "other");
        story.end(second, worker, Role::Server, "other");
    }
    let (first, second) = (story.request(1, poller), story.request(2, poller));
    let worker = task(101, 2, 9);
    let call = story.call(5, worker);
    story.end(call, worker, Role::Client, "call");
    story.end(first, worker, Role::Server, "first");
    story.end(second, worker, Role::Server, "second");
    let spans = story.finish();
    assert_ne!(kind(&spans["call"]), Some(Kind::Coroutine));
    assert_ne!(spans["call"].origin, Origin::Root);
}

#[test]
fn tasks_of_another_process_with_equal_ids_are_others() {
    let mut story = Story::new();
    story.servers_are_loyal();
    let elsewhere = By { pid: 2, ..server(100) };
    let request = story.request(1, elsewhere);
    let (second, third) = (story.request(2, server(101)), story.request(3, server(102)));
    let call = story.call(5, server(100));
    story.end(call, server(100), Role::Client, "call");
    story.end(request, elsewhere, Role::Server, "request");
    story.end(second, server(101), Role::Server, "second");
    story.end(third, server(102), Role::Server, "third");
    assert_root(&story.finish(), "call");
}
