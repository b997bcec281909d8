//! Could these be the first bytes of a message of a protocol the agent knows?
//!
//! Errs on the side of yes: a yes costs some copied bytes until the agent says no, a wrong no
//! would lose spans.

/// Bytes looked at.
pub(crate) const SNIFF: usize = 24;

/// Token characters of RFC 9110 section 5.6.2, as a bit set over ASCII.
const TOKEN: [u64; 2] = token_characters();

const fn token_characters() -> [u64; 2] {
    let mut set = [0u64; 2];
    let mut byte = 0usize;
    while byte < 128 {
        let b = byte as u8;
        let is_token = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if is_token {
            set[byte >> 6] |= 1 << (byte & 63);
        }
        byte += 1;
    }
    set
}

/// A method and a target, or `HTTP/`, or a prefix of either; empty lines first are allowed.
#[inline(always)]
pub(crate) fn may_be_http(bytes: &[u8; SNIFF], len: usize) -> bool {
    let first = bytes[0];
    if first == b'\r' || first == b'\n' {
        return true;
    }
    if first == b'H' && bytes[1] == b'T' && bytes[2] == b'T' && bytes[3] == b'P' && len >= 5 {
        return bytes[4] == b'/';
    }
    let mut i = 0;
    while i < SNIFF {
        if i >= len {
            return true;
        }
        let byte = bytes[i];
        if byte == b' ' {
            if i == 0 {
                return false;
            }
            if i + 1 >= len || i + 1 >= SNIFF {
                return true;
            }
            let target = bytes[i + 1];
            return target == b'/' || target == b'*' || target | 0x20 == b'h' || first == b'C';
        }
        if byte >= 128 {
            return false;
        }
        let word = if byte < 64 { TOKEN[0] } else { TOKEN[1] };
        if word & (1 << (byte & 63)) == 0 {
            return false;
        }
        i += 1;
    }
    // A method of more than SNIFF characters: none in use.
    false
}

/// The header of a `FastCGI` record: version 1, a known type, nothing in the reserved byte; of the
/// record that begins a request also its length.
#[inline(always)]
pub(crate) fn may_be_fastcgi(bytes: &[u8; SNIFF], len: usize) -> bool {
    if bytes[0] != 1 || len < 2 {
        return bytes[0] == 1;
    }
    let kind = bytes[1];
    if kind == 0 || kind > 11 || (len > 7 && bytes[7] != 0) {
        return false;
    }
    kind != 1 || len < 6 || (bytes[4] == 0 && bytes[5] == 8)
}
