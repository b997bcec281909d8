//! The exchange: one request and what became of it, as one end of a connection saw it.
//!
//! Protocol-neutral in its life cycle, with the HTTP facts that spans need. Must not know trace
//! ids, processes beyond their pid, or how bytes were captured.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::event::{ConnId, Endpoint, KernelTime, Pid, StreamOffset, Tid};

/// Which end of the exchange the observed process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It read the request and wrote the response.
    Server,
    /// It wrote the request and read the response.
    Client,
}

/// Identity of an exchange within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    /// The connection.
    pub conn: ConnId,
    /// Where in the request direction its first byte stands; both ends of a TCP connection agree.
    pub offset: StreamOffset,
}

/// HTTP version as the message head states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    endpoint: Endpoint,
    /// Written out once, since every span of the connection states it.
    address: Option<SmolStr>,
}

impl End {
    /// The end at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { address: endpoint.address().map(SmolStr::from), endpoint }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// As [`Endpoint::address`] has it.
    pub fn address(&self) -> Option<&SmolStr> {
        self.address.as_ref()
    }

    /// As [`Endpoint::port`] has it.
    pub fn port(&self) -> Option<u16> {
        self.endpoint.port()
    }
}

/// Both ends of a connection, shared by its exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The observed process's end.
    pub local: End,
    /// The other end.
    pub remote: End,
    /// As in [`Opened::unix_pair`](crate::event::Opened::unix_pair).
    pub unix_pair: (u64, u64),
}

/// A header field: its name in lower case, and its value.
pub type Field = (SmolStr, SmolStr);

/// What a web server tells of a request that it hands on by `FastCGI`, beside the request itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// `http` or `https`: how it was asked.
    pub scheme: Option<SmolStr>,
    /// The name it was asked by.
    pub server: Option<SmolStr>,
    /// The port it was asked at.
    pub port: Option<u16>,
    /// Who asked.
    pub client: Option<SmolStr>,
}

/// A request head, reduced to what spans need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Method token, spelled as sent.
    pub method: SmolStr,
    /// Request target, spelled as sent: origin, absolute, authority or asterisk form.
    pub target: SmolStr,
    /// Version of the request line; of one that was handed on, the version of the original.
    pub version: HttpVersion,
    /// The web server between, if this is `FastCGI`.
    pub gateway: Option<Box<Gateway>>,
    /// Header fields of interest in order, names lower-cased. Which ones are kept is decided by
    /// [`HeaderInterest`]; values are lossily converted to UTF-8 and trimmed of optional blanks.
    pub headers: Vec<Field>,
}

/// A final response head, reduced to what spans need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code, 200..=999 or 101.
    pub status: u16,
    /// Version of the status line.
    pub version: HttpVersion,
    /// Header fields of interest, as in [`RequestHead::headers`].
    pub headers: Vec<Field>,
}

/// Which header fields are kept of a head: those the conventions need (`host`, `user-agent`,
/// `forwarded`, `x-forwarded-*`, `content-type`, trace context) plus those the user asked for by
/// name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderInterest {
    /// Lower-case names kept of requests beside the built-in ones.
    pub request: Vec<String>,
    /// Lower-case names kept of responses.
    pub response: Vec<String>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Framing says the response is complete (or the protocol was switched by it).
    Complete,
    /// The peer or the network reset the connection first.
    Reset,
    /// The transport timed out first.
    TimedOut,
    /// The peer closed in an orderly way before the message was complete.
    ClosedByPeer,
    /// The observed process closed (or died) before the message was complete.
    ClosedLocally,
}

/// One request with its response, if one came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Identity.
    pub id: ExchangeId,
    /// Which end was observed.
    pub role: Role,
    /// Process that read (server) or wrote (client) the first request byte.
    pub pid: Pid,
    /// Thread that did so.
    pub tid: Tid,
    /// The connection's ends.
    pub ends: Arc<Ends>,
    /// The request.
    pub request: Arc<RequestHead>,
    /// The final response head, if one was seen.
    pub response: Option<ResponseHead>,
    /// First request byte read (server) or written (client).
    pub start: KernelTime,
    /// First byte of the final response, if one was seen.
    pub response_start: Option<KernelTime>,
    /// Last response byte written (server) or read (client), or the moment it failed.
    pub end: KernelTime,
    /// Body bytes of the request as transferred, when framing told.
    pub request_body: u64,
    /// Body bytes of the response as transferred.
    pub response_body: u64,
    /// How it ended.
    pub outcome: Outcome,
}
