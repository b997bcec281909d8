//! A server that tells its clients how it sees them, in this process: nobody traces it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Answers each line with the address and port of who sent it.
pub struct Mirror {
    address: SocketAddr,
}

impl Mirror {
    /// Listens at an address; port 0 stands for a free one. It does so until this process ends.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot bind {address}"))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An error is the client's to see.
                thread::spawn(move || answer(&stream).ok());
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens at.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

fn answer(stream: &TcpStream) -> Result<()> {
    let seen = stream.peer_addr()?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        (&*stream).write_all(format!("{} {}\n", seen.ip(), seen.port()).as_bytes())?;
        line.clear();
    }
    Ok(())
}
