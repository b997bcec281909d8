//! The client: keeps a given number of requests under way, each on a connection that is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::plan::{Call, Plan, Tag};

/// Of a whole run.
const PATIENCE: Duration = Duration::from_mins(5);

/// How often each request was sent: once, unless its connection was closed under it.
pub(crate) type Sent = BTreeMap<Tag, u32>;

/// What the service under test does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It follows the plan in the query.
    Application,
    /// It passes the request on.
    Proxy,
}

/// How to load a service.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) entry: Entry,
    pub(crate) seed: u64,
    pub(crate) requests: u32,
    pub(crate) at_once: u32,
}

impl Load {
    /// What the service is to do for a request.
    pub(crate) fn plan(&self, tag: Tag) -> Plan {
        match self.entry {
            Entry::Application => Plan::draw(self.seed, tag),
            Entry::Proxy => Plan::one_call(),
        }
    }

    /// Tags of all requests.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tag> {
        (0..self.requests).map(Tag)
    }

    /// Sends all requests; fails unless all are answered well.
    pub(crate) fn drive(self) -> Result<Sent> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let next = Arc::new(AtomicU32::new(0));
            let mut lanes = JoinSet::new();
            for _ in 0..self.at_once {
                lanes.spawn(self.lane(Arc::clone(&next)));
            }
            let all = async {
                let mut sent = Sent::new();
                while let Some(lane) = lanes.join_next().await {
                    sent.extend(lane??);
                }
                Ok(sent)
            };
            let within = tokio::time::timeout(PATIENCE, all).await;
            within.with_context(|| format!("requests still run after {} s", PATIENCE.as_secs()))?
        })
    }

    /// One request after the other, as long as there are any.
    async fn lane(self, next: Arc<AtomicU32>) -> Result<Sent> {
        let mut sent = Sent::new();
        let mut connection = None;
        loop {
            let tag = Tag(next.fetch_add(1, Ordering::Relaxed));
            if tag.0 >= self.requests {
                return Ok(sent);
            }
            let target = self.target(tag);
            let times = self.exchange(&mut connection, &target).await.with_context(|| target)?;
            sent.insert(tag, times);
        }
    }

    fn target(&self, tag: Tag) -> String {
        match self.entry {
            Entry::Application => format!("/plan/{}?plan={}", tag.0, self.plan(tag)),
            Entry::Proxy => Call { tag, number: 0 }.path(),
        }
    }

    /// Gives how often the request was sent.
    async fn exchange(
        &self,
        connection: &mut Option<SendRequest<Empty<Bytes>>>,
        target: &str,
    ) -> Result<u32> {
        let mut times = 0;
        // The server may close a kept connection just when the request goes out: then, as every
        // client does, it is sent again.
        let mut answered = None;
        if let Some(kept) = connection.take() {
            times += 1;
            answered = self.send(kept, target).await.ok();
        }
        let (sender, response) = if let Some(answered) = answered {
            answered
        } else {
            times += 1;
            self.send(self.connect().await?, target).await?
        };
        let (status, closes) = (response.status(), response.headers().get(CONNECTION).cloned());
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        if closes.is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"close")) {
            *connection = Some(sender);
        }
        Ok(times)
    }

    async fn send(
        &self,
        mut sender: SendRequest<Empty<Bytes>>,
        target: &str,
    ) -> Result<(SendRequest<Empty<Bytes>>, Response<Incoming>)> {
        let request = Request::get(target).header(HOST, self.address.to_string());
        sender.ready().await?;
        let response = sender.send_request(request.body(Empty::new())?).await?;
        Ok((sender, response))
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors show at the requests.
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::super::leaf::Leaf;
    use super::*;

    #[test]
    fn every_request_arrives_once() {
        let leaf = Leaf::start(1).unwrap();
        let load = Load {
            address: leaf.address(),
            entry: Entry::Proxy,
            seed: 1,
            requests: 40,
            at_once: 8,
        };
        let sent = load.drive().unwrap();
        assert_eq!(sent, load.tags().map(|tag| (tag, 1)).collect());
        let asked = leaf.stop().unwrap();
        assert_eq!(asked.len(), 40);
        assert!(asked.values().all(|times| *times == 1));
    }

    #[test]
    fn a_bad_answer_is_an_error() {
        let leaf = Leaf::start(1).unwrap();
        let load = Load {
            address: leaf.address(),
            entry: Entry::Application,
            seed: 1,
            requests: 1,
            at_once: 1,
        };
        load.drive().unwrap_err();
    }
}
