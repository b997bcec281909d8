//! What becomes of the application's bytes, in whatever version of HTTP.

use super::OpaqueReason;

/// What became of some bytes of the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// So many bytes were taken; what of them passes was added to the output.
    Taken(usize),
    /// The first so many bytes pass as they are.
    Pass(usize),
    /// So many bytes were taken, and with them a head is complete but for its context. It has to be
    /// settled before more is given.
    Head(usize),
    /// The first so many bytes pass as they are, and complete the preface of HTTP/2.
    Http2(usize),
    /// No byte was taken, and all further ones pass as they are, behind the output.
    Opaque(OpaqueReason),
}
