//! Stories of requests and calls, told event by event, and the tree that comes out.

mod callbacks;
mod commitment;
mod orders;
mod sdk;
mod tasks;
mod workers;

use std::collections::HashMap;

use std::net::SocketAddr;

use super::*;
use crate::event::{Endpoint, StreamOffset, Task};
use crate::exchange::{End, HttpVersion};

const MILLISECOND: u64 = 1_000_000;

/// One process, or two, told moment by moment.
struct Story {
    linker: Linker<&'static str>,
    ids: IdSource,
    now: u64,
    offset: u32,
    /// Of each connection: which way bytes went last, and how often that changed.
    turns: HashMap<ConnId, (Direction, u32)>,
    /// Of requests from now on.
    target: &'static str,
    /// Of what begins from now on.
    sampler: Sampler,
    placed: Vec<Placed<&'static str>>,
}

/// Who reads or writes.
#[derive(Clone, Copy)]
struct By {
    pid: u32,
    tid: u32,
    waits: u32,
    task: Option<Task>,
    callback: Option<KernelTime>,
}

fn by(pid: u32, tid: u32, waits: u32) -> By {
    By { pid, tid, waits, task: None, callback: None }
}

impl Story {
    fn new() -> Self {
        Self {
            linker: Linker::new(Options::default()),
            ids: IdSource::seeded(1),
            now: 1_000 * MILLISECOND,
            offset: 0,
            turns: HashMap::new(),
            target: "/",
            sampler: Sampler::default(),
            placed: Vec::new(),
        }
    }

    fn data(&mut self, conn: u64, by: By, direction: Direction) -> Data<'static> {
        let turn = self.turns.entry(ConnId(conn)).or_insert((direction, 0));
        if turn.0 != direction {
            *turn = (direction, turn.1 + 1);
        }
        Data {
            conn: ConnId(conn),
            time: KernelTime(self.now),
            pid: Pid(by.pid),
            tid: Tid(by.tid),
            direction,
            offset: StreamOffset(0),
            len: 1,
            turn: turn.1,
            waits: by.waits,
            task: by.task,
            callback: by.callback,
            head: &[],
            tail: &[],
            unreadable: None,
        }
    }

    fn began(
        &mut self,
        conn: u64,
        by: By,
        role: Role,
        offset: u32,
        ends: (&str, &str),
        headers: &[(&str, &str)],
    ) -> ExchangeId {
        self.now += MILLISECOND / 100;
        let direction = if role == Role::Server { Direction::Receive } else { Direction::Send };
        let data = self.data(conn, by, direction);
        let id = ExchangeId { conn: ConnId(conn), offset: StreamOffset(offset) };
        let end = |text: &str| End::new(Endpoint::Inet(text.parse::<SocketAddr>().unwrap()));
        let ends = Arc::new(Ends { local: end(ends.0), remote: end(ends.1), unix_pair: (0, 0) });
        let post = headers.iter().any(|(name, _)| *name == "content-type");
        let request = RequestHead {
            method: if post { "POST".into() } else { "GET".into() },
            target: self.target.into(),
            version: HttpVersion::Http11,
            gateway: None,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let (pid, tid, at) = (Pid(by.pid), Tid(by.tid), KernelTime(self.now));
        let sampler = self.sampler;
        self.linker.before_data(&data);
        let began = Began { id, role, pid, tid, at, ends: &ends, request: &request, sampler };
        self.linker.on_began(&began, &mut self.ids, &mut self.placed);
        self.linker.after_data(&data);
        id
    }

    /// A process reads a request; nobody else's end of it is seen.
    fn request(&mut self, conn: u64, by: By) -> ExchangeId {
        self.offset += 1;
        self.began(conn, by, Role::Server, self.offset, ("10.0.0.1:80", "10.9.9.9:1234"), &[])
    }

    /// A process writes a request to somewhere else.
    fn call(&mut self, conn: u64, by: By) -> ExchangeId {
        self.offset += 1;
        self.began(conn, by, Role::Client, self.offset, ("10.0.0.1:999", "10.7.7.7:80"), &[])
    }

    /// The response's first and last byte is read or written.
    fn end(&mut self, id: ExchangeId, by: By, role: Role, name: &'static str) {
        self.now += MILLISECOND / 100;
        let direction = if role == Role::Server { Direction::Send } else { Direction::Receive };
        let data = self.data(id.conn.0, by, direction);
        self.linker.before_data(&data);
        self.linker.on_response(id, Tid(by.tid), &mut self.ids, &mut self.placed);
        let at = KernelTime(self.now);
        // What is read belongs to the call until that is over.
        self.linker.on_finished(id, name, at, &mut self.ids, &mut self.placed);
        self.linker.after_data(&data);
    }

    fn finish(mut self) -> BTreeMap<&'static str, Placed<&'static str>> {
        self.linker.finish(&mut self.ids, &mut self.placed);
        self.placed.into_iter().map(|placed| (placed.exchange, placed)).collect()
    }
}

