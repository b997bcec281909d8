use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    FrameHeader { len: payload.len() as u32, kind, flags, stream }.write(&mut frame);
    [frame, payload.to_vec()].concat()
}

/// `:method GET` and the like.
const FIELDS: &[u8] = b"\x82\x86\x84";

fn added() -> Vec<u8> {
    [b"\x00\x0btraceparent\x37", PARENT.as_bytes()].concat()
}

/// What passes when each head gets these fields; the heads' offsets and streams.
fn passed(
    pieces: &[&[u8]],
    fields: Option<&[(&'static str, String)]>,
) -> (Vec<u8>, Vec<(u64, u32)>, Requests) {
    let (mut requests, mut out, mut heads) = (Requests::new(24, false), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let used = match requests.feed(rest, &mut out) {
                Fed::Taken(used) => used,
                Fed::Pass(used) | Fed::Http2(used) => {
                    out.extend(&rest[..used]);
                    used
                }
                Fed::Head(used) => {
                    heads.push((requests.head_offset(), requests.stream()));
                    assert!(requests.settle(fields, &mut out));
                    used
                }
                Fed::Opaque(_) => {
                    out.extend(rest);
                    rest.len()
                }
            };
            rest = &rest[used..];
        }
    }
    requests.finish(&mut out);
    (out, heads, requests)
}

fn injected(stream: &[u8]) -> Vec<u8> {
    passed(&[stream], Some(&[("traceparent", PARENT.to_owned())])).0
}

#[test]
fn a_request_gets_the_context_and_other_frames_pass() {
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let data = frame(0, 0, 1, b"body");
    let trailers = frame(HEADERS, END_HEADERS | 1, 1, b"\x00\x01a\x01b");
    let head = |fields: &[u8]| frame(HEADERS, END_HEADERS, 1, fields);
    let stream = [settings.clone(), head(FIELDS), data.clone(), trailers.clone()].concat();
    let expected = [settings.clone(), head(&[FIELDS, &added()].concat()), data, trailers].concat();
    for split in 0..=stream.len() {
        let fields = [("traceparent", PARENT.to_owned())];
        let (out, heads, _) = passed(&[&stream[..split], &stream[split..]], Some(&fields));
        assert_eq!(out, expected, "split at {split}");
        assert_eq!(heads, [(24 + settings.len() as u64, 1)]);
    }
}

#[test]
fn padding_priority_and_continuations_are_kept() {
    let flags = END_HEADERS | PADDED | PRIORITY;
    let padded = |fields: &[u8]| [b"\x02\x80\0\0\0\x0f", fields, b"\0\0"].concat();
    let out = injected(&frame(HEADERS, flags | 1, 1, &padded(FIELDS)));
    let expected = padded(&[FIELDS, &added()].concat());
    assert_eq!(out, frame(HEADERS, flags | 1, 1, &expected));

    let parts = [
        frame(HEADERS, 1, 3, FIELDS),
        frame(CONTINUATION, 0, 3, b"\x00\x01a"),
        frame(CONTINUATION, END_HEADERS, 3, b"\x01b"),
    ];
    let out = injected(&parts.concat());
    let fields = [FIELDS, b"\x00\x01a\x01b", &added()].concat();
    assert_eq!(out, frame(HEADERS, END_HEADERS | 1, 3, &fields));
}

#[test]
fn frames_stay_as_small_as_every_server_takes_them() {
    let long = [FIELDS, b"\x00\x01a\x7f\xe0\x7e", &[b'x'; 16223 + 128]].concat();
    let long = &long[..];
    let value_len = 0x7f + 0x60 + (0x7e << 7);
    assert_eq!(long.len(), FIELDS.len() + 6 + value_len);
    assert!(long.len() <= MAX_FRAME && long.len() + added().len() > MAX_FRAME);
    let out = injected(&frame(HEADERS, END_HEADERS, 1, long));
    let whole = [long, &added()].concat();
    let (first, second) = whole.split_at(MAX_FRAME);
    let expected =
        [frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)].concat();
    assert!(out == expected);
}

