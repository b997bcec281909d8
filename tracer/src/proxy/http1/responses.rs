//! What the server sends: responses, followed only to know which request they answer, and when the
//! connection stops being HTTP. Nothing is withheld or changed.

use std::collections::VecDeque;

use super::MAX_HEAD;
use super::body::{Body, Framed, Progress as BodyProgress};
use super::section::{Facts, Progress as SectionProgress, Section};
use super::start_line::{Method, Progress as LineProgress, Status, StatusLine};

/// Requests under way on one connection of which account is kept.
const MAX_PENDING: usize = 1024;

/// A request whose response has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Plain,
    Head,
    Connect,
    Upgrade,
}

impl Pending {
    pub(super) fn new(method: Method, upgrade: bool) -> Self {
        match method {
            Method::Connect => Self::Connect,
            _ if upgrade => Self::Upgrade,
            Method::Head => Self::Head,
            Method::Other => Self::Plain,
        }
    }
}

/// The server's side of a connection.
#[derive(Debug, Default)]
pub(super) struct Responses {
    state: State,
    pending: VecDeque<Pending>,
    status: Status,
    /// Bytes of the head that were taken.
    head: u64,
}

#[derive(Debug)]
enum State {
    Line(StatusLine),
    Fields(Section),
    Body(Body),
}

impl Default for State {
    fn default() -> Self {
        Self::Line(StatusLine::default())
    }
}

/// What a response means to the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The request to switch protocols was refused.
    Refused,
    /// What follows is another protocol.
    Switched {
        /// HTTP/2.
        h2c: bool,
    },
    /// The response lasts until the connection ends.
    Last,
    /// It can no longer be told which request is answered.
    Lost,
}

