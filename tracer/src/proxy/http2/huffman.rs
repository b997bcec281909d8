//! The static Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), decoding only.
//!
//! The code is canonical: the lengths of its codes say all about it.

/// Bits of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const SHORTEST: usize = 5;
/// The end-of-string symbol, which must not be sent, alone has codes with so many ones.
const LONGEST: usize = 30;

/// Codes of one length: consecutive numbers.
#[derive(Clone, Copy)]
struct Row {
    /// One above the last, followed by zeros up to 32 bits.
    end: u32,
    /// The first.
    first: u32,
    /// Where its symbols begin among all in order.
    symbols: usize,
}

static ROWS: [Row; LONGEST + 1] = rows();
static SYMBOLS: [u8; 256] = symbols();

const fn rows() -> [Row; LONGEST + 1] {
    let mut rows = [Row { end: 0, first: 0, symbols: 0 }; LONGEST + 1];
    let (mut code, mut symbols, mut length) = (0, 0, SHORTEST);
    while length <= LONGEST {
        let mut count = 0;
        let mut byte = 0;
        while byte < 256 {
            count += (LENGTHS[byte] as usize == length) as u32;
            byte += 1;
        }
        rows[length] = Row { end: (code + count) << (32 - length), first: code, symbols };
        symbols += count as usize;
        code = (code + count) << 1;
        length += 1;
    }
    rows
}

const fn symbols() -> [u8; 256] {
    let mut symbols = [0; 256];
    let (mut at, mut length) = (0, SHORTEST);
    while length <= LONGEST {
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == length {
                symbols[at] = byte as u8;
                at += 1;
            }
            byte += 1;
        }
        length += 1;
    }
    symbols
}

/// Decodes a string, byte by byte; `None` if it is not coded by the rules.
pub(super) fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    // The next bits, from the highest on, and how many there are.
    let (mut bits, mut len) = (0_u64, 0);
    let mut rest = coded.iter();
    loop {
        while len <= 32 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - len);
            len += 8;
        }
        let next = (bits >> 32) as u32;
        let found = (SHORTEST..=LONGEST).find(|length| next < ROWS[*length].end);
        let Some(length) = found.filter(|length| *length <= len) else {
            // What is left over is the beginning of the end-of-string symbol, less than a byte.
            let is_padding = len < 8 && (next | u32::MAX >> len) == u32::MAX;
            return is_padding.then_some(());
        };
        let row = &ROWS[length];
        each(SYMBOLS[row.symbols + ((next >> (32 - length)) - row.first) as usize]);
        bits <<= length;
        len -= length;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decode(coded, |byte| bytes.push(byte))?;
        Some(bytes)
    }

    /// The codes themselves, made from the rows the other way round.
    fn coded(bytes: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in bytes {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let place = SYMBOLS.iter().position(|symbol| symbol == byte).unwrap();
            let row = ROWS[length];
            let code = row.first + (place - row.symbols) as u32;
            write!(bits, "{code:0length$b}").unwrap();
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let octets = bits.as_bytes().chunks(8);
        octets.map(|bits| u8::from_str_radix(str::from_utf8(bits).unwrap(), 2).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_specification() {
        // RFC 7541 appendix C.4 and C.6.
        for (bytes, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ] {
            assert_eq!(decoded(bytes).unwrap(), text.as_bytes());
            assert_eq!(coded(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn every_byte_has_a_code() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&coded(&all)), Some(all));
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn bad_padding_and_the_end_of_string_are_refused() {
        // "0" and zeros; "0" and a byte of padding; the end-of-string symbol.
        for coded in [&b"\x00\xff\xff"[..], b"\x07\xff", b"\xff\xff\xff\xff", b"\xff", b"\x06"] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
    }
}
