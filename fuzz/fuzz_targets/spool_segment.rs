//! Whatever a disk makes of a segment of the spool, reading it ends, and every request that is read
//! stands there as it was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::export::spool::format::{Found, HEAD_LEN, Head, MAGIC, records};

fuzz_target!(|segment: &[u8]| {
    let mut end = MAGIC.len();
    for found in records(segment) {
        match found {
            Found::Record { body, spans, end: next } => {
                let head = Head::of(&body, spans).expect("a length that can be written").encode();
                assert_eq!(segment[end..end + HEAD_LEN], head);
                assert_eq!(segment[end + HEAD_LEN..next as usize], body);
                end = next as usize;
            }
            Found::Damaged { end: next, .. } => {
                assert!(next as usize >= end + HEAD_LEN && next as usize <= segment.len());
                end = next as usize;
            }
            Found::Lost | Found::Unfinished => end = segment.len(),
            Found::End => unreachable!("the end is no finding"),
        }
    }
});