impl Responses {
    /// Whether no response has begun or is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && matches!(&self.state, State::Line(line) if line.is_before())
    }

    /// A request was passed on. False if there are too many.
    pub(super) fn expect(&mut self, request: Pending) -> bool {
        let has_room = self.pending.len() < MAX_PENDING;
        if has_room {
            self.pending.push_back(request);
        }
        has_room
    }

    /// Reads on until there is news; says how many bytes it took.
    pub(super) fn feed(&mut self, input: &[u8]) -> (usize, Option<News>) {
        let mut at = 0;
        while at < input.len() {
            let (used, news) = self.step(&input[at..]);
            at += used;
            if news.is_some() {
                return (at, news);
            }
        }
        (at, None)
    }

    /// How many of the next bytes are of no interest, whatever they are.
    pub(super) fn unread(&self) -> u64 {
        if let State::Body(body) = &self.state { body.unread() } else { 0 }
    }

    /// So many of them passed.
    pub(super) fn skip(&mut self, bytes: u64) {
        if let State::Body(body) = &mut self.state {
            body.skip(bytes);
        }
    }

    fn step(&mut self, input: &[u8]) -> (usize, Option<News>) {
        match &mut self.state {
            State::Line(line) => match line.feed(input) {
                _ if self.pending.is_empty() => (0, Some(News::Lost)),
                LineProgress::More => self.add_to_head(input.len()),
                LineProgress::End(used, status) => {
                    self.status = status;
                    self.state = State::Fields(Section::default());
                    self.add_to_head(used)
                }
                LineProgress::Broken(..) => (0, Some(News::Lost)),
            },
            State::Fields(section) => {
                let fed = section.feed(input);
                match fed.progress {
                    SectionProgress::More => self.add_to_head(fed.used),
                    SectionProgress::End(facts) => {
                        self.head = 0;
                        (fed.used, self.end_head(facts))
                    }
                    SectionProgress::Broken(_) => (fed.used, Some(News::Lost)),
                }
            }
            State::Body(body) => match body.feed(input) {
                BodyProgress::More => (input.len(), None),
                BodyProgress::End(used) => {
                    self.state = State::default();
                    (used, None)
                }
                BodyProgress::Broken(used, _) => (used, Some(News::Lost)),
            },
        }
    }

    fn add_to_head(&mut self, used: usize) -> (usize, Option<News>) {
        self.head += used as u64;
        (used, (self.head > MAX_HEAD).then_some(News::Lost))
    }

    fn end_head(&mut self, facts: Facts) -> Option<News> {
        self.state = State::default();
        let Status { code, is_http10 } = self.status;
        if matches!(code, 100 | 102..200) {
            return None;
        }
        let Some(request) = self.pending.pop_front() else {
            return Some(News::Lost);
        };
        let news = match (request, code) {
            (Pending::Upgrade, 101) => return Some(News::Switched { h2c: facts.h2c }),
            (_, 101) => return Some(News::Lost),
            (Pending::Connect, 200..300) => return Some(News::Switched { h2c: false }),
            (Pending::Upgrade, _) => Some(News::Refused),
            _ => None,
        };
        if request == Pending::Head || matches!(code, 204 | 304) {
            return news;
        }
        match Body::framed(facts, is_http10) {
            Ok(Framed::Empty) => news,
            Ok(Framed::Body(body)) => {
                self.state = State::Body(body);
                news
            }
            Ok(Framed::Unframed) => Some(News::Last),
            Err(_) => Some(News::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows from a stream of responses, at every split.
    fn news(requests: &[Pending], stream: &[u8]) -> Vec<News> {
        let run = |split: usize| {
            let mut responses = Responses::default();
            for request in requests {
                assert!(responses.expect(*request));
            }
            let mut all = Vec::new();
            for mut piece in [&stream[..split], &stream[split..]] {
                while !piece.is_empty() {
                    let (used, news) = responses.feed(piece);
                    all.extend(news);
                    if !matches!(news, None | Some(News::Refused)) {
                        return all;
                    }
                    piece = &piece[used..];
                }
            }
            all
        };
        let whole = run(stream.len());
        for split in 0..stream.len() {
            assert_eq!(run(split), whole, "split at {split}");
        }
        whole
    }

    #[test]
    fn responses_are_told_apart_by_what_they_answer() {
        use Pending::{Connect, Head, Plain, Upgrade};
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\0\0";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n";
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let switched = News::Switched { h2c: true };
        let rows: Vec<(&[Pending], String, Vec<News>)> = vec![
            (&[Plain, Plain, Plain], format!("{ok}{chunked}{early}{ok}"), vec![]),
            (&[Plain, Upgrade], format!("{ok}{switch}"), vec![switched]),
            (&[Upgrade, Plain], format!("{ok}{ok}"), vec![News::Refused]),
            (&[Upgrade], format!("{early}{switch}"), vec![switched]),
            (&[Plain], switch.to_owned(), vec![News::Lost]),
            (&[Connect], ok.to_owned(), vec![News::Switched { h2c: false }]),
            (&[Connect, Plain], format!("{}{ok}", ok.replace("200", "407")), vec![]),
            (&[Head, Upgrade], format!("{}{switch}", &ok[..ok.len() - 2]), vec![switched]),
            (&[Plain, Plain], format!("HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n{ok}"), vec![]),
            (&[Plain, Plain], format!("HTTP/1.1 204 \r\n\r\n{ok}"), vec![]),
            (&[Plain], "HTTP/1.0 200 OK\r\n\r\nall of it".to_owned(), vec![News::Last]),
            (&[Upgrade], "HTTP/1.0 200 OK\r\n\r\nall of it".to_owned(), vec![News::Last]),
            (&[Plain], format!("{ok}{ok}"), vec![News::Lost]),
            (&[], ok.to_owned(), vec![News::Lost]),
            (&[Plain, Plain], "SSH-2.0-x\r\n".to_owned(), vec![News::Lost]),
            (&[Plain, Plain], chunked.replace("2;x", "3;x"), vec![News::Lost]),
            (&[Plain], "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n".to_owned(), vec![News::Lost]),
            (
                &[Plain],
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                vec![News::Lost],
            ),
        ];
        for (requests, stream, expected) in rows {
            assert_eq!(news(requests, stream.as_bytes()), expected, "{requests:?} {stream:?}");
        }
    }

    #[test]
    fn no_more_requests_are_kept_than_the_limit() {
        let mut responses = Responses::default();
        for _ in 0..MAX_PENDING {
            assert!(responses.expect(Pending::Plain));
        }
        assert!(!responses.expect(Pending::Plain));
    }

    #[test]
    fn a_head_without_end_is_followed_no_further() {
        let head =
            [b"HTTP/1.1 200 OK\r\n", &b"A: b\r\n".repeat(MAX_HEAD as usize / 6)[..]].concat();
        let mut responses = Responses::default();
        assert!(responses.expect(Pending::Plain));
        assert_eq!(responses.feed(&head).1, Some(News::Lost));
    }
}
