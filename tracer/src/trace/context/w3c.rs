//! W3C Trace Context Level 2: `traceparent` and `tracestate`.

use super::{
    OPTIONAL_WHITESPACE, RemoteContext, SpanId, TraceFlags, TraceId, TraceState, lower_hex,
    only_value, values,
};
use crate::exchange::Field;

/// Members a `tracestate` may have (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Bytes of a member's key (section 3.3.1.3.1).
const MAX_KEY: usize = 256;
/// Bytes of a member's value (section 3.3.1.3.2).
const MAX_VALUE: usize = 256;
/// `00-` trace id `-` span id `-` flags.
const VERSION_00_LEN: usize = 55;

/// The context of a request with exactly one valid `traceparent`.
pub(super) fn extract(headers: &[Field]) -> Option<RemoteContext> {
    let (trace, span, flags) = parse_parent(only_value(headers, "traceparent")?)?;
    // A bad tracestate costs only itself; without traceparent it means nothing.
    let state = parse_state(values(headers, "tracestate")).unwrap_or_default();
    Some(RemoteContext { trace, span, flags, state })
}

fn parse_parent(value: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    // Versions after 00 may append fields; the first four keep their form.
    let head = value.get(..VERSION_00_LEN)?;
    let rest = &value[VERSION_00_LEN..];
    let mut fields = head.split('-');
    let [version] = lower_hex(fields.next()?)?;
    let trace = TraceId::from_hex(fields.next()?)?;
    let span = SpanId::from_hex(fields.next()?)?;
    let [flags] = lower_hex(fields.next()?)?;
    let well_formed = match version {
        0x00 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    (fields.next().is_none() && well_formed).then_some((trace, span, TraceFlags(flags).known()))
}

/// Joins the members of all `tracestate` headers; `None` if any is malformed or there are too
/// many, in which case all of them are to be dropped.
fn parse_state<'a>(values: impl Iterator<Item = &'a str>) -> Option<TraceState> {
    let mut joined = String::new();
    let mut members = 0;
    for member in values.flat_map(|value| value.split(',')) {
        let member = member.trim_matches(OPTIONAL_WHITESPACE);
        if member.is_empty() {
            continue;
        }
        members += 1;
        if members > MAX_MEMBERS || !is_member(member) {
            return None;
        }
        if members > 1 {
            joined.push(',');
        }
        joined.push_str(member);
    }
    Some(TraceState(joined.into()))
}

fn is_member(member: &str) -> bool {
    member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
}

fn is_key(key: &str) -> bool {
    let key = key.as_bytes();
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= MAX_KEY
        && key.first().is_some_and(first)
        && key.iter().all(|byte| first(byte) || b"_-*/@".contains(byte))
}

