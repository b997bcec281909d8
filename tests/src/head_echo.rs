//! A server that tells its clients what reached it, in this process: nobody traces it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Answers each request, which has to be without a body, with its head as it came.
pub struct HeadEcho {
    address: SocketAddr,
}

impl HeadEcho {
    /// Listens at a free port of loopback until this process ends.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An error is the client's to see.
                thread::spawn(move || answer(&stream).ok());
            }
        });
        Ok(Self { address })
    }

    /// Where it is found.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(stream: &TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream);
    let mut head = Vec::new();
    while lines.read_until(b'\n', &mut head)? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            let length = head.len();
            write!(&*stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
            (&*stream).write_all(&head)?;
            head.clear();
        }
    }
    Ok(())
}
