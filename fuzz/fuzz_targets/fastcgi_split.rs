//! However two byte streams of FastCGI are split into calls, the first exchange is the same.
//!
//! The input is the length of the request in two bytes, the same of the response, both of them, and
//! the lengths of the pieces.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tracer::conn::{Connections, Observation, Options};
use tracer::event::{
    ConnId, Data, Direction, Endpoint, Event, KernelTime, Opened, Pid, StreamOffset, Tid,
};
use tracer::exchange::{RequestHead, ResponseHead};

type Heads = (Arc<RequestHead>, Option<ResponseHead>);

fuzz_target!(|input: &[u8]| {
    let Some((&[high, low, response_high, response_low], rest)) = input.split_first_chunk() else {
        return;
    };
    let request_len = usize::from(u16::from_be_bytes([high, low]));
    let response_len = usize::from(u16::from_be_bytes([response_high, response_low]));
    let Some((request, rest)) = rest.split_at_checked(request_len) else { return };
    let Some((response, cuts)) = rest.split_at_checked(response_len) else { return };
    let whole = first_exchange(request, response, &[]);
    let split = first_exchange(request, response, cuts);
    if let (Some(whole), Some(split)) = (whole, split) {
        assert_eq!(whole, split);
    }
});

fn first_exchange(request: &[u8], response: &[u8], cuts: &[u8]) -> Option<Heads> {
    let mut connections = Connections::new(Options::default());
    let mut out = Vec::new();
    let end = Endpoint::Inet(([127, 0, 0, 1], 80).into());
    let conn = ConnId(1);
    let opened = Opened {
        conn,
        time: KernelTime(0),
        local: end.clone(),
        remote: end,
        netns: 0,
        unix_pair: (0, 0),
        inode: 0,
    };
    connections.on_event(&Event::Opened(opened), &mut out);
    let streams = [(Direction::Receive, request), (Direction::Send, response)];
    for (turn, (direction, mut bytes)) in streams.into_iter().enumerate() {
        let mut cuts = cuts.iter();
        let mut offset = StreamOffset(0);
        while !bytes.is_empty() {
            let len = cuts.next().map_or(bytes.len(), |cut| usize::from(*cut % 64) + 1);
            let (piece, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            let data = Data {
                conn,
                time: KernelTime(1),
                pid: Pid(1),
                tid: Tid(1),
                direction,
                offset,
                len: piece.len() as u32,
                turn: turn as u32,
                waits: 0,
                task: None,
                callback: None,
                head: piece,
                tail: &[],
                unreadable: None,
            };
            offset = offset.advance(data.len);
            connections.on_event(&Event::Data(data), &mut out);
        }
    }
    out.into_iter().find_map(|observation| match observation {
        Observation::Finished(exchange) => Some((exchange.request, exchange.response)),
        _ => None,
    })
}
