//! Event loops whose callbacks the kernel half can tell apart by their callers: those of libuv, in
//! a program that keeps frame pointers, as Node's own builds do.
//!
//! In one that does not, no callers are found and nothing is told apart.

use object::{Object, ObjectSymbol as _};

/// What a program exports that has libuv in itself, and what one imports that has not: the entry
/// point of Node as a library.
const LOOPS: [&str; 2] = ["uv_run", "_ZN4node5StartEiPPc"];

/// Whether a program runs such a loop.
pub(super) fn has_callbacks<'data>(object: &impl Object<'data>) -> bool {
    object.dynamic_symbols().any(|symbol| symbol.name().is_ok_and(|name| LOOPS.contains(&name)))
}
