//! Header fields that are kept of a message: those that spans need and those the user asked for.
//!
//! The same for every protocol that carries HTTP's fields. Must not know how fields are framed.

use smol_str::{SmolStr, StrExt};

/// Request fields that spans need, besides the `x-b3-` family.
const BUILT_IN: [&str; 10] = [
    "host",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "traceparent",
    "tracestate",
    "b3",
    "content-type",
];

/// A value as it is kept.
pub(super) fn text(value: &[u8]) -> SmolStr {
    // Nearly always it is UTF-8, which can be told faster than repaired.
    str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value).into(), SmolStr::new)
}

/// The lower-case name of a field that spans need.
pub(super) fn built_in_name(name: &str) -> Option<SmolStr> {
    match name.as_bytes().first() {
        Some(
            b'h' | b'H' | b'u' | b'U' | b'f' | b'F' | b'x' | b'X' | b't' | b'T' | b'b' | b'B'
            | b'c' | b'C',
        ) => {
            let known = BUILT_IN.iter().find(|known| known.eq_ignore_ascii_case(name));
            known.map(|known| SmolStr::new_static(known)).or_else(|| {
                let is_b3 =
                    name.as_bytes().get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"x-b3-"));
                is_b3.then(|| name.to_ascii_lowercase_smolstr())
            })
        }
        _ => None,
    }
}

/// The lower-case name of a field that the user asked for.
pub(super) fn asked_name(name: &str, asked: &[String]) -> Option<SmolStr> {
    asked.iter().find(|asked| asked.eq_ignore_ascii_case(name)).map(SmolStr::from)
}

/// Where the head that begins at zero ends, looking for the empty line from `from` on.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}
