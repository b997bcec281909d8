//! The transparent proxy: requests of traced processes get the one header that carries their trace
//! to another host, and not a byte more.
//!
//! [`Forwarder`] serves connections that were redirected to the agent: it connects to where the
//! application meant to, passes bytes both ways, and writes a trace context into the head of each
//! request. Whose context that is, is asked of [`Contexts`]. `http1` and `http2` find the heads and
//! know no sockets; `relay` moves bytes and knows no protocol. Whatever is not understood with
//! certainty passes unchanged. Must not know how connections come to be redirected, nor spans.

mod contexts;
mod counts;
mod fed;
mod formats;
mod forwarder;
pub mod heads;
pub mod http1;
pub mod http2;
mod inspect;
mod linked;
mod pipes;
pub mod redirect;
mod relay;

pub use contexts::{Answer, Captured, Contexts, NewRoots, Question, Verdict, Void};
pub use counts::{Counts, Event, OpaqueReason};
pub use fed::Fed;
pub use formats::{Formats, NoFormat};
pub(crate) use forwarder::LOCAL_BUFFER;
pub use forwarder::{Accepted, Forwarder, OpenSocket, Options, SameNamespace};
pub use heads::B3;
pub use linked::Linked;
use pipes::{MOST as MOST_PIPES, limit as limit_pipes};
