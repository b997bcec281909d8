//! Whatever a receiver answers, it means one of three things, and OTLP says which.
//!
//! The input is a status, and its headers and body (HTTP) or its message and details (gRPC).

#![no_main]

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use libfuzzer_sys::fuzz_target;
use tracer::export::Outcome;

/// Statuses that may be tried again.
const HTTP_AGAIN: [u16; 4] = [429, 502, 503, 504];
const GRPC_AGAIN: [i32; 6] = [1, 4, 10, 11, 14, 15];
const RESOURCE_EXHAUSTED: i32 = 8;

fuzz_target!(|input: (u16, &[u8], &[u8], &[u8])| {
    let (number, kind, after, body) = input;
    let body = Bytes::copy_from_slice(body);
    if let Ok(status) = http::StatusCode::from_u16(number % 1000) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(CONTENT_TYPE, kind), (RETRY_AFTER, after)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
        let now = SystemTime::UNIX_EPOCH;
        let outcome = Outcome::of_http(status, &headers, Some(body.clone()), now);
        let expected = match status.as_u16() {
            200..300 => matches!(outcome, Outcome::Taken { .. }),
            status if HTTP_AGAIN.contains(&status) => matches!(outcome, Outcome::Again { .. }),
            _ => outcome == Outcome::Refused,
        };
        assert!(expected, "{status}: {outcome:?}");
    }
    let code = i32::from(number % 17);
    let outcome = Outcome::of_grpc(code, &String::from_utf8_lossy(kind), body);
    let expected = match outcome {
        Outcome::Again { after: None } => GRPC_AGAIN.contains(&code),
        Outcome::Again { .. } => GRPC_AGAIN.contains(&code) || code == RESOURCE_EXHAUSTED,
        Outcome::Refused => !GRPC_AGAIN.contains(&code),
        Outcome::Taken { .. } => false,
    };
    assert!(expected, "{code}: {outcome:?}");
});
