//! Ends of Unix sockets, which no probe sees: the kernel's list of sockets is compared with the
//! connections known, about once a second and only while there are any.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::event::{
    CloseKind, Closed, ConnId, Data, Direction, Endpoint, KernelTime, Opened, Pid, StreamOffset,
};

/// Sockets watched at once; of more, the end is not noticed before the peer or the process ends.
const MAX_WATCHED: usize = 16_384;

/// Unix connections whose end is waited for.
#[derive(Debug, Default)]
pub(super) struct UnixSockets {
    watched: HashMap<ConnId, Watched>,
    unwatched: u64,
}

#[derive(Debug)]
struct Watched {
    opened: KernelTime,
    inode: u64,
    netns: u32,
    /// The process that used it last.
    pid: Option<Pid>,
    turns: u32,
    sent_end: Option<StreamOffset>,
    received_end: Option<StreamOffset>,
}

impl UnixSockets {
    /// Takes note of a new connection if it is one of ours.
    pub(super) fn on_opened(&mut self, opened: &Opened) {
        if !matches!(opened.local, Endpoint::Unix(_)) || opened.inode == 0 {
            return;
        }
        if self.watched.len() >= MAX_WATCHED {
            self.unwatched += 1;
            return;
        }
        let watched = Watched {
            opened: opened.time,
            inode: opened.inode,
            netns: opened.netns,
            pid: None,
            turns: 0,
            sent_end: None,
            received_end: None,
        };
        self.watched.insert(opened.conn, watched);
    }

    /// Takes note of how far a connection has come.
    pub(super) fn on_data(&mut self, data: &Data<'_>) {
        if self.watched.is_empty() {
            return;
        }
        if let Some(watched) = self.watched.get_mut(&data.conn) {
            watched.pid = Some(data.pid);
            watched.turns = data.turn;
            let end = Some(data.offset.advance(data.len));
            match data.direction {
                Direction::Send => watched.sent_end = end,
                Direction::Receive => watched.received_end = end,
            }
        }
    }

    /// How many connections were not watched for lack of room.
    pub(super) fn unwatched(&self) -> u64 {
        self.unwatched
    }

    /// Forgets the connections whose socket was gone at the time of the look and says so of each. To
    /// be called when the ring was drained after it: what was sent before the look is then reported
    /// first. Connections that were opened since it cannot have shown.
    pub(super) fn take_ended(&mut self, look: &Look, now: KernelTime) -> Vec<Closed> {
        let ended: Vec<ConnId> = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.opened < now && look.shows_gone(watched))
            .map(|(conn, _)| *conn)
            .collect();
        ended
            .into_iter()
            .filter_map(|conn| {
                let watched = self.watched.remove(&conn)?;
                Some(Closed {
                    conn,
                    time: now,
                    kind: CloseKind::Gone,
                    errno: 0,
                    turns: watched.turns,
                    sent_end: watched.sent_end,
                    received_end: watched.received_end,
                })
            })
            .collect()
    }

    /// Looks at the lists of the network namespaces concerned.
    pub(super) fn look(&self) -> Look {
        let mut look = Look::default();
        let own_netns = fs::metadata("/proc/self/ns/net").map_or(0, |ns| ns.ino() as u32);
        for watched in self.watched.values() {
            if look.inodes.contains_key(&watched.netns) {
                continue;
            }
            let list = if watched.netns == own_netns {
                fs::read_to_string("/proc/net/unix")
            } else {
                // Through any process that is (still) in that namespace.
                match watched.pid {
                    Some(Pid(pid)) => fs::read_to_string(format!("/proc/{pid}/net/unix")),
                    None => continue,
                }
            };
            if let Ok(list) = list {
                look.inodes.insert(watched.netns, parse(&list));
            }
        }
        look
    }

    /// Whether there is anything to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }
}

/// Which Unix sockets existed, by network namespace.
#[derive(Debug, Default)]
pub(super) struct Look {
    inodes: HashMap<u32, HashSet<u64>>,
}

impl Look {
    /// A namespace that could not be looked into tells nothing, unless the process is gone too.
    fn shows_gone(&self, watched: &Watched) -> bool {
        match self.inodes.get(&watched.netns) {
            Some(inodes) => !inodes.contains(&watched.inode),
            None => {
                watched.pid.is_some_and(|Pid(pid)| fs::metadata(format!("/proc/{pid}")).is_err())
            }
        }
    }
}

/// Inodes of a `/proc/net/unix` list: the seventh column.
fn parse(list: &str) -> HashSet<u64> {
    list.lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().nth(6)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn inode(stream: &UnixStream) -> u64 {
        fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().ino()
    }

    fn opened(conn: u64, inode: u64) -> Opened {
        Opened {
            conn: ConnId(conn),
            time: KernelTime(1),
            local: Endpoint::Unix(String::new()),
            remote: Endpoint::Unix("/run/x".to_owned()),
            netns: fs::metadata("/proc/self/ns/net").unwrap().ino() as u32,
            unix_pair: (1, 2),
            inode,
        }
    }

    #[test]
    fn only_closed_sockets_end() {
        let (kept, closed) = UnixStream::pair().unwrap();
        let mut sockets = UnixSockets::default();
        sockets.on_opened(&opened(1, inode(&kept)));
        sockets.on_opened(&opened(2, inode(&closed)));
        assert_eq!(sockets.take_ended(&sockets.look(), KernelTime(5)), []);
        drop(closed);
        let ended = sockets.take_ended(&sockets.look(), KernelTime(6));
        assert_eq!(ended.iter().map(|closed| closed.conn).collect::<Vec<_>>(), [ConnId(2)]);
        assert_eq!(sockets.take_ended(&sockets.look(), KernelTime(7)), []);
    }

    #[test]
    fn a_socket_that_is_newer_than_the_look_has_not_ended() {
        let (early, _peer) = UnixStream::pair().unwrap();
        let mut sockets = UnixSockets::default();
        sockets.on_opened(&opened(2, inode(&early)));
        let look = sockets.look();
        let (late, _peer) = UnixStream::pair().unwrap();
        sockets.on_opened(&Opened { time: KernelTime(9), ..opened(1, inode(&late)) });
        assert_eq!(sockets.take_ended(&look, KernelTime(8)), []);
        drop(late);
        assert_eq!(sockets.take_ended(&sockets.look(), KernelTime(10)).len(), 1);
    }

    #[test]
    fn there_is_a_bound() {
        let mut sockets = UnixSockets::default();
        for conn in 0..=MAX_WATCHED as u64 {
            sockets.on_opened(&opened(conn, conn + 1));
        }
        assert_eq!(sockets.unwatched(), 1);
    }
}