fn kind(placed: &Placed<&'static str>) -> Option<Kind> {
    match placed.origin {
        Origin::Child { kind, .. } => Some(kind),
        _ => None,
    }
}

fn is_child(spans: &BTreeMap<&str, Placed<&'static str>>, child: &str, parent: &str) -> bool {
    let (child, parent) = (&spans[child].place, &spans[parent].place);
    child.parent == Some(parent.span) && child.trace == parent.trace
}

#[test]
fn both_ends_of_a_connection_join_whoever_is_heard_of_first() {
    for client_first in [true, false] {
        let mut story = Story::new();
        let client = |story: &mut Story| {
            story.began(1, by(1, 1, 0), Role::Client, 77, ("10.0.0.1:50", "10.0.0.2:80"), &[])
        };
        let server = |story: &mut Story| {
            story.began(2, by(2, 2, 0), Role::Server, 77, ("10.0.0.2:80", "10.0.0.1:50"), &[])
        };
        let (client, server) = if client_first {
            let client = client(&mut story);
            (client, server(&mut story))
        } else {
            let server = server(&mut story);
            (client(&mut story), server)
        };
        story.end(server, by(2, 2, 0), Role::Server, "server");
        story.end(client, by(1, 1, 0), Role::Client, "client");
        let spans = story.finish();
        assert!(is_child(&spans, "server", "client"), "{spans:?}");
        assert_eq!(kind(&spans["server"]), Some(Kind::Pair));
        assert_eq!(spans["client"].place.parent, None);
    }
}

#[test]
fn translated_addresses_join_and_equal_offsets_alone_do_not() {
    let join = |server_ends| {
        let mut story = Story::new();
        let ends = ("10.0.0.1:50", "10.96.0.1:80");
        let client = story.began(1, by(1, 1, 0), Role::Client, 77, ends, &[]);
        let server = story.began(2, by(2, 2, 0), Role::Server, 77, server_ends, &[]);
        story.end(server, by(2, 2, 0), Role::Server, "server");
        story.end(client, by(1, 1, 0), Role::Client, "client");
        is_child(&story.finish(), "server", "client")
    };
    assert!(join(("10.1.1.1:8080", "10.0.0.1:50")), "the destination was translated");
    assert!(join(("10.96.0.1:80", "192.168.0.1:40")), "the source was translated");
    assert!(!join(("10.1.1.1:8080", "10.0.0.3:50")), "another connection");
}

#[test]
fn a_process_with_one_open_request_called_because_of_it() {
    let mut story = Story::new();
    let request = story.request(1, by(1, 1, 0));
    let call = story.call(2, by(1, 5, 9));
    story.end(call, by(1, 5, 9), Role::Client, "call");
    story.end(request, by(1, 1, 0), Role::Server, "request");
    let late = story.call(2, by(1, 1, 0));
    story.end(late, by(1, 1, 0), Role::Client, "late");
    let spans = story.finish();
    assert!(is_child(&spans, "call", "request"));
    assert_eq!(kind(&spans["call"]), Some(Kind::Sole));
    assert_eq!(spans["late"].place.parent, None, "made after the response was sent");
}

/// A thread-per-request process proves its habit on requests that do not overlap, and then keeps
/// overlapping ones apart.
#[test]
fn threads_that_handle_one_request_each_keep_them_apart() {
    let mut story = Story::new();
    for _ in 0..64 {
        let request = story.request(1, by(1, 1, 0));
        story.end(request, by(1, 1, 0), Role::Server, "warm-up");
    }
    let one = story.request(1, by(1, 1, 0));
    let other = story.request(2, by(1, 2, 0));
    let call_of_one = story.call(3, by(1, 1, 4));
    let call_of_other = story.call(4, by(1, 2, 4));
    story.end(call_of_other, by(1, 2, 5), Role::Client, "call of other");
    story.end(call_of_one, by(1, 1, 5), Role::Client, "call of one");
    story.end(one, by(1, 1, 6), Role::Server, "one");
    story.end(other, by(1, 2, 6), Role::Server, "other");
    let spans = story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
    assert_eq!(kind(&spans["call of one"]), Some(Kind::Thread));
}

