//! Which stream sockets a process holds, out of `/proc`: for what was there before the agent.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};

use super::procfs::ProcessDir;

/// Most sockets read of one network namespace.
const MAX_SOCKETS: usize = 1 << 20;
/// Most bytes read of one table.
const MAX_TABLE: u64 = 256 * 1024 * 1024;

/// One stream socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Socket {
    /// Accepts TCP connections on this port.
    Listening(u16),
    /// One end of a TCP connection.
    Connected {
        /// Its own port.
        port: u16,
        /// Whether the port is one that somebody in the namespace listens on.
        served: bool,
        /// The other end's port, if that is one that collectors of telemetry listen on.
        collector: Option<u16>,
    },
    /// Accepts connections on this path (`@name` in the abstract space).
    UnixListening(String),
    /// One end of a Unix stream connection.
    UnixConnected,
}

/// Registered ports of OTLP over gRPC and over HTTP.
const COLLECTORS: [u16; 2] = [4317, 4318];

impl Socket {
    /// The port that the process serves by this socket.
    pub(super) fn served_port(&self) -> Option<u16> {
        match *self {
            Self::Listening(port) | Self::Connected { port, served: true, .. } => Some(port),
            _ => None,
        }
    }
}

/// The socket tables of the namespaces met so far, as they stood when first met.
#[derive(Debug, Default)]
pub(super) struct SocketTables {
    by_namespace: HashMap<u32, HashMap<u64, Socket>>,
}

impl SocketTables {
    /// The stream sockets of a process, in order and without repetitions.
    pub(super) fn of(&mut self, process: &ProcessDir) -> Vec<Socket> {
        let Some(namespace) = process.network_namespace() else { return Vec::new() };
        let table = self.by_namespace.entry(namespace).or_insert_with(|| read_table(process));
        let mut sockets: Vec<Socket> =
            process.socket_inodes().filter_map(|inode| table.get(&inode).cloned()).collect();
        sockets.sort_unstable();
        sockets.dedup();
        sockets
    }
}

fn read_table(process: &ProcessDir) -> HashMap<u64, Socket> {
    let mut sockets = HashMap::new();
    for name in ["tcp", "tcp6"] {
        sockets.extend(lines(process, name).filter_map(|line| tcp(&line)).take(MAX_SOCKETS));
    }
    let listening: HashSet<u16> = sockets
        .values()
        .filter_map(|socket| match *socket {
            Socket::Listening(port) => Some(port),
            _ => None,
        })
        .collect();
    for socket in sockets.values_mut() {
        if let Socket::Connected { port, served, .. } = socket {
            *served = listening.contains(port);
        }
    }
    sockets.extend(lines(process, "unix").filter_map(|line| unix(&line)).take(MAX_SOCKETS));
    sockets
}

/// The lines of a table without its heading.
fn lines(process: &ProcessDir, table: &str) -> impl Iterator<Item = String> + use<> {
    let file = process.network_table(table);
    let lines = file.into_iter().flat_map(|file| BufReader::new(file.take(MAX_TABLE)).split(b'\n'));
    // Paths of Unix sockets need not be UTF-8.
    lines.map_while(Result::ok).skip(1).map(|line| String::from_utf8_lossy(&line).into_owned())
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, in hexadecimal.
fn tcp(line: &str) -> Option<(u64, Socket)> {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    let mut fields = line.split_ascii_whitespace();
    let port = |address: &str| {
        let (_, port) = address.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let local = port(fields.nth(1)?)?;
    let collector = port(fields.next()?).filter(|port| COLLECTORS.contains(port));
    let socket = match fields.next()? {
        LISTEN => Socket::Listening(local),
        TIME_WAIT => return None,
        _ => Socket::Connected { port: local, served: false, collector },
    };
    Some((fields.nth(5)?.parse().ok()?, socket))
}

/// `Num RefCount Protocol Flags Type St Inode [Path]`, in hexadecimal but for the inode.
fn unix(line: &str) -> Option<(u64, Socket)> {
    const STREAM: &str = "0001";
    const CONNECTED: &str = "03";
    const ACCEPTS: u32 = 0x1_0000;
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let kind = fields.next()?;
    let state = fields.next()?;
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or_default();
    match kind {
        STREAM if flags & ACCEPTS != 0 => Some((inode, Socket::UnixListening(path.to_owned()))),
        STREAM if state == CONNECTED => Some((inode, Socket::UnixConnected)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::event::Pid;
    use crate::target::HostFs;
    use crate::target::testing::{FakeHost, tcp_line};

    #[test]
    fn sockets_of_this_very_process() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let client_port = client.local_addr().expect("connected").port();
        let (_server, _) = listener.accept().expect("accepts");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("socket");
        let _unix = UnixListener::bind(&path).expect("binds");

        let own = HostFs::default().process(Pid(std::process::id()));
        let sockets = SocketTables::default().of(&own);
        assert!(sockets.contains(&Socket::Listening(port)));
        let connected = |port, served| Socket::Connected { port, served, collector: None };
        assert!(sockets.contains(&connected(port, true)));
        assert!(sockets.contains(&connected(client_port, false)));
        let path = path.to_str().expect("UTF-8").to_owned();
        assert!(sockets.contains(&Socket::UnixListening(path)));
    }

    #[test]
    fn namespaces_are_kept_apart() {
        let host = FakeHost::new();
        host.process(7).network(1, &tcp_line(80, "0A", 5), "").socket(3, 5);
        host.process(8).network(2, &tcp_line(81, "0A", 5), "").socket(3, 5).socket(4, 99);
        let mut tables = SocketTables::default();
        assert_eq!(tables.of(&host.fs().process(Pid(7))), [Socket::Listening(80)]);
        assert_eq!(tables.of(&host.fs().process(Pid(8))), [Socket::Listening(81)]);
        assert_eq!(tables.of(&host.fs().process(Pid(9))), []);
    }

    #[test]
    fn connections_to_collectors_are_noted() {
        let line = |remote| format!("0: 0100007F:9C40 0100007F:{remote} 01 0:0 00:0 0 0 0 5 1");
        for (remote, collector) in [("10DD", Some(4317)), ("10DE", Some(4318)), ("0050", None)] {
            let socket = Socket::Connected { port: 40_000, served: false, collector };
            assert_eq!(tcp(&line(remote)), Some((5, socket)));
        }
    }

    #[test]
    fn strange_lines_are_no_sockets() {
        for line in ["", "x", "0: 0:zz 0:0 0A 0 0 0 0 0 5", "0: 0:50 0:0 0A", "0: 0:50 0:0 06"] {
            assert_eq!(tcp(line), None, "{line}");
        }
        let datagram = "0000: 00000002 00000000 00000000 0002 01 5 /run/x";
        assert_eq!(unix(datagram), None);
        let listening = "0000: 00000002 00000000 00010000 0001 01 5 @abstract";
        assert_eq!(unix(listening), Some((5, Socket::UnixListening("@abstract".into()))));
    }
}
