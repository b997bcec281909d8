use super::*;
use crate::conn::{self, Connections};
use crate::event::{
    ClockOffset, ConnId, Data, Direction, Endpoint, Event, KernelTime, Opened, Pid, StreamOffset,
    Tid,
};
use crate::link;
use crate::target::Processes;
use crate::trace::context::{IdSource, TraceFlags};
use crate::trace::{SpanBuilder, SpanOptions};

const CALL: ExchangeId = ExchangeId { conn: ConnId(1), offset: StreamOffset(7) };

struct Room {
    inquirer: Inquirer,
    courier: Courier,
    desk: Desk,
    pipeline: Pipeline,
    outputs: Vec<Output>,
}

impl Room {
    fn new() -> Self {
        let (inquirer, courier, desk) = open().unwrap();
        let pipeline = Pipeline::new(
            Connections::new(conn::Options::default()),
            Processes::replayed(),
            link::Options::default(),
            SpanBuilder::new(SpanOptions::default(), ClockOffset(0)),
            IdSource::seeded(1),
        );
        Self { inquirer, courier, desk, pipeline, outputs: Vec::new() }
    }

    /// A process makes the call, with this head.
    fn call(&mut self, head: &str) {
        let opened = Opened {
            conn: CALL.conn,
            time: KernelTime(1000),
            local: Endpoint::Inet(([127, 0, 0, 1], 5555).into()),
            remote: Endpoint::Inet(([10, 0, 0, 1], 80).into()),
            netns: 1,
            unix_pair: (0, 0),
            inode: 1,
        };
        let data = Data {
            conn: CALL.conn,
            time: KernelTime(1001),
            pid: Pid(1),
            tid: Tid(1),
            direction: Direction::Send,
            offset: CALL.offset,
            len: head.len() as u32,
            turn: 0,
            waits: 0,
            task: None,
            callback: None,
            head: head.as_bytes(),
            tail: &[],
            unreadable: None,
        };
        self.pipeline.on_event(&Event::Opened(opened), &mut self.outputs);
        self.pipeline.on_event(&Event::Data(data), &mut self.outputs);
    }

    /// Asks while nobody attends.
    fn ask(&self) -> oneshot::Receiver<Committed> {
        match self.inquirer.ask(CALL) {
            Asked::Waits(answer) => answer,
            Asked::Answered(committed) => panic!("nobody was there to say {committed:?}"),
        }
    }

    fn work(&mut self) -> bool {
        self.desk.collect();
        let left = self.desk.answer(&mut self.pipeline, &mut self.outputs);
        while let Ok(replies) = self.courier.0.try_recv() {
            hand_over(replies);
        }
        left
    }

    fn is_rung(&self) -> bool {
        rustix::io::read(&self.desk.bell.descriptor, &mut [0; 8]).is_ok()
    }
}

#[test]
fn an_answer_is_given_once_the_call_is_seen() {
    let mut room = Room::new();
    let mut answer = room.ask();
    assert!(room.work(), "the kernel half may be late");
    assert!(answer.try_recv().is_err());
    room.call("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!room.work());
    let Ok(Committed::Ours(context)) = answer.try_recv() else { panic!("no context") };
    assert_eq!(context.parent, None);
    assert_eq!(room.desk.counts(), Counts { roots: 1, ..Counts::default() });
}

#[test]
fn the_context_of_an_sdk_stays() {
    let mut room = Room::new();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    room.call(&format!("GET / HTTP/1.1\r\nhost: a\r\ntraceparent: {traceparent}\r\n\r\n"));
    let mut answer = room.ask();
    assert!(!room.work());
    assert_eq!(answer.try_recv().unwrap(), Committed::Theirs);
    assert_eq!(room.desk.counts().kept, 1);
}

#[test]
fn who_stops_waiting_is_counted_and_what_went_out_instead_is_the_span() {
    let mut room = Room::new();
    drop(room.ask());
    assert!(!room.work());
    let context = IdSource::seeded(2).root();
    room.inquirer.tell(CALL, context.clone());
    room.work();
    room.call("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut answer = room.ask();
    room.work();
    let Ok(Committed::Ours(committed)) = answer.try_recv() else { panic!("no context") };
    assert_eq!((committed.span, committed.trace), (context.span, context.trace));
    assert!(committed.flags.contains(TraceFlags::SAMPLED));

    // Another one cannot be it as well.
    room.inquirer.tell(CALL, IdSource::seeded(3).root());
    room.work();
    let counts = room.desk.counts();
    assert_eq!((counts.unseen, counts.contradicted), (1, 1));
}

#[test]
fn the_bell_rings_for_the_first_question_and_again_for_the_first_after_the_next_look() {
    let mut room = Room::new();
    assert!(!room.is_rung());
    let _first = room.ask();
    let _second = room.ask();
    assert!(room.is_rung());
    room.work();
    assert!(!room.is_rung());
    let _third = room.ask();
    assert!(room.is_rung());
}

/// Protects: the bound on questions. Who asks learns at once that there is no answer.
#[test]
fn more_questions_than_there_is_room_for_are_refused_and_counted() {
    let mut room = Room::new();
    let _waiting: Vec<_> = (0..MAX_WAITING).map(|_| room.ask()).collect();
    let mut refused = room.ask();
    assert_eq!(refused.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(room.desk.counts().unheard, 1);
    assert!(room.work());
    let mut heard = room.ask();
    assert_eq!(heard.try_recv(), Err(oneshot::error::TryRecvError::Empty));
}

/// Answers its one call whenever it is free.
struct Attendant(std::sync::Mutex<Committed>);

impl Attend for Attendant {
    fn answer_now(&self, call: ExchangeId) -> Option<Committed> {
        Some(self.0.try_lock().ok()?.clone()).filter(|_| call == CALL)
    }
}

/// Protects: whoever asks never waits for an attendant, and is answered by the desk then.
#[test]
fn who_attends_answers_at_once_and_the_desk_what_he_cannot() {
    let room = Room::new();
    let attendant = Arc::new(Attendant(std::sync::Mutex::new(Committed::Theirs)));
    let weak: Weak<Attendant> = Arc::downgrade(&attendant);
    room.desk.attended_by(weak);
    assert!(matches!(room.inquirer.ask(CALL), Asked::Answered(Committed::Theirs)));
    assert!(!room.is_rung());

    let other = ExchangeId { offset: StreamOffset(8), ..CALL };
    assert!(matches!(room.inquirer.ask(other), Asked::Waits(_)));
    assert!(room.is_rung());

    let busy = attendant.0.lock().unwrap();
    assert!(matches!(room.inquirer.ask(CALL), Asked::Waits(_)));
    drop(busy);
    drop(attendant);
    assert!(matches!(room.inquirer.ask(CALL), Asked::Waits(_)));
}
