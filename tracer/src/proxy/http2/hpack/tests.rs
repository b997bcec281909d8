use super::*;

const VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// A string as it is.
fn plain(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    string_of(text, &mut out);
    out
}

/// A literal with this first byte and a name of its own.
fn named(first: u8, name: &str, value: &str) -> Vec<u8> {
    [vec![first], plain(name), plain(value)].concat()
}

fn inserted(name: &str, value: &str) -> Vec<u8> {
    named(0x40, name, value)
}

fn wanted(value: &str) -> Vec<(&'static str, String)> {
    vec![("traceparent", value.to_owned())]
}

fn fields(found: &[Found]) -> Vec<(&str, &str)> {
    found.iter().map(|found| (&*found.field.0, &*found.field.1)).collect()
}

#[test]
fn fields_are_found_in_every_form() {
    let mut decoder = Decoder::default();
    for first in [0x00, 0x10, 0x40] {
        let found = decoder.read(&named(first, "traceparent", VALUE)).unwrap();
        assert_eq!(fields(&found), [("traceparent", VALUE)]);
    }
    // "b3" and its value, Huffman-coded; then the name of the entry before, then the entry.
    let block = [&inserted("x", "y")[..], b"\x40\x82\x8d\x9f\x81\x07", b"\x7e\x011", b"\xbe"];
    let found = decoder.read(&block.concat()).unwrap();
    assert_eq!(fields(&found), [("b3", "0"), ("b3", "1"), ("b3", "1")]);
    let found = decoder.read(b"\x82\x86\x84\xbf\x0f\x30\x01a").unwrap();
    assert_eq!(fields(&found), [("b3", "0"), ("b3", "a")]);
}

#[test]
fn a_field_is_added_at_the_end_and_enters_no_table() {
    let mut decoder = Decoder::default();
    let block = inserted("a", "b");
    let found = decoder.read(&block).unwrap();
    let rewritten = decoder.rewrite(&block, &found, Some(&wanted(VALUE))).unwrap();
    assert_eq!(rewritten, [block.clone(), named(0, "traceparent", VALUE)].concat());
    assert_eq!(decoder.rewrite(&block, &found, None).unwrap(), block);
    let long = "x".repeat(500);
    let rewritten = decoder.rewrite(&[], &[], Some(&wanted(&long))).unwrap();
    let read = Decoder::default().read(&rewritten).unwrap();
    assert_eq!(fields(&read), [("traceparent", long.as_str())]);
}

#[test]
fn what_enters_no_table_is_replaced_and_dropped_in_place() {
    let mut decoder = Decoder::default();
    let block = [
        named(0, "tracestate", "a=1"),
        named(0x10, "traceparent", "x"),
        inserted("a", "b"),
        named(0, "traceparent", "y"),
    ]
    .concat();
    let found = decoder.read(&block).unwrap();
    let rewritten = decoder.rewrite(&block, &found, Some(&wanted(VALUE))).unwrap();
    assert_eq!(rewritten, [named(0, "traceparent", VALUE), inserted("a", "b")].concat());
}

#[test]
fn what_enters_the_table_is_replaced_by_what_is_as_long() {
    let mut decoder = Decoder::default();
    let block = inserted("traceparent", VALUE);
    let found = decoder.read(&block).unwrap();
    let rewritten = decoder.rewrite(&block, &found, Some(&wanted(OTHER))).unwrap();
    assert_eq!(rewritten, inserted("traceparent", OTHER));

    // Referred to by its index, the server would take it for the other value.
    let again = b"\xbe";
    let found = decoder.read(again).unwrap();
    assert_eq!(fields(&found), [("traceparent", VALUE)]);
    let meant = named(0, "traceparent", VALUE);
    assert_eq!(decoder.rewrite(again, &found, None).unwrap(), meant);
    let third = VALUE.replace("-01", "-00");
    let rewritten = decoder.rewrite(again, &found, Some(&wanted(&third))).unwrap();
    assert_eq!(rewritten, named(0, "traceparent", &third));
    // Its name is what it was.
    let found = decoder.read(b"\x7e\x01x").unwrap();
    assert_eq!(fields(&found), [("traceparent", "x")]);
}

#[test]
fn what_enters_the_table_is_not_replaced_by_what_is_longer_nor_dropped() {
    let mut decoder = Decoder::default();
    for block in [
        inserted("traceparent", "x"),
        inserted("tracestate", "a=1"),
        [inserted("traceparent", VALUE), inserted("traceparent", VALUE)].concat(),
    ] {
        let found = decoder.read(&block).unwrap();
        let rewritten = decoder.rewrite(&block, &found, Some(&wanted(OTHER)));
        assert_eq!(rewritten, Err(Irreplaceable));
        assert_eq!(decoder.rewrite(&block, &found, None).unwrap(), block);
    }
    let block = [inserted("traceparent", VALUE), inserted("tracestate", "a=1")].concat();
    let found = decoder.read(&block).unwrap();
    let fields = [("traceparent", OTHER.to_owned()), ("tracestate", "a=1".to_owned())];
    let rewritten = decoder.rewrite(&block, &found, Some(&fields)).unwrap();
    let expected = [inserted("traceparent", OTHER), inserted("tracestate", "a=1")].concat();
    assert_eq!(rewritten, expected, "what is the same stays");
}

#[test]
fn entries_leave_the_table_as_the_specification_says() {
    let mut decoder = Decoder::default();
    // Two of 32 + 2 + 30 bytes fit.
    decoder.read(b"\x3f\x61").unwrap();
    assert_eq!(decoder.max_size, 128);
    for name in ["aa", "bb", "cc"] {
        decoder.read(&inserted(name, &"v".repeat(30))).unwrap();
    }
    assert_eq!((decoder.entries.len(), decoder.size), (2, 128));
    assert_eq!(decoder.read(b"\xc0"), Err(Broken));
    decoder.read(&inserted("large", &"v".repeat(200))).unwrap();
    assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    decoder.read(&inserted("aa", "")).unwrap();
    decoder.read(b"\x20").unwrap();
    assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
}

#[test]
fn broken_blocks_are_refused() {
    for block in [
        &b"\x80"[..],
        b"\xbe",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x40",
        b"\x40\x01",
        b"\x40\x01a",
        b"\x40\x01a\x02b",
        b"\x40\x81\x00\x00",
        b"\x00\x81\xff\x00",
        b"\x3f\xff\xff\xff\x7f",
        b"\x7f",
    ] {
        assert_eq!(Decoder::default().read(block), Err(Broken), "{block:x?}");
    }
}
