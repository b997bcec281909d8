//! Arbitrary events of any protocol, however absurd: no panic, bounded memory, every exchange ended
//! once.
//!
//! The input is a list of steps of four bytes each, the first three chosen freely:
//! what to do, which of three connections, an offset or turn jump, and how many of the following
//! bytes are the data.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use tracer::conn::{Connections, Observation, Options};
use tracer::event::{
    CloseKind, Closed, ConnId, Data, Direction, Endpoint, Event, KernelTime, Opened, Pid,
    StreamOffset, Tid,
};

const HEAD_BYTES: usize = 512;
const BUFFERED_BYTES: usize = 1024;

#[derive(Clone, Copy, Default)]
struct Socket {
    turn: u32,
    last: Option<Direction>,
    sent: u32,
    received: u32,
}

fuzz_target!(|input: &[u8]| {
    let mut connections = Connections::new(Options {
        max_connections: 2,
        max_head_bytes: HEAD_BYTES,
        max_buffered_bytes: BUFFERED_BYTES,
        max_exchange_silence: 50,
        ..Options::default()
    });
    let mut sockets = [Socket::default(); 3];
    let mut out = Vec::new();
    let mut rest = input;
    let mut time = 0;
    while let [what, conn, jump, len, data @ ..] = rest {
        let (data, after) = data.split_at((*len as usize).min(data.len()));
        rest = after;
        time += 10;
        let at = usize::from(conn % 3);
        step(*what, at, *jump, data, time, &mut sockets[at], &mut connections, &mut out);
        assert!(connections.buffered_bytes() <= BUFFERED_BYTES);
    }
    connections.finish(&mut out);
    assert_eq!(connections.buffered_bytes(), 0);
    check(&out);
});

#[expect(clippy::too_many_arguments, reason = "one step of one input")]
fn step(
    what: u8,
    conn: usize,
    jump: u8,
    data: &[u8],
    time: u64,
    socket: &mut Socket,
    connections: &mut Connections,
    out: &mut Vec<Observation>,
) {
    let (conn, time) = (ConnId(conn as u64), KernelTime(time));
    let kind = match what & 0b111 {
        0 => {
            let end = Endpoint::Unix(String::new());
            let opened = Opened {
                conn,
                time,
                local: end.clone(),
                remote: end,
                netns: 0,
                unix_pair: (1, 2),
                inode: 0,
            };
            return connections.on_event(&Event::Opened(opened), out);
        }
        1 => return connections.on_tick(KernelTime(time.0 + 2_000_000_000), out),
        2 => CloseKind::Gone,
        3 => CloseKind::SendEnd,
        4 => CloseKind::ReceiveEnd,
        _ => return moved(what, conn, jump, data, time, socket, connections, out),
    };
    let known = what & 0x80 != 0;
    let closed = Closed {
        conn,
        time,
        kind,
        errno: i32::from(jump),
        turns: socket.turn.wrapping_add(u32::from(what >> 3 & 0b11)),
        sent_end: known.then_some(StreamOffset(socket.sent)),
        received_end: known.then_some(StreamOffset(socket.received)),
    };
    connections.on_event(&Event::Closed(closed), out);
}

#[expect(clippy::too_many_arguments, reason = "one step of one input")]
fn moved(
    what: u8,
    conn: ConnId,
    jump: u8,
    data: &[u8],
    time: KernelTime,
    socket: &mut Socket,
    connections: &mut Connections,
    out: &mut Vec<Observation>,
) {
    let direction = if what & 1 == 1 { Direction::Send } else { Direction::Receive };
    if socket.last.replace(direction).is_some_and(|last| last != direction) {
        socket.turn = socket.turn.wrapping_add(1);
    }
    if what & 0x08 != 0 {
        socket.turn = socket.turn.wrapping_add(u32::from(jump) << 24);
    }
    let next = match direction {
        Direction::Send => &mut socket.sent,
        Direction::Receive => &mut socket.received,
    };
    if what & 0x10 != 0 {
        // Mostly forwards, sometimes backwards or far away.
        *next = next.wrapping_add_signed(i32::from(jump as i8) << (what >> 6 << 3));
    }
    let copied = if what & 0x20 != 0 { data.len() / 2 } else { data.len() };
    let (head, tail) = data.split_at(copied);
    let data = Data {
        conn,
        time,
        pid: Pid(1),
        tid: Tid(1),
        direction,
        offset: StreamOffset(*next),
        len: data.len() as u32 + if what & 0x20 != 0 { u32::from(jump) } else { 0 },
        turn: socket.turn,
        waits: 0,
        task: None,
        callback: None,
        head,
        tail,
        unreadable: None,
    };
    *next = next.wrapping_add(data.len);
    connections.on_event(&Event::Data(data), out);
}

/// An announced exchange ends once, and only announced ones end.
fn check(out: &[Observation]) {
    let mut open = HashSet::new();
    for observation in out {
        match observation {
            // Offsets are modular and may come again.
            Observation::RequestBegan { id, .. } => {
                open.insert(*id);
            }
            Observation::Finished(exchange) => {
                assert!(exchange.start <= exchange.end);
                open.remove(&exchange.id);
            }
            Observation::Lost { id: Some(id), .. } => {
                open.remove(id);
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
