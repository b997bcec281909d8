//! Which bytes may stand where (RFC 9110 section 5, RFC 9112 sections 2 to 5).

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let is_visible = matches!(byte as u8, 0x21..=0x7e);
        let is_blank = matches!(byte as u8, b' ' | b'\t');
        let is_separator = matches!(
            byte as u8,
            b'"' | b'('
                | b')'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'='
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'{'
                | b'}'
        );
        if is_visible && !is_separator {
            classes[byte] |= TOKEN;
        }
        if is_visible || is_blank || byte >= 0x80 {
            classes[byte] |= VALUE;
        }
        // No more than visible ASCII is allowed, but servers take raw UTF-8.
        if is_visible || byte >= 0x80 {
            classes[byte] |= TARGET;
        }
        byte += 1;
    }
    classes
}

pub(super) fn is_token(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// How many bytes at the start are of a token.
pub(super) fn token_run(bytes: &[u8]) -> usize {
    run(bytes, TOKEN)
}

/// How many bytes at the start are of a field value, blanks included.
pub(super) fn value_run(bytes: &[u8]) -> usize {
    run(bytes, VALUE)
}

/// How many bytes at the start are of a request target.
pub(super) fn target_run(bytes: &[u8]) -> usize {
    run(bytes, TARGET)
}

fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|byte| CLASSES[usize::from(*byte)] & class == 0).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_the_first_byte_of_another_class() {
        assert_eq!(token_run(b"x-b3_!|~: v"), 8);
        assert_eq!(value_run(b"a \t\xff,;=\x7f"), 7);
        assert_eq!(target_run("/ä?\"<> ".as_bytes()), 7);
        for byte in [b'\r', b'\n', 0, 0x1f, 0x7f] {
            assert_eq!([token_run(&[byte]), value_run(&[byte]), target_run(&[byte])], [0; 3]);
        }
    }
}