#[test]
fn what_breaks_the_rules_passes_from_there_on() {
    let head = frame(HEADERS, END_HEADERS, 1, FIELDS);
    let begun = frame(HEADERS, 0, 1, FIELDS);
    for (stream, reason) in [
        (frame(HEADERS, END_HEADERS, 2, FIELDS), OpaqueReason::Http2Frame),
        (frame(HEADERS, END_HEADERS, 0, FIELDS), OpaqueReason::Http2Frame),
        (frame(CONTINUATION, END_HEADERS, 1, FIELDS), OpaqueReason::Http2Frame),
        ([begun.clone(), frame(0, 0, 1, b"x")].concat(), OpaqueReason::Http2Frame),
        ([begun, frame(CONTINUATION, 4, 3, b"")].concat(), OpaqueReason::Http2Frame),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abc"), OpaqueReason::Http2Fields),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b""), OpaqueReason::Http2Fields),
        (frame(HEADERS, END_HEADERS | PRIORITY, 1, b"abc"), OpaqueReason::Http2Fields),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), OpaqueReason::Http2Fields),
        (frame(HEADERS, END_HEADERS, 1, &vec![0x82; MAX_BLOCK + 1]), OpaqueReason::TooLarge),
    ] {
        let stream = [stream, head.clone()].concat();
        for piece in [1, 5, stream.len()] {
            let pieces: Vec<_> = stream.chunks(piece).collect();
            let fields = [("traceparent", PARENT.to_owned())];
            let (out, _, requests) = passed(&pieces, Some(&fields));
            assert!(out == stream, "{reason:?}");
            assert_eq!(requests.opaque, Some(reason));
        }
    }
}

#[test]
fn after_an_upgrade_the_first_stream_is_no_request() {
    let mut requests = Requests::new(100, true);
    let mut out = Vec::new();
    let trailers = frame(HEADERS, END_HEADERS, 1, FIELDS);
    assert_eq!(requests.feed(&trailers, &mut out), Fed::Taken(9));
    assert!(matches!(requests.feed(&trailers[9..], &mut out), Fed::Taken(_)));
    assert_eq!(out, trailers);
}

#[test]
fn long_payloads_need_not_be_looked_at() {
    let mut requests = Requests::new(24, false);
    let data = frame(0, 0, 1, &[b'x'; 100]);
    assert_eq!(requests.feed(&data[..9], &mut Vec::new()), Fed::Taken(9));
    assert_eq!(requests.unread(), 99);
    requests.skip(99);
    assert_eq!(requests.feed(b"x", &mut Vec::new()), Fed::Pass(1));
    assert_eq!(requests.unread(), 0);
    assert_eq!(requests.taken, 24 + 109);
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::sample::select(vec![
        FIELDS.to_vec(),
        b"\x40\x01a\x01b\xbe".to_vec(),
        b"\x40\x0btraceparent\x01x".to_vec(),
        b"\x00\x0btraceparent\x01x".to_vec(),
        b"\xbe\xbf".to_vec(),
        b"\x20".to_vec(),
        b"\x40\x81\xff\x00".to_vec(),
    ]);
    let headers = (fields, 0_u32..10, any::<bool>()).prop_map(|(fields, stream, ends)| {
        frame(HEADERS, if ends { END_HEADERS } else { 0 }, stream * 2 + 1, &fields)
    });
    let random = (0_u8..12, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..40));
    prop_oneof![
        3 => headers,
        2 => random.prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_kept_passes_unchanged_and_splits_make_no_difference(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = frames.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        prop_assert_eq!(&passed(&pieces, None).0, &stream);
        let (whole, heads, _) = passed(&[&stream], None);
        prop_assert_eq!(&whole, &stream);
        prop_assert_eq!(&passed(&pieces, None).1, &heads);
    }
}