/// Where another thread answers than the one that read, threads prove nothing.
#[test]
fn work_that_moves_between_threads_is_not_linked_by_thread() {
    let mut story = Story::new();
    for _ in 0..64 {
        let request = story.request(1, by(1, 1, 0));
        story.end(request, by(1, 2, 0), Role::Server, "warm-up");
    }
    let one = story.request(1, by(1, 1, 0));
    let other = story.request(2, by(1, 2, 0));
    let call = story.call(3, by(1, 1, 4));
    story.end(call, by(1, 1, 5), Role::Client, "call");
    story.end(one, by(1, 1, 6), Role::Server, "one");
    story.end(other, by(1, 2, 6), Role::Server, "other");
    let spans = story.finish();
    assert_ne!(kind(&spans["call"]), Some(Kind::Thread));
}

/// A proxy on one thread: every call follows at once what it is for, though many requests are open.
#[test]
fn a_loop_that_calls_at_once_is_linked_by_tick() {
    let mut story = Story::new();
    let mut waits = 0;
    let mut open = Vec::new();
    for number in 0..64 {
        waits += 1;
        let request = story.request(100 + number, by(1, 1, waits));
        open.push((request, story.call(1_000 + number, by(1, 1, waits))));
    }
    waits += 1;
    let one = story.request(1, by(1, 1, waits));
    let call_of_one = story.call(3, by(1, 1, waits));
    let other = story.request(2, by(1, 1, waits));
    let call_of_other = story.call(4, by(1, 1, waits));
    for (request, call) in open {
        story.end(call, by(1, 1, waits), Role::Client, "warm-up call");
        story.end(request, by(1, 1, waits), Role::Server, "warm-up");
    }
    story.end(call_of_one, by(1, 1, waits), Role::Client, "call of one");
    story.end(call_of_other, by(1, 1, waits), Role::Client, "call of other");
    story.end(one, by(1, 1, waits), Role::Server, "one");
    story.end(other, by(1, 1, waits), Role::Server, "other");
    let spans = story.finish();
    assert!(is_child(&spans, "call of one", "one"));
    assert!(is_child(&spans, "call of other", "other"));
    assert_eq!(kind(&spans["call of one"]), Some(Kind::Tick));
}

#[test]
fn a_context_passed_on_unchanged_is_a_child_of_who_brought_it() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("00-{trace}-b7ad6b7169203331-01");
    let headers = [("traceparent", header.as_str())];
    let mut story = Story::new();
    let ends = ("10.0.0.1:80", "10.9.9.9:1234");
    let request = story.began(1, by(1, 1, 0), Role::Server, 1, ends, &headers);
    let other = story.request(2, by(1, 1, 0));
    let ends = ("10.0.0.1:999", "10.7.7.7:80");
    let call = story.began(3, by(1, 7, 0), Role::Client, 2, ends, &headers);
    story.end(call, by(1, 7, 0), Role::Client, "call");
    story.end(request, by(1, 1, 0), Role::Server, "request");
    story.end(other, by(1, 1, 0), Role::Server, "other");
    let spans = story.finish();
    assert!(is_child(&spans, "call", "request"));
    assert_eq!(kind(&spans["call"]), Some(Kind::Header));
    assert_eq!(Some(spans["request"].place.trace), TraceId::from_hex(trace));
}

#[test]
fn a_lost_parent_leaves_its_children_roots() {
    let mut story = Story::new();
    let request = story.request(1, by(1, 1, 0));
    let call = story.call(2, by(1, 1, 0));
    let at = KernelTime(story.now);
    assert!(story.linker.on_lost(request, at, &mut story.ids, &mut story.placed));
    story.end(call, by(1, 1, 0), Role::Client, "call");
    let spans = story.finish();
    assert_eq!(spans["call"].place.parent, None);
}

/// Protects: the bound on what is held. Nothing is lost, only settled earlier.
#[test]
fn too_many_open_requests_are_settled_early_and_counted() {
    let mut story = Story::new();
    let excess = 10;
    let requests: Vec<ExchangeId> =
        (0..MAX_HELD as u64 + excess).map(|conn| story.request(conn, by(1, 1, 0))).collect();
    assert!(story.linker.counters().settled_early >= excess);
    let count = requests.len();
    for request in requests {
        story.end(request, by(1, 1, 0), Role::Server, "request");
    }
    story.linker.finish(&mut story.ids, &mut story.placed);
    assert_eq!(story.placed.len(), count);
}

