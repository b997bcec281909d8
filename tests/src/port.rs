//! TCP ports on loopback.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// Below what the kernel hands out by itself (from 32,768 on, unless configured otherwise): nobody
/// who merely connects takes a port from here.
const RANGE: Range<u16> = 12_000..32_000;
const ATTEMPTS: usize = 1_000;

/// A port that nobody listens on now, for programs that cannot be given a listening socket. The
/// same one is not given out again soon, and another process hardly draws it.
pub fn free() -> Result<u16> {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let drawn = || RandomState::new().hash_one(std::process::id()) as u16;
    let next = NEXT.get_or_init(|| AtomicU16::new(drawn()));
    (0..ATTEMPTS)
        .map(|_| RANGE.start + next.fetch_add(1, Ordering::Relaxed) % RANGE.len() as u16)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free loopback port")
}

/// Whether somebody accepts connections at this address.
pub fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// The loopback address of a port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
