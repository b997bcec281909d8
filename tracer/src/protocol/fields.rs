//! Header fields that are kept of a message: those that spans need and those the user asked for.
//!
//! The same for every protocol that carries HTTP's fields. Must not know how fields are framed.

use smol_str::{SmolStr, StrExt};

/// A value as it is kept.
pub(super) fn text(value: &[u8]) -> SmolStr {
    // Nearly always it is UTF-8, which can be told faster than repaired.
    str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value).into(), SmolStr::new)
}

/// The lower-case name of a field that spans need.
pub(super) fn built_in_name(name: &[u8]) -> Option<SmolStr> {
    // Of one length there are few.
    let known = match name.len() {
        2 => "b3",
        4 => "host",
        9 => "forwarded",
        10 if matches!(name[0], b'u' | b'U') => "user-agent",
        10 => "tracestate",
        11 => "traceparent",
        12 => "content-type",
        15 => "x-forwarded-for",
        16 => "x-forwarded-host",
        17 => "x-forwarded-proto",
        _ => return b3_name(name),
    };
    if name.eq_ignore_ascii_case(known.as_bytes()) {
        Some(SmolStr::new_static(known))
    } else {
        b3_name(name)
    }
}

/// One of the `x-b3-` family.
fn b3_name(name: &[u8]) -> Option<SmolStr> {
    let is_b3 = name.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-b3-"));
    is_b3.then(|| str::from_utf8(name).ok().map(StrExt::to_ascii_lowercase_smolstr)).flatten()
}

/// The lower-case name of a field that the user asked for.
pub(super) fn asked_name(name: &[u8], asked: &[String]) -> Option<SmolStr> {
    asked.iter().find(|asked| asked.as_bytes().eq_ignore_ascii_case(name)).map(SmolStr::from)
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