#[test]
fn a_process_that_calls_itself_is_not_its_own_cause() {
    // The reading thread may be heard of before the writing one.
    let (server, client) = (by(1, 11, 0), by(1, 10, 0));
    let mut story = Story::new();
    let ends = ("10.0.0.1:80", "10.0.0.1:999");
    let request = story.began(1, server, Role::Server, 7, ends, &[]);
    let call = story.began(2, client, Role::Client, 7, (ends.1, ends.0), &[]);
    story.end(request, server, Role::Server, "request");
    story.end(call, client, Role::Client, "call");
    let spans = story.finish();
    assert!(is_child(&spans, "request", "call"));
    assert_eq!(spans["call"].origin, Origin::Root);
}

#[test]
fn what_came_of_a_call_is_never_its_cause() {
    let mut family = Family::new();
    let mut ids = IdSource::seeded(1);
    let mut settled = Vec::new();
    let members = [1, 2, 3].map(|conn| ExchangeId { conn: ConnId(conn), offset: StreamOffset(0) });
    for id in members {
        family.begin(id, Sampler::default());
        family.finish(id, id.conn.0, &mut settled);
    }
    for (id, parent) in [(0, 1), (1, 2), (2, 0)] {
        let kind = Kind::Timing;
        let parent = members[parent];
        let origin = Origin::Child { parent, kind, candidates: 2, confidence: None };
        family.decide(members[id], origin, &mut ids, &mut settled);
    }
    let order: Vec<u64> = settled
        .iter()
        .filter_map(|settled| match settled {
            Settled::Span { held, .. } => Some(*held),
            Settled::Muted(_) => None,
        })
        .collect();
    assert_eq!(order, [3, 2, 1], "the one that closed the circle is the root");
}

#[test]
fn a_request_open_for_too_long_causes_no_more_calls() {
    let mut story = Story::new();
    let request = story.request(1, by(1, 10, 0));
    story.now += 301_000 * MILLISECOND;
    story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
    let call = story.call(2, by(1, 10, 0));
    story.end(call, by(1, 10, 1), Role::Client, "call");
    story.end(request, by(1, 10, 1), Role::Server, "request");
    assert_eq!(story.linker.counters().outlived, 1);
    let spans = story.finish();
    assert_eq!(spans["call"].origin, Origin::Root);
}

#[test]
fn a_peer_that_is_called_without_requests_is_not_called_for_the_only_one() {
    let mut story = Story::new();
    let timer = by(1, 11, 0);
    let check = story.call(9, timer);
    story.end(check, timer, Role::Client, "check");
    let request = story.request(1, by(1, 10, 0));
    let again = story.call(9, timer);
    story.end(again, timer, Role::Client, "again");
    story.end(request, by(1, 10, 1), Role::Server, "request");
    let spans = story.finish();
    assert_eq!(spans["check"].origin, Origin::Root);
    assert!(!is_child(&spans, "again", "request"));
}

#[test]
fn a_server_may_take_long_to_read_a_request() {
    let mut story = Story::new();
    let ends = ("10.0.0.1:50", "10.0.0.2:80");
    let client = story.began(1, by(1, 1, 0), Role::Client, 77, ends, &[]);
    story.now += 5_000 * MILLISECOND;
    story.linker.on_tick(KernelTime(story.now), &mut story.ids, &mut story.placed);
    let server = story.began(2, by(2, 2, 0), Role::Server, 77, (ends.1, ends.0), &[]);
    story.end(server, by(2, 2, 0), Role::Server, "server");
    story.end(client, by(1, 1, 0), Role::Client, "client");
    assert!(is_child(&story.finish(), "server", "client"));
}

#[test]
fn a_thread_that_has_answered_does_not_call_for_the_request_of_another() {
    let mut story = Story::new();
    let (one, other) = (by(1, 10, 0), by(1, 11, 0));
    let answered = story.request(1, one);
    story.end(answered, one, Role::Server, "answered");
    let request = story.request(2, other);
    let late = story.call(3, one);
    story.end(late, one, Role::Client, "late");
    story.end(request, other, Role::Server, "request");
    let spans = story.finish();
    assert_eq!(spans["late"].place.parent, None);
}

#[test]
fn a_loop_that_reads_several_requests_before_it_calls_is_not_linked_by_tick() {
    let mut story = Story::new();
    let by = by(1, 10, 0);
    for round in 0..100 {
        let requests = [story.request(1, by), story.request(2, by)];
        let calls = [story.call(3, by), story.call(4, by)];
        for call in calls {
            story.end(call, by, Role::Client, if round == 99 { "call" } else { "before" });
        }
        for request in requests {
            story.end(request, by, Role::Server, "request");
        }
    }
    let spans = story.finish();
    assert_ne!(kind(&spans["call"]), Some(Kind::Tick));
}
