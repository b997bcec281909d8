//! What became of connections and heads, counted by name.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection, from some byte on, passes without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpaqueReason {
    /// It does not begin like HTTP: TLS and all other protocols.
    NotHttp,
    /// The server spoke first.
    ServerFirst,
    /// A `CONNECT` request: a tunnel follows.
    Connect,
    /// The server switched protocols, as it was asked to.
    Upgraded,
    /// The application sent on before the server had said whether it switches protocols.
    UpgradeUndecided,
    /// A response lasts until the connection ends, yet something was sent after its request.
    UntilClose,
    /// What should be a request line is none.
    RequestLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// A head or trailer section above the limit.
    TooLarge,
    /// A field name that is no token, has a blank after it, or imitates one that frames messages.
    FieldName,
    /// A field value with a control character.
    FieldValue,
    /// A folded line.
    Folded,
    /// A CR or LF on its own.
    LineEnd,
    /// `Content-Length` twice, or not a plain number.
    ContentLength,
    /// `Transfer-Encoding` twice, not plain `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding`.
    LengthAndCoding,
    /// Broken chunked coding.
    Chunk,
    /// More requests under way than are kept account of.
    Pipelined,
    /// HTTP/2, where it is not read.
    Http2,
    /// HTTP/2: a frame that breaks the rules of section 4 or 6 of RFC 9113.
    Http2Frame,
    /// HTTP/2: a header block that breaks the rules of RFC 7541, or is above a limit.
    Http2Fields,
}

/// Something that happens once for a connection or head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A connection was taken.
    Accepted,
    /// A connection ended in whatever way.
    Ended,
    /// A head was given a context.
    Injected,
    /// A head kept the context it had, or had none and was to have none.
    Kept,
    /// A head of HTTP/2 kept a context that was to be replaced, because it stands where it cannot be.
    /// Also counted as kept.
    Irreplaceable,
    /// A connection of HTTP/2.
    Http2,
    /// No answer in time; also counted as injected or kept.
    Overdue,
    /// The server refused the connection.
    ConnectRefused,
    /// Nobody answered the attempt to connect.
    ConnectTimedOut,
    /// No descriptor or memory was left to connect.
    ConnectNoResources,
    /// Any other failure to connect.
    ConnectFailed,
    /// The application was gone before the connection was made.
    ConnectAbandoned,
    /// A reset was passed on.
    Reset,
    /// Bytes were copied by the agent because no pipe could be had.
    NoPipe,
    /// The rest of the connection, in one or both directions, is not read.
    Opaque(OpaqueReason),
}

macro_rules! names {
    ($type:ident, $($variant:ident => $name:literal),+ $(,)?) => {
        impl $type {
            const ALL: &[Self] = &[$(Self::$variant),+];

            /// Stable name for reports and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

names! { OpaqueReason,
    NotHttp => "not_http",
    ServerFirst => "server_first",
    Connect => "connect",
    Upgraded => "upgraded",
    UpgradeUndecided => "upgrade_undecided",
    UntilClose => "until_close",
    RequestLine => "request_line",
    Version => "version",
    TooLarge => "too_large",
    FieldName => "field_name",
    FieldValue => "field_value",
    Folded => "folded",
    LineEnd => "line_end",
    ContentLength => "content_length",
    TransferEncoding => "transfer_encoding",
    LengthAndCoding => "length_and_coding",
    Chunk => "chunk",
    Pipelined => "pipelined",
    Http2 => "http2",
    Http2Frame => "http2_frame",
    Http2Fields => "http2_fields",
}

/// Events other than [`Event::Opaque`], which are stored after them.
const PLAIN: [(Event, &str); 14] = [
    (Event::Accepted, "accepted"),
    (Event::Ended, "ended"),
    (Event::Injected, "injected"),
    (Event::Kept, "kept"),
    (Event::Irreplaceable, "irreplaceable"),
    (Event::Http2, "http2"),
    (Event::Overdue, "overdue"),
    (Event::ConnectRefused, "connect_refused"),
    (Event::ConnectTimedOut, "connect_timed_out"),
    (Event::ConnectNoResources, "connect_no_resources"),
    (Event::ConnectFailed, "connect_failed"),
    (Event::ConnectAbandoned, "connect_abandoned"),
    (Event::Reset, "reset"),
    (Event::NoPipe, "no_pipe"),
];

impl Event {
    fn index(self) -> usize {
        match self {
            Self::Opaque(reason) => PLAIN.len() + reason as usize,
            plain => PLAIN.iter().position(|(event, _)| *event == plain).unwrap_or_default(),
        }
    }
}

/// Running counts of a [`Forwarder`](super::Forwarder).
#[derive(Debug)]
pub struct Counts([AtomicU64; PLAIN.len() + OpaqueReason::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; _])
    }
}

impl Counts {
    /// How often `event` happened.
    pub fn get(&self, event: Event) -> u64 {
        self.0[event.index()].load(Ordering::Relaxed)
    }

    /// Connections that are being served.
    pub fn open(&self) -> u64 {
        self.get(Event::Accepted).saturating_sub(self.get(Event::Ended))
    }

    /// Every event that happened, by name: `injected`, `opaque.not_http`.
    pub fn iter(&self) -> impl Iterator<Item = (Event, String, u64)> {
        let plain = PLAIN.iter().map(|(event, name)| (*event, (*name).to_owned()));
        let opaque = OpaqueReason::ALL
            .iter()
            .map(|reason| (Event::Opaque(*reason), format!("opaque.{}", reason.as_str())));
        plain
            .chain(opaque)
            .map(|(event, name)| (event, name, self.get(event)))
            .filter(|(_, _, count)| *count > 0)
    }

    pub(super) fn add(&self, event: Event) {
        self.0[event.index()].fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name, count) in self.iter() {
            write!(f, "{separator}{name}={count}")?;
            separator = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_count_of_its_own() {
        let counts = Counts::default();
        let opaque = OpaqueReason::ALL.iter().map(|reason| Event::Opaque(*reason));
        for event in PLAIN.iter().map(|(event, _)| *event).chain(opaque) {
            counts.add(event);
            assert_eq!(counts.get(event), 1, "{event:?}");
        }
        assert_eq!(counts.iter().count(), counts.0.len());
        assert_eq!(counts.open(), 0);
    }

    #[test]
    fn what_did_not_happen_is_not_named() {
        let counts = Counts::default();
        counts.add(Event::Injected);
        counts.add(Event::Opaque(OpaqueReason::NotHttp));
        assert_eq!(counts.to_string(), "injected=1 opaque.not_http=1");
    }
}
