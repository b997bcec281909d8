//! A damaged segment of the spool gives up what was damaged, and nothing else: a body costs itself, a
//! head what follows it, and what is missing at the end was never written.
//!
//! The input is requests with their numbers of spans, changes of bytes, and how many are missing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::export::spool::format::{Found, HEAD_LEN, Head, MAGIC, records};

type Requests = Vec<(u32, Vec<u8>)>;

fuzz_target!(|input: (Requests, Vec<(u16, u8)>, u8)| {
    let (requests, changes, missing) = input;
    let mut whole = MAGIC.to_vec();
    for (spans, body) in &requests {
        whole.extend(Head::of(body, *spans).expect("a length that can be written").encode());
        whole.extend(body);
    }
    let mut segment = whole.clone();
    for (at, change) in changes {
        let at = usize::from(at) % segment.len();
        segment[at] ^= change;
    }
    segment.truncate(segment.len().saturating_sub(usize::from(missing)));

    let mut found = records(&segment);
    if !segment.starts_with(&MAGIC) {
        assert_eq!(found.next(), None);
        return;
    }
    let mut at = MAGIC.len();
    for (spans, body) in requests {
        let (head, end) = (at..at + HEAD_LEN, at + HEAD_LEN + body.len());
        let found = found.next();
        let Some(head_left) = segment.get(head.clone()) else {
            let expected = (at < segment.len()).then_some(Found::Unfinished);
            return assert_eq!(found, expected);
        };
        if head_left != &whole[head] {
            return assert_eq!(found, Some(Found::Lost));
        }
        let Some(body_left) = segment.get(at + HEAD_LEN..end) else {
            return assert_eq!(found, Some(Found::Unfinished));
        };
        let expected = if body_left == body {
            Found::Record { body: body.into(), spans, end: end as u64 }
        } else {
            Found::Damaged { spans, end: end as u64 }
        };
        assert_eq!(found, Some(expected));
        at = end;
    }
    assert_eq!(found.next(), None);
});
