//! The kernel half: which bytes moved on which socket, for whom, and when.
//!
//! Two interchangeable sources of the same records, [`sockets`] (socket tracepoints) and
//! [`syscalls`] (system-call exit), and [`lifecycle`] for processes and connection ends. On
//! request, `redirect_*` sends connections to the agent's proxy.
//! Knows nothing of HTTP beyond "could these be the first bytes of a message".

#![no_std]
#![no_main]
#![allow(unreachable_pub, reason = "programs are found by name in the object file")]

mod asyncio;
mod callbacks;
mod emit;
mod kernel;
mod lifecycle;
mod maps;
mod offsets;
mod payload;
mod processes;
mod redirect_alarm;
mod redirect_answers;
mod redirect_connect;
mod redirect_handshake;
mod redirect_maps;
mod sniff;
mod sockets;
mod state;
mod syscalls;
mod tasks;
mod transfer;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier admits no program that could get here.
    loop {}
}

/// Some helpers the programs call are reserved for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