/// Printable ASCII without comma and equals sign; the trimmed end is never a space.
fn is_value(value: &str) -> bool {
    (1..=MAX_VALUE).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::super::extract;
    use crate::exchange::Field;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&str, &str)]) -> Vec<Field> {
        fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    /// Either the flags that come out for the one trace used here, or nothing.
    fn parent(values: &[&str]) -> Option<u8> {
        let fields: Vec<_> = values.iter().map(|value| ("traceparent", *value)).collect();
        extract(&headers(&fields)).map(|context| {
            assert_eq!(context.trace.to_string(), TRACE);
            assert_eq!(context.span.to_string(), SPAN);
            context.flags.0
        })
    }

    #[test]
    fn every_rule_of_traceparent() {
        let make = |version: &str, trace: &str, span: &str, flags: &str| {
            format!("{version}-{trace}-{span}-{flags}")
        };
        let zero_trace = "0".repeat(32);
        let upper = TRACE.to_uppercase();
        #[rustfmt::skip]
        let rows: Vec<(&str, Vec<String>, Option<u8>)> = vec![
            ("version 00", vec![make("00", TRACE, SPAN, "01")], Some(1)),
            ("not sampled", vec![make("00", TRACE, SPAN, "00")], Some(0)),
            ("random flag kept", vec![make("00", TRACE, SPAN, "03")], Some(3)),
            ("random without sampled kept", vec![make("00", TRACE, SPAN, "02")], Some(2)),
            ("unknown flags cleared", vec![make("00", TRACE, SPAN, "ff")], Some(3)),
            ("absent", vec![], None),
            ("empty", vec![String::new()], None),
            ("duplicated", vec![make("00", TRACE, SPAN, "01"); 2], None),
            ("two in one header", vec![format!("{VALID},{VALID}")], None),
            ("version 00 with more", vec![format!("{VALID}-what")], None),
            ("version 00 with trailing dash", vec![format!("{VALID}-")], None),
            ("version cc", vec![make("cc", TRACE, SPAN, "01")], Some(1)),
            ("version cc with a field more", vec![make("cc", TRACE, SPAN, "01-what-the-future")], Some(1)),
            ("version cc with trailing dash", vec![make("cc", TRACE, SPAN, "01-")], Some(1)),
            ("version cc run on", vec![make("cc", TRACE, SPAN, "01.what")], None),
            ("version ff", vec![make("ff", TRACE, SPAN, "01")], None),
            ("version illegal", vec![make(".0", TRACE, SPAN, "01")], None),
            ("version upper-case", vec![make("CC", TRACE, SPAN, "01")], None),
            ("version too long", vec![make("000", TRACE, SPAN, "01")], None),
            ("version too short", vec![make("0", TRACE, SPAN, "01")], None),
            ("trace id zero", vec![make("00", &zero_trace, SPAN, "01")], None),
            ("trace id illegal", vec![make("00", &TRACE.replace('a', "."), SPAN, "01")], None),
            ("trace id upper-case", vec![make("00", &upper, SPAN, "01")], None),
            ("trace id too long", vec![make("00", &format!("{TRACE}0"), SPAN, "01")], None),
            ("trace id too short", vec![make("00", &TRACE[1..], SPAN, "01")], None),
            ("span id zero", vec![make("00", TRACE, &"0".repeat(16), "01")], None),
            ("span id illegal", vec![make("00", TRACE, &SPAN.replace('b', "."), "01")], None),
            ("span id too long", vec![make("00", TRACE, &format!("{SPAN}0"), "01")], None),
            ("span id too short", vec![make("00", TRACE, &SPAN[1..], "01")], None),
            ("flags illegal", vec![make("00", TRACE, SPAN, ".0")], None),
            ("flags upper-case", vec![make("00", TRACE, SPAN, "0A")], None),
            ("flags too long", vec![make("00", TRACE, SPAN, "001")], None),
            ("flags too short", vec![make("00", TRACE, SPAN, "1")], None),
            ("dashes misplaced", vec![VALID.replacen('-', "_", 1)], None),
            ("blanks around", vec![format!(" \t{VALID}\t ")], Some(1)),
            ("blank inside", vec![VALID.replacen('-', " -", 1)], None),
            ("not ASCII at the cut", vec![format!("{}ä", &VALID[..54])], None),
        ];
        for (rule, values, expected) in rows {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            assert_eq!(parent(&values), expected, "{rule}");
        }
    }

    #[test]
    fn every_rule_of_tracestate() {
        let members = |count: usize| {
            (0..count).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
        };
        let (members_32, members_33) = (members(32), members(33));
        let key_256 = format!("{}=1", "z".repeat(256));
        let key_257 = format!("{}=1", "z".repeat(257));
        let value_256 = format!("a={}", "v".repeat(256));
        let value_257 = format!("a={}", "v".repeat(257));
        let key_characters = "0abcdefghijklmnopqrstuvwxyz0123456789_-*/@=1";
        let value_characters: String =
            "a=".chars().chain((' '..='~').filter(|c| !",=".contains(*c))).collect();
        #[rustfmt::skip]
        let rows: Vec<(&str, Vec<&str>, &str)> = vec![
            ("one header", vec!["foo=1,bar=2"], "foo=1,bar=2"),
            ("headers combine in order", vec!["foo=1", "bar=2", "rojo=1,congo=2"], "foo=1,bar=2,rojo=1,congo=2"),
            ("empty header", vec![""], ""),
            ("empty header beside another", vec!["foo=1", ""], "foo=1"),
            ("empty header before another", vec!["", "foo=1"], "foo=1"),
            ("empty members", vec!["foo=1,,,bar=2,"], "foo=1,bar=2"),
            ("duplicated keys stay", vec!["foo=1,foo=2"], "foo=1,foo=2"),
            ("blanks and tabs around members", vec!["foo=1 \t , \tbar=2 "], "foo=1,bar=2"),
            ("blank before the value belongs to it", vec!["foo= 1"], "foo= 1"),
            ("blank after the key", vec!["foo =1"], ""),
            ("all key characters", vec![key_characters], key_characters),
            ("all value characters", vec![&value_characters], &value_characters),
            ("key may begin with a digit", vec!["0a=1"], "0a=1"),
            ("tenant key", vec!["t61rcwkgmze@sys=1"], "t61rcwkgmze@sys=1"),
            ("key upper-case", vec!["FOO=1"], ""),
            ("key with dot", vec!["foo.bar=1"], ""),
            ("key begins with @", vec!["@foo=1"], ""),
            ("key empty", vec!["=1"], ""),
            ("no equals sign", vec!["foo"], ""),
            ("value with equals sign", vec!["foo=bar=baz"], ""),
            ("value empty", vec!["foo=,bar=3"], ""),
            ("value not ASCII", vec!["foo=ä"], ""),
            ("value with control character", vec!["foo=a\u{1}b"], ""),
            ("one bad member drops all", vec!["foo=1", "BAD=2"], ""),
            ("32 members", vec![&members_32], &members_32),
            ("33 members", vec![&members_33], ""),
            ("key of 256", vec![&key_256], &key_256),
            ("key of 257", vec![&key_257], ""),
            ("value of 256", vec![&value_256], &value_256),
            ("value of 257", vec![&value_257], ""),
        ];
        for (rule, values, expected) in rows {
            let mut fields = vec![("traceparent", VALID)];
            fields.extend(values.iter().map(|value| ("tracestate", *value)));
            let context = extract(&headers(&fields)).expect("tracestate never voids traceparent");
            assert_eq!(&*context.state.0, expected, "{rule}");
        }
    }

    #[test]
    fn tracestate_alone_means_nothing() {
        assert_eq!(extract(&headers(&[("tracestate", "foo=1")])), None);
        assert_eq!(extract(&headers(&[("tracestate", "foo=1"), ("traceparent", "bad")])), None);
    }
}
