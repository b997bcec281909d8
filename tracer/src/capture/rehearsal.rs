//! Tries the kernel half on a socket of the agent's own before relying on it: there are kernels
//! that load every program and create every map, and then refuse to keep state for a socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use tracer_ebpf::setting;

use super::loader::LoadError;
use super::losses::{self, CounterMap};

/// Sends and receives a byte and asks whether the connection's state could be kept.
pub(super) fn rehearse(object: &mut Ebpf) -> Result<(), LoadError> {
    let map_error = |map: &'static str| {
        move |source: aya::maps::MapError| LoadError::Map { map, source: Box::new(source) }
    };
    let mut set = |value: u32| -> Result<(), LoadError> {
        let mut settings: Array<&mut MapData, u32> = object
            .map_mut("SETTINGS")
            .ok_or(LoadError::Missing("SETTINGS"))?
            .try_into()
            .map_err(map_error("SETTINGS"))?;
        settings.set(setting::REHEARSAL, value, 0).map_err(map_error("SETTINGS"))
    };
    set(1)?;
    let exchanged = exchange_a_byte();
    set(0)?;
    exchanged.map_err(LoadError::Rehearsal)?;

    let counters: CounterMap<&MapData> = object
        .map("COUNTERS")
        .ok_or(LoadError::Missing("COUNTERS"))?
        .try_into()
        .map_err(map_error("COUNTERS"))?;
    let counters = losses::read(&counters);
    if counters.connection_table_full > 0 { Err(LoadError::NoState) } else { Ok(()) }
}

fn exchange_a_byte() -> std::io::Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"?")?;
    other.read_exact(&mut [0])
}
